"""c_stack="mixed" agrees with debuggers.

Each program crashes once, under gdb. Where it stops, gdb writes down its own
backtrace, and CPython's script for gdb finds the Python frames of each
evaluation loop. Then the process goes on, and our handler writes its report.
"""

import collections
import itertools
import json
import os
import re
import shutil
import sys
import sysconfig

import pytest

from helpers import (
    DEBUG, FOLDER, PATIENCE, PYTHON, SANITIZED, SIGNALS, block,
    compile_library, environment, run, what_is_missing, write_file)
from test_frame import FRAMES
from test_mixed import C_LINE, STACKS, START, TITLE

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
        library.mixed_read(ctypes.c_void_p(damage.beyond))
    """,
    "ctypes": "ctypes.string_at(1)",
    "callback of the C library": """
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        def compare(a, b):
            crash()
        numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
        ctypes.CDLL(None).qsort(numbers, 5, 4, kind(compare))
    """,
    "null call": "library.mixed_call(None)",
    "re": 'import re; re.sub("a", lambda m: crash(), "banana")',
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
        faulthandler._stack_overflow()
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

# Runs inside gdb, where the process stopped at its fault. Of a tail call
# nothing is left on the stack: gdb makes such frames up.
IN_GDB = r"""
import gdb, json
frames, frame, text = [], gdb.newest_frame(), ""
while frame is not None:
    if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
        frames.append([frame.pc(), frame.name() or "",
                       gdb.solib_name(frame.pc()) or ""])
    frame = frame.older()
if SCRIPT:
    try:
        gdb.execute("source " + SCRIPT)
        text = gdb.execute("py-bt-full", to_string=True)
    except gdb.error:
        pass
with open(STEM + ".gdb", "w") as file:
    json.dump([frames, text], file)
"""

Line = collections.namedtuple("Line", "kind name module offset text")
PYTHON_LINE = re.compile(r"  File .*, line .* in (.*)$")


def run_under_gdb(name):
    """Crash a program; gdb's frames, what its script says, our report."""
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
        "set auto-load python-scripts off", "run %s.py" % stem,
        "source %s.ingdb.py" % stem,
        *["handle %s nostop noprint pass" % signum.name
          for signum, _, _ in SIGNALS], "continue"]
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
    with open(stem + ".gdb") as file, open(stem + ".report") as report:
        return [*json.load(file), report.read()]


def parse(text):
    """The Python lines of the first traceback, and all mixed lines."""
    plain, _, mixed = text.rpartition(TITLE)
    lines = []
    for line in mixed.splitlines():
        c, python = re.match(C_LINE, line), PYTHON_LINE.match(line)
        if c:
            lines.append(Line("C", *c.group(3, 4), int(c[5], 16), line))
        else:
            lines.append(Line("P" if python else "?", python and python[1],
                              None, None, line))
    first = plain.split("\n\n")[1].split("\n")[1:]
    return [line for line in first if PYTHON_LINE.match(line)], lines


def is_loop(frame):
    """Is this frame of gdb's an evaluation loop?"""
    return frame[1].startswith("_PyEval_EvalFrameDefault")


def place(line):
    """What the lines of functions that are inlined into each other share."""
    return line.kind, line.module, line.offset


def runs(items, key):
    """What follows on each other with one key: the first, and how many."""
    return [(found[0], len(found)) for found in (
        list(same) for _, same in itertools.groupby(items, key))]


def is_same(frames, lines):
    """Are these lines these frames of gdb's, which have one place?

    A C frame has a line for each function that was inlined into it, a loop
    one for each Python frame.  Pages are the same wherever loaded.
    """
    (frame, frame_count), (line, line_count) = frames, lines
    if is_loop(frame) or line.kind != "C":
        return line.kind == "P"
    base = os.path.basename(frame[2])
    return (line.offset & 0xfff == frame[0] & 0xfff
            and (not base or not line.module or base == line.module)
            and line_count % frame_count == 0)


def differences(frames, lines):
    """What differs between gdb's frames and our lines.  A loop that faults
    itself has a line as a C frame, too."""
    strange = [line.text for line in lines if line.kind == "?"
               and "frames not shown" not in line.text]
    if is_loop(frames[0]) and lines[0].kind == "C":
        frames, lines = frames[1:], lines[runs(lines, place)[0][1]:]
    frames = runs(frames, lambda frame: frame[0])
    lines = runs(lines, place)
    # Code of 3.14's JIT compiler, where gdb loses its way.
    lost = [n for n, (frame, _) in enumerate(frames)
            if n > 0 and not frame[1] and not frame[2]]
    gap = [n for n, (line, _) in enumerate(lines) if line.kind == "?"]
    if lost:
        frames, lines, strange = frames[:lost[0]], lines[:lost[0]], []
    elif gap:
        # It may begin and end inside a recursion.
        ends = gap[0] - 1, len(lines) - gap[0] - 2
        frames = frames[:ends[0]] + frames[-ends[1]:]
        lines = lines[:ends[0]] + lines[-ends[1]:]
    return strange + [pair for pair in itertools.zip_longest(
        frames, lines) if None in pair or not is_same(*pair)]


def same_as_py_bt(text, lines):
    """The k-th group of Python frames is that of gdb's k-th loop."""
    found = re.findall(
        r"^#(\d+) (?:Frame 0x.*?, for file .*?, line \d+, in (\S+) \("
        r"|(\(unable to read python frame information\)))", text,
        re.M | re.S)
    theirs = [[None if unknown else name for _, name, unknown in same]
              for _, same in itertools.groupby(found, lambda one: one[0])]
    kinds = [line.kind for line in lines]
    cut = kinds.index("?") if "?" in kinds else None
    ours = [[line.name for line in same] for kind, same in itertools.groupby(
        lines[:cut], lambda line: line.kind) if kind == "P"]
    if cut is not None:
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
    frames, py_bt, report = run_under_gdb(name)
    assert TITLE in report
    plain, lines = parse(report)
    # Frames of this module are shown only where it crashes on purpose.
    frames = [frame for i, frame in enumerate(frames)
              if i == 0 or "/faulthandler." not in frame[2]]
    assert differences(frames, lines) == []
    ours = [line.text for line in lines[:100] if line.kind == "P"]
    count = 90 if any(line.kind == "?" for line in lines) else len(plain)
    assert ours[:count] == plain[:len(ours[:count])]
    if re.search(r"(?m)^#\d+ Frame 0x", py_bt):
        same_as_py_bt(py_bt, lines)
