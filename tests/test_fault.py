"""Real crashes of every cause, and the cause in words under the title."""

import os
import re
import signal
import tempfile

from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV

import pytest

from details import NOWHERE, START, dies, expect
from helpers import (
    HERE, SIGNALS, X86_64, block, check, compiler, crash, died, environment,
    python, report, run, strip, write_file)


# The same for Python code; its last line dies.
CAUSES = [
    ("read of NULL", SIGSEGV, "libc.strlen(None)",
     "reading address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("read of a field of NULL", SIGSEGV,
     "ctypes.c_char.from_address(16).value",
     "reading address 0x0000000000000010 (a NULL pointer plus 16)" + NOWHERE),
    ("write of NULL", SIGSEGV, "libc.memset(ctypes.c_void_p(0), 1, 1)",
     "writing address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("before NULL", SIGSEGV, "ctypes.c_char.from_address(2**64 - 16).value",
     "reading address 0xfffffffffffffff0 (a NULL pointer minus 16)"
     + NOWHERE),
    ("the last that is NULL plus", SIGSEGV,
     "ctypes.c_char.from_address(65535).value",
     "reading address 0x000000000000ffff (a NULL pointer plus 65535)"
     + NOWHERE),
    ("the first that is not", SIGSEGV,
     "ctypes.c_char.from_address(65536).value",
     "reading address 0x0000000000010000" + NOWHERE),
    ("the kernel", SIGSEGV,
     "ctypes.c_char.from_address(0xffff888000000000).value",
     "reading address 0xffff888000000000 (the kernel's part of the addresses)"
     + NOWHERE),
    ("a forbidden page", SIGSEGV,
     "ctypes.c_char.from_address(page(0)).value",
     "reading address 0x…: that is inaccessible memory (SEGV_ACCERR)"),
    ("write to a page for reading", SIGSEGV,
     "libc.memset(ctypes.c_void_p(page(1)), 1, 1)",
     "writing address 0x…: that is readable memory (SEGV_ACCERR)"),
    ("write to code", SIGSEGV, "libc.memset(ctypes.c_void_p(page(5)), 1, 1)",
     "writing address 0x…: that is readable and executable memory "
     "(SEGV_ACCERR)"),
    ("call of data", SIGSEGV, "ctypes.CFUNCTYPE(None)(page(3))()",
     "executing address 0x…: that is readable and writable memory "
     "(SEGV_ACCERR)"),
    ("call of nothing", SIGSEGV, "ctypes.CFUNCTYPE(None)(0x700000000000)()",
     "executing address 0x0000700000000000" + NOWHERE),
    ("write to a mapped file", SIGSEGV, """
        file = open(os.path.join(folder, "a b"), "wb+")
        file.truncate(4096)
        at = libc.mmap(None, word(4096), 1, 1, file.fileno(), 0)
        libc.memset(ctypes.c_void_p(at), 1, 1)
     """, "writing address 0x…: that is readable memory of …/a b "
     "(SEGV_ACCERR)"),
    ("past the end of a file", SIGBUS, """
        file = open(os.path.join(folder, "short"), "wb+")
        file.truncate(1 << 17)
        at = libc.mmap(None, word(1 << 17), 3, 1, file.fileno(), 0)
        file.truncate(1)
        ctypes.c_char.from_address(at + 70000).value
     """, "reading address 0x…: past the end of the mapped file …/short, or "
     "there is no room for it left (BUS_ADRERR)"),
    ("os.abort()", SIGABRT, "os.abort()", "abort() was called (SI_TKILL)"),
    ("_sigabrt()", SIGABRT, "faulthandler._sigabrt()",
     "abort() was called (SI_TKILL)"),
    ("raise(SIGABRT)", SIGABRT, "signal.raise_signal(6)",
     "sent by this process with raise() or pthread_kill() (SI_TKILL)"),
    ("pthread_kill()", SIGBUS,
     "signal.pthread_kill(threading.get_ident(), 7)",
     "sent by this process with raise() or pthread_kill() (SI_TKILL)"),
    ("kill()", SIGSEGV, "os.kill(os.getpid(), 11)",
     "sent by this process with kill() (SI_USER)"),
    ("kill(SIGABRT)", SIGABRT, "os.kill(os.getpid(), 6)",
     "sent by this process with kill() (SI_USER)"),
    ("sigqueue()", SIGFPE,
     "libc.sigqueue(os.getpid(), 8, ctypes.c_void_p(2**64 - 5))",
     "sent by this process with sigqueue(), value -5 (SI_QUEUE)"),
]


