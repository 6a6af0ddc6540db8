"""The other Python threads: order, identities, names, number."""

import itertools
import re
import sys

from signal import SIGSEGV

import pytest

from helpers import (
    LIMIT, SECONDS, SIGNALS, block, check, compile_library, crash,
    few_versions, python, report, status_name)
import grammar


@pytest.mark.parametrize("main, other", [("crash", "wait"), ("wait", "crash")])
def test_crashing_thread(main, other):
    """The crashing thread comes first, then the others."""
    child = python("""
        import _thread, faulthandler
        begun, never = _thread.allocate_lock(), _thread.allocate_lock()
        begun.acquire(), never.acquire()
        def wait():
            print("Thread 0x%%016x" %% _thread.get_ident(), flush=True)
            begun.release(); never.acquire()
        def crash():
            begun.acquire(); faulthandler.sigsegv()
        _thread.start_new_thread(%s, ())
        %s()
    """ % (other, main))
    module = '  File "<string>", line 10 in <module>\n'
    check(child, SIGSEGV, report(
        '  File "<string>", line 8 in crash\n'
        + module * (main == "crash")
        + "\nThread 0x… (most recent call first):\n"
        '  File "<string>", line 6 in wait\n'
        + module * (main == "wait")))
    assert "\n%s (most" % child.raw_out.strip() in child.raw_err


def test_crash_without_the_gil():
    """The right thread is blamed while another holds the GIL."""
    child = python("""
        import _thread, ctypes, faulthandler
        crash, is_busy = ctypes.CDLL(None).strlen, _thread.allocate_lock()
        def work():
            is_busy.acquire()
            crash(None)
        def busy():
            is_busy.release()
            while True:
                pass
        is_busy.acquire()
        _thread.start_new_thread(work, ())
        busy()
    """)
    check(child, SIGSEGV, child.err)
    assert re.search(block(r"""
        \AFatal Python error: Segmentation fault

        Traceback \(most recent call first\):
          File "<string>", line 5 in work

        Thread 0x… \(most recent call first\):
          File "<string>", line [789] in busy
          File "<string>", line 12 in <module>
        \Z"""), child.err)


@pytest.mark.parametrize("name, shown", [
    ("worker", " [worker]"),
    ("a\\n] \\xe9\\x1b[", r" [a\x0a] \xe9\x1b[]")])
def test_thread_names(name, shown):
    """A thread's name is in brackets, escaped, where the system knows it."""
    child = python("""
        import faulthandler, waiting
        waiting.start(name="%s")
        faulthandler.sigsegv()
    """ % name)
    check(child, SIGSEGV, block("""
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 3 in <module>

        Thread 0x…%s (most recent call first):
          File "waiting.py", line 16 in wait
          File "…/threading.py", line … in run
          File "…/threading.py", line … in _bootstrap_inner
          File "…/threading.py", line … in _bootstrap
    """) % (shown if sys.version_info >= (3, 14) else ""))


def test_finished_thread():
    """A thread that has ended is not shown."""
    crash("""
        import faulthandler, threading
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        faulthandler.sigsegv()
    """, report('  File "<string>", line 5 in <module>\n'))


@pytest.mark.parametrize("count, rest", [(99, ""), (120, "\n...\n")])
def test_100_threads(count, rest):
    """A hundred threads are shown; after them, three dots end the list."""
    child = python("""
        import faulthandler, waiting
        for n in range(%d):
            waiting.start()
        faulthandler.sigsegv()
    """ % count)
    check(child, SIGSEGV, report(
        '  File "<string>", line 4 in <module>\n')
        + 99 * ("\nThread 0x… (most recent call first):\n"
                '  File "waiting.py", line 16 in wait\n') + rest)
    assert len(set(re.findall("Thread (.*) \\(", child.raw_err))) == 99


CROWD = """
    import ctypes, faulthandler, sys, threading, time
    how, (count, mixed, again) = sys.argv[1], map(int, sys.argv[2:])
    free, held = ctypes.CDLL("./crowd.so"), ctypes.PyDLL("./crowd.so")
    if again:
        faulthandler.enable(all_threads=True, c_stack=False)
    free.prepare(count)
    if how == "native":
        free.crowd(count, mixed)
    for i in range(1, count):
        threading.Thread(target=free.meet, args=(mixed * i % 5,),
                         daemon=True).start()
    while free.here() < count - 1:
        time.sleep(0.001)
    (held if how == "gil" else free).meet(0)
"""


