"""Importing works whatever standard error is; the death is the same."""

import os
import re

from signal import SIGFPE

import pytest

from helpers import (
    FOLDER, FULL_PIPE, PYTHON, block, check, crash, few_versions, python,
    run, status_name, with_held_poll)


@pytest.mark.parametrize("change", [
    "sys.stderr = None", "sys.stderr = io.StringIO()",
    "sys.stderr = 42", "sys.stderr.close()",
    "sys.stderr = open('/dev/null', 'w')", "del sys.stderr"])
def test_changed_stderr(change):
    """sys.stderr does not matter: the report goes to descriptor 2."""
    crash("""
        import io, sys
        %s
        import faulthandler
        faulthandler.sigsegv()
    """ % change, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 4 in <module>
    """)


def test_started_without_stderr():
    """Started with descriptor 2 closed: no report."""
    child = run(
        "sh", "-c", 'exec "$0" "$@" 2>&-', PYTHON, "-c",
        "import faulthandler; print('imported', flush=True);"
        "faulthandler.sigfpe()")
    assert child.out == "imported\n"
    check(child, SIGFPE, "")


@pytest.mark.parametrize(
    "before, after", [("os.close(2)", ""), ("", "os.close(2)")])
def test_reused_descriptor(before, after):
    """A file that becomes descriptor 2 later gets nothing."""
    child = python("""
        import os
        %s
        import faulthandler
        %s
        number = os.open("victim", os.O_CREAT | os.O_RDWR)
        print(number, flush=True)
        faulthandler.sigsegv()
    """ % (before or "pass", after or "pass"))
    assert child.out == "2\n"
    assert status_name(child.status) == "-SIGSEGV"
    with open(os.path.join(FOLDER, "victim")) as file:
        assert file.read() == ""


# ---- what shows only where a guard is missing ------------------------------

@few_versions
@pytest.mark.parametrize(
    "again", ["faulthandler.enable(1)", "faulthandler.disable()"])
def test_armed_again_during_a_crash(again):
    """Who arms twice while a crash is written does not spoil it."""
    reader, writer = os.pipe()
    child = with_held_poll("""
        import threading
        os.dup2(%d, ours), os.dup2(%d, theirs)
        fill(theirs)
        faulthandler.enable(1)      # so that theirs comes next
        faulthandler.enable(theirs, False, False)
        hold.value = 1
        threading.Thread(target=faulthandler.sigsegv,
                         args=(True,)).start()
        until(lambda: held.value)
        def again():
            %s
            faulthandler.enable(2)
        thread = threading.Thread(target=again, daemon=True)
        thread.start()
        thread.join(0.5)    # it waits, for this thread too
        os.read(ours, 1 << 20)
        hold.value = 0
        time.sleep(60)
    """ % (reader, writer, again), pass_fds=[reader, writer])
    os.close(writer)
    with open(reader) as file:
        assert re.search(r"\A%sStack \(most.*\n(  "
                         r"File .*\n)+\n?(Ext.*\n)?\Z" % (
                             "Fatal Python error: Segmentation "
                             "fault\n\n"), file.read())
    assert (status_name(child.status), child.err) == (
        "-SIGSEGV", "")


@few_versions
def test_no_descriptor_is_kept():
    """unregister() waits for a long report, and closes its file."""
    child = python(block(FULL_PIPE) + block("""
        import threading
        # A page every 0.3 s: longer in all than one waits at the door.
        def read():
            while True:
                time.sleep(0.3)
                os.read(ours, 4096)
        def victim(n):
            if n:
                return victim(n - 1)
            deep.release()
            time.sleep(20)
        victim.__code__ = victim.__code__.replace(co_name="v" * 499)
        deep = threading.Semaphore(0)
        def descriptors():
            return len(os.listdir("/proc/self/fd"))
        threading.Thread(target=read, daemon=True).start()
        thread = threading.Thread(target=victim, args=(95,), daemon=True)
        thread.start()
        deep.acquire()
        before = descriptors()
        faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
        until(lambda: reports(thread.native_id))
        faulthandler.unregister(signal.SIGUSR1)
        print(descriptors() - before, flush=True)
        os._exit(7)
    """))
    assert (child.status, child.out) == (7, "0\n")


@few_versions
def test_disable_closes_its_own():
    """A file that got our duplicate's number is not closed."""
    child = python("""
        import faulthandler, os
        path = "other"
        faulthandler.enable(os.open(path, os.O_CREAT | os.O_RDWR))
        os.closerange(3, 100)
        files = [os.open(os.devnull, os.O_RDWR) for n in range(10)]
        faulthandler.disable()
        print(all(os.fstat(file) for file in files))
    """)
    assert (child.status, child.out) == (0, "True\n")


@pytest.mark.parametrize("call", [
    "enable(f)", "enable(copy=f)", "register(10, f)",
    "dump_traceback_later(100, file=f)"])
@pytest.mark.parametrize("make", ["os.pipe()", "pair()"])
def test_reader_sees_the_end(call, make):
    """The reader of a pipe or socket sees its end once it is closed."""
    child = python("""
        import faulthandler, os, select, socket
        def pair():
            return [s.detach() for s in socket.socketpair()]
        ours, theirs = %s
        f = os.fdopen(theirs, "wb", 0)
        faulthandler.%s
        f.close()
        print(select.select([ours], [], [], 5)[0] == [ours], os.read(ours, 1))
        faulthandler.cancel_dump_traceback_later()
    """ % (make, call))
    assert (child.status, child.err) == (0, "")
    assert child.out == "True b''\n"


@pytest.mark.parametrize("make", ["os.pipe()", "pair()"])
def test_reused_pipe(make):
    """Another pipe or socket that gets the number gets nothing."""
    child = python("""
        import faulthandler, os, select, signal, socket
        def pair():
            return [s.detach() for s in socket.socketpair()]
        ours, theirs = %s
        new, number = %s
        faulthandler.register(10, theirs)
        os.dup2(number, theirs)
        signal.raise_signal(10)
        print(select.select([new, ours], [], [], 0.1)[0] == [ours],
              os.read(ours, 1))
    """ % (make, make))
    assert (child.status, child.err) == (0, "")
    assert child.out == "True b''\n"


@pytest.mark.parametrize("argument, close", [
    ("f", "f.close()"), ("f.fileno()", "f.close()"),
    ("f", "del f; gc.collect()")])
def test_closed_file(argument, close):
    """A regular file gets the report although the program closed it, or
    refers to it no more."""
    crash("""
        import faulthandler, gc
        f = open("closed.txt", "w")
        faulthandler.enable(%s, c_stack=False)
        %s
        faulthandler.sigsegv()
    """ % (argument, close), "")
    with open(os.path.join(FOLDER, "closed.txt")) as file:
        assert file.readline() == "Fatal Python error: Segmentation fault\n"