# The table of src/fault.h: signal (0 means any), si_code, name, words.
with open(os.path.join(HERE, "src", "fault.h"), encoding="utf-8") as file:
    TABLE = [(getattr(signal, row[0], SIGABRT), int(row[1], 0), *row[2:])
             for row in re.findall(
                 r'\{(SIG\w+|0), (-?\w+), "(\w+)",\s*"([^"]*)"\}', file.read())]

# No process has the number 4711000: Linux's largest one is 4194304.
SENDER = "sent by process 4711000 of user 1000"
UNKNOWN = [(SIGSEGV, 11), (SIGBUS, 6), (SIGFPE, 16), (SIGILL, 12),
           (SIGABRT, 1), (SIGABRT, -99)]


@pytest.mark.parametrize(
    "signum, code, lines", [(*row[1:3], row[3:]) for row in CAUSES],
    ids=[row[0] for row in CAUSES])
def test_causes(signum, code, lines):
    """What Python code can do wrong, with memory and with signals."""
    with tempfile.TemporaryDirectory() as folder:
        dies("folder = %r\n" % folder + block(code), signum, *lines)


def test_use_after_free():
    """An object that was freed, under CPython's debug allocator."""
    child = python(block(START) + block("""
        class Thing:
            pass
        thing = Thing()
        ctypes.pythonapi.PyObject_GC_Del(ctypes.c_void_p(id(thing)))
        thing.name
    """), env=environment(PYTHONMALLOC="debug"))
    if X86_64:
        cause = (r"accessing memory through register r\w+, 0xdd\w+: "
                 r"a non-canonical address, no memory can be there "
                 r"\(SI_KERNEL\)")
    else:
        cause = r"reading address 0xdd\w+" + re.escape(NOWHERE)
    assert re.search(
        r"(?m)^  %s\n  register \w+ is 0xdd\w+, .*: likely a use after free\n"
        % cause, child.err)


def dies_of(signum, code, who, words, comes_again=True):
    """A signal that was queued with this code, sender or address.  A fault
    would come again: it is sent once more."""
    dies("""
        import struct
        info = struct.pack("iiii%s", %d, 0, %d, 0, *%r)
        info = ctypes.create_string_buffer(info, 128)
        number = 297 if %r else 240
        me = os.getpid(), threading.get_native_id()
        libc.syscall(number, *me, %d, info); %s
    """ % ("ii" if code <= 0 else "Q", signum, code, who, X86_64, signum,
           "os.kill(me[0], %d)" % signum if comes_again else "pass"),
         signum, words)


@pytest.mark.parametrize("signum, code, name, words", TABLE + [
    (*row, "si_code %d" % row[1], "the kernel says no more")
    for row in UNKNOWN])
def test_all_codes(signum, code, name, words):
    """Every si_code of each signal, sent with it, has its words."""
    if words[0] == " " or code < -9:
        words = SENDER + (words if words[0] == " " else "")
        words += ", value 0" * (name == "SI_QUEUE")
    elif signum in (SIGSEGV, SIGBUS):
        words = "accessing address 0x0000700000000000: " + words
    elif signum == SIGILL:
        words += " at address 0x0000700000000000"
    dies_of(signum, code, (4711000, 1000) if code <= 0 else
            (0x700000000000,), "%s (%s)" % (words, name))


@pytest.mark.parametrize("signum, code, words", [
    (SIGSEGV, 8, "a wrong memory tag, noticed later (SEGV_MTEAERR)"),
    (SIGBUS, 5, "the kernel says no more (si_code 5)")])
def test_told_afterwards(signum, code, words):
    """What the kernel tells of afterwards does not come again, and kills."""
    dies_of(signum, code, (0x700000000000,),
            "accessing address 0x0000700000000000: " + words,
            comes_again=False)


def test_process_from_outside():
    """One that has no number in this process's namespace."""
    dies_of(SIGSEGV, 0, (0, 1000), "sent by a process from outside, of user "
            "1000 with kill() (SI_USER)")


