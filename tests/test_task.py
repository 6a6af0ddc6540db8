"""context(): what each thread says it is about, in details reports."""

import re
import sys

import pytest

from details import split_registers
from helpers import (
    LIMIT, PATIENCE, SANITIZED, block, python, raises, status_name)


ARM = "faulthandler.enable(2, c_stack=False, details=True)\n"
THREADS = """
    import threading
    def start(function, *arguments):
        thread = threading.Thread(target=function, args=arguments,
                                  daemon=True)
        thread.start()
        return thread
    never = threading.Lock()
    never.acquire()
"""


def crash_with(code, *arguments, **options):
    """Run code that arms with details, and crashes; the report's parts.

    The first is the lines between the cause and the first header; for
    each header there is one more, of its block.
    """
    child = python("import faulthandler\n" + ARM + block(code),
                   *arguments, **options)
    assert status_name(child.status) == "-SIGSEGV"
    assert child.err.count("Fatal Python error") == 1
    assert child.seconds < LIMIT
    parts = re.split(r"(?m)^\n?.*hread 0x.* \(most recent call first\):\n",
                     child.err)
    head = parts[0].split("\n", 3)[3]
    return [re.findall(r"(?m)^  context: (.*)$", part)
            for part in [head] + parts[1:]], child


def one(text, expected):
    """The main thread says this: the report shows that."""
    found, child = crash_with("""
        faulthandler.context(%s)
        faulthandler.sigsegv()
    """ % text)
    assert found == [expected, []]


def test_returns():
    """It returns what was said before: None, or an equal str."""
    child = python("""
        import faulthandler
        class Text(str):
            pass
        texts = ["", "a", "request 7", "x" * 200, "a\\nb\\0"] + [
            chr(n) * 200 for n in (0xe9, 0x20ac, 0xd800, 0x1f600)]
        assert faulthandler.context(None) is None
        assert faulthandler.context("first") is None
        before = "first"
        for text in texts:
            assert faulthandler.context(text) == before
            before = text
        assert faulthandler.context(Text("sub")) == before
        assert type(faulthandler.context("x" * 1000)) is str
        assert faulthandler.context("old") == "x" * 200
        old = faulthandler.context("inner")
        assert faulthandler.context(old) == "inner"
        assert faulthandler.context(None) == "old"
        assert faulthandler.context(None) is None
    """)
    assert (child.status, child.err) == (0, "")


def test_wrong_arguments():
    """Anything but a str and None is a TypeError, and changes nothing."""
    raises({
        "context('kept')": "None",
        "context(1)": "TypeError context() argument must be str or None, "
                      "not int",
        "context(b'x')": "TypeError context() argument must be str or "
                         "None, not bytes",
        "context(['x'])": "TypeError context() argument must be str or "
                          "None, not list",
        "context('x') ": "'kept'",
    })
    child = python("""
        import faulthandler
        for call in ("context()", "context('a', 'b')",
                     "context(text='a')"):
            try:
                eval("faulthandler." + call)
            except TypeError as error:
                print("context() takes" in str(error))
    """)
    assert child.out == "True\n" * 3


def test_literal():
    """The line stands under that of the thread."""
    child = python("""
        import faulthandler
        faulthandler.enable(2, c_stack=False, details=True)
        faulthandler.context("request 4711")
        faulthandler.sigsegv()
    """)
    err, _ = split_registers(child.err)
    err = re.sub(r"(?m)^  thread \d+ .*$", "  thread …", err)
    err = re.sub(r" \[python[^\]]*\]", "", err)
    assert err == block("""
        Fatal Python error: Segmentation fault
          reading address 0x0000000000000000 (a NULL pointer): nothing is mapped there (SEGV_MAPERR)
          thread …
          context: request 4711

        Current thread 0x… (most recent call first):
          File "<string>", line 4 in <module>
    """)


def test_texts():
    """ASCII as it is, all else escaped; 200 characters and an ellipsis."""
    for text, shown in [
            ("plain [text] 'quoted' \\x41", None),
            ("caf\xe9\x7f", "caf\\xe9\\x7f"),
            ("\u20ac\ud800 \xff", "\\u20ac\\ud800 \\xff"),
            ("\U0001f600", "\\U0001f600"),
            ("a\nThread 0x1\0", "a\\x0aThread 0x1\\x00"),
            ("x" * 200, None),
            ("\U0010ffff" * 200, "\\U0010ffff" * 200)]:
        one(ascii(text), [text if shown is None else shown])
    for text, count in [("x", 201), ("\u1234", 10000),
                        ("\U0010ffff", 300)]:
        shown = text if text < "~" else ascii(text)[1:-1]
        one("%a * %d" % (text, count), [shown * 200 + "..."])
    for nothing in "None", "''":
        one(nothing, [])


@pytest.mark.parametrize("arm", [
    "", "faulthandler.enable()",
    "faulthandler.enable(2, c_stack=False)"])
def test_plain_reports(arm):
    """Reports without details are as they were."""
    child = python("""
        import faulthandler
        %s
        faulthandler.context("request 4711")
        faulthandler.dump_traceback()
        faulthandler.sigsegv()
    """ % (arm or "pass"))
    assert status_name(child.status) == "-SIGSEGV"
    assert "4711" not in child.err


