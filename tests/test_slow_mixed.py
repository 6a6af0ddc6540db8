"""c_stack="mixed" agrees with debuggers.

Each scenario crashes once, under gdb. Where it stops, gdb writes down its own
backtrace, and CPython's script for gdb finds the Python frames of each
evaluation loop. Then the process goes on, and our handler writes its report.
"""

import collections
import json
import os
import re
import shutil
import sys
import sysconfig

import pytest

from helpers import (
    DEBUG, FOLDER, PATIENCE, PYTHON, SANITIZED, child_source, compile_library,
    environment, run, what_is_missing, write_file)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    sys.version_info < (3, 11) or SANITIZED or bool(what_is_missing())
    or shutil.which("gdb") is None, reason="needs gdb, and 3.11 or newer")]

SCENARIOS = dict(re.findall(r"(?ms)^# ([\w-]+)\n(.*?)(?=^# [\w-]+$|\Z)",
                            child_source("scenarios.txt")))
SCRIPTS = [PYTHON + "-gdb.py", os.path.realpath(PYTHON) + "-gdb.py",
           "%s/python%d.%d-gdb.py" % (sysconfig.get_config_var("BINDIR"),
                                      *sys.version_info[:2])]
MIXED = "\nC and Python stack (most recent call first):\n"

START = """
import ctypes, faulthandler
library, kind = ctypes.PyDLL({folder!r} + "/mixed.so"), ctypes.PYFUNCTYPE(None)
faulthandler.enable(open({stem!r} + ".report", "wb"), c_stack="mixed")
def call(function, depth):
    library.mixed_deep(kind(function), depth)
def crash():
    library.mixed_read(16)
"""

# Runs inside gdb, where the process stopped at its fault. Of a tail call
# nothing is left on the stack: gdb makes such frames up.
IN_GDB = r"""
import gdb, json
frames, frame, level = [], gdb.newest_frame(), 0
while frame is not None:
    if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        frames.append([level, frame.pc(), frame.name() or "",
                       gdb.solib_name(frame.pc()) or ""])
    level, frame = level + 1, frame.older()
with open(STEM + ".gdb", "w") as file:
    json.dump(frames, file)
text = ""
if SCRIPT:
    try:
        gdb.execute("source " + SCRIPT)
        text = gdb.execute("py-bt-full", to_string=True)
    except gdb.error:
        pass
with open(STEM + ".pybt", "w") as file:
    file.write(text)
for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT"):
    gdb.execute("handle %s nostop noprint pass" % name)
"""

Line = collections.namedtuple("Line", "kind name module offset text")
C_LINE = re.compile(r"  C File .*, line .* in (.*) \((?:(.*)\+)?0x(.*)\)$")
PYTHON_LINE = re.compile(r"  File .*, line .* in (.*)$")


def read(path):
    """A file's text, "" where there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def run_under_gdb(name):
    """Crash a scenario; the stem of the files that tell of it."""
    compile_library("mixed")
    stem = os.path.join(FOLDER, "mixed-" + name)
    write_file("mixed-%s.py" % name, START.format(
        folder=FOLDER, stem=stem) + SCENARIOS[name])
    write_file("mixed-%s.in" % name, "STEM, SCRIPT = %r, %r\n%s" % (
        stem, next(filter(os.path.exists, SCRIPTS), ""), IN_GDB))
    os.rename(stem + ".in", stem + ".ingdb.py")
    commands = [
        "set pagination off", "set confirm off", "set print thread-events off",
        "set backtrace past-main on", "set backtrace past-entry on",
        "set backtrace limit unlimited", "set debuginfod enabled off",
        "handle SIGUSR1 nostop noprint pass",
        "set auto-load python-scripts off", "run %s.py" % stem,
        "source %s.ingdb.py" % stem, "continue"]
    child = run("gdb", "-batch", "-nx",
                *[word for command in commands for word in ("-ex", command)],
                PYTHON, limit=4 * PATIENCE, env=environment(
                    PYTHONHASHSEED="0",
                    PYTHON_JIT="1" if name in ("loop", "jit") else "0"))
    if "RecursionError: Stack overflow" in child.err + child.out:
        pytest.skip("3.14 guards the stack against this one")
    if not os.path.exists(stem + ".gdb"):
        pytest.skip("gdb cannot run the interpreter here")
    return stem


def parse(text):
    """The Python lines of the first traceback, and all mixed lines."""
    plain, _, mixed = text.rpartition(MIXED)
    lines = []
    for line in mixed.splitlines():
        c, python = C_LINE.match(line), PYTHON_LINE.match(line)
        if c:
            lines.append(Line("C", c[1], c[2], int(c[3], 16), line))
        elif python:
            lines.append(Line("P", python[1], None, None, line))
        else:
            lines.append(Line("?", "", None, None, line))
    first = plain.split("\n\n")[1].split("\n")[1:]
    return [line for line in first if PYTHON_LINE.match(line)], lines


def is_loop(frame):
    """Is this frame of gdb's an evaluation loop?"""
    return frame[2].startswith("_PyEval_EvalFrameDefault")


