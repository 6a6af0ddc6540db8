"""The watchdog."""

import pytest

from helpers import (
    FULL_PIPE, LIMIT, WORKERS, as_builtin, block, compile_library,
    few_versions, forks_beside_a_thread, preload, prints, python,
    with_held_poll)


# Arm and wait in one line: a dump may come before the next one runs.

def test_subinterpreter_that_ended():
    """The watchdog of an interpreter that is gone shows the others."""
    child = python("""
        import atexit, os, faulthandler, sub
        ours, theirs = os.pipe()
        def read(count):
            text = b""
            while text.count(b"Timeout") < count:
                text += os.read(ours, 4096)
            return text
        gone = sub.create(False)
        sub.run(gone, "import faulthandler; faulthandler."
                "dump_traceback_later(0.01, True, %d)" % theirs)
        atexit.unregister(sub.module.destroy)
        sub.module.destroy(gone)
        os.read(ours, 1 << 20)
        read(2)         # one of them was begun before
        text = read(3).decode()
        faulthandler.cancel_dump_traceback_later()
        print("threads cannot be read" in text, "in <module>" in text)
    """)
    assert (child.status, child.out, child.err) == (
        0, "False True\n", "")


@pytest.mark.parametrize("seconds, title", [
    ("0.2", "Timeout (0:00:00.200000)!"),
    ("1", "Timeout (0:00:01)!"),
    ("0.067", "Timeout (0:00:00.067001)!"),
    ("0.07", "Timeout (0:00:00.070000)!")])
def test_once(seconds, title):
    """One dump, to standard error; the time in the title has a fraction
    where there is one, rounded as Python does."""
    prints("""
        import faulthandler as f, os, time
        (reader, writer), error = os.pipe(), os.dup(2)
        os.dup2(writer, 2)
        f.dump_traceback_later(%s); text = os.read(reader, 9999)
        time.sleep(0.5)
        f.cancel_dump_traceback_later()
        os.close(writer), os.dup2(error, 2)
        os.write(2, text + os.read(reader, 9999))
    """ % seconds, """
        %s
        Thread 0x… (most recent call first):
          File "<string>", line 4 in <module>
    """ % title)


@pytest.mark.parametrize("name", ["local", "larger"])
def test_large_thread_local_variables(name):
    """They lie on the stack of the watchdog's thread, which has room."""
    compile_library(name)
    child = python("""
        import faulthandler as f, os
        reader, writer = os.pipe()
        f.dump_traceback_later(0.01, file=writer)
        print(os.read(reader, 26).decode())
    """, env=preload(name))
    assert (child.status, child.out) == (
        0, "Timeout (0:00:00.010000)!\n\n")


def test_not_too_early():
    """The dump does not come before its time."""
    child = python("""
        import faulthandler, os, time
        reader, writer = os.pipe()
        waited = []
        for n in range(5):
            start = time.monotonic()
            faulthandler.dump_traceback_later(0.2, file=writer)
            os.read(reader, 9999)
            waited.append(time.monotonic() - start)
        print(min(waited) >= 0.2, waited)
    """)
    assert child.out.split()[:1] == ["True"]


def test_repeat_until_cancelled():
    """Dumps again and again, with nothing between, until cancelled."""
    prints("""
        import faulthandler as f, os
        reader, writer = os.pipe()
        reads = map(os.read, [reader] * 3, [9999] * 3)
        f.dump_traceback_later(0.05, True, writer); text = list(reads)
        f.cancel_dump_traceback_later()
        os.close(writer)
        # The pipe ends when the watchdog does.
        text += iter(lambda: os.read(reader, 9999), b"")
        two = b"".join(text).split(b"Timeout")[:3]
        os.write(2, b"Timeout".join(two))
    """, 2 * block("""
        Timeout (0:00:00.050000)!
        Thread 0x… (most recent call first):
          File "<string>", line 4 in <module>
    """))


def test_exit():
    """exit=True ends the process with status 1, after the dump."""
    child = prints("""
        import atexit, faulthandler, time
        atexit.register(print, "atexit")
        faulthandler.dump_traceback_later(0.2, exit=True); time.sleep(30)
    """, """
        Timeout (0:00:00.200000)!
        Thread 0x… (most recent call first):
          File "<string>", line 3 in <module>
    """, status=1)
    assert child.out == ""


