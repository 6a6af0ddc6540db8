"""pytest with its own faulthandler plugin."""

from signal import SIGSEGV

from helpers import run_pytest


def test_passing_suite():
    """A suite passes, and the module is ours in it."""
    child = run_pytest("""
        def test_ours():
            import faulthandler
            assert faulthandler.version == 0x100
            assert faulthandler.is_enabled()
    """)
    assert child.status == 0
    assert "1 passed" in child.out


def test_crashing_test():
    """A test that crashes is reported once, with its line."""
    child = run_pytest("""
        import ctypes
        def test_crash():
            ctypes.CDLL(None).strlen(None)
    """)
    assert child.status == -SIGSEGV
    assert ((child.out + child.err).count("Fatal Python error: Segmentation")
            == 1)
    assert '  File "test_suite.py", line 3 in test_crash\n' in child.err
