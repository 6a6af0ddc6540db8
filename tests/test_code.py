"""Line numbers, whatever the line table looks like."""

from signal import SIGSEGV

import pytest

from helpers import (
    PYTHON, block, check, crash, few_versions, frames, python, report, run)


def test_call_over_several_lines():
    """A call's line is the one that traceback gives."""
    frames("""
        from die import die
        def f(*arguments):
            pass
        f(
            1,
            die
            (
            ),
            2,
        )
    """, """
        File "<string>", line 6 in <module>
    """)


def test_method_call_over_several_lines():
    """A chain of method calls is as traceback has it."""
    child = python("""
        from die import die
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
    """)
    check(child, SIGSEGV, report(child.out))


def test_lines_backwards():
    """Line tables with negative steps are followed."""
    frames("""
        from die import die
        for i in range(3):
            x = (
                i,
                i,
                lambda: 0)[
                i == 1 and
                die() or
                0]
    """, """
        File "<string>", line 8 in <module>
    """)


@pytest.mark.parametrize("n", range(1, 6))
def test_every_line(n):
    """A function crashes on each of its lines in turn."""
    source = block("""
        import sys
        from die import die
        n = int(sys.argv[1])
        def f():
            n == 1 and die()
            n == 2 and die()
            n == 3 and die()
            n == 4 and die()
            n == 5 and die()
        f()
    """)
    child = run(PYTHON, "-c", source, str(n))
    check(child, SIGSEGV, report(
        '  File "<string>", line %d in f\n'
        '  File "<string>", line 10 in <module>\n' % (n + 4)))


def test_jumps_of_100000_lines():
    """Long stretches of empty lines are counted right, up and down."""
    frames("""
        from die import die
        gap = "\\n" * 100000
        exec("def f():" + gap + " die()" + gap + "f(" + gap + ")")
    """, """
        File "<string>", line 100001 in f
        File "<string>", line 200001 in <module>
        File "<string>", line 3 in <module>
    """)


def test_lines_above_a_million():
    """Seven digits and more are no trouble."""
    frames("""
        import ast
        from die import die
        tree = ast.parse("def f():\\n die()\\nf()")
        exec(compile(ast.increment_lineno(tree, 2000000), "x", "exec"))
        tree = ast.parse("def f():\\n die()\\nf()")
    """, """
        File "x", line 2000002 in f
        File "x", line 2000003 in <module>
        File "<string>", line 4 in <module>
    """)


def test_largest_line():
    """The first line may be the largest there is."""
    frames("""
        from die import die
        def f(): die()
        f.__code__ = f.__code__.replace(co_firstlineno=2**31 - 1)
        f()
    """, """
        File "<string>", line 2147483647 in f
        File "<string>", line 4 in <module>
    """)


def test_long_function():
    """The last line of a function of 20 000 lines is found."""
    frames("""
        from die import die
        body = "".join(" x = %d\\n" % n for n in range(20000))
        exec("def f():\\n" + body + " die()\\nf()")
    """, """
        File "<string>", line 20002 in f
        File "<string>", line 20003 in <module>
        File "<string>", line 3 in <module>
    """)


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
