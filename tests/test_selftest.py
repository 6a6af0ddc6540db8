"""The comparison with the interpreter's own words, made at import."""

import sys

from signal import SIGFPE

import pytest

from helpers import FREE_THREADED, block, check, python, report, special_build


def test_failed_self_test():
    """Where the layout is not as expected, the report says so."""
    child = python("""
        import injected, faulthandler
        def crash():
            faulthandler.sigfpe()
        crash()
    """, special_build("FAULTHANDLER_TEST_BAD_LAYOUT"))
    check(child, SIGFPE, report(
        '  <Python frames cannot be read on this build>\n',
        "Floating point exception"))


def test_import_beside_another_thread():
    """The stack of a thread that is there is read at import."""
    child = python("""
        import waiting
        waiting.start()
        import faulthandler
        faulthandler.sigfpe()
    """)
    check(child, SIGFPE, block("""
        Fatal Python error: Floating point exception

        Traceback (most recent call first):
          File "<string>", line 4 in <module>

        Thread 0x… (most recent call first):
          File "waiting.py", line 16 in wait
    """))


@pytest.mark.skipif(sys.version_info < (3, 13),
                    reason="no threads that can be joined")
def test_started_thread():
    """A thread that is started for the self-test ends with it."""
    child = python("""
        import os, time
        import injected, faulthandler
        # join() may return before the task is gone.
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.001)
        print(injected.__name__, flush=True)
        faulthandler.sigfpe()
    """, special_build("SELFTEST_STARTS_THREAD=1"))
    assert child.out == "injected\n"
    check(child, SIGFPE, report(
        '  File "<string>", line 7 in <module>\n', "Floating point exception"))


@pytest.mark.skipif(not FREE_THREADED, reason="needs a free-threaded Python")
def test_gil_stays_off():
    """Importing the module does not switch the GIL on."""
    child = python("""
        import faulthandler, sys
        print(sys._is_gil_enabled())
    """)
    assert (child.status, child.out, child.err) == (0, "False\n", "")