def run_length(items, at, key):
    """How many items from one on have its key."""
    end = at
    while end < len(items) and key(items[end]) == key(items[at]):
        end += 1
    return end - at


def place(line):
    """What the lines of functions that are inlined into each other share."""
    return line.kind, line.module, line.offset


def is_same_place(frame, line):
    """Is this C line gdb's frame? Pages are the same wherever loaded."""
    base = os.path.basename(frame[3])
    return (line.offset & 0xfff == frame[1] & 0xfff
            and (not base or not line.module or base == line.module))


def align(frames, lines, first=True):
    """Put lines to gdb's frames: (what differs, [(frame, lines), ...]).

    A C frame has a line for each function that was inlined into it. It ends
    at a line that is no frame. first: this is where the crash is, whose frame
    has a line even if it is an evaluation loop.
    """
    pairs, i, at = [], 0, 0
    while i < len(frames):
        frame = frames[i]
        if at == len(lines):
            return "ends before #%d %s" % (frame[0], frame[2]), pairs
        if lines[at].kind == "?":
            return "", pairs
        count = run_length(lines, at, place)
        if lines[at].kind == "P":
            pairs.append((frame, lines[at:at + count]))
            at, i = at + count, i + 1
            continue
        if not is_same_place(frame, lines[at]):
            return "#%d %s+%x is %s" % (frame[0], frame[2], frame[1],
                                        lines[at].text.strip()), pairs
        same = run_length(frames, i, lambda frame: frame[1])
        if at + count < len(lines) and lines[at + count].kind == "?":
            same = count        # the gap begins inside a recursion
        if count % same:
            return "#%d is there %d times" % (frame[0], count), pairs
        part = count // same
        pairs += [(frames[i + k], lines[at + k * part:at + (k + 1) * part])
                  for k in range(same)]
        at, i = at + count, i + same
        if is_loop(frame):
            if not (i == 1 and first and lines[at].kind == "P"):
                return "no Python frame at #%d" % frame[0], pairs
            count = run_length(lines, at, place)
            pairs.append((None, lines[at:at + count]))
            at += count
    return ("too many: " + lines[at].text if at < len(lines) else ""), pairs


def differs_from_gdb(frames, lines):
    """Both are the same, evaluation loops being Python frames."""
    differs, _ = align(frames, lines)
    # Code of 3.14's JIT compiler, where gdb loses its way.
    lost = any(not frame[2] and not frame[3] for frame in frames[1:])
    strange = [line.text for line in lines if line.kind == "?"]
    if not differs and not lost and strange:
        differs, _ = align(frames[::-1], lines[::-1], first=False)
    return [text for text in strange if "frames not shown" not in text
            and not lost] + [differs] * bool(differs)


def same_as_py_bt(text, pairs, cut):
    """The k-th group of Python frames is that of gdb's k-th loop."""
    theirs = collections.OrderedDict()
    for level, name, unknown in re.findall(
            r"^#(\d+) (?:Frame 0x.*?, for file .*?, line \d+, in (\S+) \("
            r"|(\(unable to read python frame information\)))", text,
            re.M | re.S):
        theirs.setdefault(level, []).append(None if unknown else name)
    theirs = list(theirs.values())
    ours = [[line.name for line in found] for _, found in pairs
            if found[0].kind == "P"]
    if cut:
        ours = ours[:-1]
        theirs = theirs[:len(ours)]
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        assert a == b or b == [None]


@pytest.mark.skipif(DEBUG, reason="a debug build asserts before it crashes")
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name):
    """The mixed stack is that of gdb, of the plain report, and of CPython's
    script for gdb."""
    stem = run_under_gdb(name)
    report = read(stem + ".report")
    assert MIXED in report
    plain, lines = parse(report)
    cut = any(line.kind == "?" for line in lines)
    # Frames of this module are shown only where it crashes on purpose.
    frames = [frame for i, frame in enumerate(json.loads(read(stem + ".gdb")))
              if i == 0 or "/faulthandler." not in frame[3]]
    assert differs_from_gdb(frames, lines) == []
    ours = [line.text for line in lines[:100] if line.kind == "P"]
    if cut:
        assert ours[:90] == plain[:len(ours[:90])]
    else:
        assert ours[:len(plain)] == plain[:len(ours)]
    _, pairs = align(frames, lines)
    py_bt = read(stem + ".pybt")
    if re.search(r"(?m)^#\d+ Frame 0x", py_bt):
        same_as_py_bt(py_bt, pairs, cut)
