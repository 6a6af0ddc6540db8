"""c_stack="mixed": Python frames at the C frames that run them.

tests/test_slow_mixed.py compares them with what debuggers see. Here the C
frames of a small library tell where Python frames stand; the interpreter's
own, which differ from build to build, are shown as one line, an ellipsis.
Before Python 3.11 there are no Python frames in it: see test_symbol.py.
"""

import re
import sys

import pytest

from helpers import X86_64, block, compile_library, died, python


pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="no mixed stack before Python 3.11")


START = """
    import ctypes, faulthandler, sys, threading
    faulthandler.enable(2, c_stack="mixed")
    library = ctypes.PyDLL("./mixed.so")
    kind = ctypes.PYFUNCTYPE(None)
    def call(function):
        library.mixed_call(kind(function))
    def crash():
        library.mixed_read(16)
"""


C_LINE = (r"  C File (\"[^\"\n]*\"|\?\?\?), line (\d+|\?\?\?) in (.*) "
          r"\((?:(\S+)\+)?0x([0-9a-f]+)\)$")


TITLE = "\nC and Python stack (most recent call first):\n"


def mixed(code):
    """Run code that crashes; (the child, the lines of the traceback)."""
    compile_library("mixed")
    child = python(block(START) + block(code))
    died(child)
    plain, title, mixed = child.err.rpartition(TITLE)
    assert title
    assert "  C File" not in plain
    return child, physical(mixed.splitlines())


def physical(lines):
    """Without the lines of functions that were inlined into the next."""
    places = [re.match(C_LINE, line) for line in lines] + [None]
    return [line for line, here, next in zip(lines, places, places[1:])
            if not (here and next and here.group(4) != "mixed.so"
                    and here.group(4, 5) == next.group(4, 5))]


def shape(lines):
    """The lines, but of C frames only the library's."""
    shown = []
    for line in lines:
        found = re.match(C_LINE, line)
        if line.startswith("  C "):
            assert found, line
        if found and found.group(4) == "mixed.so":
            line = "  C %s" % found.group(3).split(".")[0]
        elif found:
            line = "  …"
        if line != "  …" or shown[-1:] != ["  …"]:
            shown.append(line)
    return "\n".join(line[2:] for line in shown) + "\n"


def shows(code, expected):
    """Run code: the traceback is this."""
    child, lines = mixed(code)
    assert shape(lines) == block(expected)


# What runs, and the traceback of its crash.  Debuggers agree, says
# test_slow_mixed.py.
STACKS = {
    "callbacks are at the loops that run them, between calls through C": ("""
        def down():
            crash()
        def middle():
            library.mixed_deep(kind(down), 2)
        def up():
            middle()
        call(up)
    """, """
          C mixed_read
          …
          File "<string>", line 8 in crash
          File "<string>", line 10 in down
          …
          C mixed_call
          C mixed_deep
          C mixed_deep
          C mixed_deep
          …
          File "<string>", line 12 in middle
          File "<string>", line 14 in up
          …
          C mixed_call
          …
          File "<string>", line 6 in call
          File "<string>", line 15 in <module>
          …
    """),
    "generators and coroutines have loops of their own, or share one": ("""
        def inner():
            yield 1
            call(crash)
        def outer():
            yield from inner()
        async def leaf():
            for x in outer():
                pass
        async def main():
            await leaf()
        main().send(None)
    """, """
          C mixed_read
          …
          File "<string>", line 8 in crash
          …
          C mixed_call
          …
          File "<string>", line 6 in call
          File "<string>", line 11 in inner
        LOOP  File "<string>", line 13 in outer
        LOOP  File "<string>", line 15 in leaf
        LOOP  File "<string>", line 18 in main
          …
          File "<string>", line 19 in <module>
          …
    """.replace("LOOP", "  …\n        " * (sys.version_info < (3, 12)))),
    "a generator that hands an exception on has no loop of its own": ("""
        def inner():
            try:
                yield
            except ValueError:
                crash()
        def middle():
            yield from inner()
        def outer():
            yield from middle()
        def throw():
            generator.throw(ValueError)
        generator = outer()
        next(generator)
        call(throw)
    """, """
          C mixed_read
          …
          File "<string>", line 8 in crash
          File "<string>", line 13 in inner
          …
          File "<string>", line 15 in middle
          File "<string>", line 17 in outer
          File "<string>", line 19 in throw
          …
          C mixed_call
          …
          File "<string>", line 6 in call
          File "<string>", line 22 in <module>
          …
    """),
    "a __del__ stands at the place where the object died": ("""
        class A:
            def __del__(self):
                call(crash)
        def f():
            A()
            return 1
        f()
    """, """
          C mixed_read
          …
          File "<string>", line 8 in crash
          …
          C mixed_call
          …
          File "<string>", line 6 in call
          File "<string>", line 11 in __del__
          …
          File "<string>", line 13 in f
          File "<string>", line 15 in <module>
          …
    """),
    "only the crashing thread's stack, which ends where it began": ("""
        import time
        threading.Thread(target=time.sleep, args=(60,)).start()
        threading.Thread._bootstrap = lambda self: call(crash)
        threading.Thread().start()
        time.sleep(60)
    """, """
          C mixed_read
          …
          File "<string>", line 8 in crash
          …
          C mixed_call
          …
          File "<string>", line 6 in call
          File "<string>", line 11 in <lambda>
          …
    """),
    "a subinterpreter comes first, then who called it": ("""
        import sub
        CODE = '''if 1:
            import ctypes
            library = ctypes.PyDLL("./mixed.so")
            def inner(x):
                library.mixed_read(16)
            def outer():
                sorted([1], key=inner)
            outer()
        '''
        def f():
            sub.run(sub.create(False), CODE)
        f()
    """, """
        C mixed_read
        …
        File "<string>", line 5 in inner
        …
        File "<string>", line 7 in outer
        File "<string>", line 8 in <module>
        …
        File "sub.py", line 22 in run
        File "<string>", line 20 in f
        File "<string>", line 21 in <module>
        …
    """.replace("<string>", "<script>" if sys.version_info >= (3, 14)
                else "<string>", 3)),
}


