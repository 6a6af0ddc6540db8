"""typings/faulthandler.pyi says what the module takes."""

import ast
import contextvars
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys

import pytest

import faulthandler

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TYPINGS = os.path.join(TOP, "typings")

# Each line that ends in "# wrong" must be the only kind that is refused.
PROGRAM = """\
import faulthandler
import sys
from pathlib import Path

faulthandler.enable()
faulthandler.enable(sys.stderr, False, "mixed", details=True, copy=2)
faulthandler.enable(Path("/var/crash/app-%p.txt"), max_threads=10)
faulthandler.dump_traceback(b"report.txt", details=True)
faulthandler.dump_traceback_later(0.5, True, exit=True, details=True)
faulthandler.register(10, None, chain=True, details=True)
faulthandler.context.reset(faulthandler.context.set("GET /orders/17"))
armed: bool = faulthandler.disable() or faulthandler.isenabled()
major: int = faulthandler.version >> 8
faulthandler.enable(c_stack="both")  # wrong
faulthandler.enable(max_threads=None)  # wrong
faulthandler.dump_traceback(copy=2)  # wrong
faulthandler.register("SIGUSR1")  # wrong
faulthandler.context.set(17)  # wrong
"""


def stub():
    """The definitions in the stub, by name."""
    with open(os.path.join(TYPINGS, "faulthandler.pyi")) as file:
        found = {}
        for node in ast.parse(file.read()).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = node
            elif isinstance(node, ast.AnnAssign) and node.value is None:
                found[node.target.id] = node
        return found


def stub_parameters(function):
    """The parameters of a function in the stub: name, kind, default."""
    kinds = inspect.Parameter
    arguments = function.args
    before = [(argument, kinds.POSITIONAL_ONLY)
              for argument in arguments.posonlyargs]
    before += [(argument, kinds.POSITIONAL_OR_KEYWORD)
               for argument in arguments.args]
    defaults = ([None] * (len(before) - len(arguments.defaults))
                + arguments.defaults + arguments.kw_defaults)
    before += [(argument, kinds.KEYWORD_ONLY)
               for argument in arguments.kwonlyargs]
    return [(argument.arg, kind, kinds.empty if default is None
             else ast.literal_eval(default))
            for (argument, kind), default in zip(before, defaults)]


def real_parameters(function, like):
    """The same of the module's function.

    Where the stub has "..." for a default, any default is right.
    """
    anything = {name for name, _, default in like if default is ...}
    return [(parameter.name, parameter.kind,
             ... if parameter.name in anything
             and parameter.default is not parameter.empty
             else parameter.default)
            for parameter in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", sorted(
    name for name, node in stub().items()
    if isinstance(node, ast.FunctionDef)))
def test_signature(name):
    """A function takes what the stub says."""
    expected = stub_parameters(stub()[name])
    function = getattr(faulthandler, name)
    assert real_parameters(function, expected) == expected


def test_names():
    """Every public name is in the stub, and what is in the stub is there."""
    real = {name for name in vars(faulthandler) if name[0] != "_"}
    names = set(stub())
    assert {name for name in names if name[0] != "_"} == real
    assert names <= set(vars(faulthandler))
    assert isinstance(faulthandler.version, int)
    assert isinstance(faulthandler.context, contextvars.ContextVar)


def check(tool, *arguments):
    """Run a type checker; return its output and its status."""
    if importlib.util.find_spec(tool) is None:
        pytest.skip(tool + " is not installed")
    environment = dict(os.environ, MYPYPATH=TYPINGS)
    result = subprocess.run(
        [sys.executable, "-m"] + list(arguments), env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    return result.stdout, result.returncode


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_checker(tmp_path, tool):
    """Type checkers refuse the wrong calls, and take the others."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"include": ["program.py"], "stubPath": TYPINGS}))
    arguments = {
        "mypy": ["--strict", "--python-version=3.14",
                 "--cache-dir", str(tmp_path / "cache"), str(path)],
        "pyright": ["-p", str(tmp_path)],
    }[tool]
    out = check(tool, tool, *arguments)[0]
    refused = re.findall(r"program\.py:(\d+)(?::\d+ -|:) error", out)
    assert refused == [str(number) for number, line in enumerate(
        PROGRAM.splitlines(), 1) if line.endswith("# wrong")], out


def test_stubtest():
    """mypy's stubtest finds the stub true."""
    out, status = check("mypy", "mypy.stubtest", "faulthandler")
    assert (status, out) == (0, "Success: no issues found in 1 module\n")
