"""The list of extension modules."""

import sys

import pytest

from helpers import as_builtin


@pytest.mark.skipif(sys.version_info < (3, 10), reason="3.10 began with it")
def test_modules():
    """Modules in C that the standard library does not have are listed."""
    child = as_builtin("""
        import faulthandler, math, sys
        sys.modules["shop.prices"] = sys.modules["shop.orders"] = math
        more = {"c_stack": False} if sys.version_info >= (3, 14) else {}
        faulthandler.enable(2, False, **more)
        faulthandler._sigsegv()
    """)
    assert ("\nExtension modules: shop.prices, shop.orders (total: 2)"
            in child.err)
