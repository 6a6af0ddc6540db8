"""Real crashes: every cause, with and without the GIL."""

import pytest

from helpers import SIGNALS, crash, report


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
