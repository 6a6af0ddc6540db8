"""PYTHONFAULTHANDLER with options, for programs as they are."""

import os
import re

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, FREE_THREADED, PYTHON, block, check, check_library, environment,
    library_report, run, status_name, take_file, unnamed, write_file)


KILL = "import os; os.kill(os.getpid(), 11)"
PLAIN = library_report('  File "<string>", line 1 in <module>\n')
STACK = ('Fatal Python error: Segmentation fault\n\n'
         'Stack (most recent call first):\n'
         '  File "<string>", line %d in <module>\n')


def start(value, *arguments, code=KILL, **variables):
    """Start Python with these options."""
    return run(PYTHON, *arguments, "-c", code, env=environment(
        PYTHONFAULTHANDLER=value, **variables))


@pytest.mark.parametrize("value", [
    "1", "0", "2", "true", "True", "yes", "on", "x", "no",
    "enabled", ",", " ", "1,"])
def test_any_other_value(value):
    """1, and what people write for it, asks for the library's report."""
    child = start(value)
    check_library(child, SIGSEGV, PLAIN)


def test_words():
    """Each word is an argument of enable()."""
    threads = block("""
        import os, waiting
        for n in range(3):
            waiting.start()
        os.kill(os.getpid(), 11)
    """)
    stack = STACK % 4
    for value, shown in [
            ("all_threads=0", stack), ("all_threads=no", stack),
            ("all_threads=False", stack), ("1,all_threads=off,", stack),
            ("all_threads=1,all_threads=0", stack),
            ("max_threads=2", 2), ("max_threads=3,all_threads", 3),
            ("all_threads", 4), (" all_threads=1 , max_threads=0", 4),
            ("all_threads=yes", 4)]:
        child = start(value + ",c_stack=0", code=threads)
        assert status_name(child.status) == "-SIGSEGV"
        if shown == stack:
            assert child.err == stack
        else:
            assert child.err.count("hread 0x… ") == shown
    for value, shown in [("c_stack", 1), ("c_stack=1", 1),
                         ("c_stack=0", 0), ("c_stack=off", 0)]:
        child = start(value)
        assert status_name(child.status) == "-SIGSEGV"
        assert child.err.count("C stack trace") == shown
    for value, line in [
            ("details", r"  thread \d+ \[MainThread\] of process \d+, "),
            ("details=1,c_stack=0", r"  sent by this process"),
            ("c_stack=mixed", r"  C File .*, line .* in "),
            ("c_stack=mixed,details", r"  C File ")]:
        child = start(value)
        assert status_name(child.status) == "-SIGSEGV"
        assert re.search("(?m)^" + line, child.err)
        assert ("  thread " in child.err) == ("details" in value)


def test_file():
    """file= is a path: the rest of its word."""
    path = os.path.join(FOLDER, "caf\xe9 =%%.txt")
    for value in ("file=" + path + ",all_threads=0,c_stack=0",
                  "all_threads=0,c_stack=0,file="
                  + os.path.basename(path)):
        child = start(value, code="import os; os.chdir('/'); "
                      + KILL)
        check(child, SIGSEGV, "")
        assert take_file(path.replace("%%", "%")) == STACK % 1


def test_copy():
    """copy= is a second place, beside standard error or file=."""
    for value, err in [("copy=copy.txt", STACK % 1),
                       ("copy=copy.txt,file=file.txt", "")]:
        child = start("all_threads=0,c_stack=0," + value)
        check(child, SIGSEGV, err)
        assert take_file("copy.txt") == STACK % 1
        if not err:
            assert take_file("file.txt") == STACK % 1


@pytest.mark.parametrize("call, place, shown", [
    ("enable()", "options.txt", "Stack"),
    ("enable(2)", 2, "Stack"),
    ("enable(file=2)", 2, "Stack"),
    ("enable(sys.stderr)", 2, "Stack"),
    ("enable(None)", 2, "Stack"),
    ("enable(all_threads=True)", "options.txt", "Current thread 0x…"),
    ("enable(2, True)", 2, "Current thread 0x…"),
    ("enable(max_threads=5)", "options.txt", "Stack"),
    ("disable(); faulthandler.enable()", "options.txt", "Stack")])
def test_defaults_of_enable(call, place, shown):
    """What a call of enable() does not give is taken from the options."""
    value = "all_threads=0,c_stack=0,file=options.txt"
    path = os.path.join(FOLDER, "options.txt")
    child = start(value, code=block("""
        import faulthandler, os, sys
        os.chdir("/")
        faulthandler.%s
        faulthandler.sigsegv()
    """) % call)
    err = child.err if place == 2 else take_file(path)
    assert status_name(child.status) == "-SIGSEGV"
    assert unnamed(err) == STACK.replace("Stack", shown) % 4
    assert not os.path.exists(path)


def test_other_functions():
    """The options are enable()'s: the others are as they were."""
    child = start("file=options.txt,all_threads=0", code=block("""
        import faulthandler
        faulthandler.dump_traceback()
    """))
    assert (child.status, re.sub(r" \[.*?\]", "", child.err)) == (
        0, "Current thread 0x… (most recent call first):\n"
        '  File "<string>", line 2 in <module>\n')


