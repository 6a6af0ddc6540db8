"""User signals."""

import re
import signal

import pytest

from helpers import (
    SIGNALS, WORKERS, as_builtin, block, few_versions, prints, python,
    status_name, with_full_pipe, with_held_poll)


def test_literal():
    """A registered signal dumps, to the last call's file; the process goes
    on."""
    child = prints("""
        import faulthandler, os, signal
        faulthandler.register(signal.SIGUSR1, 1)
        faulthandler.register(signal.SIGUSR1)
        def f():
            os.kill(os.getpid(), signal.SIGUSR1)
        f()
        faulthandler.unregister(signal.SIGUSR1)
    """, """
        Current thread 0x… (most recent call first):
          File "<string>", line 5 in f
          File "<string>", line 6 in <module>
    """)
    assert child.out == ""


@pytest.mark.parametrize(
    "arguments", ["", ", 2, False", ", chain=False, file=2"])
def test_as_the_builtin(arguments):
    """The same bytes as from the builtin, with threads."""
    as_builtin(block(WORKERS) + block("""
        import faulthandler, signal
        faulthandler.register(signal.SIGUSR2%s)
        signal.raise_signal(signal.SIGUSR2)
    """ % arguments))


@pytest.mark.parametrize("older, out, status", [
    ('lambda *a: print("python")', "True False\npython\n", "exit 0"),
    ("signal.SIG_DFL", "True False\n", "-SIGUSR1")])
def test_unregister(older, out, status):
    """unregister() puts the older action back: a handler, or death."""
    child = python("""
        import faulthandler, signal
        signal.signal(signal.SIGUSR1, %s)
        faulthandler.register(signal.SIGUSR1)
        print(faulthandler.unregister(signal.SIGUSR1),
              faulthandler.unregister(signal.SIGUSR1), flush=True)
        signal.raise_signal(signal.SIGUSR1)
    """ % older)
    assert (status_name(child.status), child.err, child.out) == (
        status, "", out)


@pytest.mark.parametrize("older, chain, out, count", [
    ('lambda *a: print("python")', False, "alive\n", 3),
    ('lambda *a: print("python")', True, 3 * "python\n" + "alive\n", 3),
    ("signal.SIG_IGN", True, "alive\n", 3),
    ("signal.SIG_DFL", True, "", 1)])
def test_chain(older, chain, out, count):
    """With chain=True the older action follows each dump: a handler, none, or
    death."""
    child = prints("""
        import faulthandler, signal
        signal.signal(signal.SIGUSR1, %s)
        faulthandler.register(signal.SIGUSR1, chain=%s)
        for n in range(3):
            signal.raise_signal(signal.SIGUSR1)
        print("alive")
    """ % (older, chain), count * block("""
        Current thread 0x… (most recent call first):
          File "<string>", line 5 in <module>
    """), status=0 if out else -signal.SIGUSR1)
    assert child.out == out


def test_many_signals():
    """Every signal that can be caught can be registered."""
    child = python("""
        import faulthandler, os, signal
        null = os.open(os.devnull, os.O_WRONLY)
        refused = {signal.SIGKILL, signal.SIGSTOP, *%r}
        for number in sorted(signal.valid_signals() - refused):
            faulthandler.register(number, null)
            signal.raise_signal(number)
            assert faulthandler.unregister(number), number
        print("alive")
    """ % [int(signum) for signum, _, _ in SIGNALS])
    assert (child.out, child.err) == ("alive\n", "")


def test_interrupted_call():
    """A call that a signal interrupts goes on."""
    child = python("""
        import faulthandler, os, signal, time
        faulthandler.register(signal.SIGUSR1, os.open(os.devnull, 1))
        reader, writer = os.pipe()
        if os.fork() == 0:
            for n in range(20):
                time.sleep(0.01)
                os.kill(os.getppid(), signal.SIGUSR1)
            os.write(writer, b"done")
            os._exit(0)
        print(os.read(reader, 10))
    """)
    assert child.out == "b'done'\n"


