"""typings/faulthandler.pyi says what the module takes."""

import importlib.util
import json
import os
import re

import pytest

from helpers import HERE, PATIENCE, PYTHON, environment, run

TYPINGS = os.path.join(HERE, "typings")

# Each line that ends in "# wrong" must be refused, and no other.
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


def check(tool, *arguments, **options):
    """Run a type checker."""
    if importlib.util.find_spec(tool.partition(".")[0]) is None:
        pytest.skip(tool + " is not installed")
    return run(PYTHON, "-m", tool, *arguments, limit=10 * PATIENCE,
               env=environment(MYPYPATH=TYPINGS), **options)


@pytest.mark.parametrize("tool, arguments", [
    ("mypy", ["--strict", "--python-version=3.14", "--cache-dir=cache",
              "program.py"]),
    ("pyright", [])])
def test_checker(tmp_path, tool, arguments):
    """Type checkers refuse the wrong calls, and take the others."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "pyrightconfig.json").write_text(
        json.dumps({"include": ["program.py"], "stubPath": TYPINGS}))
    child = check(tool, *arguments, cwd=tmp_path)
    refused = re.findall(r"program\.py:(\d+)(?::\d+ -|:) error", child.out)
    assert refused == [str(number) for number, line in enumerate(
        PROGRAM.splitlines(), 1) if line.endswith("# wrong")]


def test_stubtest():
    """The stub has the module's names, parameters and defaults."""
    child = check("mypy.stubtest", "faulthandler")
    assert (child.status, child.out) == (
        0, "Success: no issues found in 1 module\n")
