"""The finder, and how this module takes over from the builtin."""

import contextlib
import functools
import os
import re
import shutil

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, PYTHON, block, check, check_library, environment, library_report,
    python, run, status_name, write_file)


ORIGIN = "import faulthandler; print(faulthandler.__spec__.origin)"
ARMED = ORIGIN + "; print(faulthandler.is_enabled())"
KILL = "import os; os.kill(os.getpid(), 11)"
REPORT = library_report('  File "<string>", line 1 in <module>\n')
BUILTIN = "built-in\n"


@functools.lru_cache(maxsize=None)
def origin():
    """Where the module is, as a line of output."""
    return python(ORIGIN).out


@functools.lru_cache(maxsize=None)
def half():
    """A folder with a copy of the finder, but without the extension."""
    folder = os.path.join(FOLDER, "half")
    os.mkdir(folder)
    shutil.copy(python("import _faulthandler_precedence as finder\n"
                       "print(finder.__file__)").raw_out.strip(), folder)
    return folder


def says(expected, *arguments, **variables):
    """A child ends well, prints this, and nothing on standard error."""
    child = run(PYTHON, *arguments, env=environment(**variables))
    assert (status_name(child.status), child.err) == ("exit 0", "")
    assert child.out == expected


def half_says(expected, code, *options, **variables):
    """The same of code where the finder is installed, not the extension."""
    says(expected, *options, "-S", "-c", "import sys; "
         "first = sys.modules.get('faulthandler'); sys.path.append(%r); "
         "import _faulthandler_precedence; " % half() + code, **variables)


# ---- Which module answers --------------------------------------------------

@pytest.mark.parametrize("options", [
    [], ["-E"], ["-I"], ["-X", "dev"], ["-W", "error"], ["-B", "-O"]])
def test_extension_answers(options):
    """Importing gives the extension, however Python is started; an empty
    FAULTHANDLER_USE_STDLIB changes nothing."""
    assert re.search(r"/faulthandler\..*so\n$", origin())
    says(origin(), *options, "-c", ORIGIN, FAULTHANDLER_USE_STDLIB="")


@pytest.mark.parametrize("options, armed", [
    ([], "False"), (["-E"], "False"), (["-I"], "False"),
    (["-X", "faulthandler"], "True")])
def test_builtin_on_request(options, armed):
    """FAULTHANDLER_USE_STDLIB and -S ask for the builtin, which is left as
    it is."""
    expected = BUILTIN + armed + "\n"
    says(expected, *options, "-c", ARMED, FAULTHANDLER_USE_STDLIB="1")
    says(expected, *options, "-S", "-c", ARMED)


def test_repr_names_the_file():
    """print(faulthandler) tells this module from the builtin."""
    code = "import faulthandler; print(faulthandler)"
    says("<module 'faulthandler' from %r>\n" % origin().strip(), "-c", code)
    says("<module 'faulthandler' (built-in)>\n", "-S", "-c", code)


@pytest.mark.parametrize("options", [
    [], ["-E"], ["-I"], ["-W", "error"], ["-X", "faulthandler"]])
def test_main(options):
    """python -m faulthandler says what this is, and how to arm it."""
    says("faulthandler 1.0 from %s; to arm it for a program: "
         "PYTHONFAULTHANDLER=details,c_stack=mixed python PROGRAM\n"
         % origin().strip(), *options, "-m", "faulthandler")


def test_main_of_the_builtin():
    """The builtin answers as it does without this module."""
    child = run(PYTHON, "-m", "faulthandler",
                env=environment(FAULTHANDLER_USE_STDLIB="1"))
    assert (child.status, child.out) == (1, "")
    assert child.err.endswith(": No code object available for faulthandler\n")


def test_user_module_of_that_name():
    """A faulthandler.py beside the program wins over neither module."""
    os.mkdir(os.path.join(FOLDER, "user"))
    write_file("user/faulthandler.py", "raise SystemExit('the user's')")
    says(origin(), write_file("user/program.py", ORIGIN))


# ---- The finder ------------------------------------------------------------

@pytest.mark.parametrize(
    "options", [[], ["-W", "error"], ["-X", "dev", "-W", "error"]])
def test_silent_start(options):
    """A start that does not import the module says nothing."""
    says("", *options, "-c", "")


def test_start_imports_nothing():
    """The finder needs only what every start has loaded."""
    says("{'_faulthandler_precedence'}\n", "-S", "-c", block("""
        import os, site, sys
        sys.path.append(%r)
        before = set(sys.modules)
        import _faulthandler_precedence
        print(set(sys.modules) - before)
    """) % half())


def test_first_finder():
    """The finder comes first, once, and answers one name only."""
    says("0 1\nNone None\n", "-c", block("""
        import site, sys
        import _faulthandler_precedence as finder
        site.main()
        finder.install()
        # The one of setuptools may come before.
        path = [found for found in sys.meta_path
                if type(found).__name__ != "DistutilsMetaFinder"]
        print(path.index(finder), path.count(finder))
        print(finder.find_spec("faulthandler_"),
              finder.find_spec("faulthandler.x", [], None))
    """))


