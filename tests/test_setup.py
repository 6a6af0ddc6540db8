"""setup.py: one sentence where it refuses, and what it compiles.

Each test runs it in a copy of the checkout, with the setuptools of this
Python.
"""

import glob
import os
import re
import shutil
import sysconfig

import pytest

from helpers import (
    C_FILE, MINORS, NEWEST, PATIENCE, PYTHON, compiler, copy_checkout,
    environment, run, what_is_missing)

pytest.importorskip("setuptools")

needs_compiler = pytest.mark.skipif(
    what_is_missing() is not None, reason="no compiler, or no Python.h")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the checkout."""
    copy_checkout(str(tmp_path / "checkout"))
    return tmp_path / "checkout"


def setup(checkout, *arguments, before="", **variables):
    """Run code, then setup.py."""
    variables = dict({"CFLAGS": "-O0 -g", "FAULTHANDLER_LIBBACKTRACE": "0"},
                     **variables)
    return run(PYTHON, "-c", "import os, platform, runpy, sys, sysconfig\n"
               "sys.argv = ['setup.py'] + %r\n%s\n"
               "runpy.run_path('setup.py', run_name='__main__')" % (
                   list(arguments), before),
               cwd=str(checkout), env=environment(**variables),
               limit=10 * PATIENCE)


def refuses(sentence, checkout, *arguments, **options):
    """setup.py ends with this sentence."""
    child = setup(checkout, *arguments, **options)
    assert child.status == 1
    assert re.match(sentence + "$", child.err.splitlines()[-1])


# ---- Refused ---------------------------------------------------------------

VERSION = ("sys.version_info = %r + (0, 'final', 0)\n"
           "platform.python_version = lambda: '%d.%d.0'\n")
FREE_THREADED = "sysconfig.get_config_var = lambda name: 1\n"
UNTESTED = ("faulthandler was never tested on Python %%s.0, only up to 3.%d: "
            "set FAULTHANDLER_UNTESTED=1 to build it nevertheless." % NEWEST)
NEXT = NEWEST + 1
TOO_NEW = VERSION % ((3, NEXT), 3, NEXT)


@pytest.mark.parametrize("before, sentence", [
    ("platform.python_implementation = lambda: 'PyPy'",
     "faulthandler needs CPython: this is PyPy."),
    ("sys.platform = 'win32'\nplatform.system = lambda: 'Windows'",
     "faulthandler needs Linux: this is Windows."),
    ("sysconfig.get_platform = lambda: 'linux-riscv64'",
     "faulthandler needs a Python of 64 bits on x86-64 or aarch64: this is "
     "riscv64 with 64 bits."),
    ("sys.maxsize = 2 ** 31 - 1\n"
     "sysconfig.get_platform = lambda: 'linux-x86_64'",
     "faulthandler needs a Python of 64 bits on x86-64 or aarch64: this is "
     "x86_64 with 32 bits."),
    (VERSION % ((3, 7), 3, 7),
     "faulthandler needs Python 3.8 or newer: this is Python 3.7.0."),
    (VERSION % ((3, 13), 3, 13) + FREE_THREADED,
     "faulthandler needs a Python with the GIL, or free-threaded Python 3.14 "
     "or newer: this is free-threaded Python 3.13.0."),
    (TOO_NEW, UNTESTED % "3.%d" % NEXT),
    (VERSION % ((4, 0), 4, 0), UNTESTED % "4.0"),
    ("os.environ['FAULTHANDLER_UNTESTED'] = '0'\n" + TOO_NEW,
     UNTESTED % "3.%d" % NEXT),
    ("sys.modules['setuptools'] = None",
     'setup.py needs setuptools: run "pip install setuptools", or '
     '"pip install ." here, which brings its own.'),
], ids=["PyPy", "Windows", "riscv64", "32 bits", "3.7", "3.13t", "too new",
        "4.0", "too new, 0", "no setuptools"])
def test_unsupported(checkout, before, sentence):
    """An unsupported Python or system, or no setuptools, gets a sentence."""
    child = setup(checkout, "--name", before=before)
    assert (child.status, child.out, child.err) == (1, "", sentence + "\n")


@pytest.mark.parametrize("before", [
    VERSION % ((3, 14), 3, 14) + FREE_THREADED,
    VERSION % ((3, NEWEST), 3, NEWEST) + FREE_THREADED,
    "os.environ['FAULTHANDLER_UNTESTED'] = '1'\n" + TOO_NEW,
], ids=["3.14t", "the newest, t", "too new, 1"])
def test_accepted(checkout, before):
    """Free-threaded 3.14 is accepted, and an untested Python on request."""
    # The check alone: setuptools would meet a made-up version.
    code = (checkout / "setup.py").read_text(encoding="utf-8")
    (checkout / "setup.py").write_text(
        code.partition("\ncheck_python()\n")[0] + "\ncheck_python()\n",
        encoding="utf-8")
    child = setup(checkout, before=before)
    assert (child.status, child.out, child.err) == (0, "", "")


@needs_compiler
def test_untested_is_told_to_the_compiler(checkout):
    """FAULTHANDLER_UNTESTED=1 defines the macro of that name."""
    child = setup(checkout, "build", FAULTHANDLER_UNTESTED="1")
    assert "-DFAULTHANDLER_UNTESTED=1" in child.out


@pytest.mark.parametrize("line, reason", [
    ("import missing_module",
     "ModuleNotFoundError: No module named 'missing_module'"),
    ("import sys; sys.missing", "AttributeError: module 'sys' has no "
     "attribute 'missing'"),
])
def test_broken_setuptools(checkout, line, reason):
    """A setuptools that fails inside is not called missing."""
    (checkout / "setuptools.py").write_text(line)
    child = setup(checkout, before="sys.path.insert(0, '')")
    assert (child.status, child.out, child.err) == (
        1, "", "setup.py needs a setuptools that works: importing the one of "
        'this Python fails with "%s". Run "pip install -U setuptools", or '
        '"pip install ." here, which brings its own.\n' % reason)


# ---- Missing tools ---------------------------------------------------------

def test_no_compiler(checkout):
    """Without a compiler it says which package has one."""
    refuses("faulthandler needs a C compiler, and there is no no-such-cc. "
            "Debian, Ubuntu: apt-get install gcc libc6-dev; Alpine: apk add "
            "gcc musl-dev", checkout, "build", CC="no-such-cc")


@needs_compiler
def test_no_libc_headers(checkout, tmp_path):
    """A compiler without the C library's headers is told from a fault."""
    path = tmp_path / "bare-cc"
    path.write_text("#!/bin/sh\nexec cc -nostdinc \"$@\"\n")
    path.chmod(0o700)
    refuses("faulthandler needs the headers of the C library, and %s finds "
            "no assert.h. Debian, Ubuntu: apt-get install libc6-dev; Alpine: "
            "apk add musl-dev" % path, checkout, "build", CC=str(path))


