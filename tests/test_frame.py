"""Every kind of frame, and the traceback module agrees."""

import resource
import sys

from signal import SIGSEGV

import pytest

from helpers import (
    FREE_THREADED, PATIENCE, block, check, child_source, frames, limits,
    python, report, write_file)


# What runs, and the frames of the report.
FRAMES = {
    "functions that call each other": ("""
        from die import die
        def inner():
            die()
        def outer():
            inner()
        outer()
    """, """
        File "<string>", line 3 in inner
        File "<string>", line 5 in outer
        File "<string>", line 6 in <module>
    """),
    "methods of every binding": ("""
        from die import die
        class C:
            def method(self):
                self.of_class()
            @classmethod
            def of_class(cls):
                cls.static()
            @staticmethod
            def static():
                die()
        C().method()
    """, """
        File "<string>", line 10 in static
        File "<string>", line 7 in of_class
        File "<string>", line 4 in method
        File "<string>", line 11 in <module>
    """),
    "lambdas": ("""
        from die import die
        f = lambda: die()
        (lambda: f())()
    """, """
        File "<string>", line 2 in <lambda>
        File "<string>", line 3 in <lambda>
        File "<string>", line 3 in <module>
    """),
    "a generator expression, driven by C": ("""
        from die import die
        list(
            die() for x in "a")
    """, """
        File "<string>", line 3 in <genexpr>
        File "<string>", line 2 in <module>
    """),
    "generators that are resumed, sent to, and delegate": ("""
        from die import die
        def leaf():
            yield 1
            x = yield 2
            die()
        def tree():
            yield from leaf()
        def drive():
            g = tree()
            next(g), next(g)
            g.send(3)
        drive()
    """, """
        File "<string>", line 5 in leaf
        File "<string>", line 7 in tree
        File "<string>", line 11 in drive
        File "<string>", line 12 in <module>
    """),
    "a suspended generator is in nobody's stack": ("""
        from die import die
        def g():
            yield
        x = g()
        next(x)
        die()
    """, """
        File "<string>", line 6 in <module>
    """),
    "coroutines under asyncio": ("""
        import asyncio
        from die import die
        async def inner():
            await asyncio.sleep(0)
            die()
        async def outer():
            await inner()
        asyncio.run(outer())
    """, """
        File "<string>", line 5 in inner
        File "<string>", line 7 in outer
        …
    """),
    "asynchronous generators": ("""
        import asyncio, contextlib
        from die import die
        async def numbers():
            yield 1
            die()
        async def outer():
            async for n in numbers():
                pass
        asyncio.run(outer())
    """, """
        File "<string>", line 5 in numbers
        File "<string>", line 7 in outer
        …
    """),
    "a coroutine that is driven by send()": ("""
        from die import die
        class Wait:
            def __await__(self):
                yield
                die()
        async def f():
            await Wait()
        c = f()
        c.send(None)
        c.send(None)
    """, """
        File "<string>", line 5 in __await__
        File "<string>", line 7 in f
        File "<string>", line 10 in <module>
    """),
    "class bodies bear the class's name": ("""
        from die import die
        class Outer:
            class Inner:
                die()
    """, """
        File "<string>", line 4 in Inner
        File "<string>", line 3 in Outer
        File "<string>", line 2 in <module>
    """),
    "code from strings, with files of their own": ("""
        from die import die
        code = compile("\\n\\neval('die()')", "file one", "exec")
        exec(code)
    """, """
        File "<string>", line 1 in <module>
        File "file one", line 3 in <module>
        File "<string>", line 3 in <module>
    """),
    "Python called by C called by Python": ("""
        import ctypes, functools
        from die import die
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
    """, """
        File "<string>", line 4 in key
        File "<string>", line 6 in in_sort
        File "<string>", line 8 in in_map
        File "<string>", line 11 in <lambda>
        File "<string>", line 11 in in_ctypes
        File "<string>", line 12 in <module>
    """),
    "special methods, properties and descriptors": ("""
        from die import die
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
    """, """
        File "<string>", line 4 in __hash__
        File "<string>", line 6 in __eq__
        File "<string>", line 8 in __lt__
        File "<string>", line 10 in __getitem__
        File "<string>", line 12 in __getattr__
        File "<string>", line 14 in __enter__
        File "<string>", line 18 in __iter__
        File "<string>", line 21 in __contains__
        File "<string>", line 25 in value
        File "<string>", line 26 in <module>
    """),
    "__init__ after thousands of calls": ("""
        from die import die
        class C:
            def __init__(self, n):
                if n == 5000:
                    die()
        def make(n):
            return C(n)
        def loop():
            for n in range(5001):
                make(n)
        loop()
    """, """
        File "<string>", line 5 in __init__
        File "<string>", line 7 in make
        File "<string>", line 10 in loop
        File "<string>", line 11 in <module>
    """),
    "properties and operators after thousands of uses": ("""
        from die import die
        class C:
            count = 0
            @property
            def value(self):
                self.count += 1
                if self.count == 5000:
                    die()
                return 1
            def __getattr__(self, name):
                return self.value
            def __getitem__(self, n):
                return self.missing
            def __add__(self, n):
                return self[n]
        def loop(c):
            for n in range(5000):
                c + n
        loop(C())
    """, """
        File "<string>", line 8 in value
        File "<string>", line 11 in __getattr__
        File "<string>", line 13 in __getitem__
        File "<string>", line 15 in __add__
        File "<string>", line 18 in loop
        File "<string>", line 19 in <module>
    """),
    "a loop over a generator after thousands of steps": ("""
        from die import die
        def numbers():
            for n in range(5001):
                if n == 5000:
                    die()
                yield n
        def loop():
            for n in numbers():
                pass
        loop()
    """, """
        File "<string>", line 5 in numbers
        File "<string>", line 8 in loop
        File "<string>", line 10 in <module>
    """),
    "a metaclass's own methods": ("""
        from die import die
        class Meta(type):
            def __call__(cls, *arguments):
                return super().__call__(*arguments)
        class C(metaclass=Meta):
            def __new__(cls):
                die()
        C()
    """, """
        File "<string>", line 7 in __new__
        File "<string>", line 4 in __call__
        File "<string>", line 8 in <module>
    """),
    "hooks that run while a class is made": ("""
        from die import die
        class Base:
            def __init_subclass__(cls):
                die()
        class Derived(Base):
            pass
    """, """
        File "<string>", line 4 in __init_subclass__
        File "<string>", line 5 in <module>
    """),
    "__del__ on the last reference": ("""
        from die import die
        class C:
            def __del__(self):
                die()
        x = C()
        del x
    """, """
        File "<string>", line 4 in __del__
        File "<string>", line 6 in <module>
    """),
    "the collector has ended": ("""
        import gc
        from die import die
        class C:
            def __del__(self):
                pass
        x = C()
        x.self = x
        del x
        gc.collect()
        die()
    """, """
        File "<string>", line 10 in <module>
    """),
    "a callback of a weak reference": ("""
        import weakref
        from die import die
        class C:
            pass
        x = C()
        reference = weakref.ref(x, lambda r: die())
        x = None
    """, """
        File "<string>", line 6 in <lambda>
        File "<string>", line 7 in <module>
    """),
    "a function that runs at exit has nothing below it": ("""
        import atexit
        from die import die
        @atexit.register
        def last():
            die()
    """, """
        File "<string>", line 5 in last
    """),
    "a signal handler, on top of what it interrupted": ("""
        import signal
        from die import die
        def on_alarm(signum, frame):
            die()
        def work():
            signal.raise_signal(signal.SIGALRM)
        signal.signal(signal.SIGALRM, on_alarm)
        work()
    """, """
        File "<string>", line 4 in on_alarm
        File "<string>", line 6 in work
        File "<string>", line 8 in <module>
    """),
    "except and finally blocks": ("""
        from die import die
        def f():
            try:
                1 / 0
            except ZeroDivisionError:
                g()
        def g():
            try:
                raise
            finally:
                die()
        f()
    """, """
        File "<string>", line 11 in g
        File "<string>", line 6 in f
        File "<string>", line 12 in <module>
    """),
    "a trace function, on top of what it traces": ("""
        import sys
        from die import die
        def trace(frame, event, argument):
            if frame.f_lineno == 9 and event == "line":
                die()
            return trace
        def f():
            for x in range(3):
                x += 1
        sys.settrace(trace)
        f()
    """, """
        File "<string>", line 5 in trace
        File "<string>", line 9 in f
        File "<string>", line 11 in <module>
    """),
    "a function that is traced": ("""
        import sys
        from die import die
        def trace(frame, event, argument):
            frame.f_trace_opcodes = True
            return trace
        def f(n):
            x = n
            x and f(n - 1)
            x or die()
        sys.settrace(trace)
        f(2)
    """, """
        File "<string>", line 9 in f
        File "<string>", line 8 in f
        File "<string>", line 8 in f
        File "<string>", line 11 in <module>
    """),
    "a profile function, on top of what it profiles": ("""
        import sys
        from die import die
        def profile(frame, event, argument):
            if event == "return" and frame.f_code is f.__code__:
                die()
        def f():
            pass
        sys.setprofile(profile)
        f()
    """, """
        File "<string>", line 5 in profile
        File "<string>", line 7 in f
        File "<string>", line 9 in <module>
    """),
    "unpacked arguments, through partial objects": ("""
        import functools
        from die import die
        def f(*a, **k):
            die(*a, **k)
        def g(*a, **k):
            functools.partial(f, *a)(**k)
        g(*[], **{})
    """, """
        File "<string>", line 4 in f
        File "<string>", line 6 in g
        File "<string>", line 7 in <module>
    """),
}


