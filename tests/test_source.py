"""The C file keeps its promises."""

import glob
import os
import re
import shutil
import sys
import sysconfig

import pytest

from helpers import (
    C_FILE, FOLDER, HERE, PATIENCE, SIGNALS, c_sources, compiler,
    environment, run, what_is_missing)


pytestmark = pytest.mark.skipif(
    not os.path.exists(C_FILE), reason="needs the C file")


def all_lines():
    """Each line of the C code: (path, number, line)."""
    for path, text in c_sources().items():
        for number, line in enumerate(text.splitlines(), 1):
            yield path, number, line


# The rooms that may know a version, a processor, a C library.
CONDITIONS = re.compile(r"src/(platform|cpython|cpu|cpu_\w+|cpython/.*)\.h")


def rooms():
    """The files of src/, without what only another of them includes."""
    return [path for path in c_sources()
            if os.path.dirname(path) == "src" and "_" not in path]


def test_map():
    """The map on top lists the rooms, in the order of the includes."""
    text = c_sources()["faulthandler.c"]
    top = text[:text.index("*/")].split("The map.")[1]
    listed = re.findall(r"(?m)^ +(src/\w+\.h)  ", top)
    assert listed == re.findall(r'(?m)^#include "(.*)"', text)
    assert sorted(listed) == rooms()
    parts = [os.path.relpath(path, "src") for path in c_sources()
             if path.startswith("src") and path not in rooms()]
    versions = sorted((part for part in parts if "/3." in part),
                      key=lambda part: int(part.split(".")[1]))
    assert "%s to %s" % (versions[0], versions[-1]) in top
    assert [part for part in parts
            if "/" not in part and part not in top] == []


# Builds whose headers are checked, too.
BUILDS = [[]] + [["-DPy_GIL_DISABLED=1"]] * (
    sys.version_info >= (3, 14) and not sysconfig.get_config_var(
        "Py_GIL_DISABLED"))


@pytest.mark.parametrize("flags", BUILDS, ids=str)
@pytest.mark.parametrize("path", rooms())
def test_header_compiles_alone(path, flags):
    """Each room includes what it uses."""
    if what_is_missing():
        pytest.skip(what_is_missing())
    child = run(compiler(), "-fsyntax-only", "-std=gnu11", "-Wall",
                "-Wextra", "-Werror", "-Wno-unused-function", *flags, "-I",
                sysconfig.get_path("include"), "-include",
                os.path.join(HERE, path), "-x", "c", os.devnull,
                env=environment(LD_PRELOAD=""))
    assert child.status == 0


WARNINGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion",
            "-Wshadow", "-Werror"]


@pytest.mark.parametrize("name, libbacktrace", [
    ("gcc", False), pytest.param("gcc", True, marks=pytest.mark.slow),
    pytest.param("clang", False, marks=pytest.mark.slow),
    pytest.param("clang", True, marks=pytest.mark.slow)])
def test_warnings(name, libbacktrace):
    """Each compiler takes the module without a warning."""
    path = shutil.which(name)
    if path is None or what_is_missing():
        pytest.skip("needs %s and Python.h" % name)
    flags = []
    if libbacktrace:
        header = run("gcc", "-print-file-name=include").out.strip()
        if not os.path.exists(os.path.join(header, "backtrace.h")):
            pytest.skip("gcc has no backtrace.h")
        # Clang does not understand gcc's other headers.
        for file in glob.glob(os.path.join(header, "backtrace*.h")):
            shutil.copy(file, FOLDER)
        flags = ["-DFAULTHANDLER_LIBBACKTRACE=1", "-I", FOLDER]
    # Python's own headers are not ours to warn about.
    child = run(path, *WARNINGS, "-isystem", sysconfig.get_path("include"),
                *flags, "-c", C_FILE, "-o", os.devnull,
                env=environment(LD_PRELOAD=""), limit=4 * PATIENCE)
    assert (child.status, child.err) == (0, "")


