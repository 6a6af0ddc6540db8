"""setup.py: one sentence where it refuses, and what it compiles.

Each test runs it in a copy of the checkout, with the setuptools of this
Python.
"""

import glob
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

pytest.importorskip("setuptools")

COMPILES = (shutil.which(sysconfig.get_config_var("CC").split()[0])
            and os.path.exists(os.path.join(sysconfig.get_path("include"),
                                            "Python.h")))
needs_compiler = pytest.mark.skipif(
    not COMPILES, reason="no compiler, or no Python.h")


def copy(folder):
    """Copy what setup.py reads to a new folder."""
    folder.mkdir()
    for name in os.listdir(TOP):
        if name.endswith((".py", ".c", ".pth", ".start", ".rst", ".toml")):
            shutil.copy(os.path.join(TOP, name), str(folder))
    shutil.copytree(os.path.join(TOP, "src"), str(folder / "src"))
    return folder


@pytest.fixture
def checkout(tmp_path):
    """A copy of what setup.py reads."""
    return copy(tmp_path / "checkout")


def setup(checkout, *arguments, before="", **variables):
    """Run code, then setup.py; return its status, output and error output."""
    code = ("import os, platform, runpy, sys, sysconfig\n"
            "sys.argv = ['setup.py'] + %r\n%s\n"
            "runpy.run_path('setup.py', run_name='__main__')" % (
                list(arguments), before))
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("PYTHON", "FAULTHANDLER"))}
    environment.update(CFLAGS="-O0 -g", FAULTHANDLER_LIBBACKTRACE="0")
    environment.update(variables)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=str(checkout), env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True, timeout=120)
    return result.returncode, result.stdout, result.stderr


# ---- Refused ---------------------------------------------------------------

VERSION = ("sys.version_info = %r + (0, 'final', 0)\n"
           "platform.python_version = lambda: '%d.%d.0'\n")
FREE_THREADED = "sysconfig.get_config_var = lambda name: 1\n"


@pytest.mark.parametrize("before, sentence", [
    ("platform.python_implementation = lambda: 'PyPy'",
     "faulthandler needs CPython: this is PyPy."),
    ("sys.platform = 'win32'\nplatform.system = lambda: 'Windows'",
     "faulthandler needs Linux: this is Windows."),
    (VERSION % ((3, 7), 3, 7),
     "faulthandler needs Python 3.8 or newer: this is Python 3.7.0."),
    (VERSION % ((3, 13), 3, 13) + FREE_THREADED,
     "faulthandler needs a Python with the GIL, or free-threaded Python 3.14 "
     "or newer: this is free-threaded Python 3.13.0."),
    (VERSION % ((3, 16), 3, 16),
     "faulthandler was never tested on Python 3.16.0, only up to 3.15: set "
     "FAULTHANDLER_UNTESTED=1 to build it nevertheless."),
    (VERSION % ((4, 0), 4, 0),
     "faulthandler was never tested on Python 4.0.0, only up to 3.15: set "
     "FAULTHANDLER_UNTESTED=1 to build it nevertheless."),
    ("os.environ['FAULTHANDLER_UNTESTED'] = '0'\n"
     + VERSION % ((3, 16), 3, 16),
     "faulthandler was never tested on Python 3.16.0, only up to 3.15: set "
     "FAULTHANDLER_UNTESTED=1 to build it nevertheless."),
], ids=["PyPy", "Windows", "3.7", "3.13t", "3.16", "4.0", "3.16, 0"])
def test_unsupported(checkout, before, sentence):
    """An unsupported Python or system gets one sentence."""
    assert setup(checkout, "--name", before=before) == (
        1, "", sentence + "\n")


@pytest.mark.parametrize("before", [
    VERSION % ((3, 14), 3, 14) + FREE_THREADED,
    VERSION % ((3, 15), 3, 15) + FREE_THREADED,
    "os.environ['FAULTHANDLER_UNTESTED'] = '1'\n"
    + VERSION % ((3, 16), 3, 16),
], ids=["3.14t", "3.15t", "3.16, 1"])
def test_accepted(checkout, before):
    """Free-threaded 3.14 is accepted, and an untested Python on request."""
    # The check alone: setuptools would meet a made-up version.
    code = (checkout / "setup.py").read_text(encoding="utf-8")
    (checkout / "setup.py").write_text(
        code.partition("\ncheck_python()\n")[0] + "\ncheck_python()\n",
        encoding="utf-8")
    assert setup(checkout, before=before) == (0, "", "")