@pytest.mark.parametrize("value, message, expected", [
    ("detials", "'detials' (not known)", PLAIN),
    ("foo,c_stak=1,all_threads=0",
     "'foo' (not known), 'c_stak=1' (not known)", STACK % 1),
    ("all_threads=0,max_threads=x", "'max_threads=x' "
     "(not a number)", STACK % 1),
    ("max_threads=-1", "'max_threads=-1' (not a number)",
     PLAIN),
    ("max_threads", "'max_threads' (not a number)", PLAIN),
    ("c_stack=maybe", "'c_stack=maybe' (neither 1 nor 0 nor "
     "mixed)", PLAIN),
    ("details=2", "'details=2' (neither 1 nor 0)", PLAIN),
    ("all_threads=", "'all_threads=' (neither 1 nor 0)",
     PLAIN),
    ("file=", "'file=' (no path)", PLAIN),
    ("file", "'file' (no path)", PLAIN),
    ("file=/missing/x", "'file=/missing/x' (No such file or "
     "directory)", PLAIN),
    ("file=/missing/x,all_threads=0", "'file=/missing/x' (No such "
     "file or directory)", STACK % 1),
    ("file=%x", "'file=%x' (file: after % must come p, t or %)",
     PLAIN),
    ("copy=", "'copy=' (no path)", PLAIN),
    ("copy=/missing/x", "'copy=/missing/x' (No such file or directory)",
     PLAIN),
    ("copy=/missing/x,file=/missing/y,all_threads=0",
     "'copy=/missing/x' (No such file or directory), "
     "'file=/missing/y' (No such file or directory)", STACK % 1),
    ("\xff\n\x1b=1", "'\\xc3\\xbf\\n\\x1b=1' (not known)",
     PLAIN)])
def test_wrong_words(value, message, expected):
    """They are named once, in one line, and ignored."""
    for options in [], ["-W", "error"], ["-X", "dev"]:
        child = start(value, *options, PYTHONUTF8="1")
        check_library(child, SIGSEGV, "PYTHONFAULTHANDLER: ignored "
                      + message + "\n" + expected)


def test_no_stderr():
    """Without standard error Python starts, and writes to the file."""
    path = os.path.join(FOLDER, "options.txt")
    for value, written in [("foo,all_threads=0", None),
                           ("foo,all_threads=0,c_stack=0,"
                            "file=options.txt", path)]:
        child = run("sh", "-c", 'exec "$0" "$@" 2>&-', PYTHON, "-c",
                    KILL, env=environment(PYTHONFAULTHANDLER=value))
        check(child, SIGSEGV, "")
        if written:
            assert take_file(path) == STACK % 1


@pytest.mark.parametrize("options", [["-E"], ["-I"]])
def test_environment_ignored(options):
    """-E and -I do not look at it, whatever else armed the builtin."""
    check(start("all_threads=0,foo", *options),
          SIGSEGV, "")
    child = start("all_threads=0,foo", *options,
                  "-X", "faulthandler")
    check_library(child, SIGSEGV, PLAIN)


def test_builtin():
    """Without this module the same value arms the builtin."""
    code = "import faulthandler; print(faulthandler.is_enabled(), " \
        "hasattr(faulthandler, 'version'), flush=True); " + KILL
    for options, variables in [(["-S"], {}),
                               ([], {"FAULTHANDLER_USE_STDLIB": "1"})]:
        child = start("all_threads=0,foo,file=options.txt", *options,
                      code=code, **variables)
        assert (status_name(child.status), child.out) == (
            "-SIGSEGV", "True False\n")
        assert child.err.startswith(
            "Fatal Python error: Segmentation fault\n\n"
            + ("<Cannot show" if FREE_THREADED else "Current thread"))


def test_children():
    """Children inherit it: started, forked, spawned or served."""
    write_file("workers.py", block("""
        import multiprocessing, os, subprocess, sys
        def crash():
            print(os.getpid(), flush=True)
            os.kill(os.getpid(), 11)
        if __name__ == "__main__":
            subprocess.run([sys.executable, "-c",
                            "import workers; workers.crash()"])
            for method in ("fork", "spawn", "forkserver"):
                context = multiprocessing.get_context(method)
                child = context.Process(target=crash)
                child.start()
                child.join()
                assert child.exitcode == -11, child.exitcode
    """))
    child = run(PYTHON, "workers.py", env=environment(
        PYTHONFAULTHANDLER="all_threads=0,c_stack=0,file=worker-%p.txt"))
    assert (child.status, child.err) == (0, "")
    assert len(set(child.out.split())) == 4
    for number in child.out.split():
        text = take_file("worker-%s.txt" % number)
        assert text.startswith(
            "Fatal Python error: Segmentation fault\n\n"
            "Stack (most recent call first):\n"
            '  File "workers.py", line 4 in crash\n'), text


def test_start_imports_nothing():
    """Reading the options imports no more than arming does."""
    code = "import sys; print(sorted(sys.modules))"
    children = [start(value, code=code) for value in
                ("1", "all_threads=0,max_threads=5,file=options.txt")]
    assert children[0].out == children[1].out
