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
    python, run, write_file)


ORIGIN = "import faulthandler; print(faulthandler.__spec__.origin)"
KILL = "import os; os.kill(os.getpid(), 11)"
REPORT = library_report('  File "<string>", line 1 in <module>\n')


@functools.lru_cache(maxsize=None)
def origin():
    """Where the module is, as a line of output."""
    return python(ORIGIN).out


@functools.lru_cache(maxsize=None)
def finder_folder():
    """The folder that the finder is in."""
    child = python("import _faulthandler_precedence as finder\n"
                   "print(finder.__file__)")
    return os.path.dirname(child.raw_out.strip())


@functools.lru_cache(maxsize=None)
def half():
    """A folder with a copy of the finder, but without the extension."""
    folder = os.path.join(FOLDER, "half")
    os.mkdir(folder)
    shutil.copy(os.path.join(finder_folder(), "_faulthandler_precedence.py"),
                folder)
    return folder


def start(*arguments, **variables):
    """A child that must end well and say nothing on standard error."""
    child = run(PYTHON, *arguments, env=environment(**variables))
    assert (child.status, child.err) == (0, "")
    return child


def start_half(code, *options, **variables):
    """Run code where the finder is installed, but not the extension."""
    setup = ("import sys; first = sys.modules.get('faulthandler'); "
             "sys.path.append(%r); import _faulthandler_precedence; "
             % half())
    return start(*options, "-S", "-c", setup + code, **variables)


@pytest.mark.parametrize("options", [
    [], ["-E"], ["-I"], ["-X", "dev"], ["-W", "error"], ["-B", "-O"]])
def test_extension_answers(options):
    """Importing gives the extension, however Python is started."""
    assert re.search(r"/faulthandler\..*so\n$", origin())
    assert start(*options, "-c", ORIGIN).out == origin()


def test_builtin_on_request():
    """FAULTHANDLER_USE_STDLIB, unless empty, and -S ask for it."""
    for options, variable, expected in [
            ([], "1", "built-in\n"), ([], "", origin()),
            (["-E"], "1", "built-in\n"), (["-I"], "1", "built-in\n"),
            (["-S"], "", "built-in\n")]:
        child = start(*options, "-c", ORIGIN,
                      FAULTHANDLER_USE_STDLIB=variable)
        assert child.out == expected


def test_builtin_stays_armed_on_request():
    """With FAULTHANDLER_USE_STDLIB the builtin is left as it is."""
    child = start(
        "-X", "faulthandler", "-c",
        ORIGIN + "; print(faulthandler.is_enabled())",
        FAULTHANDLER_USE_STDLIB="1")
    assert child.out == "built-in\nTrue\n"


@pytest.mark.parametrize(
    "options", [[], ["-W", "error"], ["-X", "dev", "-W", "error"]])
def test_silent_start(options):
    """A start that does not import the module says nothing."""
    assert start(*options, "-c", "").out == ""


def test_start_imports_nothing():
    """The finder needs only what every start has loaded."""
    child = start("-S", "-c", block("""
        import os, site, sys
        sys.path.append(%r)
        before = set(sys.modules)
        import _faulthandler_precedence
        print(set(sys.modules) - before)
    """) % half())
    assert child.out == "{'_faulthandler_precedence'}\n"


def test_first_finder():
    """The finder comes first, once, and answers one name only."""
    child = start("-c", block("""
        import site, sys
        import _faulthandler_precedence as finder
        site.main()
        finder.install()
        print(sys.meta_path.index(finder), sys.meta_path.count(finder))
        print(finder.find_spec("faulthandler_"),
              finder.find_spec("faulthandler.x", [], None))
    """))
    assert child.out == "0 1\nNone None\n"


def test_import_system():
    """The spec is an extension's, and importlib.util finds it."""
    child = start("-c", block("""
        import importlib.machinery, importlib.util
        spec = importlib.util.find_spec("faulthandler")
        print(spec.origin)
        print(isinstance(spec.loader,
                         importlib.machinery.ExtensionFileLoader),
              spec.has_location, spec.submodule_search_locations)
    """))
    assert child.out == origin() + "True True None\n"


def test_imported_again():
    """Reloaded, or deleted and imported, it is the extension again."""
    child = start("-c", block("""
        import importlib, sys
        import faulthandler
        importlib.reload(faulthandler)
        print(faulthandler.__spec__.origin)
        del sys.modules["faulthandler"]
        import faulthandler
        print(faulthandler.__spec__.origin)
    """))
    assert child.out == origin() * 2


