"""A damaged object costs its own place in the report, no other."""

import sys

import pytest

from helpers import (
    LIMIT, block, compile_library, crash, few_versions, preload, python,
    report, status_name)


VALUES = {
    "NULL": "0",
    "one": "1",
    "small": "64",
    "unaligned": "id(frame) + 1",
    "not canonical": "0xdddddddddddddddd",
    "forbidden page": "damage.forbidden",
    "end of a forbidden page": "damage.forbidden + 4088",
    "beyond the end of a file": "damage.beyond",
    "another object": "id(42)",
    "itself": "id(code)",
    "top of memory": "2**64 - 8",
}


# What is damaged, and all that is left of the frame's line.
DAMAGED = {
    "code": "???, line ??? in ???",
    "name": '"<string>", line 7 in ???',
    "filename": "???, line 7 in outer",
    "lines": '"<string>", line ??? in outer',
}


@pytest.mark.parametrize("what, line", DAMAGED.items(), ids=DAMAGED)
@pytest.mark.parametrize("name, value", VALUES.items(), ids=VALUES)
def test_damaged(what, line, name, value):
    """Damage something of an outer frame: only its line suffers."""
    if what == "code" and name == "itself":
        pytest.skip("the frame's own code object is the right one")
    crash("""
        import sys, damage, faulthandler
        def inner():
            frame = sys._getframe(1)
            code = frame.f_code
            damage.damage(frame, %r, %s); faulthandler.sigsegv()
        def outer():
            inner()
        def outermost():
            outer()
        outermost()
    """ % (what, value), report(
        '  File "<string>", line 5 in inner\n'
        '  File %s\n'
        '  File "<string>", line 9 in outermost\n'
        '  File "<string>", line 10 in <module>\n' % line))


@pytest.mark.parametrize("name, value", [
    (name, value) for name, value in dict(
        VALUES, itself="damage.place(frame)").items()
    if name != "another object"         # may look like a frame
    # The link of the oldest frame is NULL; 3.11+ know by its kind which it is.
    and (name != "NULL" or sys.version_info >= (3, 11))])
def test_damaged_link(name, value):
    """A damaged link ends the stack, and the report says so."""
    crash("""
        import sys, damage, faulthandler
        def inner():
            frame = sys._getframe(1)
            damage.damage(frame, "link", %s)
            faulthandler.sigsegv()
        def outer():
            inner()
        outer()
    """ % value, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 5 in inner
          File "<string>", line 7 in outer
          <the rest of the stack cannot be read>
    """)


def test_damaged_link_of_another_thread():
    """The stacks of the other threads are whole."""
    crash("""
        import sys, damage, faulthandler, waiting
        def work():
            damage.damage(sys._getframe(), "link", damage.forbidden)
            waiting.wait()
        waiting.start(lambda: work())
        faulthandler.sigsegv()
    """, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 6 in <module>

        Thread 0x… (most recent call first):
          File "waiting.py", line 16 in wait
          File "<string>", line 4 in work
          <the rest of the stack cannot be read>
    """)


@pytest.mark.parametrize("length", [2, 7, 800])
def test_cycle(length):
    """A stack that leads back to itself ends after some rounds."""
    child = python("""
        import sys, damage, faulthandler
        def f(n):
            if n:
                return f(n - 1)
            damage.damage(sys._getframe(%d), "link",
                          damage.place(sys._getframe()))
            faulthandler.sigsegv()
        sys.setrecursionlimit(5000)
        f(1200)
    """ % length)
    assert status_name(child.status) == "-SIGSEGV"
    lines = child.err.splitlines(True)
    assert lines[:4] == report(
        '  File "<string>", line 7 in f\n').splitlines(True)
    assert set(lines[4:-1]) - {'  File "<string>", line 7 in f\n'} == {
        '  File "<string>", line 4 in f\n'} | {
            line for line in lines if "frames not shown" in line}
    assert min(length, 90) < len(lines) < 107
    assert lines[-1] == "  <the rest of the stack cannot be read>\n"
    assert child.seconds < LIMIT


@pytest.mark.parametrize("value", ["forbidden", "beyond"])
def test_many_damaged(value):
    """The tenth fault inside a report is survived like the first."""
    crash("""
        import sys, damage, faulthandler
        def f(n):
            frame = sys._getframe()
            if n: return f(n - 1)
            for what in ["name", "filename", "lines"]:
                damage.damage(frame, what, damage.%s)
            faulthandler.sigsegv()
        f(9)
    """ % value, report(
        10 * "  File ???, line ??? in ???\n"
        + '  File "<string>", line 8 in <module>\n'))


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_a_read_that_fails():
    """A stack is read again if any one of its reads fails."""
    compile_library("failing_read")
    child = python("""
        import ctypes, faulthandler, tempfile, waiting
        library = ctypes.CDLL("./failing_read.so")
        reads, failing = [ctypes.c_long.in_dll(library, name)
                          for name in ("reads", "failing")]
        waiting.start(waiting.wait, 5)
        faulthandler.disable()      # the kernel reads, not the handler
        def dump(number):
            with tempfile.TemporaryFile("w+") as file:
                reads.value, failing.value = 0, number
                faulthandler.dump_traceback(file)
                file.seek(0)
                return file.read(), reads.value
        count = dump(0)[1]
        whole, *texts = [dump(n)[0] for n in range(count + 1)]
        theirs, ours = whole.split("\\n\\n")
        absent = 0
        for number, text in enumerate(texts, 1):
            # Of a state that cannot be read the thread has ended.
            absent += text == ours
            if text != ours and not text.startswith(theirs + "\\n"):
                print(number, text)
        print(count > 50, absent < 10, count, absent)
    """, env=preload("failing_read"))
    assert (child.status, child.err, child.out[:9]) == (
        0, "", "True True")


@few_versions
@pytest.mark.parametrize(
    "refused", ["pass", 'refuse.refuse("process_vm_readv")'])
def test_dump_while_disarmed(refused):
    """Without our handlers the kernel reads damaged memory for us.

    Where it refuses to, a pipe does.
    """
    child = python("""
        import damage, faulthandler, refuse, sys
        faulthandler.disable()
        %s
        def f():
            damage.damage(sys._getframe(), "name", damage.forbidden)
            faulthandler.dump_traceback(all_threads=False)
        def g():
            f()
        g()
        __import__("os")._exit(7)
    """ % refused)
    assert (child.status, child.err) == (7, block("""
        Stack (most recent call first):
          File "<string>", line 6 in ???
          File "<string>", line 8 in g
          File "<string>", line 9 in <module>
    """))
