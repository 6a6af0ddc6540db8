"""c_stack="mixed" agrees with debuggers.

Each program crashes once, under gdb. Where it stops, gdb writes down its own
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
    DEBUG, FOLDER, PATIENCE, PYTHON, SANITIZED, block, compile_library,
    environment, run, what_is_missing, write_file)
from test_frame import FRAMES
from test_mixed import STACKS, START

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    sys.version_info < (3, 11) or SANITIZED or bool(what_is_missing())
    or shutil.which("gdb") is None, reason="needs gdb, and 3.11 or newer")]

# What crashes here, beside the programs of test_mixed.py and test_frame.py.
MORE = {
    "abort": """
        class A:
            def __enter__(self):
                ctypes.PyDLL(None).abort()
            def __exit__(self, *args):
                pass
        with A():
            pass
    """,
    "bus": """
        import damage
        def f():
            library.mixed_read(ctypes.c_void_p(damage.beyond))
        f()
    """,
    "ctypes": "ctypes.string_at(1)",
    "callback of the C library": """
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def compare(a, b):
            crash()
        numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
        ctypes.CDLL(None).qsort(numbers, 5, 4, kind(compare))
    """,
    "null call": """
        def f():
            library.mixed_call(None)
        f()
    """,
    "nowhere call": """
        def f():
            library.mixed_call(ctypes.c_void_p(0x5000))
        list(map(lambda x: f(), [1]))
    """,
    "re": 'import re; re.sub("a", lambda m: crash(), "banana")',
    "json": """
        import json
        json.dumps({"a": [object()]}, default=lambda o: crash())
    """,
    "zlib": """
        import zlib
        zlib.crc32((ctypes.c_char * 5000).from_address(4096))
    """,
    "collector": """
        import gc
        class A:
            def __del__(self):
                crash()
        a = A()
        a.a = a
        del a
        gc.collect()
    """,
    "generator.throw()": """
        def inner():
            try:
                yield 1
            except ValueError:
                crash()
        g = inner()
        next(g)
        g.throw(ValueError("x"))
    """,
    "evaluator": """
        def inner():
            crash()
        def middle():
            inner()
        def outer():
            get = ctypes.pythonapi.PyInterpreterState_Get
            get.restype = ctypes.c_void_p
            ctypes.pythonapi._PyInterpreterState_SetEvalFrameFunc(
                ctypes.c_void_p(get()), library.mixed_evaluate)
            middle()
        outer()
    """,
    "overflow": """
        sys.setrecursionlimit(10 ** 6)
        try:
            faulthandler._stack_overflow()
        finally:
            pass
    """,
    "overflow of Python": """
        class A:
            def __getattr__(self, name):
                return sorted([1], key=lambda x: getattr(self, "b"))
        sys.setrecursionlimit(10 ** 8)
        threading.stack_size(256 * 1024)
        t = threading.Thread(target=lambda: A().a)
        t.start()
        t.join()
    """,
    "loop, compiled": """
        class A:
            def __index__(self):
                crash()
        def f(items):
            total = 0
            for i in range(6000):
                total += i * 3 % 7
                items[i & 1 if i < 5500 else A()]
        f([1, 2])
    """,
    "calls of C, compiled": """
        good = ctypes.c_int(5)
        places = [ctypes.addressof(good)] * 20000 + [16]
        read = library.mixed_read
        read.argtypes = [ctypes.c_void_p]
        def f(places, read):
            for place in places:
                read(place)
        def g():
            list(map(lambda x: f(places, read), [1]))
        g()
    """,
}
PROGRAMS = {name: block(START) + block(code) for name, code in MORE.items()}
PROGRAMS.update((name, block(START) + block(code))
                for name, (code, _) in STACKS.items())
PROGRAMS.update((name, block("        from die import die" + code))
                for name, code in FRAMES.items())
# In these the script for gdb misses frames that are in traceback.
del PROGRAMS["a generator that hands an exception on has no loop of its own"]
del PROGRAMS["special methods, properties and descriptors"]
# In the first line: those that follow have their numbers.
ENABLE = ('import faulthandler; faulthandler.enable('
          'open("%s.report", "wb"), c_stack="mixed"); ')
SCRIPTS = [PYTHON + "-gdb.py", os.path.realpath(PYTHON) + "-gdb.py",
           "%s/python%d.%d-gdb.py" % (sysconfig.get_config_var("BINDIR"),
                                      *sys.version_info[:2])]
MIXED = "\nC and Python stack (most recent call first):\n"

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
    """Crash a program; the stem of the files that tell of it."""
    compile_library("mixed")
    write_file("crashing.py", "from die import die\n\ndie()\n")
    stem = os.path.join(FOLDER, "mixed-" + re.sub(r"\W", "-", name))
    write_file(stem + ".py", ENABLE % stem + PROGRAMS[name].replace(
        'faulthandler.enable(2, c_stack="mixed")', "pass"))
    write_file(stem + ".ingdb.py", "STEM, SCRIPT = %r, %r\n%s" % (
        stem, next(filter(os.path.exists, SCRIPTS), ""), IN_GDB))
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
                    PYTHON_JIT="1" if "compiled" in name else "0"))
    if "RecursionError: Stack overflow" in child.err + child.out:
        pytest.skip("3.14 guards the stack against this one")
    assert " exited " not in child.out, child
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
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
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
