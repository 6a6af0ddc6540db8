"""tools/callgraph: each test breaks a small crash handler."""

import importlib.machinery
import importlib.util
import os
import re
import shutil

import pytest

from helpers import (
    HERE, PATIENCE, PYTHON, SANITIZED, environment, run, what_is_missing)

TOOL = os.path.join(HERE, "tools", "callgraph")
pytestmark = pytest.mark.skipif(
    SANITIZED or bool(what_is_missing()) or not os.path.exists(TOOL),
    reason="needs tools/callgraph, a compiler and Python's headers")

# A handler that calls a table's function, another one and write().
SAMPLE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int sample_python_half(const char *text);
struct decoder { const char *name; int (*decode)(int); };

static int code_old(int n) { return n + 1; }
static const struct decoder code_decoders[] = { {"old", code_old} };

static int frame_walk(int depth)
{
    char line[64];

    memset(line, depth, sizeof(line));
    (void)!write(2, line, sizeof(line));
    return line[0];
}

/* ---- the GIL is held, except in on_* ---- */
/* ==== Arming: the GIL is held ==== */

static void on_signal(int signum)
{
    (void)frame_walk(code_decoders[signum & 1].decode(signum));
}

void (*sample_handler)(int) = on_signal;
int sample_python_half(const char *text) { return puts(text); }
"""


@pytest.fixture(scope="module")
def callgraph():
    """The tool, as a module."""
    gcc = shutil.which("gcc")
    if gcc is None or run(gcc, "-fcallgraph-info=su", "-c", "-x", "c",
                          os.devnull, "-o", "empty.o").status:
        pytest.skip("needs gcc with -fcallgraph-info")
    loader = importlib.machinery.SourceFileLoader("callgraph", TOOL)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("callgraph", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def check(callgraph, monkeypatch, tmp_path):
    """A function that checks the sample with a text replaced, and tables
    that differ; it returns the errors."""
    def check(old="", new="", calls="", only=(), **tables):
        assert old in SAMPLE
        monkeypatch.setattr(callgraph, "CALLS", {})
        callgraph.allow("memset " + calls, "sample")
        callgraph.allow("write", "the report", only=only)
        for name, value in dict(
                {"INDIRECT": {"on_signal": ["code_old"]}, "NOT_CALLED": [],
                 "THREADS": [], "CHILD": []}, **tables).items():
            monkeypatch.setattr(callgraph, name, value)
        path = tmp_path / "sample.c"
        path.write_text(SAMPLE.replace(old, new) if old else SAMPLE)
        return callgraph.check(str(path))

    return check


HALF = "sample_python_half"
WALK = "    (void)frame_walk("


@pytest.mark.parametrize("change, errors", [
    ({}, []),
    # An outside function that no table names: below a call, a pointer, a
    # callback, in a thread.
    ({"old": "    memset(", "new": "    snprintf(line, 9, 0);\n    memset("},
     ["not in CALLS: on_signal > frame_walk > snprintf$"]),
    ({"old": "return n + 1;", "new": "char b[9]; return sprintf(b, 0, n);"},
     ["on_signal > code_old > sprintf$"]),
    ({"old": WALK, "new": "    qsort(0, 0, 0, 0);\n" + WALK,
      "calls": "qsort",
      "INDIRECT": {"on_signal": ["code_old"], "qsort": [HALF]}},
     ["on_signal > qsort > %s > puts$" % HALF, "GIL is held in " + HALF]),
    ({"THREADS": [HALF]}, ["not in CALLS: %s > puts$" % HALF]),
    # Below the line handlers reach only on_*.
    ({"old": WALK, "new": "    %s(0);\n%s" % (HALF, WALK), "calls": "puts"},
     ["the GIL is held in %s, which a handler reaches: " % HALF]),
    # Tables that are not true.
    ({"INDIRECT": {}}, ["not in CALLS: on_signal > a pointer in on_signal$",
                        "the address of code_old is taken"]),
    ({"old": "int frame_walk", "new": "int code_new(int n) { return n; }\n"
      "static int (*new)(int) = code_new;\nstatic int frame_walk"},
     ["the address of code_new is taken"]),
    ({"calls": "puts"}, ["CALLS lists puts"]),
    ({"only": ["on_thread"]}, ["only on_thread may reach write"]),
    ({"INDIRECT": {"on_signal": ["code_old"], "gone": ["code_old"]},
      "NOT_CALLED": ["code_new"], "THREADS": ["on_thread"]},
     ["called code_new", "called gone", "called on_thread"]),
    # The stack.
    ({"old": "return line[0];", "new": "return frame_walk(line[0]) + depth;"},
     ["recursion: frame_walk"]),
    ({"old": "char line[64];", "new": "char line[depth + 64];"},
     ["frame_walk takes a stack block of unknown size", "unknown size"]),
    ({"old": "char line[64];", "new": "char line[22000];"},
     [r"more than 20480: \d{5} bytes of stack at -O0: on_signal", "at -O2",
      "at -O3"]),
    # A check of nothing is not passed.
    ({"old": "on_signal", "new": "handle_signal"},
     ["no function is called on_"]),
    ({"old": "int (*decode)", "new": "int ="}, None)])
def test_error(callgraph, check, change, errors):
    """Each change of the sample or of a table gives these errors."""
    if errors is None:
        with pytest.raises(SystemExit, match="gcc failed"):
            check(**change)
        return
    found = check(**change)
    assert len(found) == len(errors), found
    for error, pattern in zip(found, errors):
        assert re.search(pattern, error)


@pytest.mark.parametrize(
    "built", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_call_graph(callgraph, built):
    """Handlers reach only what is allowed, within their stack, with and
    without libbacktrace."""
    if built == "1" and run("gcc", "-include", "backtrace.h", "-E", "-x",
                            "c", os.devnull).status:
        pytest.skip("gcc has no backtrace.h")
    child = run(PYTHON, "-B", TOOL, limit=10 * PATIENCE,
                env=environment(CALLGRAPH_LIBBACKTRACE=built))
    assert child.status == 0, child
