"""python -m faulthandler."""

import os
import subprocess
import sys

import pytest

import faulthandler


def start(*arguments, **variables):
    """Start Python; return its status, output and error output."""
    environment = {name: value for name, value in os.environ.items()
                   if name != "PYTHONFAULTHANDLER"}
    environment.update(variables)
    result = subprocess.run(
        [sys.executable] + list(arguments), cwd="/", env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize("options", [
    [], ["-E"], ["-I"], ["-W", "error"], ["-X", "faulthandler"]])
def test_main(options):
    """It says what this is, where it is, and how to arm it."""
    assert start(*options, "-m", "faulthandler") == (
        0, "faulthandler %d.%d from %s; to arm it for a program: "
        "PYTHONFAULTHANDLER=details,c_stack=mixed python PROGRAM\n" % (
            faulthandler.version >> 8, faulthandler.version & 255,
            faulthandler.__file__), "")


def test_builtin():
    """The builtin answers as it does without this module."""
    status, out, error = start("-m", "faulthandler",
                               FAULTHANDLER_USE_STDLIB="1")
    assert (status, out) == (1, "")
    assert error.endswith(": No code object available for faulthandler\n")


def test_repr_names_the_file():
    """print(faulthandler) tells this module from the builtin."""
    code = "import faulthandler; print(faulthandler)"
    assert start("-c", code) == (
        0, "<module 'faulthandler' from %r>\n" % faulthandler.__file__, "")
    assert start("-S", "-c", code) == (
        0, "<module 'faulthandler' (built-in)>\n", "")


def test_named_import():
    """Where no .pth file is run, importing the finder by hand does."""
    code = ("import sys; sys.path.append(%r); "
            "import _faulthandler_precedence, faulthandler; "
            "print(faulthandler.__file__)"
            % os.path.dirname(faulthandler.__file__))
    assert start("-S", "-c", code) == (0, faulthandler.__file__ + "\n", "")
