"""Names in reports: escapes, long ones, damaged ones."""

from signal import SIGSEGV

import pytest

from helpers import check, crash, python, report


ASCII = "".join(map(chr, range(32, 127)))


@pytest.mark.parametrize("filename, function, shown", [
    (ASCII, ASCII, '"%s", line 3 in %s' % (ASCII, ASCII)),
    ("", "", '"", line 3 in '),
    ("a\nb\r\x1b[31m", "\0\t\x7f\x80",
     r'"a\x0ab\x0d\x1b[31m", line 3 in \x00\x09\x7f\x80'),
    ("caf\xe9.py", "\xff", r'"caf\xe9.py", line 3 in \xff'),
    ("a\xe9\u20ac\ufffd.py", "\u0100",
     r'"a\xe9\u20ac\ufffd.py", line 3 in \u0100'),
    ("a\xe9\u20ac\U0001f40d", "\U0010ffff",
     r'"a\xe9\u20ac\U0001f40d", line 3 in \U0010ffff'),
    ("\ud800\udc80\udfff", "a\udcff",
     r'"\ud800\udc80\udfff", line 3 in a\udcff'),
    ("f" * 500, "\u20ac" * 500,
     '"%s", line 3 in %s' % ("f" * 500, r"\u20ac" * 500)),
    ("f" * 499 + "gh", "\u20ac" * 501,
     '"%sg...", line 3 in %s...' % ("f" * 499, r"\u20ac" * 500)),
], ids=["printable ASCII", "empty", "control characters", "one byte",
        "two bytes", "four bytes", "surrogates", "500 characters",
        "501 characters"])
def test_names(filename, function, shown):
    """Names are shown in ASCII, the first 500 characters, as traceback's."""
    child = python("""
        from die import die
        def f():
            die()
        names = {"co_filename": %a, "co_name": %a}
        f.__code__ = f.__code__.replace(**names)
        f()
    """ % (filename, function))
    check(child, SIGSEGV, report(
        '  File %s\n  File "<string>", line 6 in <module>\n' % shown))
    assert child.raw_err == report(child.raw_out)


@pytest.mark.parametrize("index, value", [
    ("damage.HEAD - 1", "0"), ("damage.HEAD - 1", "damage.forbidden"),
    ("damage.HEAD - 1", "id(42)"), ("damage.HEAD - 1", "0xdddddddddddddddd"),
    ("damage.HEAD", "2**64 - 1"), ("damage.HEAD", "2**63"),
    ("damage.HEAD", "30"), ("damage.HEAD", "499"), ("damage.HEAD", "600")])
def test_damaged_strings(index, value):
    """A string with a damaged head, or that ends elsewhere, is no string."""
    crash("""
        import damage, faulthandler
        name, file = "name" * 300, "file" * 300
        def inner():
            for string in (name, file):
                damage.words(id(string))[%s] = %s
            faulthandler.sigsegv()
        def outer():
            inner()
        outer.__code__ = outer.__code__.replace(
            co_name=name, co_filename=file)
        outer()
    """ % (index, value), report(
        '  File "<string>", line 6 in inner\n'
        '  File ???, line 8 in ???\n'
        '  File "<string>", line 11 in <module>\n'))