@pytest.mark.parametrize("code, expected", FRAMES.values(), ids=FRAMES)
def test_frames(code, expected):
    """The frames are those that traceback shows."""
    frames(code, expected)


@pytest.mark.parametrize("kind, code", [
    ("listcomp", "[die() for x in 'a']"),
    ("setcomp", "{die() for x in 'a'}"),
    ("dictcomp", "{x: die() for x in 'a'}")])
def test_comprehensions(kind, code):
    """Comprehensions have frames of their own, before 3.12."""
    inlined = sys.version_info >= (3, 12)
    frames("""
        from die import die
        def f():
            return %s
        f()
    """ % code, "%s\n%s\n%s\n" % (
        "" if inlined else
        'File "<string>", line 3 in <%s>' % kind,
        'File "<string>", line 3 in f',
        'File "<string>", line 4 in <module>'))


@pytest.mark.parametrize("call", ["throw(ValueError)", "close()"])
def test_generator_throw_and_close(call):
    """Generators that are resumed by an exception."""
    frames("""
        from die import die
        def g():
            try:
                yield
            finally:
                die()
        x = g()
        next(x)
        x.%s
    """ % call, """
        File "<string>", line 6 in g
        File "<string>", line 9 in <module>
    """)


@pytest.mark.parametrize(
    "call", ["x.close()", "del x", "x.throw(GeneratorExit)"])
