"""The report of 1.0, for each signal and each way to run Python."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from signal import SIGSEGV

import pytest

from helpers import (
    Child, FOLDER, PATIENCE, PYTHON, SIGNALS, block, check, crash,
    environment, python, report, run, write_file)


@pytest.mark.parametrize("signum, title, call", SIGNALS)
@pytest.mark.parametrize("name", ["<string>", "<stdin>", "script.py"])
def test_ways_to_run(name, signum, title, call):
    """A program on the command line, on standard input, in a file."""
    code = block("""
        import faulthandler

        def crash():
            %s

        crash()
    """ % call)
    write_file("script.py", code)
    arguments = {"<string>": ["-c", code], "<stdin>": []}.get(name, [name])
    child = run(PYTHON, *arguments, stdin=code.encode())
    assert child.out == ""
    check(child, signum, block("""
        Fatal Python error: %s

        Traceback (most recent call first):
          File "%s", line 4 in crash
          File "%s", line 6 in <module>
    """ % (title, name, name)))


def test_module():
    """python -m, whose frames stand below the module's."""
    write_file("crashing.py", "from die import die\n\ndie()\n")
    child = run(PYTHON, "-m", "crashing")
    check(child, SIGSEGV, report(child.out))
    assert child.out.startswith(
        '  File "crashing.py", line 3 in <module>\n')


def prompt(line, **changes):
    """Type a line at the interactive prompt."""
    start = time.monotonic()
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [PYTHON, "-q"], stdin=theirs, stdout=theirs,
        stderr=subprocess.PIPE, cwd=FOLDER, start_new_session=True,
        env=environment(HOME=FOLDER, PYTHON_HISTORY=os.devnull,
                        **changes))
    os.close(theirs)
    output = {terminal: b"", process.stderr.fileno(): b""}
    readable = list(output)
    typed = False
    while readable:
        ready = select.select(readable, [], [], PATIENCE)[0]
        if not ready:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("no end at the prompt: %r" % output)
        for descriptor in ready:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                data = b""
            output[descriptor] += data
            if not data:
                readable.remove(descriptor)
        if not typed and b">>> " in b"".join(output.values()):
            typed = True
            os.write(terminal, line.encode() + b"\r")
    out, err = output.values()
    process.stderr.close()
    os.close(terminal)
    if err.startswith(b">>> "):
        err = err[4:]
    return Child(process.wait(), out.replace(b"\r\n", b"\n"), err,
                 time.monotonic() - start)


@pytest.mark.parametrize("variable", ["TERM", "PYTHON_BASIC_REPL"])
@pytest.mark.parametrize("signum, title, call", SIGNALS)
def test_prompt(signum, title, call, variable):
    """The interactive prompt; from 3.13 on it has frames below, unless it is
    the basic one."""
    child = prompt("import faulthandler; " + call, **{variable: "xterm"})
    child.err = re.sub('"<(stdin|python-input)(>-0|-0>|>)"', '"<stdin>"',
                       child.err)
    below = ""
    if sys.version_info >= (3, 13) and variable == "TERM":
        below = re.search(
            r'(?m)(^  File "(…/|<frozen ).* in .*\n)+\Z',
            child.err)[0]
    check(child, signum, report(
        '  File "<stdin>", line 1 in <module>\n' + below, title))


def test_frames_of_the_prompt():
    """At the prompt too, the frames are those of traceback."""
    child = prompt("from die import die; die()", TERM="xterm")
    frames = re.findall('(?m)^.*?(  File ".*", line .* in .*)\n',
                        child.raw_out)
    assert child.status == -SIGSEGV
    assert child.raw_err == report("\n".join(frames) + "\n")


@pytest.mark.parametrize("switches", [
    ["-O"], ["-OO"], ["-I"], ["-u"], ["-W", "error"], ["-X", "utf8"], ["-E"],
    ["-B"]])
def test_optimised_and_isolated(switches):
    """Switches of the interpreter make no difference."""
    child = run(PYTHON, *switches, "-c",
                "import faulthandler; faulthandler.sigsegv()")
    check(child, SIGSEGV, report('  File "<string>", line 1 in <module>\n'))


def test_no_garbage_on_normal_exit():
    """A process that does not crash prints nothing."""
    for code in ("import faulthandler", "import faulthandler as f; "
                 "f.disable(); f.enable(); import sys; sys.exit(3)"):
        child = python(code)
        assert (child.status, child.err) == (3 if "3" in code else 0, "")


# ---- sigsegv() and its kin -------------------------------------------------


@pytest.mark.parametrize("argument", [
    "True", "1", "release_gil=True", "0", "[]", "None",
    "'x'", "release_gil=object()"])
def test_release_gil(argument):
    """release_gil is true or false like anything in Python."""
    crash("import faulthandler; faulthandler.sigsegv(%s)"
          % argument, report('  File "<string>", line 1 in <module>\n'))


def test_no_truth():
    """An argument whose truth raises is an error, not a crash."""
    child = python("""
        import faulthandler
        class C:
            def __bool__(self):
                raise ZeroDivisionError
        try:
            faulthandler.sigsegv(C())
        except ZeroDivisionError:
            print("raised")
    """)
    assert (child.status, child.out) == (0, "raised\n")
