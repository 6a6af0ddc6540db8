"""copy=: a second place that gets the same report."""

import glob
import os

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, FULL_PIPE, PYTHON, block, check, check_library, crash,
    library_report, patient, python, raises, run, status_name, take_file,
    unnamed)


REPORT = library_report('  File "<string>", line %d in <module>\n')


@pytest.mark.parametrize("argument", [
    "'copied'", "b'copied'", "pathlib.Path('copied')",
    "open('copied', 'w')", "os.open('copied', os.O_CREAT | os.O_WRONLY)"])
def test_kinds(argument):
    """A path, an object or a descriptor, like file."""
    child = python("""
        import faulthandler, os, pathlib
        faulthandler.enable(c_stack=False, copy=%s)
        faulthandler.sigsegv()
    """ % argument)
    assert unnamed(child.err) == REPORT % 3
    check(child, SIGSEGV, child.err)
    assert take_file("copied") == child.err


def test_all_parts():
    """All parts of a long report are in both places, to the byte, and in one
    file, whatever the time is."""
    child = python("""
        import faulthandler, json, threading, waiting
        from array import array
        threading.stack_size(256 * 1024)
        for _ in range(60):
            waiting.start(waiting.wait, 90)
        faulthandler.enable(c_stack=True, details=True, copy="copied-%t")
        faulthandler.sigsegv()
    """, env=patient())
    assert status_name(child.status) == "-SIGSEGV"
    assert len(child.raw_err) > 2 * 65536
    path, = glob.glob(os.path.join(FOLDER, "copied-*"))
    with open(path) as file:
        assert file.read() == child.raw_err
    os.unlink(path)


def test_none_and_again():
    """The last call of enable() decides whether there is a copy."""
    child = python("""
        import faulthandler
        faulthandler.enable(copy="copied")
        faulthandler.enable(c_stack=False, copy=None)
        faulthandler.sigsegv()
    """)
    check_library(child, SIGSEGV, REPORT % 4)
    assert take_file("copied") is None


def test_file_and_copy():
    """Neither has to be standard error."""
    crash("""
        import faulthandler
        faulthandler.enable("one", c_stack=False, copy="two-%p")
        faulthandler.enable("one", c_stack=False, copy="two")
        faulthandler.sigsegv()
    """, "")
    assert unnamed(take_file("one")) == REPORT % 4
    assert unnamed(take_file("two")) == REPORT % 4


@pytest.mark.parametrize("arguments", [
    "copy=2", "'copied', copy='copied'",
    "'copied', copy=open('copied', 'a')",
    "open('copied', 'w'), copy='copied'"])
def test_same_place(arguments):
    """Where both are one file, it gets the report once."""
    child = python("""
        import faulthandler
        faulthandler.enable(%s, c_stack=False)
        faulthandler.sigsegv()
    """ % arguments)
    text = (take_file("copied") or "") + child.err
    assert status_name(child.status) == "-SIGSEGV"
    assert unnamed(text) == REPORT % 3


@pytest.mark.parametrize("arguments", [
    "theirs, copy='copied'", "'copied', copy=theirs"])
def test_one_takes_nothing(arguments):
    """A place that takes nothing is given up; the other one has it all."""
    crash(block(FULL_PIPE) + block("""
        faulthandler.enable(%s, c_stack=False)
        faulthandler.sigsegv()
    """ % arguments), "")
    assert unnamed(take_file("copied")) == REPORT % (FULL_PIPE.count("\n") + 1)


@pytest.mark.parametrize("arguments", [
    "copy='folder/copied'", "'folder/copied', copy=2"])
def test_one_cannot_be_opened(arguments):
    """A folder that was removed does not take the other place with it."""
    child = python("""
        import faulthandler, os
        os.mkdir("folder")
        faulthandler.enable(%s, c_stack=False)
        os.rmdir("folder")
        faulthandler.sigsegv()
    """ % arguments)
    child.err = unnamed(child.err)
    check(child, SIGSEGV, REPORT % 5)


def test_wrong_arguments():
    """The exception names the argument; what was armed stays armed."""
    missing = "FileNotFoundError [Errno 2] No such file or directory: "
    raises({
        "enable(copy=-1)": "ValueError copy is not a valid file descriptor",
        "enable(copy='a/%q')": "ValueError copy: after % must come p, t or %",
        "enable(copy='none/a')": missing + "'none/a'",
        "is_enabled()": "True",
        "disable()": "True",
        "enable(copy='none/a') ": missing + "'none/a'",
        "is_enabled() ": "False",
    })


@pytest.mark.skipif(os.getuid() != 0 or not os.path.exists("/dev/fuse"),
                    reason="needs root and /dev/fuse")
@pytest.mark.parametrize("arguments", [
    "copy='mounted/copied'", "'mounted/copied', copy=2"])
def test_dead_server(arguments):
    """A place on a file server that is dead takes no other one with it."""
    os.makedirs(os.path.join(FOLDER, "mounted"), exist_ok=True)
    child = run("unshare", "--mount", PYTHON, "-c", block("""
        import faulthandler, os, signal, subprocess, sys, threading
        server = subprocess.Popen([sys.executable, "dead_server.py",
                                   "mounted"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        if server.stdout.readline() != b"ready\\n":
            sys.exit(77)
        faulthandler.enable(%s, c_stack=False)
        # Killed when it has done its work: then the copies end as well.
        subprocess.Popen(["sh", "-c", "sleep 5; kill -9 %%d" %% server.pid],
                         stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
        server.send_signal(signal.SIGUSR1)
        faulthandler.sigsegv()
    """ % arguments))
    if child.status == 77 or child.err.startswith("unshare:"):
        pytest.skip("no file system in user space")
    child.err = unnamed(child.err)
    check(child, SIGSEGV, REPORT % 13)


def test_one_write():
    """Each place gets the report by one write, as one packet."""
    child = python("""
        import faulthandler, os, socket, subprocess, sys
        pairs = [socket.socketpair(type=socket.SOCK_SEQPACKET)
                 for _ in range(2)]
        for _, theirs in pairs:
            theirs.set_inheritable(True)
        subprocess.run([sys.executable, "-c",
            "import faulthandler\\n"
            "faulthandler.enable(%d, c_stack=False, copy=%d)\\n"
            "faulthandler.sigsegv()" % tuple(
                theirs.fileno() for _, theirs in pairs)], close_fds=False)
        for ours, theirs in pairs:
            theirs.close()
            sys.stderr.write(ours.recv(65536).decode())
            assert ours.recv(1) == b""
            ours.close()
    """)
    assert (child.status, unnamed(child.err)) == (0, 2 * (REPORT % 3))
