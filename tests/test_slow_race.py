"""Dumps of threads that run: every line is true, and nobody dies of it.

SLOW_SECONDS=60 makes each race longer.
"""

import collections
import contextlib
import ctypes
import dis
import functools
import itertools
import os
import random
import re
import runpy
import subprocess
import threading
import time
import types

from signal import SIGSEGV, SIGUSR1

import pytest

from helpers import (
    CHILDREN, FOLDER, FREE_THREADED, PATIENCE, PYTHON, SECONDS, X86_64,
    child_source, finish, start, status_name)
import grammar

pytestmark = pytest.mark.slow

SCRIPT = os.path.join(FOLDER, "race.py")
ROUND = 10                  # seconds that one child runs, at most
FRAME = re.compile(r'  File "(.*)", line (\d+) in (\S+)')
NEW_CODE = re.compile(r"<fresh_(\d+)>")


def lines_of(code):
    """Yield the function and the line of all that a code object can be at."""
    yield code.co_name, code.co_firstlineno
    for _, line in dis.findlinestarts(code):
        yield code.co_name, line
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from lines_of(inner)


def lines_in(text):
    return set(lines_of(compile(text, "", "exec")))


# The code of a subinterpreter has one of two names, which that of
# namedtuple() has, too.
INSIDE = {("<module>", 1), ("<lambda>", 1), *lines_in(
    runpy.run_path(os.path.join(CHILDREN, "race.py"))["INSIDE"])}
LINES = {SCRIPT: lines_in(child_source("race.py")),
         "<string>": INSIDE, "<script>": INSIDE}


def is_true(line):
    """Is this a function that the child has, at one of its lines?"""
    match = FRAME.fullmatch(line)
    if match is None:
        return False
    file, number, name = match[1], int(match[2]), match[3]
    new = NEW_CODE.fullmatch(file)
    if new:
        return number <= 320 and name in (
            "fresh_" + new[1], "Fresh_" + new[1], "__init__", "__eq__",
            "<module>", "<lambda>")
    if file in LINES:
        return (name, number) in LINES[file]
    return file.startswith(("/", "<frozen "))


def kind_of(line):
    """The letter of a line; u is a frame that is marked."""
    kind = grammar.kind_of(line)
    if kind == "f" and "???" in line:
        return "u"
    assert kind is not None and (kind != "f" or is_true(line)), line
    return kind


def read_dumps(text):
    """Check dump after dump. Count them, their stacks, and those stacks that
    are cut or have marked frames."""
    counts = collections.Counter()
    lines = text.decode("latin-1").split("\n")
    assert lines.pop() == ""    # the last line has an end
    letters = {line: kind_of(line) for line in set(lines)}
    kinds = "".join(letters[line] for line in lines)
    plain, at = kinds.replace("u", "f"), 0
    while at < len(plain):
        match = grammar.DUMP.match(plain, at)
        assert match is not None and match.end() > at, (
            plain[at:at + 60], lines[max(0, at - 4):at + 9])
        counts["dumps"] += 1
        for stack in re.findall("[hc][^hc0]*", kinds[at:match.end()]):
            counts["stacks"] += 1
            counts["unfinished"] += bool(re.search("[uxz]", stack))
        at = match.end()
    return counts


def send_signals(pid):
    """Send 3000 signals a second, to the process and to its threads, until
    it is gone."""
    tgkill = functools.partial(
        ctypes.CDLL(None).syscall, 234 if X86_64 else 131, pid)
    with contextlib.suppress(OSError, IndexError):
        for sent in itertools.count():
            if sent % 10 == 0:
                threads = os.listdir("/proc/%d/task" % pid)
            if sent % 3 == 0:
                os.kill(pid, SIGUSR1)
            else:
                tgkill(int(random.choice(threads)), SIGUSR1)
            time.sleep(1 / 3000)


def without_last(text):
    """What was written, but for the last dump of the watchdog: in a pipe it
    may be cut, where it was cancelled while nobody read."""
    last = text.rfind(b"Timeout (")
    return text[:last] if last >= 0 else text


def run_race(*arguments, limit=PATIENCE, **options):
    """Run race.py to its end, and send it signals meanwhile."""
    process = start("nice", PYTHON, "-W", "ignore", SCRIPT, *arguments,
                    **options)
    assert process.stdout.readline() == b"ready\n"
    sender = threading.Thread(target=send_signals, args=(process.pid,))
    sender.start()
    try:
        return finish(process, limit=limit)
    finally:
        sender.join()


def race(seconds, kinds, more):
    """One child that is dumped while it runs: what its files count."""
    files, names, readers = [], [], []
    for number, kind in enumerate(kinds):
        if kind == "same":
            names.append(names[0])
        elif kind == "file":
            names.append(os.path.join(FOLDER, "race-%d" % number))
            files.append(open(names[-1], "w+b"))
        else:
            # Read by a process, as threads of this one wait for the sender,
            # and into memory, as a disk may be busy.
            files.append(os.fdopen(os.memfd_create("pipe"), "w+b"))
            readers.append(subprocess.Popen(
                ["cat"], stdin=subprocess.PIPE, stdout=files[-1]))
            names.append(str(readers[-1].stdin.fileno()))
    child = run_race(
        str(seconds), *names, more, limit=seconds + PATIENCE,
        pass_fds=[reader.stdin.fileno() for reader in readers])
    for reader in readers:
        reader.stdin.close()
        reader.wait(PATIENCE)
    assert (status_name(child.status), child.err) == ("exit 0", "")
    counts = collections.Counter()
    for file in files:
        with file:
            file.seek(0)
            counts += read_dumps(without_last(file.read()))
    return counts


@pytest.mark.parametrize("kinds, more", [
    (("pipe", "file"), "-"), (("file", "pipe"), "-"),
    (("pipe", "pipe"), "-"), (("pipe", "same"), "-"),
    (("file", "same"), "-"), (("file", "same"), "churn"),
    (("pipe", "file"), "interpreters")])
def test_race(kinds, more):
    """Dumps on a signal and of the watchdog, to these files."""
    counts = collections.Counter()
    for begin in range(0, int(SECONDS), ROUND):
        counts += race(min(ROUND, SECONDS - begin), kinds, more)
    print(dict(counts))
    assert counts["dumps"] > 0
    # A stack that changes each time that it is read again cannot be read; with
    # the GIL only one changes at a time.
    assert FREE_THREADED or counts["unfinished"] <= counts["stacks"] / 2


@pytest.mark.parametrize("number", range(max(2, int(SECONDS / 3))))
def test_crash_while_dumps_are_made(number):
    """One report, in its grammar."""
    child = run_race("5", os.devnull, os.devnull, "crash")
    assert status_name(child.status) == "-" + SIGSEGV.name
    assert child.err.startswith("Fatal Python error: Segmentation fault\n")
    assert grammar.fault_in(child.raw_err) is None
    assert " in crash\n" in child.err
