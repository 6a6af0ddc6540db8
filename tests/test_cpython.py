"""The questions asked of CPython: interpreters, thread states."""

import sys

from signal import SIGFPE, SIGSEGV

import pytest

from helpers import block, check, crash, python, report


# What a subinterpreter calls the code that it is given.
FILE = "<script>" if sys.version_info >= (3, 14) else "<string>"


@pytest.mark.parametrize("own_gil", [False, True])
def test_crash_in_subinterpreter(own_gil):
    """A crash in a subinterpreter shows the frames it runs."""
    child = python("""
        import faulthandler, sub
        sub.run(sub.create(%r), '''if True:
            import faulthandler
            def inner():
                faulthandler.sigsegv()
            inner()
        ''')
    """ % own_gil)
    check(child, SIGSEGV, block("""
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "FILE", line 4 in inner
          File "FILE", line 5 in <module>

        Interpreter 0:

        Thread 0x… (most recent call first):
          File "sub.py", line 22 in run
          File "<string>", line 2 in <module>
    """).replace("FILE", FILE))


@pytest.mark.parametrize("own_gil", [False, True])
def test_import_in_subinterpreter_only(own_gil):
    """A subinterpreter alone can arm the process."""
    child = python("""
        import sub
        sub.run(sub.create(%r), '''if True:
            import faulthandler
            faulthandler.sigfpe()
        ''')
    """ % own_gil)
    check(child, SIGFPE, block("""
        Fatal Python error: Floating point exception

        Traceback (most recent call first):
          File "FILE", line 3 in <module>

        Interpreter 0:

        Thread 0x… (most recent call first):
          File "sub.py", line 22 in run
          File "<string>", line 2 in <module>
    """).replace("FILE", FILE))


@pytest.mark.parametrize("own_gil", [False, True])
def test_crash_after_subinterpreter(own_gil):
    """The main interpreter's frames are found after one has ended."""
    crash("""
        import faulthandler, sub
        other = sub.create(%r)
        sub.run(other, "import faulthandler")
        sub.module.destroy(other)
        faulthandler.sigsegv()
    """ % own_gil, report(
        '  File "<string>", line 5 in <module>\n'))


@pytest.mark.parametrize("own_gil", [False, True])
def test_crash_beside_subinterpreter(own_gil):
    """An idle subinterpreter leaves the report as it is."""
    crash("""
        import faulthandler, sub
        other = sub.create(%r)
        sub.run(other, "import faulthandler")
        faulthandler.sigsegv()
    """ % own_gil, report(
        '  File "<string>", line 4 in <module>\n'))
