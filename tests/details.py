"""What the tests of reports with details share."""

import os
import platform
import re
import sys

from signal import SIGFPE

from helpers import LIMIT, SIGNALS, block, python, status_name


NOWHERE = ": nothing is mapped there (SEGV_MAPERR)"
NO_ADDRESS = ": a non-canonical address, no memory can be there (SI_KERNEL)"
ODD = "0xdddddddddddddddd"
FREED = ", freed memory (CPython's debug allocator): likely a use after free"

# In gdb's order, the flags last.
REGISTERS = ("x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 "
             "x18 x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 x29 x30 sp pc "
             "pstate" if os.uname().machine == "aarch64" else
             "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 "
             "rip eflags").split()

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


CONTEXT = ("thread N [MainThread] of process N, CPython %s, "
           "T, up N s" % platform.python_version())


def split_registers(text):
    """Take the block of registers off a report's end: what is before it, and
    what each register holds."""
    report, title, rest = text.partition("\nRegisters:\n")
    assert title, text
    *lines, code, end = rest.split("\n")
    found = [re.fullmatch(r"  (\w+) +(0x[0-9a-f]{16})(?:  (.+))?", line)
             for line in lines]
    assert all(found) and end == "", rest
    assert [match.group(1) for match in found] == REGISTERS
    assert re.fullmatch(r"  code  +(\?\?\?|[0-9a-f]{2}( [0-9a-f]{2})*)", code)
    holds = {match.group(1): match.group(3) or "" for match in found}
    return report, dict(holds, code=code[6:].strip())


def expect(child, signum, lines, frames, context=CONTEXT, more=(),
           title=None):
    """It died so, and the report is the title, these lines, the stack, the
    registers."""
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
                          (", T", r", \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
                          ("up N s", r"up \d+\.\d s")]:
        pattern = pattern.replace(re.escape(mark), meaning)
    assert status_name(child.status) == status_name(-signum)
    report, _ = split_registers(child.err)
    if not re.fullmatch(pattern, report):
        assert report == expected
    assert child.seconds < LIMIT


def dies(code, signum, *lines, **options):
    """Run code whose last line dies: the report says these lines."""
    code = block(START) + block(code)
    last = len(code.rstrip().splitlines())
    expect(python(code), signum, lines,
           'Stack (most recent call first):\n'
           '  File "<string>", line %d in <module>\n' % last,
           **options)
