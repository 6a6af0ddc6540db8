"""Every kind of frame, and the traceback module agrees."""

import resource

from signal import SIGSEGV

import pytest

from helpers import (
    FREE_THREADED, PATIENCE, block, check, child_source, frames, limits,
    python, report, write_file)


# What runs.  die() prints its caller's stack as traceback has it.
FRAMES = {
    "methods of every binding, lambdas, comprehensions": """
        class C:
            def method(self):
                self.of_class()
            @classmethod
            def of_class(cls):
                cls.static()
            @staticmethod
            def static():
                return [{x: {y for y in [x] if die()} for x in "a"}
                        for z in "b"]
        f = lambda: C().method()
        def outer():
            (lambda: f())()
        outer()
    """,
    "what runs while classes are made": """
        import functools
        def decorate(f, *a, **k):
            die(*a, **k)
        class Meta(type):
            def __call__(cls, *arguments):
                return super().__call__(*arguments)
        class C(metaclass=Meta):
            def __new__(cls, *a, **k):
                @property
                @functools.partial(decorate, *a, **k)
                @property
                def f(self):
                    pass
        class Base:
            def __init_subclass__(cls):
                C(*[], **{})
        class Outer:
            class Inner(Base):
                pass
    """,
    "generators that are resumed, sent to, and delegate": """
        def leaf():
            yield 1
            x = yield 2
            list(
                die() for x in "a")
        def tree():
            yield from leaf()
        class Wait:
            def __await__(self):
                yield
                g = tree()
                next(g), next(g)
                g.send(3)
        async def f():
            await Wait()
        c = f()
        c.send(None)
        c.send(None)
    """,
    "a suspended generator is in nobody's stack": """
        def g():
            yield
        x = g()
        next(x)
        die()
    """,
    "coroutines and asynchronous generators under asyncio": """
        import asyncio
        async def numbers():
            yield 1
            await asyncio.sleep(0)
            die()
        async def inner():
            async for n in numbers():
                pass
        async def outer():
            await inner()
        asyncio.run(outer())
    """,
    "code from strings, with files of their own": """
        code = compile("\\n\\neval('die()')", "file one", "exec")
        exec(code)
    """,
    "Python called by C called by Python": """
        import ctypes, functools
        def key(x):
            die()
        def in_sort(x):
            sorted([1, 2], key=key)
        def in_map(x):
            list(map(in_sort, "a"))
        @ctypes.CFUNCTYPE(None)
        def in_ctypes():
            functools.reduce(lambda x, y: in_map(x), "ab")
        in_ctypes()
    """,
    "special methods, properties and descriptors": """
        class C:
            def __hash__(self):
                die()
            def __eq__(self, other):
                return {self}
            def __lt__(self, other):
                return self == other
            def __getitem__(self, key):
                return self < 1
            def __getattr__(self, name):
                return self[1]
            def __enter__(self):
                self.missing
            def __exit__(self, *error):
                pass
            def __iter__(self):
                with self:
                    pass
            def __contains__(self, x):
                for x in self:
                    pass
            @property
            def value(self):
                return 1 in self
        C().value
    """,
    "calls that were specialised after thousands of uses": """
        class C:
            count = 0
            def __init__(self, n):
                self + n
            @property
            def value(self):
                C.count += 1
                if C.count == 5000:
                    die()
                return 1
            def __getattr__(self, name):
                return self.value
            def __getitem__(self, n):
                return self.missing
            def __add__(self, n):
                return self[n]
        def numbers():
            for n in range(5000):
                yield C(n)
        def loop():
            for n in numbers():
                pass
        loop()
    """,
    "the collector has ended": """
        import gc
        class C:
            def __del__(self):
                pass
        x = C()
        x.self = x
        del x
        gc.collect()
        die()
    """,
    "what the interpreter calls, on top of what it interrupts": """
        import signal, weakref
        def on_alarm(signum, frame):
            try:
                1 / 0
            except ZeroDivisionError:
                try:
                    raise
                finally:
                    die()
        class C:
            def __del__(self):
                signal.raise_signal(signal.SIGALRM)
        class D:
            pass
        def dead(reference):
            c.clear()
        signal.signal(signal.SIGALRM, on_alarm)
        c, d = [C()], D()
        reference = weakref.ref(d, dead)
        d = None
    """,
    "a function that runs at exit has nothing below it": """
        import atexit
        @atexit.register
        def last():
            die()
    """,
    "a trace function, on top of what it traces": """
        import sys
        def trace(frame, event, argument):
            if frame.f_lineno == 9 and event == "line":
                die()
            return trace
        def f():
            for x in range(3):
                x += 1
        sys.settrace(trace)
        f()
    """,
    "a function that is traced": """
        import sys
        def trace(frame, event, argument):
            frame.f_trace_opcodes = True
            return trace
        def f(n):
            x = n
            x and f(n - 1)
            x or die()
        sys.settrace(trace)
        f(2)
    """,
    "a module that is imported": """
        import crashing
    """,
}


