"""Threads that crash at the same moment: one report, and its signal."""

import re

import pytest

from helpers import (
    LIMIT, SECONDS, SIGNALS, compile_library, python, status_name)
import grammar

pytestmark = pytest.mark.slow

CROWD = """
    import ctypes, faulthandler, sys, threading, time
    how, (count, mixed, again) = sys.argv[1], map(int, sys.argv[2:])
    free, held = ctypes.CDLL("./crowd.so"), ctypes.PyDLL("./crowd.so")
    if again:
        faulthandler.enable(all_threads=True, c_stack=False)
    free.prepare(count)
    if how == "native":
        free.crowd(count, mixed)
    for i in range(1, count):
        threading.Thread(target=free.meet, args=(mixed * i % 5,),
                         daemon=True).start()
    while free.here() < count - 1:
        time.sleep(0.001)
    (held if how == "gil" else free).meet(0)
"""


@pytest.mark.parametrize("mixed", [0, 1])
@pytest.mark.parametrize("count", [2, 8, 20])
@pytest.mark.parametrize("how", ["free", "gil", "native"])
def test_crowd(how, count, mixed):
    """Threads with the GIL, without, or unknown to Python; by one signal
    or by several."""
    compile_library("crowd")
    names = {title: "-" + signum.name for signum, title, _ in SIGNALS}
    for number in range(int(SECONDS / 2) + 1):
        child = python(CROWD, how, str(count), str(mixed), str(number % 2))
        title = re.match("Fatal Python error: (.*)\n", child.err)
        assert title, child
        assert status_name(child.status) == names[
            title[1].replace("-", " ")]
        assert child.err.count("Fatal Python error") == 1
        assert grammar.fault_in(child.raw_err) is None
        threads = child.err.count("most recent call first")
        assert threads >= (1 if how == "native" else count)
        assert child.seconds < LIMIT
