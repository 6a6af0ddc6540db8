"""dump_traceback(): what the running Python's own module dumps."""

import re
import sys

import pytest

from helpers import agrees, block, patient, prints, python


@pytest.mark.parametrize("arguments, title", [
    ("", "Current thread 0x…"), ("all_threads=False", "Stack")])
def test_literal(arguments, title):
    """The report itself, for one thread; all_threads=False has a title of
    its own."""
    prints("""
        import faulthandler
        def f():
            faulthandler.dump_traceback(%s)
        f()
    """ % arguments, """
        %s (most recent call first):
          File "<string>", line 3 in f
          File "<string>", line 4 in <module>
    """ % title)


def test_threads():
    """All threads, in the builtin's order, with its names."""
    child = agrees("""
        import waiting
        for n in range(20):
            waiting.start(waiting.wait, n, name="caf\u00e9 %d" % n)
        print(same().count("(most recent call first):"))
        print(same(False).count("(most recent call first):"))
    """)
    assert child.out == "21\n1\n"


def test_more_than_100_threads():
    """A hundred by default, then the current one, then three dots."""
    child = python("""
        import faulthandler, tempfile, waiting
        for n in range(120):
            waiting.start()
        for most in {}, {"max_threads": 1}, {"max_threads": 7}, {
                "max_threads": 200}:
            with tempfile.TemporaryFile("w+") as file:
                faulthandler.dump_traceback(file, **most)
                file.seek(0)
                text = file.read()
            print(text.count("hread 0x"), text.endswith("\\n\\n...\\n"),
                  text.count("Current thread"))
    """)
    assert child.out == block("""
        101 True 1
        2 True 1
        8 True 1
        121 False 1
    """)


def test_more_threads_than_can_be_listed():
    """The current one is always shown, the oldest of many, too."""
    child = python("""
        import ctypes, os, signal, faulthandler
        make = ctypes.pythonapi.PyThreadState_New
        make.restype = ctypes.c_void_p
        make.argtypes = [ctypes.c_void_p]
        main = ctypes.pythonapi.PyInterpreterState_Main
        main.restype = ctypes.c_void_p
        for _ in range(4096):
            make(main())            # no threads: they have no number
        faulthandler.register(signal.SIGUSR1)
        faulthandler.dump_traceback(max_threads=1)
        os.kill(os.getpid(), signal.SIGUSR1); os._exit(0)
    """)
    assert re.sub(r" \[.*\]", "", child.err) == block("""
        Current thread 0x… (most recent call first):
          File "<string>", line 10 in <module>

        ...
        Current thread 0x… (most recent call first):
          File "<string>", line 11 in <module>

        ...
    """)


# What both modules dump from the same places.
AGREE = {
    "a hundred frames, then the builtin's three dots": """
        def f(n):
            f(n - 1) if n else same()
        for n in (90, 97, 98, 99, 100, 101, 500):
            f(n)
    """,
    "escapes, names that are too long or more than a str": r"""
        class Name(str):
            pass
        def f():
            same()
        for name in ["", "caf\xe9", "\u20ac", "\U0001f40d", "\ud800",
                     "a\nb\0\x7f", "x" * 499, "x" * 500, "x" * 501,
                     "\u20ac" * 499, "\u20ac" * 501, '"quoted"',
                     "".join(map(chr, range(300)))]:
            for kind in str, Name:
                f.__code__ = f.__code__.replace(co_name=kind(name),
                                                co_filename=kind(name))
                f()
            if name.isprintable():
                exec(compile("same()", Name(name + ".html"), "exec"))
    """,
    "generators, coroutines and comprehensions": """
        import asyncio
        def generate():
            yield same()
        async def coroutine():
            await asyncio.sleep(0)
            [same() for x in generate()]
        asyncio.run(coroutine())
        class C:
            x = [same() for x in (lambda: generate())()]
    """,
}


@pytest.mark.parametrize("code", AGREE.values(), ids=AGREE)
def test_same(code):
    """They dump the same."""
    agrees(code)


def test_collector():
    """The line that says the collector works."""
    child = agrees("""
        import gc
        class C:
            def __del__(self):
                print(same().count("  Garbage-collecting"))
        x = C()
        x.self = x
        del x
        gc.collect()
    """)
    assert child.out == ("1\n" if sys.version_info >= (3, 10) else "0\n")


def test_subinterpreter():
    """From a subinterpreter, ours goes on where the builtin ends."""
    child = agrees("""
        import sub
        other = sub.create(False)
        sub.run(other, "import sys; sys.path.insert(0, '');"
                "import both; x = both.both()")
        sub.run(other, "assert x[0].startswith(x[1]), x")
        sub.run(other, "print(x[0][len(x[1]):], flush=True)")
    """)
    out = re.sub(r" \[python[^\]]*\]", "", child.out)
    assert out == ("\n" + block("""
        Interpreter 0:

        Thread 0x… (most recent call first):
          File "sub.py", line 22 in run
          File "<string>", line 4 in <module>

    """))


def test_pipe_read_by_a_thread():
    """A megabyte goes to a pipe that a thread of ours reads."""
    child = python("""
        import faulthandler, os, threading
        reader, writer = os.pipe()
        total = []
        def read():
            while True:
                data = os.read(reader, 65536)
                if not data:
                    break
                total.append(len(data))
        thread = threading.Thread(target=read)
        thread.start()
        def f(n):
            f(n - 1) if n else [faulthandler.dump_traceback(writer)
                                for x in range(12)]
        name = "n" * 480
        f.__code__ = f.__code__.replace(co_name=name, co_filename=name)
        f(120)
        os.close(writer)
        thread.join()
        print(sum(total) > 10**6)
    """, env=patient())
    assert (child.status, child.out) == (0, "True\n")


def test_file_is_flushed():
    """What is in the file's buffer comes before the dump."""
    child = python("""
        import faulthandler, sys
        sys.stdout.write("first\\n")
        faulthandler.dump_traceback(sys.stdout, all_threads=False)
    """)
    assert child.out == block("""
        first
        Stack (most recent call first):
          File "<string>", line 3 in <module>
    """)
