"""Line numbers, whatever the line table looks like."""

import pytest

from helpers import crash, few_versions, frames, report


# What runs, and the line that traceback and the report give.
LINES = {
    "a call over several lines": ("""
        def f(*arguments):
            pass
        f(
            1,
            die
            (
            ),
            2,
        )
    """, 6),
    "a chain of method calls": ("""
        class C:
            def a(self): return self
            def die(self): die()
        (C()
         .a()
         .a(
         )
         .die(
         )
         .a())
    """, 4),
    "negative steps": ("""
        for i in range(3):
            x = (
                i,
                i,
                lambda: 0)[
                i == 1 and
                die() or
                0]
    """, 8),
    "jumps of 100,000 lines": ("""
        gap = "\\n" * 100000
        exec("def f():" + gap + " die()" + gap + "f(" + gap + ")")
    """, 100001),
    "lines above a million": ("""
        import ast
        tree = ast.parse("def f():\\n die()\\nf()")
        exec(compile(ast.increment_lineno(tree, 2000000), "x", "exec"))
    """, 2000002),
    "the largest line": ("""
        def f(): die()
        f.__code__ = f.__code__.replace(co_firstlineno=2**31 - 1)
        f()
    """, 2147483647),
    "a function of 20,000 lines": ("""
        body = "".join(" x = %d\\n" % n for n in range(20000))
        exec("def f():\\n" + body + " die()\\nf()")
    """, 20002),
}


@pytest.mark.parametrize("code, line", LINES.values(), ids=LINES)
def test_line(code, line):
    """The lines are those that traceback shows."""
    assert ", line %d in " % line in frames(
        "        from die import die" + code)


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_no_code():
    """What looks like a code object but for its type is none."""
    crash("""
        import ctypes, sys, damage, faulthandler
        def inner():
            code = sys._getframe(1).f_code
            copy = ctypes.create_string_buffer(
                ctypes.string_at(id(code), code.__sizeof__()))
            damage.words(ctypes.addressof(copy))[damage.HEAD - 1] = id(int)
            damage.damage(sys._getframe(1), "code",
                          ctypes.addressof(copy))
            faulthandler.sigsegv()
        def outer():
            inner()
        outer()
    """, report(
        '  File "<string>", line 9 in inner\n'
        '  File ???, line ??? in ???\n'
        '  File "<string>", line 12 in <module>\n'))


def test_line_table_of_another_type():
    """Only a bytes object is a line table, also where another one fits."""
    crash("""
        import sys, damage, faulthandler
        class Other(bytes):
            pass
        def inner():
            code = sys._getframe(1).f_code
            table = Other(code.co_linetable if hasattr(code, "co_linetable")
                          else code.co_lnotab)
            damage.damage(sys._getframe(1), "lines", id(table))
            faulthandler.sigsegv()
        inner()
    """, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 9 in inner
          File "<string>", line ??? in <module>
    """)