def test_delegating_generator_is_closed(call):
    """One that is closed, and closes another one, is in nobody's stack."""
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
            x = outer()
            next(x)
            %s
        f()
    """ % call, """
        File "<string>", line 6 in inner
        File "<string>", line 12 in f
        File "<string>", line 13 in <module>
    """)


def test_decorators():
    """A decorator is called from its own line, the def's before 3.11."""
    frames("""
        from die import die
        def decorate(f):
            die()
        def plain(f):
            return f
        @plain
        @decorate
        @plain
        def f():
            pass
    """, """
        File "<string>", line 3 in decorate
        File "<string>", line %d in <module>
    """ % (7 if sys.version_info >= (3, 11) else 9))


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
    """, """
        File "<string>", line 5 in __del__
        File "<string>", line 9 in <module>
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
    """, """
        File "teardown.py", line 4 in __del__
    """)


def test_import():
    """A module that crashes while it is imported."""
    write_file("crashing.py", "from die import die\n\ndie()\n")
    frames("""
        import crashing
    """, """
        File "crashing.py", line 3 in <module>
        …
    """)


def deep(depth):
    """A stack of so many frames: what traceback would show of it."""
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
    return child.out


def test_100_frames():
    """A hundred frames are all shown."""
    assert deep(100) == ('  File "<string>", line 8 in f\n'
                         + 98 * '  File "<string>", line 6 in f\n'
                         + '  File "<string>", line 9 in <module>\n')


@pytest.mark.parametrize("depth", [101, 150, 401, 100000])
def test_more_frames(depth):
    """Of more, the 90 innermost and the 10 outermost are shown."""
    with limits(resource.RLIMIT_STACK, 1 << 30):
        found = deep(depth)
    assert found == (
        '  File "<string>", line 8 in f\n'
        + 89 * '  File "<string>", line 6 in f\n'
        + '  ... %d frames not shown ...\n' % (depth - 100)
        + 9 * '  File "<string>", line 6 in f\n'
        + '  File "<string>", line 9 in <module>\n')


# ---- thousands of stacks of real code, ours against the interpreter's ------


def agree(code, every, wanted):
    """The child compared as many stacks as wanted, all alike."""
    child = python(child_source("agreement.py") + block(code),
                   str(every), str(wanted), limit=4 * PATIENCE)
    assert (child.status, child.err, child.out) == (
        0, "", "%d\n" % wanted)


@pytest.mark.parametrize(
    "hook, every", [("setprofile", 997), ("settrace", 2003)])
def test_calls_and_lines(hook, every):
    """Stacks at calls, returns and lines of the standard library."""
    agree("""
        while compared < WANTED:
            sys.%s(event)
            work()
            sys.%s(None)
        print(compared)
        file.close()
    """ % (hook, hook), every, 250)


def test_interrupted():
    """Stacks wherever a timer happens to interrupt the work."""
    agree("""
        import signal
        def event(signum, frame):
            look(frame)
            if compared < WANTED:
                signal.setitimer(signal.ITIMER_REAL, 0.0007)
        signal.signal(signal.SIGALRM, event)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while compared < WANTED:
            work()
        print(compared)
        file.close()
    """, 1, 250)
