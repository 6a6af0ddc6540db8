"""Crashes with one damaged word of the interpreter's memory."""

import os

import pytest

from helpers import (
    HERE, PATIENCE, PYTHON, SANITIZED, run, what_is_missing)

TOOL = os.path.join(HERE, "tools", "inject")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    SANITIZED or bool(what_is_missing()) or not os.path.exists(TOOL),
    reason="needs tools/inject and a compiler")]


@pytest.mark.parametrize("options", [[], ["--library"]])
def test_1000_trials(options):
    """No report loses or invents a frame without saying so.  Each run makes the
    same trials, with the same addresses where the kernel permits it."""
    child = run(PYTHON, TOOL, "--trials", "1000", *options,
                limit=10 * PATIENCE)
    print(child.raw_out)
    assert "\n1000 passed, 0 failed" in child.raw_out, child