def test_threads():
    """Each thread's note stands in its own block."""
    found, child = crash_with(THREADS + """
    def run(n):
        if n != 1:
            faulthandler.context("first")
            faulthandler.context("thread %d" % n)
        ready.release()
        never.acquire()
    ready = threading.Semaphore(0)
    for n in range(3):
        start(run, n)
        ready.acquire()
    faulthandler.context("main")
    faulthandler.sigsegv()
    """)
    assert found == [["main"], [], ["thread 2"], [],
                     ["thread 0"]]


def test_other_thread_crashes():
    """The note of the thread that crashes comes first."""
    found, child = crash_with(THREADS + """
    def run():
        faulthandler.context("other")
        faulthandler.sigsegv()
    faulthandler.context("main")
    start(run).join()
    """)
    assert found == [["other"], [], ["main"]]


def test_threads_that_end():
    """A note ends with its thread: the next one begins without."""
    found, child = crash_with(THREADS + """
    import os
    def run():
        if faulthandler.context("gone") is not None:
            os._exit(1)
    def wait():
        ready.release()
        never.acquire()
    ready = threading.Semaphore(0)
    for n in range(200):
        start(run).join()
    for n in range(5):
        start(wait)
        ready.acquire()
    faulthandler.sigsegv()
    """)
    assert found == [[]] * 7


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps memory")
def test_no_leak():
    """10000 threads, one after another, share the memory of a few."""
    child = python(THREADS + """
    import faulthandler, os, re, time
    def run():
        faulthandler.context("x")
    def size():
        # Counted page by page; statm's sums are up to 1 MB off.
        with open("/proc/self/smaps_rollup") as file:
            return int(re.search(r"Anonymous: +(\\d+)",
                                 file.read()).group(1))
    def many(n):
        for _ in range(n):
            start(run).join()
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.01)    # join() may return before it is gone
    many(500)
    before = size()
    many(10000)
    print(size() - before < 1000, size() - before)
    """)
    assert (child.status, child.out[:4]) == (0, "True")


def test_many_threads_at_once():
    """Notes of many threads at once do not mix."""
    found, child = crash_with(THREADS + """
    def run(n):
        faulthandler.context(str(n))
        ready.release()
        never.acquire()
    ready = threading.Semaphore(0)
    threading.stack_size(256 * 1024)
    for n in range(98):
        start(run, n)
        ready.acquire()
    faulthandler.sigsegv()
    """)
    assert found == ([[], []] + [
        [str(n)] for n in reversed(range(98))])


def test_fork():
    """A child keeps its own thread's note, and none of the others'."""
    found, child = crash_with(THREADS + """
    import os, warnings
    warnings.simplefilter("ignore")
    def run():
        faulthandler.context("parent's")
        ready.release()
        never.acquire()
    def wait():
        ready.release()
        never.acquire()
    ready = threading.Semaphore(0)
    for n in range(3):
        start(run)
        ready.acquire()
    faulthandler.context("forked")
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 11
        faulthandler.disable()
        faulthandler.sigsegv()
    for n in range(3):
        start(wait)
        ready.acquire()
    faulthandler.sigsegv()
    """)
    assert found == [["forked"], [], [], [], []]


def test_subinterpreter():
    """A note belongs to the thread, in whichever interpreter it is."""
    found, child = crash_with("""
        import sub
        faulthandler.context("main")
        interpreter = sub.create(False)
        sub.run(interpreter, "import faulthandler\\n"
                "assert faulthandler.context('sub') == 'main'")
        faulthandler.sigsegv()
    """)
    assert found[0] == ["sub"]


BROKEN = """
    import ctypes, sys
    import damage
    class Text(str):
        pass
    text = Text("x" * 100)
    cells = damage.words(id(text), 10)
    pointer = ctypes.pythonapi.PyUnicode_AsUTF8
    pointer.restype = ctypes.c_size_t
    pointer.argtypes = [ctypes.py_object]
    characters = [n for n, cell in enumerate(cells)
                  if cell == pointer(text)]
    cells[characters[-1]] = damage.forbidden
"""


def test_crash_inside():
    """A note that was being changed is marked, not shown in part."""
    found, child = crash_with(BROKEN + """
    faulthandler.context("before")
    faulthandler.context(text)
    """)
    assert found == [["???"], []]


def test_not_torn():
    """A note that another thread keeps changing is whole, or marked."""
    for n in range(10):
        found, child = crash_with(THREADS + """
    import itertools, os, subprocess, time
    def run():
        context = faulthandler.context
        for n, text in enumerate(itertools.cycle(["a" * 200,
                                                  "\U0001f600" * 200])):
            context(text)
            if n == 0:
                begun.release()
    begun = threading.Semaphore(0)
    start(run)
    begun.acquire()
    subprocess.Popen(["sh", "-c", "sleep 0.05; kill -SEGV %d"
                      % os.getpid()])
    time.sleep(PATIENCE)
        """.replace("PATIENCE", str(PATIENCE)))
        assert sum(found, []) in (
            ["a" * 200], ["\\U0001f600" * 200], ["???"])


@pytest.mark.skipif(
    SANITIZED or hasattr(sys, "gettotalrefcount"),
    reason="measures time, not of a debug build")
def test_cost():
    """A call takes less than 200 ns."""
    child = python("""
        import faulthandler, timeit
        context = faulthandler.context
        text = "request 4711"
        # Short ones: some of them are not interrupted.
        print(min(timeit.repeat("context(text)", number=1000, repeat=1000,
                                globals=globals())) / 1000 * 1e9)
    """)
    assert float(child.out) < 200
