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


def test_exact_signal():
    """A child's signal is told apart from every other end."""
    for signum in (SIGSEGV, SIGBUS, SIGTERM):
        child = python("""
            import os, signal
            signal.signal(%d, signal.SIG_DFL)
            os.kill(os.getpid(), %d)
        """ % (signum, signum))
        assert child.status == -signum
        assert status_name(child.status) == (
            "-" + signal.Signals(signum).name)
    assert python("raise SystemExit(11)").status == 11
    assert status_name(11) == "exit 11"


@pytest.mark.parametrize("status", [-SIGABRT, 0, SIGSEGV, 128 + SIGSEGV])
def test_wrong_signal_fails(status):
    """check() refuses a death of another signal, or none."""
    child = Child(status, b"", b"", 0.1)
    with pytest.raises(AssertionError):
        check(child, SIGSEGV, "")


def test_whole_standard_error():
    """check() compares every byte, before, between and after."""
    text = report('  File "x", line 1 in <module>\n')
    check(Child(-SIGSEGV, b"", text.encode(), 0.1), SIGSEGV, text)
    for wrong in ("", text + "\n", "\n" + text, text[:-1], text * 2,
                  text.replace("line 1", "line  1")):
        child = Child(-SIGSEGV, b"", wrong.encode(), 0.1)
        with pytest.raises(AssertionError):
            check(child, SIGSEGV, text)


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


def test_slow_crash_fails():
    """check() refuses a crash that took too long."""
    with pytest.raises(AssertionError):
        check(Child(-SIGSEGV, b"", b"", LIMIT + 1), SIGSEGV, "")


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


def test_no_core_files():
    """Children run with core files off."""
    child = python("""
        import resource
        print(resource.getrlimit(resource.RLIMIT_CORE)[0])
    """)
    assert child.out == "0\n"


def test_clean_environment():
    """What alters Python in this process does not reach a child."""
    with unittest.mock.patch.dict(os.environ, {
            "PYTHONFAULTHANDLER": "1", "FAULTHANDLER_USE_STDLIB": "1",
            "PYTHONPATH": HERE, "OTHER": "stays"}):
        child = python("""
            import os
            print(*sorted(name for name in os.environ if name.startswith(
                ("PYTHON", "FAULTHANDLER", "OTHER"))))
        """)
    assert child.out == "OTHER\n"


def test_module_under_test():
    """The children import our module, not the interpreter's."""
    child = python("""
        import faulthandler
        print(faulthandler.version == 0x100, faulthandler.__file__)
    """)
    assert re.search(r"^True .*faulthandler\..*so\n$", child.out)


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


def test_same_python():
    """The children run the version that runs the tests."""
    child = python("import sys; print(sys.version)")
    assert child.raw_out.strip() == sys.version


def test_addresses():
    """Only thread identities of 16 digits in their place are hidden."""
    number = "0x00007f3b2c9fe6c0"
    assert tidy("Thread %s (most" % number) == "Thread 0x… (most"
    assert tidy("Thread 0x7f3b2c9fe6c0 (most") == "Thread 0x7f3b2c9fe6c0 (most"
    assert tidy("at " + number) == "at " + number


def test_die():
    """die() names its caller and no frame of its own, then crashes."""
    child = python("from die import die; die()")
    assert child.out == '  File "<string>", line 1 in <module>\n'
    assert child.status == -SIGSEGV
