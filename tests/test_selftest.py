"""The comparison with the interpreter's own words, made at import."""

from signal import SIGFPE

import pytest

from helpers import FREE_THREADED, check, python, report, special_build


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


@pytest.mark.skipif(not FREE_THREADED, reason="needs a free-threaded Python")
def test_gil_stays_off():
    """Importing the module does not switch the GIL on."""
    child = python("""
        import faulthandler, sys
        print(sys._is_gil_enabled())
    """)
    assert (child.status, child.out, child.err) == (0, "False\n", "")