@pytest.mark.parametrize("name", ["musl-gcc", "clang"])
def test_musl(name):
    """Both take it for musl.  Debian has the library in musl-tools, but no Python
    that is linked with it: only the headers are used."""
    if not shutil.which("musl-gcc") or not shutil.which("clang"):
        pytest.skip("needs musl-gcc and clang")
    if sys.version_info < (3, 9):
        pytest.skip("this Python.h includes crypt.h")
    machine = os.uname().machine + "-linux-musl"
    flags = [] if name == "musl-gcc" else [
        "--target=" + machine, "-nostdlibinc", "-isystem",
        "/usr/include/" + machine]
    # /usr/include comes last, for the kernel's headers and for Debian's
    # pyconfig.h.
    child = run(name, *flags, *WARNINGS, "-fsyntax-only", "-I",
                sysconfig.get_path("include"), "-idirafter", "/usr/include",
                C_FILE, limit=4 * PATIENCE)
    assert (child.status, child.err) == (0, "")


def test_headers_include_what_stands_above():
    """No room includes one that stands below it in the map."""
    order = re.findall(r'(?m)^#include "src/(.*)"',
                       c_sources()["faulthandler.c"])
    for place, name in enumerate(order):
        included = re.findall(r'(?m)^#include "(\w+\.h)"',
                              c_sources()["src/" + name])
        assert [other for other in included
                if other in order and order.index(other) >= place] == [], name


def test_conditions():
    """Only the rooms for it know a version, a processor, a C library."""
    words = re.compile(
        r"PY_VERSION|PY_M[A-Z]+_VERSION|Py_DEBUG|Py_GIL|__[a-zA-Z]|_WIN|"
        r"_MSC|BSD|\bHAVE_[A-Z]+_H\b")
    assert ["%s:%d" % (path, number) for path, number, line in all_lines()
            if re.match(r"\s*#\s*(if|elif)", line) and words.search(line)
            and not CONDITIONS.match(path)] == []


def functions():
    """Each function: (path, name, number of lines)."""
    for path, text in c_sources().items():
        start = None
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                head = "\n".join(lines[max(0, start - 6):start])
                names = re.findall(r"(?m)^(?:[\w*]+ )*?\**(\w+)\(", head)
                yield path, (names or ["?"])[-1], number - start + 1
                start = None


def test_length_of_functions():
    """No function has more than 70 lines."""
    lengths = {name: lines for _, name, lines in functions()}
    assert len(lengths) > 50
    assert {name: lines for name, lines in lengths.items()
            if lines > 70} == {}


def test_names():
    """A room's functions begin with its name; the linker gives one another."""
    named = re.compile(r"src/([a-z]+)\w*\.h (on_)?\1_")
    assert [name for path, name, _ in functions() if path != "faulthandler.c"
            and not named.match("%s %s" % (path, name))] == [
                "__wrap_dl_iterate_phdr"]


def test_signal_table():
    """The table of signals is the one these tests use."""
    rows = re.findall(r'\.signum = (SIG\w+),\s*\.title = "([^"]+)"',
                      "".join(c_sources().values()))
    ours = [(signum.name, title) for signum, title, _ in SIGNALS[:-1]]
    assert rows == ours


def test_width():
    """Lines have at most 79 characters, no tabs, no trailing blanks."""
    assert [(path, number) for path, number, line in all_lines()
            if len(line) > 79 or "\t" in line
            or line != line.rstrip()] == []


# Rooms that another room's tests test: the room, and that one.
TESTED_BY = {"child": "symbol", "exception": "details",
             "inject": "report_steps", "map": "fault",
             "option": "enable_options", "request": "signature",
             "unwind": "native"}


def test_rooms_have_tests():
    """Each file of src/ has a file of tests of its name."""
    names = [os.path.basename(path)[:-2] for path in rooms()]
    tests = [TESTED_BY.get(name, name) for name in names]
    assert [name for name in tests if not os.path.exists(
        os.path.join(HERE, "tests", "test_%s.py" % name))] == []
