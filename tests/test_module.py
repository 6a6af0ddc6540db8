"""Importing, importing again, reloading."""

import glob
import os
import re
import shutil

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, FREE_THREADED, PATIENCE, SANITIZED, SECONDS, check, child_source,
    crash, python, report)
import grammar


AGAIN = {
    "import": "import faulthandler",
    "reload": "importlib.reload(faulthandler)",
    "reimport": "del sys.modules['faulthandler']; import faulthandler",
    "by name": "faulthandler = importlib.import_module('faulthandler')",
}


@pytest.mark.parametrize("name, again", AGAIN.items())
def test_import_again(name, again):
    """However often it is imported, one crash gives one report."""
    crash("""
        import importlib, sys
        import faulthandler
        %s
        %s
        faulthandler.sigsegv()
    """ % (again, again), """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 5 in <module>
    """)


@pytest.mark.parametrize("name, again", AGAIN.items())
@pytest.mark.parametrize("which", ["first", "faulthandler"])
def test_disable_after_import_again(name, again, which):
    """disable() really disarms, whichever module object is asked."""
    child = python("""
        import importlib, sys
        import faulthandler
        first = faulthandler
        %s
        %s.disable()
        print(first.isenabled(), faulthandler.isenabled(),
              flush=True)
        faulthandler.sigsegv()
    """ % (again, which))
    assert child.out == "False False\n"
    check(child, SIGSEGV, "")


def test_import_in_thread():
    """Imported by a thread, it arms the whole process."""
    crash("""
        import threading
        thread = threading.Thread(
            target=__import__, args=("faulthandler",))
        thread.start()
        thread.join()
        import sys
        sys.modules["faulthandler"].sigsegv()
    """, report('  File "<string>", line 7 in <module>\n'))


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps what is freed")
def test_no_leak():
    """Arming again and again keeps no memory and no descriptors."""
    child = python("""
        import ctypes, faulthandler, os, re
        ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)     # no huge pages
        def size():
            # Counted page by page; statm's sums are up to 1 MB off.
            with open("/proc/self/smaps_rollup") as file:
                return int(re.search(r"Anonymous: +(\\d+)",
                                     file.read()).group(1))
        def once():
            faulthandler.enable()
            faulthandler.disable()
        for n in range(5000):
            once()
        size()
        before, files = size(), len(os.listdir("/proc/self/fd"))
        for n in range(20000):
            once()
        print(size() - before < 400,
              len(os.listdir("/proc/self/fd")) - files)
    """)
    assert child.out == "True 0\n"


# The kinds of lines that a report of a healthy process can have, and those
# that only details and mixed stacks have.
KINDS = set("hcfndxgtsCBl0")
OTHERS = re.compile(r"  context: (call \d+|\?\?\?)|  C File .*|  thread \d+"
                    r"( \[.*\])? of process \d+, CPython .*, up [\d.]+ s")


@pytest.mark.parametrize("seconds", [
    1, pytest.param(int(10 * SECONDS if FREE_THREADED else SECONDS) + 1,
                    marks=pytest.mark.slow)])
def test_all_calls_from_eight_threads(seconds):
    """Nothing dies, stands still or writes a line that is not one; the GIL
    of a free-threaded Python stays off."""
    folder = os.path.join(FOLDER, "reports")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    child = python(child_source("whole_api.py"), str(seconds), folder,
                   limit=seconds + PATIENCE)
    assert (child.status, child.out) == (0, "True\n"), child
    lines = []
    for path in glob.glob(os.path.join(folder, "*")):
        with open(path, encoding="ascii") as file:
            lines += file.read().splitlines()
    assert len(lines) > 100
    assert [line for line in lines if grammar.kind_of(line) not in KINDS
            and not OTHERS.fullmatch(line)] == []


def test_import_beside_enable():
    """One thread imports the module again, another arms and disarms."""
    child = python("""
        import faulthandler, importlib.util, os, threading
        def imports():
            for n in range(100):
                spec = importlib.util.spec_from_file_location(
                    "faulthandler", faulthandler.__file__)
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
        thread = threading.Thread(target=imports)
        thread.start()
        with open(os.devnull, "w") as file:
            while thread.is_alive():
                faulthandler.enable(file)
                faulthandler.disable()
        print("done")
    """)
    assert (child.status, child.out, child.err) == (0, "done\n", "")
