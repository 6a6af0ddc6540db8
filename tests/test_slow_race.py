"""Dumps of threads that run: every line is true, and nobody dies of it.

SLOW_SECONDS=60 makes each race longer.
"""

import ast
import collections
import contextlib
import ctypes
import functools
import itertools
import os
import random
import re
import subprocess
import threading
import time

from signal import SIGSEGV, SIGUSR1

import pytest

from helpers import (
    CHILDREN, FOLDER, PATIENCE, PYTHON, SECONDS, X86_64, finish, start,
    status_name)
import grammar

pytestmark = pytest.mark.slow

SCRIPT = os.path.join(FOLDER, "race.py")
ROUND = 10                  # seconds that one child runs, at most
FRAME = re.compile(r'  File "(.*)", line (\d+) in (\S+)')
NEW_CODE = re.compile(r"<fresh_(\d+)>")


def script_functions():
    """The name of each function of race.py, and its lines."""
    with open(os.path.join(CHILDREN, "race.py"), encoding="utf-8") as file:
        text = file.read()
    found = collections.defaultdict(
        list, {"<module>": [(0, text.count("\n"))], "inside": [(1, 3)],
               "<genexpr>": [(1, 999)], "<lambda>": [(1, 999)],
               "<listcomp>": [(1, 999)]})
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef,
                             ast.ClassDef)):
            last = max(n.lineno for n in ast.walk(node)
                       if hasattr(n, "lineno"))
            found[node.name].append((node.lineno, last))
    return found


FUNCTIONS = script_functions()


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
    if file in (SCRIPT, "<string>", "<script>"):
        return any(first <= number <= last
                   for first, last in FUNCTIONS[name])
    return file.startswith(("/", "<frozen "))


class Dumps:
    """What stands in a text of dumps: lines that are wrong, and how many
    stacks there are, and how many that are cut or have marked frames."""

    def __init__(self):
        self.counts = collections.Counter()
        self.wrong = []
        self.kinds = {}         # of each line

    def read(self, text):
        """Check dump after dump."""
        lines = text.decode("latin-1").split("\n")
        if lines.pop():
            self.wrong.append("the last line has no end")
        kinds = "".join(self.kinds.get(line) or self.kind_of(line)
                        for line in lines)
        plain, at = kinds.replace("u", "f"), 0
        while at < len(plain):
            match = grammar.DUMP.match(plain, at)
            if match is None or match.end() == at:
                self.wrong.append("no dump: %s %s" % (
                    plain[at:at + 60], lines[max(0, at - 4):at + 9]))
                return
            self.counts["dumps"] += 1
            for stack in re.findall("[hc][^hc0]*", kinds[at:match.end()]):
                self.counts["stacks"] += 1
                self.counts["unfinished"] += bool(re.search("[uxz]", stack))
            at = match.end()

    def kind_of(self, line):
        """The letter of a new line; u is a frame that is marked."""
        kind = grammar.kind_of(line) or "?"
        if kind == "f" and "???" in line:
            kind = "u"
        elif kind == "?" or kind == "f" and not is_true(line):
            self.wrong.append("a wrong line: %r" % line)
        self.kinds[line] = kind
        return kind


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


def race(seconds, kinds, more):
    """One child that is dumped while it runs: the dumps of each file."""
    found, names, readers, ends = {}, [], [], []
    for number, kind in enumerate(kinds):
        if kind == "same":
            names.append(names[0])
        elif kind == "file":
            names.append(os.path.join(FOLDER, "race-%d" % number))
            found[open(names[-1], "w+b")] = Dumps()
        else:
            # Read by a process, as threads of this one wait for the sender,
            # and into memory, as a disk may be busy.
            ours, theirs = os.pipe()
            names.append(str(theirs))
            ends.append(theirs)
            memory = os.fdopen(os.memfd_create("pipe"), "w+b")
            readers.append(subprocess.Popen(
                ["cat"], stdin=ours, stdout=memory))
            os.close(ours)
            found[memory] = Dumps()
    process = start("nice", PYTHON, "-W", "ignore", SCRIPT, str(seconds),
                    *names, more, pass_fds=ends)
    for end in ends:
        os.close(end)
    assert process.stdout.readline() == b"ready\n"
    sender = threading.Thread(target=send_signals, args=(process.pid,))
    sender.start()
    try:
        child = finish(process, limit=seconds + PATIENCE)
    finally:
        sender.join()
        for reader in readers:
            reader.wait(PATIENCE)
    assert (status_name(child.status), child.err) == ("exit 0", "")
    for file, dumps in found.items():
        with file:
            file.seek(0)
            dumps.read(without_last(file.read()))
    return list(found.values())


@pytest.mark.parametrize("kinds, more", [
    (("pipe", "file"), "-"), (("file", "pipe"), "-"),
    (("pipe", "pipe"), "-"), (("pipe", "same"), "-"),
    (("file", "same"), "-"), (("file", "same"), "churn"),
    (("pipe", "file"), "interpreters")])
def test_race(kinds, more):
    """Dumps on a signal and of the watchdog, to these files."""
    counts = collections.Counter()
    for begin in range(0, int(SECONDS), ROUND):
        for dumps in race(min(ROUND, SECONDS - begin), kinds, more):
            assert dumps.wrong[:3] == []
            counts += dumps.counts
    print(dict(counts))
    assert counts["dumps"] > 0
    # How many depends on the processors; a stack that changes each time that
    # it is read again cannot be read.
    assert counts["unfinished"] <= counts["stacks"] / 2


@pytest.mark.parametrize("number", range(max(2, int(SECONDS / 3))))
def test_crash_while_dumps_are_made(number):
    """One report, in its grammar."""
    process = start("nice", PYTHON, "-W", "ignore", SCRIPT, "5", os.devnull,
                    os.devnull, "crash")
    assert process.stdout.readline() == b"ready\n"
    sender = threading.Thread(target=send_signals, args=(process.pid,))
    sender.start()
    child = finish(process)
    sender.join()
    assert status_name(child.status) == "-" + SIGSEGV.name
    assert child.err.startswith("Fatal Python error: Segmentation fault\n")
    assert grammar.fault_in(child.raw_err) is None
    assert " in crash\n" in child.err
