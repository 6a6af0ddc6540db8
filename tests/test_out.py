"""Escapes, long names, whole lines in one write."""

import contextlib
import os
import resource
import socket
import subprocess

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, check, compile_library, few_versions, preload, python, report,
    write_file)


def test_million_characters():
    """A name of any length costs no more than a long one."""
    child = python("""
        import faulthandler
        def f():
            faulthandler.sigsegv()
        names = {"co_filename": "f" * 10**6, "co_name": "g" * 10**6}
        f.__code__ = f.__code__.replace(**names)
        f()
    """)
    check(child, SIGSEGV, report(
        '  File "%s...", line 3 in %s...\n'
        '  File "<string>", line 6 in <module>\n' % (
            "f" * 500, "g" * 500)))


@pytest.mark.parametrize("depth", [1, 40])
def test_one_write(depth):
    """A report that fits the buffer leaves in one write."""
    ours, theirs = socket.socketpair(
        socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = python("""
            import faulthandler
            def f(n):
                f(n - 1) if n else faulthandler.sigsegv()
            f(%d)
        """ % (depth - 1), stderr=theirs)
        theirs.close()
        messages = iter(lambda: ours.recv(1 << 20), b"")
        child.err = "|".join(m.decode() for m in messages)
    check(child, SIGSEGV, report(
        depth * '  File "<string>", line 3 in f\n'
        + '  File "<string>", line 4 in <module>\n'))


def test_full_device():
    """A device that takes nothing costs nothing."""
    with open("/dev/full", "w") as full:
        child = python("import faulthandler; faulthandler.sigsegv()",
                       stderr=full)
    check(child, SIGSEGV, "")


@pytest.mark.parametrize("make", [os.pipe, lambda: (
    end.detach() for end in socket.socketpair())], ids=["pipe", "socket"])
@pytest.mark.parametrize("action", ["SIG_IGN", "SIG_DFL"])
def test_no_reader(make, action):
    """What nobody reads any more does not turn into SIGPIPE."""
    reader, writer = make()
    os.close(reader)
    child = python("""
        import signal, faulthandler
        signal.signal(signal.SIGPIPE, signal.%s)
        faulthandler.sigsegv()
    """ % action, stderr=writer)
    os.close(writer)
    check(child, SIGSEGV, "")


@pytest.mark.parametrize("blocking", [True, False])
def test_full_pipe(blocking):
    """A pipe that is full and that nobody reads is given up."""
    reader, writer = os.pipe()
    fill(writer)
    os.set_blocking(writer, blocking)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
    child = python("""
        import faulthandler, resource
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(usage.ru_nvcsw, flush=True)
        faulthandler.sigsegv()
    """, stderr=writer)
    os.close(writer)
    check(child, SIGSEGV, "")
    # It sleeps 50 ms at a time.  Where it took long though it
    # slept little, the machine is busy.
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
    sleeps = after - before - int(child.out)
    assert child.seconds < 5 or sleeps < 80, (sleeps, child)
    with open(reader, "rb") as file:
        assert file.read().strip(b"x") == b""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("full", [False, True])
def test_pipe_of_another_user(full):
    """It cannot be opened anew: a crash has its report there, and a dump is
    given up where it is full."""
    reader, writer = os.pipe()
    if full:
        fill(writer)
    child = python("""
        import faulthandler, os
        os.setuid(65534)
        def f(n):
            f(n - 1) if n else faulthandler.%s
        f(89)
    """ % ("dump_traceback()" if full else "sigsegv()"), stderr=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        child.err = file.read().strip(b"x").decode()
    if full:
        assert (child.status, child.err) == (0, "")
        return
    check(child, SIGSEGV, report(
        90 * '  File "<string>", line 4 in f\n'
        + '  File "<string>", line 5 in <module>\n'))


def fill(writer):
    """Write until a pipe takes no more."""
    os.set_blocking(writer, False)
    for size in (65536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * size)
    os.set_blocking(writer, True)


def with_slow_reader(code, reader, **options):
    """Run code with the slow reader."""
    compile_library("slow_reader")
    return python(code, pass_fds=[reader], env=preload("slow_reader"),
                  **options)


@pytest.mark.parametrize("blocking, when, standstill", [
    (True, 1900, 0), (False, 1900, 0), (True, 4800, 3000)])
def test_slow_reader(blocking, when, standstill):
    """A pipe that is emptied slowly gets the whole report."""
    reader, writer = os.pipe()
    fill(writer)
    os.set_blocking(writer, blocking)
    child = with_slow_reader("""
        import ctypes, faulthandler
        ctypes.CDLL(None).read_later(%d, %d, %d)
        faulthandler.sigsegv()
    """ % (reader, when, standstill), reader,
        stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        child.err = file.read().decode()
    check(child, SIGSEGV, report(
        '  File "<string>", line 3 in <module>\n'))


def test_file_size_limit():
    """A file that may not grow holds what there was room for."""
    path = os.path.join(FOLDER, "small")
    with open(path, "w") as file:
        child = python("""
            import resource, signal, faulthandler
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
            faulthandler.sigsegv()
        """, stderr=file)
    check(child, SIGSEGV, "")
    with open(path) as file:
        assert file.read() == "Fatal Python error: "


def test_append():
    """A file keeps what it held before."""
    path = write_file("log", "before\n")
    with open(path, "a") as file:
        child = python("import faulthandler; faulthandler.sigsegv()",
                       stderr=file)
    with open(path) as file:
        child.err = file.read()
    check(child, SIGSEGV, "before\n" + report(
        '  File "<string>", line 1 in <module>\n'))


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_pending_signal_is_kept():
    """A SIGPIPE that was pending before a dump still is."""
    child = python("""
        import faulthandler, os, signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
        signal.pthread_kill(__import__("threading").get_ident(),
                            signal.SIGPIPE)
        ours, theirs = os.pipe()
        os.close(ours)
        faulthandler.dump_traceback(theirs)
        print(signal.SIGPIPE in signal.sigpending())
    """)
    assert (child.status, child.out) == (0, "True\n")