def test_numbers_of_codes():
    """The codes have the numbers that the C library's header knows."""
    if compiler() is None:
        pytest.skip("needs a C compiler")
    assert len(TABLE) > 20
    path = write_file("codes.c", "#include <signal.h>\n" + "".join(
        '#ifdef %s\n_Static_assert(%s == %d, "");\n#endif\n' % (
            name, name, code) for _, code, name, _ in TABLE))
    assert run(compiler(), "-fsyntax-only", "-D_GNU_SOURCE", path).status == 0


@pytest.mark.parametrize("signum", [row[0] for row in SIGNALS[:-1]])
def test_another_process(signum):
    """A signal of another process, of another user if that can be, while this
    one sleeps."""
    child = python(block(START) + block("""
        parent, (reader, writer) = os.getpid(), os.pipe()
        if os.fork() == 0:
            print(os.getpid(), os.getuid(), flush=True)
            os.read(reader, 1)
            while True:
                with open("/proc/%%d/stat" %% parent) as file:
                    if ") S " in file.read():
                        break
            os.kill(parent, %d)
            os._exit(0)
        os.setuid(1234) if os.getuid() == 0 else None
        os.write(writer, b"."); time.sleep(60)
    """ % signum))
    expect(child, signum, [
        "sent by process %s of user %s with kill() (SI_USER)"
        % tuple(child.out.split())], 'Stack (most recent call first):\n'
        '  File "<string>", line 20 in <module>\n')


def test_fatal_error():
    """Py_FatalError() reports by itself: what it does not say follows."""
    child = python(block(START) + "faulthandler._fatal_error(b'x')\n")
    died(child, SIGABRT)
    assert re.search(
        r'  File "<string>", line 9 in <module>\n\n'
        r"  abort\(\) was called by Py_FatalError\(\) \(SI_TKILL\)\n"
        r"  thread \d+ \[MainThread\] of process \d+, CPython .*\n\Z",
        child.err)


@pytest.mark.parametrize("call", [
    "()", "(all_threads=False, c_stack=False)",
    "(details=False, all_threads=False, c_stack=False)",
    "(details=True); faulthandler.disable(); faulthandler.enable()"])
def test_only_when_asked(call):
    """Without details the report is what it was."""
    first = "Current thread 0x…" if call.endswith("()") else "Stack"
    child = python("""
        import faulthandler
        faulthandler.enable%s; faulthandler.context.set("a note")
        faulthandler.dump_traceback(1); faulthandler._read_null()
    """ % call)
    assert child.out.count("\n") == 2 and "note" not in child.out
    child.err = strip(child.err)
    check(child, SIGSEGV, block("""
        Fatal Python error: Segmentation fault

        %s (most recent call first):
          File "<string>", line 3 in <module>
    """ % first))


# ---- Plain reports ---------------------------------------------------------

@pytest.mark.parametrize("call, above", [
    ("ctypes.string_at(0)",
     '  File "…/ctypes/__init__.py", line … in string_at\n'),
    ("ctypes.PyDLL(None).strlen(None)", ""),
    ("ctypes.c_long.from_address(0).value", ""),
    ("ctypes.py_object.from_address(8).value", ""),
    ("ctypes.CDLL(None).strlen(None)", "")])        # without the GIL
def test_null_read(call, above):
    """ctypes reads address 0, with the GIL and without."""
    crash("""
        import ctypes, faulthandler
        def f():
            %s
        f()
    """ % call, report(
        above + '  File "<string>", line 3 in f\n'
        '  File "<string>", line 4 in <module>\n'))


@pytest.mark.parametrize("signum, title, _", SIGNALS[:-1])
@pytest.mark.parametrize("call", [
    "os.kill(os.getpid(), n)", "signal.raise_signal(n)",
    "signal.pthread_kill(threading.get_ident(), n)",
    "ctypes.CDLL(None).raise_(n)"])
def test_sent_signals(signum, title, _, call):
    """Every signal of the table, raised or sent in every way."""
    call = call.replace("CDLL(None).raise_", "CDLL(None)['raise']")
    crash("""
        import ctypes, os, signal, threading, faulthandler
        n = %d
        %s
    """ % (signum, call), """
        Fatal Python error: %s

        Traceback (most recent call first):
          File "<string>", line 3 in <module>
    """ % title, signum)
