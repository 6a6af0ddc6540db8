"""Long names, whole reports in one write; files that take nothing or too
little, or are not what they were."""

import contextlib
import functools
import os
import pty
import re
import signal
import socket
import subprocess
import tempfile
import termios
import time

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, LIMIT, PATIENCE, PYTHON, check, compile_library, crash,
    few_versions, finish, preload, python, report, run, start, status_name,
    write_file)


def test_million_characters():
    """A name of any length costs no more than a long one."""
    crash("""
        import faulthandler
        def f():
            faulthandler.sigsegv()
        names = {"co_filename": "f" * 10**6, "co_name": "g" * 10**6}
        f.__code__ = f.__code__.replace(**names)
        f()
    """, report(
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


def fill(fd):
    """Write until a descriptor takes no more; the number of bytes."""
    os.set_blocking(fd, False)
    total = 0
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                total += os.write(fd, b"x" * size)
    return total


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("full", [False, True])
def test_pipe_of_another_user(full):
    """It cannot be opened anew: a crash has its report there, and a dump is
    given up where it is full."""
    reader, writer = os.pipe()
    if full:
        fill(writer)
        os.set_blocking(writer, True)
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


@pytest.mark.parametrize("blocking, when, standstill, whole", [
    (True, 1900, 0, True), (False, 1900, 0, True), (True, 4800, 3000, True),
    (True, 2200, 0, False), (False, 2200, 0, False)])
def test_slow_reader(blocking, when, standstill, whole):
    """A pipe that is emptied slowly gets the whole report; one from which
    nothing is read for two seconds is given up."""
    reader, writer = os.pipe()
    before = fill(writer)
    os.set_blocking(writer, blocking)
    compile_library("held_poll")
    child = python("""
        import ctypes, faulthandler
        ctypes.CDLL(None).read_later(%d, %d, %d)
        faulthandler.sigsegv()
    """ % (reader, when, standstill), pass_fds=[reader],
        env=preload("held_poll"), stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        child.err = file.read().decode()
    if not whole:
        assert child.err == before * "x"
        child.err = ""
    check(child, SIGSEGV, whole * report(
        '  File "<string>", line 3 in <module>\n'))


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


# ---- All that writes: a crash, a dump, a user signal, the watchdog ---------

WHATS = ["crash", "dump", "user", "later"]
slow_whats = [pytest.param(what, marks=pytest.mark.slow) for what in WHATS]
every_what = pytest.mark.parametrize("what", WHATS[:1] + slow_whats[1:])
every_what_slow = pytest.mark.parametrize("what", slow_whats)
MOUNT = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]


def mounting(command):
    """The words before a command that runs in a namespace of its own."""
    words = MOUNT + [command + ' && exec "$@"', "sh"]
    if subprocess.call(words + ["true"], stderr=subprocess.DEVNULL):
        pytest.skip("mounting is not allowed")
    return words


def begin(file, what, size="small", code="", prefix=()):
    """Start a child whose standard error is this file."""
    return start(*prefix, PYTHON, os.path.join(FOLDER, "to_stderr.py"), what,
                 size, code, stderr=file)


def end(process, what):
    """It died of the crash, or lives on, soon."""
    child = finish(process)
    assert (status_name(child.status), child.out) == (
        ("-SIGSEGV", "") if what == "crash" else ("exit 0", "alive"))
    assert child.seconds < LIMIT


def write(file, what, size="small", code="", prefix=()):
    """Run such a child to its end."""
    end(begin(file, what, size, code, prefix), what)


def anonymous(data):
    """A report whose addresses are all the same."""
    return re.sub(rb"0x[0-9a-f]{16}", b"0x0123456789abcdef", data)


@functools.lru_cache(maxsize=None)
def whole(what, size):
    """The report that such a child writes to a file."""
    with tempfile.TemporaryFile(dir=FOLDER) as file:
        write(file, what, size)
        file.seek(0)
        return anonymous(file.read())


def is_beginning(found, what, size, least=None):
    """It is a beginning of the report, of at least so many bytes."""
    report = whole(what, size)
    found = anonymous(found)
    assert report.startswith(found), found[-300:]
    assert len(found) >= (len(report) if least is None else least)


def read_all(fd):
    """All that a descriptor has, without waiting."""
    os.set_blocking(fd, False)
    data = b""
    with contextlib.suppress(OSError):
        for part in iter(lambda: os.read(fd, 1 << 16), b""):
            data += part
    os.close(fd)
    return data


def sockets(size=None):
    """Two connected sockets, as descriptors."""
    ours, theirs = socket.socketpair()
    if size is not None:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    return ours.detach(), theirs.detach()


# ---- Nobody reads, or slowly -----------------------------------------------

@every_what
@pytest.mark.parametrize("blocking", [True, False])
@pytest.mark.parametrize("make", [os.pipe, sockets])
def test_full(make, blocking, what):
    """What was in a full pipe or socket stays, and is all."""
    ours, theirs = make()
    before = fill(theirs)
    os.set_blocking(theirs, blocking)
    write(theirs, what)
    os.close(theirs)
    assert read_all(ours) == b"x" * before


@every_what_slow
@pytest.mark.parametrize("make, blocking, least", [
    (os.pipe, True, 61440), (os.pipe, False, 61440),
    (functools.partial(sockets, 4096), True, 1000)],
    ids=["pipe", "pipe that does not block", "socket"])
def test_too_small(make, blocking, least, what):
    """The report is larger than what a pipe or socket takes."""
    ours, theirs = make()
    os.set_blocking(theirs, blocking)
    write(theirs, what, "big")
    os.close(theirs)
    is_beginning(read_all(ours), what, "big", least)


@every_what_slow
@pytest.mark.parametrize("blocking, pause, late, least", [
    (True, 0.01, 0, None), (False, 0.01, 0, None), (True, 0.01, 1, None),
    (True, 0.8, 0, 65536)])
def test_big_report_to_a_slow_reader(blocking, pause, late, least, what):
    """A page every 10 ms, or all after a second: the whole report; a page
    every 0.8 s: a part of it, and the limit of time holds."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, blocking)
    process = begin(theirs, what, "big")
    os.close(theirs)
    time.sleep(late)
    found, ended = b"", None
    longest, last = 0, process.began
    for part in iter(lambda: os.read(ours, 1 << 16 if late else 4096), b""):
        found += part
        longest = max(longest, time.monotonic() - last)
        last = time.monotonic()
        if process.poll() is None:
            time.sleep(pause)
        else:
            ended = ended or time.monotonic() - process.began
    os.close(ours)
    assert (ended or 0) < PATIENCE
    # A pause of 2 s, or 6 s in all, cuts the report: this machine is busy.
    if longest > 1.5 or last - process.began > 5:
        least = 61440
    out, _ = process.communicate()
    assert (status_name(process.returncode), out) == (
        ("-SIGSEGV", b"") if what == "crash" else ("exit 0", b"alive"))
    is_beginning(found, what, "big", least)


# ---- Terminals -------------------------------------------------------------

@pytest.fixture
def terminal():
    """A pseudo-terminal that changes nothing: both of its ends."""
    ours, theirs = pty.openpty()
    mode = termios.tcgetattr(theirs)
    mode[0] |= termios.IXON
    mode[1] &= ~termios.OPOST
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    yield ours, theirs
    for fd in ours, theirs:
        with contextlib.suppress(OSError):
            os.close(fd)


@every_what_slow
def test_stopped_terminal(terminal, what):
    """Somebody typed control-S."""
    ours, theirs = terminal
    os.write(ours, b"\x13")
    time.sleep(0.1)
    write(theirs, what)


@pytest.mark.slow
def test_stopped_terminal_that_is_started_again(terminal):
    """Somebody typed control-S, and control-Q a second later."""
    ours, theirs = terminal
    os.write(ours, b"\x13")
    time.sleep(0.1)
    began = time.monotonic()
    process = begin(theirs, "crash")
    time.sleep(1)
    os.write(ours, b"\x11")
    # A report waits for two seconds: this may have come too late.
    least = None if time.monotonic() - began < 2 else 0
    end(process, "crash")
    is_beginning(read_all(ours), "crash", "small", least)


@every_what_slow
@pytest.mark.parametrize("proc", [True, False])
def test_terminal_that_nobody_reads(terminal, what, proc):
    """It takes about a page; without /proc it cannot be opened again."""
    ours, theirs = terminal
    prefix = () if proc else mounting("mount -t tmpfs none /proc")
    write(theirs, what, "big", prefix=prefix)
    is_beginning(read_all(ours), what, "big", 1000)


BACKGROUND = """
import fcntl, os, signal, subprocess, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
mode = termios.tcgetattr(2)
mode[3] |= termios.TOSTOP
termios.tcsetattr(2, termios.TCSANOW, mode)
child = subprocess.Popen(sys.argv[1:], preexec_fn=lambda: os.setpgid(0, 0))
pid, status = os.waitpid(child.pid, os.WUNTRACED)
if os.WIFSTOPPED(status):
    os.kill(pid, signal.SIGKILL)
    os._exit(99)
os._exit(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
"""


@every_what_slow
def test_terminal_of_the_foreground(terminal, what):
    """A process in the background is not stopped for writing."""
    child = run(PYTHON, "-c", BACKGROUND, PYTHON, "to_stderr.py", what,
                "small", "signal.signal(signal.SIGTTOU, signal.SIG_DFL)",
                stderr=terminal[1])
    assert child.status == (signal.SIGSEGV if what == "crash" else 0)


@every_what_slow
def test_terminal_that_hung_up(terminal, what):
    """The window was closed."""
    ours, theirs = terminal
    process = begin(theirs, what, "small", "time.sleep(0.5); "
                    "signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    with open(os.devnull) as null:
        os.dup2(null.fileno(), ours)
    end(process, what)


@every_what_slow
def test_master_of_a_terminal(terminal, what):
    """To open it again would make another terminal."""
    ours, theirs = terminal
    mode = termios.tcgetattr(theirs)
    mode[3] &= ~termios.ICANON
    mode[0] = 0
    termios.tcsetattr(theirs, termios.TCSANOW, mode)
    write(ours, what)
    is_beginning(read_all(theirs), what, "small")


# ---- Files that fail -------------------------------------------------------

@every_what
@pytest.mark.parametrize("path, mode", [("full", "wb"), ("null", "rb")])
def test_device(path, mode, what):
    """/dev/full takes nothing; standard error cannot be written to."""
    with open("/dev/" + path, mode) as file:
        write(file, what, "big")


def closed_pipe():
    """A pipe that nobody reads any more."""
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


def closed_socket():
    """A socket whose peer is gone."""
    ours, theirs = sockets()
    os.close(ours)
    return theirs


def reset_connection():
    """A connection that the peer has reset."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        try:
            client = socket.create_connection(server.getsockname())
        except OSError:
            pytest.skip("needs the loopback network")
        peer, _ = server.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(7))
    peer.close()
    return client.detach()


@every_what
@pytest.mark.parametrize("make", [
    closed_pipe, closed_socket, reset_connection])
def test_no_reader(make, what):
    """SIGPIPE does not kill, whatever its action is."""
    fd = make()
    for action in "SIG_DFL", "SIG_IGN":
        write(fd, what, code="signal.signal(signal.SIGPIPE, signal.%s)"
              % action)
    os.close(fd)


@every_what
def test_limit_of_file_size(what):
    """SIGXFSZ does not kill; what there is room for is written."""
    with tempfile.TemporaryFile(dir=FOLDER) as file:
        write(file, what, "big",
              "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); "
              "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))")
        file.seek(0)
        is_beginning(file.read(), what, "big", 5000)


# ---- Files that are not what they were -------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("how, meant", [
    ("reuse", True), ("replace", True), ("all", False)])
