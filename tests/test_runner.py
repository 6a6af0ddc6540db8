"""What the tests themselves rely on."""

import os
import re
import shutil
import signal
import sys
import sysconfig
import time
import unittest.mock

from signal import SIGABRT, SIGBUS, SIGSEGV, SIGTERM

import pytest

from helpers import (
    Child, HERE, LIMIT, PATIENCE, check, python, report, status_name, tidy,
    what_is_missing)


@pytest.mark.parametrize("signum", [SIGSEGV, SIGBUS, SIGTERM])
def test_exact_signal(signum):
    """A child's signal is told apart from every other end."""
    child = python("""
        import os, signal
        signal.signal(%d, signal.SIG_DFL)
        os.kill(os.getpid(), %d)
    """ % (signum, signum))
    assert child.status == -signum
    assert status_name(-signum) == "-" + signal.Signals(signum).name
    assert python("raise SystemExit(%d)" % signum).status == signum
    assert status_name(signum) == "exit %d" % signum


TEXT = report('  File "x", line 1 in <module>\n')


@pytest.mark.parametrize("status, seconds, text", [
    (-SIGABRT, 0.1, TEXT), (0, 0.1, TEXT), (SIGSEGV, 0.1, TEXT),
    (128 + SIGSEGV, 0.1, TEXT), (-SIGSEGV, LIMIT + 1, TEXT)] + [
    (-SIGSEGV, 0.1, text) for text in (
        "", TEXT + "\n", "\n" + TEXT, TEXT[:-1], TEXT * 2,
        TEXT.replace("line 1", "line  1"))])
def test_wrong_end_fails(status, seconds, text):
    """check() refuses another signal, a late end, and any other byte."""
    check(Child(-SIGSEGV, b"", TEXT.encode(), 0.1), SIGSEGV, TEXT)
    with pytest.raises(AssertionError):
        check(Child(status, b"", text.encode(), seconds), SIGSEGV, TEXT)


def test_output_is_kept_apart():
    """Bytes of both outputs arrive whole, whatever they are."""
    child = python(r"""
        import os
        os.write(1, b"out\n" * 50000)
        os.write(2, b"err \xff\x00 no newline")
    """)
    assert child.raw_out == "out\n" * 50000
    assert child.raw_err == "err \\xff\0 no newline"
    assert child.status == 0


def test_time_limit():
    """A child that does not end is killed, with its own children."""
    start = time.monotonic()
    with pytest.raises(AssertionError, match="no end within 1 s"):
        python("""
            import os, time
            os.fork()
            time.sleep(60)
        """, limit=1)
    assert time.monotonic() - start < PATIENCE


def test_clean_environment():
    """A child has none of what alters Python in this process, and no core
    file; it imports our module, not the interpreter's, in this Python."""
    with unittest.mock.patch.dict(os.environ, {
            "PYTHONFAULTHANDLER": "1", "FAULTHANDLER_USE_STDLIB": "1",
            "PYTHONPATH": HERE, "OTHER": "stays"}):
        child = python("""
            import faulthandler, os, resource, sys
            print(*sorted(name for name in os.environ if name.startswith(
                ("PYTHON", "FAULTHANDLER", "OTHER"))))
            print(resource.getrlimit(resource.RLIMIT_CORE)[0])
            print(faulthandler.version == 0x100, faulthandler.__file__)
            print(sys.version)
        """)
    assert re.search(r"^OTHER\n0\nTrue .*faulthandler\..*so\n%s\n$"
                     % re.escape(sys.version), child.raw_out)


def test_missing_packages(tmp_path):
    """One line names the package to install."""
    with unittest.mock.patch.object(
            sysconfig, "get_path", return_value=str(tmp_path)), \
            unittest.mock.patch.object(shutil, "which", return_value=None):
        assert what_is_missing() == ("Python.h is missing: "
                                     "install the package "
                                     "python3-dev")
        (tmp_path / "Python.h").write_text("")
        assert what_is_missing() == ("a C compiler is missing: "
                                     "install the package gcc")


def test_addresses():
    """Only thread identities of 16 digits in their place are hidden."""
    number = "0x00007f3b2c9fe6c0"
    assert tidy("Thread %s (most" % number) == "Thread 0x… (most"
    assert tidy("Thread 0x7f3b2c9fe6c0 (most") == "Thread 0x7f3b2c9fe6c0 (most"
    assert tidy("at " + number) == "at " + number
