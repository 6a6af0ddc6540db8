"""enable(file): the standard library's report of a crash."""

import sys

from signal import SIGFPE, SIGSEGV

import pytest

from helpers import (
    FREE_THREADED, SIGNALS, as_builtin, block, check, check_library,
    library_report, python, report, strip)


@pytest.mark.parametrize("signum, title, call", SIGNALS)
def test_literal(signum, title, call):
    """The report itself, for each signal."""
    child = python("""
        import faulthandler, sys
        faulthandler.enable(sys.stderr, c_stack=False)
        %s
    """ % call)
    child.err = strip(child.err)
    if signum == SIGFPE:
        child.err = child.err.replace("Floating-", "Floating ")
    check(child, signum, block("""
        Fatal Python error: %s

        Current thread 0x… (most recent call first):
          File "<string>", line 3 in <module>
    """ % title))


@pytest.mark.parametrize("arguments, call", [
    ("2", "_sigsegv()"), ("2", "_sigfpe()"), ("2", "_sigabrt()"),
    ("2", "_stack_overflow()"),
    ("file=2, all_threads=True", "_sigsegv(True)"),
    ("sys.stderr", "_sigsegv()"), ("2, False", "_sigsegv()"),
    ("2, all_threads=0", "_sigfpe()")])
def test_as_the_builtin(arguments, call):
    """The same bytes as from the builtin, extension modules too."""
    if FREE_THREADED and "2, False" not in arguments:
        pytest.skip("there the builtin shows one thread only")
    c_stack = ", c_stack=False" * (sys.version_info >= (3, 14))
    as_builtin("""
        import faulthandler, sys
        import json, decimal, ctypes, unicodedata, array
        def f():
            faulthandler.%s
        faulthandler.enable(%s%s)
        f()
    """ % (call, arguments, c_stack))


def test_crashing_thread_first():
    """The crashing thread comes first, the others as by the builtin."""
    child = python("""
        import _thread, faulthandler
        lock = _thread.allocate_lock()
        lock.acquire()
        faulthandler.enable(2, c_stack=False)
        def work():
            faulthandler.sigsegv()
        def wait():
            _thread.start_new_thread(work, ()); lock.acquire()
        _thread.start_new_thread(wait, ()); lock.acquire()
    """)
    check_library(child, SIGSEGV, block("""
        Fatal Python error: Segmentation fault

        Current thread 0x… (most recent call first):
          File "<string>", line 6 in work

        Thread 0x… (most recent call first):
          File "<string>", line 8 in wait

        Thread 0x… (most recent call first):
          File "<string>", line 9 in <module>
    """))


def test_deep_stack():
    """A fatal report shows the outermost frames too."""
    child = python("""
        import faulthandler
        faulthandler.enable(2, c_stack=False)
        def f(n):
            f(n - 1) if n else faulthandler.sigsegv()
        f(148)
    """)
    check_library(child, SIGSEGV, library_report(
        90 * '  File "<string>", line 4 in f\n'
        + "  ... 50 frames not shown ...\n"
        + 9 * '  File "<string>", line 4 in f\n'
        + '  File "<string>", line 5 in <module>\n'))


FRAME = '  File "<string>", line 3 in <module>\n'
PLAIN, LIBRARY = report(FRAME), library_report(FRAME)


@pytest.mark.parametrize("calls, expected", [
    ("", PLAIN),
    ("disable() enable()", PLAIN),
    ("disable() disable() enable()", PLAIN),
    ("enable()", LIBRARY),
    ("enable() disable() enable()", LIBRARY),
    ("disable() enable() enable()", LIBRARY),
    ("enable(1) enable()", LIBRARY),
    ("enable(1) enable(2)", LIBRARY),
    ("enable(1) enable() disable() enable()", LIBRARY),
    ("enable(2) disable() enable()", LIBRARY),
    ("enable(2,all_threads=False) disable() enable()", LIBRARY),
    ("enable() disable() enable() " * 50, LIBRARY),
    ("disable() enable() " * 2, PLAIN),
    ("enable() disable() " * 2, ""),
    ("enable() enable() enable() disable()", ""),
])
def test_which_report(calls, expected):
    """enable() on an armed module gives the library's report; after disable()
    it brings back what was taken away.  The last call's file counts."""
    child = python("""
        import faulthandler
        for call in %r: eval("faulthandler." + call)
        faulthandler.sigsegv()
    """ % calls.split())
    assert child.out == ""
    check_library(child, SIGSEGV, expected)