@pytest.mark.parametrize("how, count, mixed, rounds", [
    ("free", 8, 0, 1), ("gil", 8, 0, 1), *[
        pytest.param(*case, int(SECONDS / 2) + 1, marks=pytest.mark.slow)
        for case in itertools.product(
            ["free", "gil", "native"], [2, 8, 20], [0, 1])]])
def test_crowd(how, count, mixed, rounds):
    """Of threads that crash together one reports, whole and once: with the
    GIL, without, or unknown to Python; by one signal or by several."""
    compile_library("crowd")
    names = {title: "-" + signum.name for signum, title, _ in SIGNALS}
    for number in range(rounds):
        child = python(CROWD, how, str(count), str(mixed), str(number % 2))
        title = re.match("Fatal Python error: (.*)\n", child.err)
        assert title, child
        assert status_name(child.status) == names[
            title[1].replace("-", " ")]
        assert child.err.count("Fatal Python error") == 1
        assert grammar.fault_in(child.raw_err) is None
        threads = child.err.count("most recent call first")
        assert threads >= (1 if how == "native" else count)
        assert child.seconds < LIMIT


@pytest.mark.parametrize("start", [
    "strlen = ctypes.CDLL(None).strlen; where = ctypes.byref(ctypes.c_size_t())"
    "; ctypes.CDLL(None).pthread_create(where, None, strlen, None)",
    "_thread.start_new_thread(faulthandler.sigsegv, ())"])
def test_thread_without_frames(start):
    """A crash in a thread that Python never saw, or that runs none of it."""
    crash("""
        import _thread, ctypes, faulthandler, waiting
        %s; waiting.never.acquire()
    """ % start, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          <no Python frame>

        Thread 0x… (most recent call first):
          File "<string>", line 2 in <module>
    """)


# Three threads, whose states stand in the list before the main thread's.
CHAIN = """
    import ctypes, damage, faulthandler, waiting
    get = ctypes.pythonapi.PyThreadState_Get
    get.restype = ctypes.c_size_t
    states = []
    def work():
        states.append(get())
        waiting.wait()
    for n in range(3):
        waiting.start(work)
"""
THREADS_CUT = "  <the rest of the threads cannot be read>\n"


@pytest.mark.parametrize("value", [
    "1", "64", "damage.forbidden", "2**64 - 8", "0xdddddddddddddddd"])
def test_damaged_link_between_threads(value):
    """The list ends there and is marked, and the crash is reported first."""
    child = python(block(CHAIN) + block("""
        damage.words(states[1])[1] = %s
        def crash():
            faulthandler.sigsegv()
        crash()
    """) % value)
    assert status_name(child.status) == "-SIGSEGV"
    assert child.err.index(" in crash\n") < child.err.index(" in work\n")
    assert child.err.count(" in work\n") == 2
    assert child.err.endswith("\n" + THREADS_CUT)


def test_dump_of_damaged_threads():
    """A dump of a list that ends too soon has the current thread as well."""
    child = python(block(CHAIN) + block("""
        damage.words(states[1])[1] = damage.forbidden
        faulthandler.dump_traceback()
        __import__("os")._exit(7)
    """))
    assert child.status == 7
    blocks = child.err.split("\n\n")
    assert [text.partition(" 0x")[0] for text in blocks] == [
        "Thread", "Thread", "Current thread"]
    assert blocks[2].endswith("\n" + THREADS_CUT)


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_cycle_of_threads():
    """Threads that are linked in a circle are listed once."""
    child = python(block(CHAIN) + block("""
        damage.words(get())[1] = states[-1]     # main is the last one
        faulthandler.sigsegv()
    """))
    assert status_name(child.status) == "-SIGSEGV"
    assert (child.err.count("Thread 0x"),
            child.err.count(" in work\n")) == (3, 3)


@few_versions
def test_torn_stacks():
    """Of stacks that change while they are read few are cut: how few depends
    on the schedule."""
    child = python("""
        import busy, faulthandler, os, tempfile, time
        file = tempfile.TemporaryFile("w+")
        threads = busy.begin()
        faulthandler.dump_traceback_later(0.0005, True, file)
        end = time.monotonic() + 1
        while (time.monotonic() < end
               or os.fstat(file.fileno()).st_size < 1000000):
            time.sleep(0.1)
        faulthandler.cancel_dump_traceback_later()
        busy.end(threads)
        file.seek(0)
        text = file.read()
        stacks = text.count("most recent call first")
        torn = text.count("cannot be read") + text.count("???")
        print(stacks, torn)
    """)
    stacks, torn = map(int, child.out.split())
    assert stacks > 1000
    assert torn < 3 + stacks / 50
