"""The C stack: on every version, in the format of 3.14."""

import re
import sys

from signal import SIGSEGV

import pytest

from helpers import SANITIZED, died, python, raises


LINE = (r"  Binary file (\"[^\"]+\"(, at [\w.@]*\+0x[0-9a-f]+)?|"
        r"'<unknown>') \[0x[0-9a-f]+\]")


def shape(text):
    """The lines of the C stack in this text; each is well formed."""
    head = "Current thread's C stack trace (most recent call first):\n"
    assert text.count(head) == 1, text
    lines = text.split(head)[1].splitlines()
    for line in lines:
        assert re.search("^(%s)$" % LINE, line)
    return lines


@pytest.mark.parametrize("file", ["", "1", "file=sys.stdout"])
def test_dump(file):
    """dump_c_stack() shows the calls from main() to itself; its file is like
    that of the others."""
    child = python("""
        import faulthandler, sys
        faulthandler.dump_c_stack(%s)
    """ % file)
    assert child.status == 0
    lines = shape(child.out if file else child.err)
    assert len(lines) > 5
    assert any("main" in line for line in lines), lines
    assert "" in (child.out, child.err)


@pytest.mark.parametrize("call, first", [
    pytest.param("ctypes.CDLL(None).strlen(None)", "libc.so",
                 marks=pytest.mark.skipif(
                     SANITIZED, reason="the sanitizer's strlen() is first")),
    ("ctypes.CFUNCTYPE(None)(8)()", "'<unknown>'"),
    ("ctypes.CFUNCTYPE(None)(1 << 40)()", "'<unknown>'")])
def test_crash(call, first):
    """enable(c_stack=True) adds it, from the faulting frame on: where the
    processor jumped to comes first, then who jumped."""
    child = python("""
        import ctypes, faulthandler
        faulthandler.enable(2, c_stack=True)
        %s
    """ % call)
    died(child)
    lines = shape(child.err)
    assert first in lines[0]
    assert "libffi" in lines[1]


@pytest.mark.parametrize("c_stack, count", [
    ("", sys.version_info >= (3, 14)), (", c_stack=False", 0)])
def test_default(c_stack, count):
    """It is on from 3.14 on, where enable() has arguments."""
    child = python("""
        import faulthandler
        faulthandler.enable(2%s)
        faulthandler.sigsegv()
    """ % c_stack)
    assert child.err.count("C stack trace") == count


def test_native_thread():
    """It is there also where there is no Python frame."""
    child = python("""
        import ctypes, faulthandler, time
        faulthandler.enable(2, c_stack=True)
        libc, thread = ctypes.CDLL(None), ctypes.c_size_t()
        libc.pthread_create(ctypes.byref(thread), None, libc.strlen, None)
        time.sleep(60)
    """)
    assert child.status == -SIGSEGV
    assert len(shape(child.err)) > 1


@pytest.mark.parametrize("c_stack", ["True", '"mixed"'])
def test_own_frames(c_stack):
    """Of our own frames only the one that crashed is shown."""
    child = python("""
        import faulthandler, threading
        faulthandler.enable(2, c_stack=%s)
        thread = threading.Thread(target=faulthandler.sigsegv)
        thread.start(); thread.join()
    """ % c_stack)
    died(child)
    places = [re.search(r"\+0x[0-9a-f]+\)$|\[0x[0-9a-f…]+\]$", line).group()
              for line in child.raw_err.splitlines()
              if re.match("  (C|Binary) [Ff]ile.*faulthandler\\.", line)]
    assert places, child
    assert set(places) == {places[0]}


def test_own_frames_of_a_dump():
    """dump_c_stack() in a thread does not show what started the thread."""
    child = python("""
        import faulthandler, threading
        thread = threading.Thread(target=faulthandler.dump_c_stack)
        thread.start(); thread.join()
    """)
    assert child.status == 0
    assert "faulthandler." not in "".join(shape(child.err))


WRONG = "ValueError c_stack must be False, True or 'mixed', not %s"


def test_wrong_value():
    """Another string is an error; all else counts as true or false."""
    raises({
        "enable(2, c_stack='Mixed')": WRONG % "'Mixed'",
        "enable(2, c_stack='')": WRONG % "''",
        r"enable(2, c_stack='mixed\0')": WRONG % r"'mixed\x00'",
        "enable(2, c_stack=Odd())": "KeyError 'odd'",
        **{"enable(2, True, %s)" % value: "None" for value in (
            "0", "1", "None", "b'mixed'", "type('Text', (str,), {})('mixed')")}
    }, before="""
        class Odd:
            def __bool__(self):
                raise KeyError("odd")
    """)