@pytest.mark.parametrize("code, expected", STACKS.values(), ids=STACKS)
def test_stack(code, expected):
    """Python frames stand at the C frames that run them."""
    shows(code, expected)


def test_report():
    """After the plain report, which is what it is without."""
    child, lines = mixed("crash()")
    plain = python(block(START).replace('"mixed"', "False") + "crash()")
    assert child.err[:len(plain.err)] == plain.err
    assert child.err[len(plain.err):].startswith(TITLE)


def test_native_thread():
    """A thread without Python frames has C frames."""
    child, lines = mixed("""
        import time
        libc, thread = ctypes.CDLL(None), ctypes.c_size_t()
        libc.pthread_create(ctypes.byref(thread), None,
                            library.mixed_read, ctypes.c_void_p(16))
        time.sleep(60)
    """)
    assert shape(lines) == "C mixed_read\n…\n"


@pytest.mark.parametrize("target", [0, 0x5000])
def test_call_through_null(target):
    """Where the processor jumped to comes first, then who jumped."""
    child, lines = mixed("""
        def f():
            library.mixed_call(ctypes.c_void_p(%d))
        f()
    """ % target)
    assert lines[0] == "  C File ???, line ??? in ??? (0x%016x)" % target
    assert shape(lines[1:]) == block("""
          C mixed_call
          …
          File "<string>", line 10 in f
          File "<string>", line 11 in <module>
          …
    """)


def test_evaluation_loop():
    """A fault in the loop itself: its C frame, and what it runs."""
    child, lines = mixed("""
        import damage
        def f():
            return ("a constant", [])
        damage.replace(damage.words(id(f.__code__)),
                       id(f.__code__.co_consts), damage.forbidden)
        f()
    """)
    assert re.search("  C File .*python", lines[0])
    found = shape(lines)
    if not X86_64:      # compilers may note the instruction later
        found = found.replace("line 10 in f", "line 11 in f")
    assert found == block("""
          …
          File "<string>", line 11 in f
          File "<string>", line 14 in <module>
          …
    """)


def test_deep():
    """Of a deep stack the two ends, and how many are between."""
    child, lines = mixed("""
        def f(n):
            library.mixed_call(kind(lambda: f(n - 1))) if n else crash()
        f(100)
    """)
    assert len(lines) == 129
    found = re.match(r"  \.\.\. (\d+) frames not shown \.\.\.$",
                     lines[100])
    assert int(found.group(1)) > 500
    shown = shape(lines)
    assert shown.startswith(block("""
          C mixed_read
          …
          File "<string>", line 8 in crash
          File "<string>", line 10 in f
          File "<string>", line 10 in <lambda>
          …
          C mixed_call
    """)), shown
    if hasattr(sys, "gettotalrefcount"):
        return      # a debug build needs more C frames to begin
    assert shown.endswith(block("""
          C mixed_call
          …
          File "<string>", line 10 in f
          File "<string>", line 11 in <module>
          …
    """)), shown


@pytest.mark.parametrize("start", [
    "f()", "t = threading.Thread(target=f); t.start(); t.join()"])
def test_overflow(start):
    """An overflowed stack: the C function that did it, who called it."""
    child, lines = mixed("""
        def f():
            library.mixed_overflow(None)
        %s
    """ % start)
    assert {re.sub(r".* in (\w+).* \(mixed.so.*", r"\1", line)
            for line in lines[:100]} == {"mixed_overflow"}
    # The oldest frames; in a debug build just those of
    # threading, which needs more C frames.
    assert re.search(r'  File ".*", line .* in (f\n|_bootstrap)',
                     "\n".join(lines[101:]))


def test_damaged_link():
    """Frames up to a damaged link follow the C stack, with two marks."""
    shows("""
        import damage
        def inner():
            damage.damage(sys._getframe(1), "link", damage.forbidden)
            crash()
        def outer():
            inner()
        def outermost():
            outer()
        call(outermost)
    """, """
        C mixed_read
        …
        C mixed_call
        …
        <these Python frames are not found in the C stack>
        File "<string>", line 8 in crash
        File "<string>", line 12 in inner
        File "<string>", line 14 in outer
        <the rest of the stack cannot be read>
    """)


def test_smashed_stack():
    """Behind an overwritten return address there are only Python frames."""
    child, lines = mixed("""
        def f():
            library.mixed_smash()
        def outer():
            list(map(lambda x: f(), [1]))
        outer()
    """)
    # An unwinder that looks at the code there faults, and says no more.
    assert shape(lines).replace("…\n<", "<") == block("""
        C mixed_smash
        <the rest of the C stack cannot be read>
        File "<string>", line 10 in f
        File "<string>", line 12 in <lambda>
        File "<string>", line 12 in outer
        File "<string>", line 13 in <module>
    """)


@pytest.mark.skipif(not X86_64, reason="only x86-64 can use such a one")
def test_odd_stack_pointer():
    """A stack pointer that is not aligned does not look like a gap."""
    shows("library.mixed_odd()", """
        C mixed_odd
        …
        File "<string>", line 9 in <module>
        …
    """)