@pytest.mark.parametrize("what", ["crash", "user", "later"])
def test_reused_number(tmp_path, what, how, meant):
    """The file that was meant gets the report, or none."""
    child = run(PYTHON, os.path.join(FOLDER, "reuse.py"), what, how,
                cwd=str(tmp_path))
    assert (status_name(child.status), child.err) == (
        "-SIGSEGV" if what == "crash" else "exit 0", "")
    assert (tmp_path / "other").read_text() == ""
    file = tmp_path / "meant"
    found = file.read_text() if file.exists() else ""
    assert ("most recent call first" in found) is meant


@pytest.mark.slow
@pytest.mark.parametrize("how, what", [
    ("close", what) for what in WHATS] + [
    ("disarm", what) for what in WHATS if what != "dump"])
def test_number_reused_while_a_report_waits(tmp_path, what, how):
    """The file that got the number gets nothing of the report."""
    child = run(PYTHON, os.path.join(FOLDER, "reuse.py"), what, how,
                cwd=str(tmp_path))
    assert status_name(child.status) == (
        "-SIGSEGV" if what == "crash" else "exit 0")
    other = tmp_path / "other"      # not there where it died before
    assert not other.exists() or other.read_text() == ""


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


def test_file_that_is_opened_as_number_2():
    """It is not standard error, also where it has its inode."""
    with open(write_file("errors.txt", ""), "r+") as file:
        child = python("""
            import faulthandler, os
            os.close(2)
            assert os.open("errors.txt", os.O_WRONLY) == 2
            faulthandler.sigsegv()
        """, stderr=file)
        assert (status_name(child.status), file.read()) == ("-SIGSEGV", "")