@needs_compiler
def test_untested_is_told_to_the_compiler(checkout):
    """FAULTHANDLER_UNTESTED=1 defines the macro of that name."""
    out = setup(checkout, "build", FAULTHANDLER_UNTESTED="1")[1]
    assert "-DFAULTHANDLER_UNTESTED=1" in out


def test_no_setuptools(checkout):
    """Without setuptools it says so."""
    assert setup(checkout, before="sys.modules['setuptools'] = None") == (
        1, "", 'setup.py needs setuptools: run "pip install setuptools", or '
        '"pip install ." here, which brings its own.\n')


@pytest.mark.parametrize("line, reason", [
    ("import missing_module",
     "ModuleNotFoundError: No module named 'missing_module'"),
    ("import sys; sys.missing", "AttributeError: module 'sys' has no "
     "attribute 'missing'"),
])
def test_broken_setuptools(checkout, line, reason):
    """A setuptools that fails inside is not called missing."""
    (checkout / "setuptools.py").write_text(line)
    assert setup(checkout, before="sys.path.insert(0, '')") == (
        1, "", "setup.py needs a setuptools that works: importing the one of "
        'this Python fails with "%s". Run "pip install -U setuptools", or '
        '"pip install ." here, which brings its own.\n' % reason)


# ---- Missing tools ---------------------------------------------------------

def test_no_compiler(checkout):
    """Without a compiler it says which package has one."""
    status, _, error = setup(checkout, "build", CC="no-such-compiler")
    assert status == 1
    assert error.splitlines()[-1] == (
        "faulthandler needs a C compiler, and there is no no-such-compiler. "
        "Debian, Ubuntu: apt-get install gcc libc6-dev; Alpine: apk add gcc "
        "musl-dev")


@needs_compiler
def test_no_libc_headers(checkout, tmp_path):
    """A compiler without the C library's headers is told from a fault."""
    compiler = tmp_path / "bare-cc"
    compiler.write_text("#!/bin/sh\nexec cc -nostdinc \"$@\"\n")
    compiler.chmod(stat.S_IRWXU)
    status, _, error = setup(checkout, "build", CC=str(compiler))
    assert status == 1
    assert error.splitlines()[-1] == (
        "faulthandler needs the headers of the C library, and %s finds no "
        "assert.h. Debian, Ubuntu: apt-get install libc6-dev; Alpine: apk "
        "add musl-dev" % compiler)


@needs_compiler
def test_no_python_headers(checkout):
    """Without Python.h it says which package has it."""
    status, _, error = setup(checkout, "build", before=(
        "import setuptools, distutils.sysconfig as config\n"
        "config.get_python_inc = lambda *a, **k: '/nowhere'"),
        CPATH="/nowhere")
    assert status == 1
    assert re.search(
        r"^faulthandler needs Python\.h, which is in none of .*/nowhere.*\. "
        r"Debian, Ubuntu: apt-get install python3\.\d+-dev; Alpine: apk add "
        r"python3-dev$", error.splitlines()[-1])


@needs_compiler
def test_no_unwinder(checkout):
    """Without libgcc_s it builds, and says what reports will lack."""
    status, out, _ = setup(checkout, "build", before=(
        "import ctypes\n"
        "def load(name): raise OSError(name)\n"
        "ctypes.CDLL = load"))
    assert status == 0
    assert out.count("faulthandler: there is no libgcc_s.so.1 here, so "
                     "reports will have no C stack. Alpine: apk add libgcc"
                     ) == 1