def test_not_interleaved():
    """Dumps of several kinds at once do not mix, however long."""
    child = python("""
        import faulthandler, itertools, os, signal, time
        file = os.fdopen(os.memfd_create("dumps"), "w+")
        faulthandler.register(signal.SIGUSR1, file)
        def dump():
            # Those of the watchdog too come only while we are down here.
            faulthandler.dump_traceback_later(0.01, True, file)
            late = 0
            while late < 10:
                for n in range(100):
                    faulthandler.dump_traceback(file)
                    time.sleep(0.003)
                    signal.raise_signal(signal.SIGUSR1)
                data = os.pread(file.fileno(), 10**9, 0)
                late = data.count(b"Timeout")
            faulthandler.cancel_dump_traceback_later()
            while len(os.listdir("/proc/self/task")) > 1:
                time.sleep(0.001)
        def f(n):
            if n:
                f(n - 1)
            else:
                dump()
        name = "n" * 490
        f.__code__ = f.__code__.replace(co_name=name, co_filename=name)
        f(120)
        file.seek(0)
        lines = [len(line) > 900 for line in file]
        runs = [len(list(run)) for deep, run in itertools.groupby(lines)
                if deep]
        file.close()
        print(len(runs) > 200, {n for n in runs if n not in (97, 98, 99)})
    """)
    assert (child.status, child.err, child.out) == (
        0, "", "True set()\n")


def test_errno_is_kept():
    """A handler leaves errno as it found it."""
    child = python("""
        import ctypes, faulthandler, os, signal
        libc = ctypes.CDLL(None, use_errno=True)
        faulthandler.register(signal.SIGUSR1, 99)
        location = ctypes.PyDLL(None)["__errno_location"]
        location.restype = ctypes.POINTER(ctypes.c_int)
        both = ctypes.PyDLL(None)
        kept = []
        for n in range(100):
            location()[0] = 77
            both["raise"](signal.SIGUSR1)
            kept.append(location()[0])
        print(set(kept))
    """)
    assert child.out == "{77}\n"


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_registered_again_during_a_dump():
    """Who registers twice meanwhile does not divert a dump to a path."""
    child = with_held_poll("""
        import threading
        os.mkfifo("again")
        there = os.open("again", os.O_RDWR | os.O_NONBLOCK)
        fill(there)
        os.set_blocking(there, False)
        def deep(n):
            if n:
                return deep(n - 1)
            getattr(ctypes.CDLL(None), "raise")(signal.SIGUSR1)
        # Two buffers full.
        deep.__code__ = deep.__code__.replace(co_name="\\U0001f40d" * 500)
        faulthandler.register(signal.SIGUSR1, "again", False)
        hold.value = 1
        threading.Thread(target=deep, args=(90,)).start()
        until(lambda: held.value)
        def again():
            faulthandler.register(signal.SIGUSR1, os.devnull)
            faulthandler.register(signal.SIGUSR1, 1)
        thread = threading.Thread(target=again)
        thread.start()
        thread.join(4)
        hold.value = 0
        text = b""
        while text.count(b"bootstrap") < 2:
            try:
                text += os.read(there, 1 << 20)
            except BlockingIOError:
                time.sleep(0.001)
        thread.join()
        os.unlink("again")
        print(text.count(b"U0001f40d"))
    """)
    assert (child.status, child.out, child.err) == (
        0, "%d\n" % (91 * 500), "")


@few_versions
def test_unregister_while_it_waits():
    """unregister() lets a report that has begun have its file."""
    child = with_full_pipe("""
        import threading, waiting
        waiting.start(name="victim")
        thread = threading.enumerate()[1]
        faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
        until(lambda: reports(thread.native_id))
        empty(until_reports)
        faulthandler.unregister(signal.SIGUSR1)
        until(lambda: not reports(thread.native_id))
        os._exit(7)
    """)
    assert child.status == 7
    assert re.search(r'\AStack .*\n  File .* in wait\n'
                     r'(  File .*\n)*\Z', child.out)


@few_versions
def test_signals_in_two_threads():
    """Threads that are dumped at once take turns."""
    child = with_full_pipe("""
        import _thread, threading
        numbers = []
        def first():
            numbers.append(threading.get_native_id()); time.sleep(20)
        def second():
            numbers.append(threading.get_native_id()); time.sleep(20)
        idents = []
        for function in first, second:
            idents.append(_thread.start_new_thread(function, ()))
            until(lambda: len(numbers) == len(idents))
        faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
        for ident, number in zip(idents, numbers):
            signal.pthread_kill(ident, signal.SIGUSR1)
            until(lambda: reports(number))
        empty()
        until(lambda: not any(map(reports, numbers)))
        os._exit(7)
    """)
    assert child.status == 7
    # Which comes first is not known: none may have its turn yet.
    assert sorted(child.out.split("Stack (most recent call first):\n")) == [
        "", '  File "<string>", line 35 in first\n',
        '  File "<string>", line 37 in second\n']