def test_import_system():
    """The spec is an extension's, and importlib.util finds it."""
    says(origin() + "True True None\n", "-c", block("""
        import importlib.machinery, importlib.util
        spec = importlib.util.find_spec("faulthandler")
        print(spec.origin)
        print(isinstance(spec.loader,
                         importlib.machinery.ExtensionFileLoader),
              spec.has_location, spec.submodule_search_locations)
    """))


def test_started_by_hand():
    """Where no .pth file is run, importing the finder does the same.

    A builtin that was imported before, but not armed, is only forgotten.
    """
    says("False\n" + origin(), "-S", "-c", block("""
        import faulthandler, sys
        sys.path.append(%r)
        import _faulthandler_precedence
        print("faulthandler" in sys.modules)
        import faulthandler
        print(faulthandler.__spec__.origin)
    """) % os.path.dirname(origin()))


@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]])
@pytest.mark.parametrize("own_gil", [False, True])
def test_subinterpreters(options, own_gil):
    """The finder works in both kinds of subinterpreter."""
    says("True\n", *options, "-c", block("""
        import sub
        interpreter = sub.create(%r)
        sub.run(interpreter, "import faulthandler")
        sub.run(interpreter, "print(faulthandler."
                "__spec__.origin == %r, flush=True)")
    """) % (own_gil, origin().strip()))


def test_recorded():
    """The metadata names what starts the finder, so that it is removed."""
    child = python("""
        import importlib.metadata
        found = importlib.metadata.distribution("faulthandler")
        print(found.version, *[
            file.suffix for file in found.files
            if file.stem == "faulthandler-precedence"
            and file.locate().exists()])
    """)
    assert child.out in ("1.0 .pth\n", "1.0 .start\n")


# ---- Taking over -----------------------------------------------------------

@pytest.mark.parametrize("options, variables", [
    (["-X", "faulthandler"], {}), (["-X", "dev"], {}),
    ([], {"PYTHONFAULTHANDLER": "1"}),
    ([], {"PYTHONFAULTHANDLER": "0"}),
    (["-X", "faulthandler"], {"PYTHONFAULTHANDLER": "1"}),
    (["-W", "error", "-X", "dev"], {})])
def test_takes_over(options, variables):
    """Where the builtin was armed, one crash gives one report, of ours."""
    child = run(PYTHON, *options, "-c", KILL, env=environment(**variables))
    check_library(child, SIGSEGV, REPORT)
    says(origin() + "True\n", *options, "-c", ARMED, **variables)


@pytest.mark.parametrize("options, code, variables", [
    ([], KILL, {}), ([], KILL, {"PYTHONFAULTHANDLER": ""}),
    (["-E"], KILL, {"PYTHONFAULTHANDLER": "1"}),
    (["-X", "faulthandler"],
     "import faulthandler; faulthandler.disable(); " + KILL, {})])
def test_not_armed(options, code, variables):
    """Where nobody armed it, or disarmed both, a crash says nothing."""
    check(run(PYTHON, *options, "-c", code, env=environment(**variables)),
          SIGSEGV, "")


# ---- A missing or broken extension -----------------------------------------

@pytest.mark.parametrize("options", [[], ["-W", "error"], ["-X", "dev"]])
def test_missing_extension(options):
    """Where only the finder is left, Python has its builtin."""
    half_says(BUILTIN * 2, "import importlib.util; "
              "print(importlib.util.find_spec('faulthandler').origin); "
              + ORIGIN, *options)


def test_broken_extension():
    """Where the extension cannot be loaded, Python has its builtin."""
    with broken_extension():
        half_says(BUILTIN + "BuiltinImporter\nFalse\n", ORIGIN + "; "
                  "import importlib; "
                  "print(faulthandler.__loader__.__name__); "
                  "importlib.reload(faulthandler); "
                  "print(hasattr(faulthandler, 'version'))")


@pytest.mark.parametrize("options, variables", [
    (["-X", "faulthandler"], {}),
    (["-X", "dev", "-W", "error"], {}),
    ([], {"PYTHONFAULTHANDLER": "1"})])
def test_failed_take_over(options, variables):
    """Where the extension is missing or broken the builtin stays armed."""
    code = ("import faulthandler; print(faulthandler.is_enabled(), "
            "faulthandler.__spec__.origin, faulthandler is first)")
    armed = "True built-in True\n"
    half_says(armed, code, *options, **variables)
    with broken_extension():
        half_says(armed, code, *options, **variables)


@contextlib.contextmanager
def broken_extension():
    """Put a file that is no shared object where the extension is due."""
    path = os.path.join(half(), os.path.basename(origin().strip()))
    with open(path, "w") as file:
        file.write("This is not an ELF file.\n")
    try:
        yield
    finally:
        os.remove(path)
