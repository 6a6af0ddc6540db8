"""What the tests of reports with details share."""

import re
import sys

from signal import SIGFPE

from helpers import LIMIT, SIGNALS, block, python, status_name


NOWHERE = ": nothing is mapped there (SEGV_MAPERR)"
NO_ADDRESS = ": a non-canonical address, no memory can be there (SI_KERNEL)"
ODD = "0xdddddddddddddddd"
FILL = ", with which CPython fills "
FREED = FILL + "freed memory: likely a use after free"

START = """
    import ctypes, os, signal, sys, threading, time
    import faulthandler
    faulthandler.enable(all_threads=False, c_stack=False, details=True)
    word = ctypes.c_size_t
    libc = ctypes.CDLL(None)
    libc.mmap.restype = word
    def page(access):
        return libc.mmap(None, word(4096), access, 0x22, -1, 0)
"""


CONTEXT = ("thread N [MainThread] of process N, CPython %d.%d.%d…, "
           "T, up N s, faulthandler 1.0" % sys.version_info[:3])


def expect(child, signum, lines, frames, context=CONTEXT, more=(),
           title=None):
    """It died so, and the report is the title, these lines, the stack."""
    if title is None:
        title = dict((number, text) for number, text, _ in SIGNALS)[signum]
        if signum == SIGFPE and sys.version_info >= (3, 13):
            title = "Floating-point exception"
    expected = "Fatal Python error: %s\n%s\n%s" % (
        title, "".join("  %s\n" % line
                       for line in [*lines, context, *more]), frames)
    pattern = re.escape(expected)
    for mark, meaning in [("0x…", "0x[0-9a-f]{16}"), ("…", ".*?"),
                          ("thread N", r"thread \d+"),
                          ("process N", r"process \d+"),
                          (", T,", r", \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ,"),
                          ("up N s", r"up \d+\.\d s")]:
        pattern = pattern.replace(re.escape(mark), meaning)
    assert status_name(child.status) == status_name(-signum)
    if not re.fullmatch(pattern, child.err):
        assert child.err == expected
    assert child.seconds < LIMIT


def dies(code, signum, *lines, **options):
    """Run code whose last line dies: the report says these lines."""
    code = block(START) + block(code)
    last = len(code.rstrip().splitlines())
    expect(python(code), signum, lines,
           'Stack (most recent call first):\n'
           '  File "<string>", line %d in <module>\n' % last,
           **options)
