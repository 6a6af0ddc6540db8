"""Names in reports: escapes, long ones, damaged ones."""

from signal import SIGSEGV

import pytest

from helpers import check, few_versions, python, report


def crash_in(filename, function):
    """The report of a crash in a file and function of these names."""
    return python("""
        from die import die
        def f():
            die()
        names = {"co_filename": %a, "co_name": %a}
        f.__code__ = f.__code__.replace(**names)
        f()
    """ % (filename, function))


def check_names(filename, function, shown):
    """Such names are shown like this, as traceback's are."""
    child = crash_in(filename, function)
    check(child, SIGSEGV, report(
        '  File %s\n  File "<string>", line 6 in <module>\n' % shown))
    assert child.raw_err == report(child.raw_out)


def test_printable_ascii():
    """Every printable character of ASCII stands for itself."""
    ascii = "".join(map(chr, range(32, 127)))
    check_names(ascii, ascii, '"%s", line 3 in %s' % (ascii, ascii))


def test_empty_names():
    """Empty names are shown as what they are."""
    check_names("", "", '"", line 3 in ')


def test_control_characters():
    """Control characters cannot break a line or a terminal."""
    check_names(
        "a\nb\r\x1b[31m", "\0\t\x7f\x80",
        r'"a\x0ab\x0d\x1b[31m", line 3 in \x00\x09\x7f\x80')


def test_one_byte_characters():
    """A string of kind 1 is escaped with two digits."""
    check_names("caf\xe9.py", "\xff",
                r'"caf\xe9.py", line 3 in \xff')


def test_two_byte_characters():
    """A string of kind 2 is escaped with four digits where it must."""
    check_names("a\xe9\u20ac\ufffd.py", "\u0100",
                r'"a\xe9\u20ac\ufffd.py", line 3 in \u0100')


def test_four_byte_characters():
    """A string of kind 4 is escaped with eight digits where it must."""
    check_names("a\xe9\u20ac\U0001f40d", "\U0010ffff",
                r'"a\xe9\u20ac\U0001f40d", line 3 in \U0010ffff')


def test_surrogates():
    """Lone surrogates are escaped like any other character."""
    check_names("\ud800\udc80\udfff", "a\udcff",
                r'"\ud800\udc80\udfff", line 3 in a\udcff')


def test_500_characters():
    """A name of 500 characters is shown whole."""
    check_names("f" * 500, "\u20ac" * 500, '"%s", line 3 in %s' % (
        "f" * 500, r"\u20ac" * 500))


def test_501_characters():
    """Of a longer name the first 500 characters are shown."""
    check_names("f" * 499 + "gh", "\u20ac" * 501,
                '"%s...", line 3 in %s...' % (
                    "f" * 499 + "g", r"\u20ac" * 500))


@pytest.mark.parametrize("index, value", [
    ("damage.HEAD - 1", "0"), ("damage.HEAD - 1", "damage.forbidden"),
    ("damage.HEAD - 1", "id(42)"), ("damage.HEAD - 1", "0xdddddddddddddddd"),
    ("damage.HEAD", "2**64 - 1"), ("damage.HEAD", "2**63")])
def test_damaged_strings(index, value):
    """A string with a damaged head is no string."""
    child = python("""
        import sys, damage, faulthandler
        name, file = "name" * 9, "file" * 9
        def inner():
            for string in (name, file):
                damage.words(id(string))[%s] = %s
            faulthandler.sigsegv()
        def outer():
            inner()
        outer.__code__ = outer.__code__.replace(
            co_name=name, co_filename=file)
        outer()
    """ % (index, value))
    check(child, SIGSEGV, report(
        '  File "<string>", line 6 in inner\n'
        '  File ???, line 8 in ???\n'
        '  File "<string>", line 11 in <module>\n'))


@few_versions
@pytest.mark.parametrize("length", [30, 499, 600])
def test_damaged_length(length):
    """Of a string that ends elsewhere nothing is shown."""
    child = python("""
        import sys, damage, faulthandler
        name = "n" * 1200
        def inner():
            damage.words(id(name))[damage.HEAD] = %d
            faulthandler.sigsegv()
        def outer():
            inner()
        outer.__code__ = outer.__code__.replace(co_name=name)
        outer()
    """ % length)
    check(child, SIGSEGV, report(
        '  File "<string>", line 5 in inner\n'
        '  File "<string>", line 7 in ???\n'
        '  File "<string>", line 9 in <module>\n'))