@needs_compiler
def test_no_python_headers(checkout):
    """Without Python.h it says which package has it."""
    refuses(r"faulthandler needs Python\.h, which is in none of .*/nowhere.*"
            r"\. Debian, Ubuntu: apt-get install python3\.\d+-dev; Alpine: "
            r"apk add python3-dev", checkout, "build", CPATH="/nowhere",
            before="import setuptools, distutils.sysconfig as config\n"
            "config.get_python_inc = lambda *a, **k: '/nowhere'")


@needs_compiler
def test_no_unwinder(checkout):
    """Without libgcc_s it builds, and says what reports will lack."""
    child = setup(checkout, "build", before=(
        "import ctypes\n"
        "def load(name): raise OSError(name)\n"
        "ctypes.CDLL = load"))
    assert child.status == 0
    assert child.out.count("faulthandler: there is no libgcc_s.so.1 here, so "
                           "reports will have no C stack. Alpine: apk add "
                           "libgcc") == 1


# ---- What is compiled ------------------------------------------------------

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy in which the extension was built once, with libbacktrace where
    that is installed."""
    if what_is_missing():
        pytest.skip("no compiler, or no Python.h")
    folder = tmp_path_factory.mktemp("built") / "checkout"
    copy_checkout(str(folder))
    child = setup(folder, "build", FAULTHANDLER_LIBBACKTRACE="")
    assert child.status == 0
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
    child = run("nm", "--dynamic", "--defined-only", module)
    assert [line.split()[1:] for line in child.out.splitlines()] == [
        ["T", "PyInit_faulthandler"]]


def test_header_rebuilds(built, module):
    """A change of a header builds again."""
    first = os.stat(module).st_mtime
    assert setup(built, "build").status == 0
    assert os.stat(module).st_mtime == first
    os.utime(str(built / "src" / "mem.h"), (first + 100, first + 100))
    assert setup(built, "build").status == 0
    assert os.stat(module).st_mtime > first


def test_metadata(checkout):
    """The metadata has the licence's identifier and the Pythons tested."""
    import setuptools
    assert setup(checkout, "-q", "egg_info").status == 0
    text = (checkout / "faulthandler.egg-info" / "PKG-INFO").read_text(
        encoding="utf-8")
    new = int(setuptools.__version__.partition(".")[0]) >= 77
    assert re.search(r"^License%s: BSD-2-Clause$" % ("-Expression" * new),
                     text, re.MULTILINE)
    assert re.findall(
        r"^Classifier: Programming Language :: Python :: 3\.(.*)", text,
        re.MULTILINE) == [str(minor) for minor in MINORS]
    assert not re.search(r"^(Project-URL|Home-page): (?!UNKNOWN)", text,
                         re.MULTILINE)


def test_long_description(checkout):
    """The package index can show README.rst."""
    pytest.importorskip("twine")
    assert setup(checkout, "-q", "sdist").status == 0
    archive, = glob.glob(str(checkout / "dist" / "*.tar.gz"))
    child = run(PYTHON, "-m", "twine", "--no-color", "check", "--strict",
                archive)
    assert child.status == 0


# ---- The C file by itself --------------------------------------------------

@needs_compiler
@pytest.mark.parametrize("version, more, sentence", [
    ("0x03%02X0000" % NEXT, "", "this CPython is newer than those that "
     "faulthandler was tested with: build with FAULTHANDLER_UNTESTED=1 to use "
     "it nevertheless"),
    ("0x030D0000", "#define Py_GIL_DISABLED 1",
     "faulthandler supports free-threaded CPython from 3.14 on"),
    ("0x03070000", "", "faulthandler needs CPython 3.8 or newer"),
], ids=["too new", "3.13t", "3.7"])
def test_compiler_refuses(tmp_path, version, more, sentence):
    """Without setup.py the compiler says the same."""
    path = tmp_path / "other.c"
    path.write_text("#include <Python.h>\n#undef PY_VERSION_HEX\n"
                    "#define PY_VERSION_HEX %s\n%s\n#include \"%s\"\n"
                    % (version, more, C_FILE))
    child = run(compiler(), "-fsyntax-only", "-Wfatal-errors", "-std=gnu11",
                "-D_GNU_SOURCE", "-I", sysconfig.get_path("include"),
                str(path))
    assert re.findall(r"error: (?:#error )?\"?(.*?)\"?$", child.err,
                      re.MULTILINE)[:1] == [sentence]