def test_user_module_of_that_name():
    """A faulthandler.py beside the program wins over neither module."""
    folder = os.path.join(FOLDER, "user")
    os.mkdir(folder)
    write_file("user/faulthandler.py", "raise SystemExit('the user's')")
    program = write_file("user/program.py", ORIGIN)
    assert start(program).out == origin()


@pytest.mark.parametrize("options, variables", [
    (["-X", "faulthandler"], {}), (["-X", "dev"], {}),
    ([], {"PYTHONFAULTHANDLER": "1"}),
    ([], {"PYTHONFAULTHANDLER": "0"}),
    (["-X", "faulthandler"], {"PYTHONFAULTHANDLER": "1"}),
    (["-W", "error", "-X", "dev"], {})])
def test_takes_over(options, variables):
    """Where the builtin was armed, one crash gives one report, of ours."""
    env = environment(**variables)
    child = run(PYTHON, *options, "-c", KILL, env=env)
    check_library(child, SIGSEGV, REPORT)
    child = start(
        *options, "-c", ORIGIN +
        "; print(faulthandler.is_enabled())", **variables)
    assert child.out == origin() + "True\n"


def test_imported_before():
    """A builtin that was imported, but not armed, is only forgotten."""
    child = start("-S", "-c", block("""
        import faulthandler, sys
        sys.path.append(%r)
        import _faulthandler_precedence
        print("faulthandler" in sys.modules)
        import faulthandler
        print(faulthandler.__spec__.origin)
    """) % finder_folder())
    assert child.out == "False\n" + origin()


@pytest.mark.parametrize("options, variables", [
    ([], {}), ([], {"PYTHONFAULTHANDLER": ""}),
    (["-E"], {"PYTHONFAULTHANDLER": "1"})])
def test_not_armed_unasked(options, variables):
    """Where nobody armed or imported anything, a crash says nothing."""
    child = run(PYTHON, *options, "-c", KILL,
                env=environment(**variables))
    check(child, SIGSEGV, "")


def test_disarmed_after_take_over():
    """disable() after the take-over leaves no handler of either."""
    child = run(PYTHON, "-X", "faulthandler", "-c", block("""
        import faulthandler, os
        faulthandler.disable()
        os.kill(os.getpid(), 11)
    """))
    check(child, SIGSEGV, "")


@pytest.mark.parametrize("options", [[], ["-W", "error"], ["-X", "dev"]])
def test_missing_extension(options):
    """Where only the finder is left, Python has its builtin."""
    child = start_half(
        "import importlib.util; print(importlib.util.find_spec("
        "'faulthandler').origin); " + ORIGIN, *options)
    assert child.out == "built-in\n" * 2


def test_broken_extension():
    """Where the extension cannot be loaded, Python has its builtin."""
    with broken_extension():
        child = start_half(ORIGIN + block("""
            import importlib
            print(faulthandler.__loader__.__name__)
            importlib.reload(faulthandler)
            print(hasattr(faulthandler, "version"))
        """).replace("\n", "; ").join(["; ", ""]))
    assert child.out == "built-in\nBuiltinImporter\nFalse\n"


@pytest.mark.parametrize("options, variables", [
    (["-X", "faulthandler"], {}),
    (["-X", "dev", "-W", "error"], {}),
    ([], {"PYTHONFAULTHANDLER": "1"})])
def test_failed_take_over(options, variables):
    """Where the extension is missing or broken the builtin stays armed."""
    code = ("import faulthandler; print(faulthandler.is_enabled(), "
            "faulthandler.__spec__.origin, faulthandler is first)")
    armed = "True built-in True\n"
    missing = start_half(code, *options, **variables)
    with broken_extension():
        broken = start_half(code, *options, **variables)
    assert (missing.out, broken.out) == (armed, armed)


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


@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]])
@pytest.mark.parametrize("own_gil", [False, True])
def test_subinterpreters(options, own_gil):
    """The finder works in both kinds of subinterpreter."""
    child = start(*options, "-c", block("""
        import sub
        interpreter = sub.create(%r)
        sub.run(interpreter, %r)
        sub.run(interpreter, "print(faulthandler."
                "__spec__.origin == %r, flush=True)")
    """) % (own_gil, ORIGIN.split(";")[0],
            origin().strip()))
    assert child.out == "True\n"


def test_recorded():
    """The metadata names what starts the finder, so that it is removed."""
    child = start("-c", block("""
        import importlib.metadata
        found = importlib.metadata.distribution("faulthandler")
        print(found.version)
        print([file.name for file in found.files
               if file.suffix in (".pth", ".start")
               and "precedence" in file.name and file.locate().exists()])
    """))
    assert child.out in [
        "1.0\n['faulthandler-precedence.%s']\n" % suffix
        for suffix in ("pth", "start")]