def test_cancelled():
    """Cancelled in time, it prints nothing, and closes its file."""
    child = prints("""
        import faulthandler, os
        reader, writer = os.pipe()
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(60, file=writer, exit=True)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.cancel_dump_traceback_later()
        os.close(writer)
        print(os.read(reader, 9999))
    """, "")
    assert child.out == "b''\n"


def test_armed_again():
    """Arming again replaces what was armed, arguments and all."""
    prints("""
        import faulthandler as f, os, time
        (old, theirs), (reader, writer) = os.pipe(), os.pipe()
        arm = f.dump_traceback_later
        arm(60, True, theirs, exit=True)
        arm(60, file=theirs)
        arm(0.2, file=writer); text = os.read(reader, 9999)
        time.sleep(0.5)
        f.cancel_dump_traceback_later()
        os.close(theirs), os.close(writer)
        os.write(2, text + os.read(reader, 9999) + os.read(old, 9999))
    """, """
        Timeout (0:00:00.200000)!
        Thread 0x… (most recent call first):
          File "<string>", line 6 in <module>
    """)


def test_as_the_builtin():
    """The same bytes as from the builtin, with threads."""
    as_builtin(block(WORKERS) + block("""
        import faulthandler, os
        reader, writer = os.pipe()
        later = faulthandler.dump_traceback_later
        end = faulthandler.cancel_dump_traceback_later
        later(0.2, file=writer); text = os.read(reader, 1); end()
        os.close(writer)
        os.write(2, text + os.read(reader, 9999))
    """))


@pytest.mark.parametrize("code, status", [
    ("", 0), ("import sys; sys.exit(3)", 3), ("import os; os._exit(4)", 4)])
def test_no_exit_at_the_end(code, status):
    """A watchdog that is armed does not keep the process."""
    child = python("import faulthandler; faulthandler."
                   "dump_traceback_later(60, exit=True); " + code)
    assert (child.status, child.err) == (status, "")
    assert child.seconds < LIMIT


def test_threads_run_while_cancelling():
    """Other threads run on while a stuck watchdog is cancelled."""
    child = python(block(FULL_PIPE) + block("""
        import threading
        sys.setswitchinterval(60)   # nobody loses the GIL who keeps it
        beats, most, cancelling = 0, 0, False
        def beat():
            global beats
            while most < 5:
                time.sleep(0.001)
                beats += cancelling
        threading.Thread(target=beat).start()
        # Until one takes so long that the other thread is seen to run.
        while most < 5:
            faulthandler.dump_traceback_later(0.1, True, theirs)
            time.sleep(0.15)
            beats, cancelling = 0, True
            faulthandler.cancel_dump_traceback_later()
            cancelling, most = False, max(most, beats)
    """))
    assert (child.status, child.err) == (0, "")


@forks_beside_a_thread
@pytest.mark.parametrize("action, status", [
    ("pass", 0), ("faulthandler.cancel_dump_traceback_later()", 0),
    ("faulthandler.dump_traceback_later(60)", 0),
    ("faulthandler.dump_traceback_later(0.1, exit=True); time.sleep(60)", 1),
    ("sys.exit(0)", 0), ("faulthandler.dump_traceback(1)", 0),
    ("os._exit(len(os.listdir('/proc/self/fd')) - files)", 0)])
def test_forked_child(action, status):
    """A forked child can exit, cancel, arm again, and be dumped; the duplicate
    of the watchdog's file is not open there."""
    child = python("""
        import faulthandler, os, sys, time
        file = open("forked", "w")
        files = len(os.listdir("/proc/self/fd"))
        faulthandler.dump_traceback_later(60, file=file, exit=True)
        assert len(os.listdir("/proc/self/fd")) == files + 1
        pid = os.fork()
        if pid == 0:
            %s
        else:
            status = os.waitpid(pid, 0)[1]
            faulthandler.cancel_dump_traceback_later()
            print("status", status >> 8, status & 255)
    """ % action)
    assert "status %d 0\n" % status in child.out
    assert child.status == 0
    assert child.err.count("Timeout (0:00:00.100000)!") == status
    assert child.seconds < LIMIT


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_cancelled_does_not_wait():
    """A watchdog that is cancelled soon stops waiting for a pipe."""
    child = with_held_poll("""
        hold.value = 1
        faulthandler.dump_traceback_later(0.01, file=theirs)
        until(lambda: held.value)
        faulthandler.cancel_dump_traceback_later()
        before = polls.value
        hold.value = 0
        until(lambda: len(os.listdir("/proc/self/task")) == 1)
        print(polls.value - before < 12, polls.value - before)
    """)
    assert (child.status, child.out[:4]) == (0, "True")