# ---- What is compiled ------------------------------------------------------

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy in which the extension was built once, with libbacktrace where
    that is installed."""
    if not COMPILES:
        pytest.skip("no compiler, or no Python.h")
    folder = copy(tmp_path_factory.mktemp("built") / "checkout")
    status, _, error = setup(folder, "build", FAULTHANDLER_LIBBACKTRACE="")
    assert status == 0, error
    return folder


@pytest.fixture
def module(built):
    """The extension that was built."""
    found, = glob.glob(str(built / "build" / "lib*" / "faulthandler*.so"))
    return found


def test_no_path_of_the_builder(built, module):
    """The extension holds no folder of the machine that built it."""
    with open(module, "rb") as file:
        data = file.read()
    assert os.fsencode(str(built)) not in data
    assert os.fsencode(sysconfig.get_path("include")) not in data


def test_exports(module):
    """The extension exports one name, whatever is linked into it."""
    if not shutil.which("nm"):
        pytest.skip("nm is not installed")
    names = subprocess.run(
        ["nm", "--dynamic", "--defined-only", module], check=True,
        stdout=subprocess.PIPE, universal_newlines=True).stdout
    assert [line.split()[1:] for line in names.splitlines()] == [
        ["T", "PyInit_faulthandler"]]


def test_header_rebuilds(built, module):
    """A change of a header builds again."""
    first = os.stat(module).st_mtime
    assert setup(built, "build")[0] == 0
    assert os.stat(module).st_mtime == first
    os.utime(str(built / "src" / "mem.h"), (first + 100, first + 100))
    assert setup(built, "build")[0] == 0
    assert os.stat(module).st_mtime > first


def test_metadata(checkout):
    """The metadata has the licence's identifier and the Pythons tested."""
    import setuptools
    status, _, error = setup(checkout, "-q", "egg_info")
    assert status == 0, error
    text = (checkout / "faulthandler.egg-info" / "PKG-INFO").read_text(
        encoding="utf-8")
    new = int(setuptools.__version__.partition(".")[0]) >= 77
    assert re.search(r"^License%s: BSD-2-Clause$" % ("-Expression" * new),
                     text, re.MULTILINE)
    assert re.findall(
        r"^Classifier: Programming Language :: Python :: 3\.(.*)", text,
        re.MULTILINE) == [str(minor) for minor in range(8, 16)]
    assert not re.search(r"^(Project-URL|Home-page): (?!UNKNOWN)", text,
                         re.MULTILINE)


def test_long_description(checkout):
    """The package index can show README.rst."""
    pytest.importorskip("twine")
    status, _, error = setup(checkout, "-q", "sdist")
    assert status == 0, error
    archive, = glob.glob(str(checkout / "dist" / "*.tar.gz"))
    result = subprocess.run(
        [sys.executable, "-m", "twine", "--no-color", "check", "--strict",
         archive], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    assert result.returncode == 0, result.stdout


# ---- The C file by itself --------------------------------------------------

@needs_compiler
@pytest.mark.parametrize("minor, options, sentence", [
    (16, [], "this CPython is newer than those that faulthandler was tested "
     "with: build with FAULTHANDLER_UNTESTED=1 to use it nevertheless"),
    (13, ["-DPy_GIL_DISABLED=1"],
     "faulthandler supports free-threaded CPython from 3.14 on"),
    (7, [], "faulthandler needs CPython 3.8 or newer"),
], ids=["3.16", "3.13t", "3.7"])
def test_compiler_refuses(tmp_path, minor, options, sentence):
    """Without setup.py the compiler says the same."""
    headers = tmp_path / "include"
    headers.mkdir()
    for folder in {sysconfig.get_path("include"),
                   sysconfig.get_path("platinclude")}:
        for name in os.listdir(folder):
            os.symlink(os.path.join(folder, name), str(headers / name))
    version = headers / "patchlevel.h"
    text = re.sub(r"(#define PY_MINOR_VERSION\s+)\d+", r"\g<1>%d" % minor,
                  version.read_text(encoding="utf-8"))
    version.unlink()
    version.write_text(text, encoding="utf-8")
    compiler = sysconfig.get_config_var("CC").split()[0]
    result = subprocess.run(
        [compiler, "-fsyntax-only", "-Wfatal-errors", "-std=gnu11",
         "-D_GNU_SOURCE", "-I", str(headers)] + options + ["faulthandler.c"],
        cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    assert re.findall(r"error: (?:#error )?\"?(.*?)\"?$", result.stdout,
                      re.MULTILINE)[:1] == [sentence]