@pytest.mark.parametrize("code", FRAMES.values(), ids=FRAMES)
def test_frames(code):
    """The frames are those that traceback shows."""
    write_file("crashing.py", "from die import die\n\ndie()\n")
    frames("        from die import die" + code)


@pytest.mark.parametrize("call", [
    "x.throw(ValueError)", "x.throw(GeneratorExit)", "x.close()", "del x"])
@pytest.mark.parametrize("made", ["inner()", "outer()"])
def test_generator_throw_and_close(call, made):
    """Generators that are resumed by an exception.

    One that is closed, and closes another one, is in nobody's stack.
    """
    frames("""
        from die import die
        def inner():
            try:
                yield
            finally:
                die()
        def outer():
            yield from inner()
        def f():
            x = %s
            next(x)
            %s
        f()
    """ % (made, call))


def test_del_in_collector():
    """__del__ in the collector, which the report says."""
    frames("""
        import gc
        from die import die
        class C:
            def __del__(self):
                die()
        x = C()
        x.self = x
        del x
        gc.collect()
    """, header="  Garbage-collecting\n")


@pytest.mark.skipif(FREE_THREADED, reason="the collector does it there")
def test_module_teardown():
    """__del__ while the modules are taken down."""
    write_file("teardown.py", block("""
        from die import die
        class C:
            def __del__(self, die=die):
                die()
    """))
    frames("""
        import teardown
        keep = teardown.C()
    """)


@pytest.mark.parametrize("depth", [100, 101, 401, 100000])
def test_deep(depth):
    """Of more than 100 frames the 90 newest and the 10 oldest are shown."""
    with limits(resource.RLIMIT_STACK, 1 << 30):
        child = python("""
            import sys
            from die import die
            sys.setrecursionlimit(10**6)
            def f(n):
                if n > 2:
                    f(n - 1)
                else:
                    die()
            f(%d)
        """ % depth, limit=4 * PATIENCE)
    # Most of the time is taken by traceback, to make what we expect.
    check(child, SIGSEGV, report(child.out), 4 * PATIENCE)
    gap = '  ... %d frames not shown ...\n' % (depth - 100)
    assert child.out == (
        '  File "<string>", line 8 in f\n'
        + 89 * '  File "<string>", line 6 in f\n'
        + gap * (depth > 100)
        + 9 * '  File "<string>", line 6 in f\n'
        + '  File "<string>", line 9 in <module>\n')


# ---- thousands of stacks of real code, ours against the interpreter's ------


WORKS = {
    "calls and returns": ("crash", 997, 250, """
        while compared < WANTED:
            sys.setprofile(event)
            work()
            sys.setprofile(None)
    """),
    "lines": ("crash", 2003, 250, """
        while compared < WANTED:
            sys.settrace(event)
            work()
            sys.settrace(None)
    """),
    "wherever a timer interrupts": ("crash", 1, 250, """
        import signal
        def event(signum, frame):
            look(frame)
            if compared < WANTED:
                signal.setitimer(signal.ITIMER_REAL, 0.0007)
        signal.signal(signal.SIGALRM, event)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while compared < WANTED:
            work()
    """),
    "calls and returns, of dumps": ("dump", 97, 2000, """
        sys.setprofile(event)
        while compared < WANTED:
            work()
        sys.setprofile(None)
    """),
}


@pytest.mark.parametrize("how, every, wanted, code", WORKS.values(), ids=WORKS)
def test_standard_library(how, every, wanted, code):
    """Thousands of stacks of the standard library's code are those that
    traceback shows."""
    child = python(child_source("agreement.py") + block(code) + block("""
        print(compared)
        file.close()
    """), how, str(every), str(wanted), limit=4 * PATIENCE)
    assert (child.status, child.err, child.out) == (
        0, "", "%d\n" % wanted)