@few_versions
def test_cancelled_while_it_stands_still():
    """Nor is it written by a thread that could not run meanwhile."""
    child = with_held_poll("""
        hold.value = 1
        faulthandler.dump_traceback_later(0.01, file=theirs)
        until(lambda: held.value)
        faulthandler.cancel_dump_traceback_later()
        os.read(ours, 1 << 20)
        hold.value = 0
        os.close(theirs)
        print(os.read(ours, 65536))
    """)
    assert (child.status, child.out, child.err) == (0, "b''\n", "")


@few_versions
def test_armed_while_another_thread_keeps_the_gil():
    """The watchdog runs before the call that arms it has the GIL again."""
    child = with_held_poll("""
        import threading
        faulthandler.dump_traceback_later(0.01, file=theirs)
        until(lambda: polls.value)      # cancelling it takes a while
        reader, writer = os.pipe()
        text, go = ctypes.create_string_buffer(4096), threading.Lock()
        def keep():
            go.acquire()
            ctypes.PyDLL(None).read(reader, text, 4096)
        go.acquire()
        sys.setswitchinterval(1000)     # no thread is asked for the GIL
        thread = threading.Thread(target=keep)
        thread.start()
        go.release()
        faulthandler.dump_traceback_later(0.02, file=writer)
        thread.join()
        print(text.value.splitlines()[0])
    """)
    assert (child.status, child.out, child.err) == (
        0, "b'Timeout (0:00:00.020000)!'\n", "")


@few_versions
def test_cancel_while_another_writes():
    """cancel does not wait for a watchdog that cannot end: at the door."""
    child = with_held_poll("""
        import threading
        hold.value = 1
        threading.Thread(target=faulthandler.dump_traceback,
                         args=(theirs,)).start()
        until(lambda: held.value)
        hold_sleeps, sleeping = [
            ctypes.c_int.in_dll(library, name)
            for name in ("hold_sleeps", "sleeping")]
        hold_sleeps.value = 1
        faulthandler.dump_traceback_later(0.01)
        until(lambda: sleeping.value)
        faulthandler.cancel_dump_traceback_later()
        hold_sleeps.value = hold.value = 0
        print("cancelled")
    """, limit=LIMIT)
    assert (child.status, child.out) == (0, "cancelled\n")


@few_versions
def test_forked_child_cancels_at_once():
    """A forked child has no watchdog to wait for."""
    child = python("""
        import faulthandler, os, resource, time
        __import__("warnings").simplefilter("ignore")
        def sleeps():
            return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        faulthandler.dump_traceback_later(60)
        pid = os.fork()
        if pid == 0:
            before, start = sleeps(), time.monotonic()
            faulthandler.cancel_dump_traceback_later()
            # It may have stood still; but did it sleep?
            os._exit(time.monotonic() - start > 0.85
                     and sleeps() > before)
        print(os.waitpid(pid, 0)[1])
    """)
    assert (child.status, child.out) == (0, "0\n")


@few_versions
def test_watchdog_takes_no_signals():
    """A signal that all threads block is not taken by the watchdog."""
    child = python("""
        import faulthandler, os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        faulthandler.dump_traceback_later(60)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(60)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        os.kill(os.getpid(), signal.SIGUSR2)
        print(signal.SIGUSR2 in signal.sigpending())
    """)
    assert (child.status, child.out) == (0, "True\n")


@few_versions
def test_watchdog_at_exit():
    """Once Python has ended the watchdog is quiet."""
    compile_library("places")
    child = python("""
        import ctypes
        places = ctypes.PyDLL("./places.so")
        ctypes.pythonapi.Py_AtExit(places.count_threads)
        import faulthandler
        faulthandler.dump_traceback_later(60)
    """)
    assert (child.status, child.err) == (7, "")
