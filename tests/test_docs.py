"""README.rst and docs/ say what the module does."""

import glob
import inspect
import os
import re
import shlex
import signal
import sys
import textwrap
import time

from signal import SIGSEGV

import pytest

import faulthandler

from helpers import (
    HERE, LIMIT, PYTHON, SANITIZED, c_sources, environment, run, start)

PAGES = ["README.rst", "CONTRIBUTING.rst"] + sorted(
    os.path.relpath(path, HERE) for path in glob.glob(
        os.path.join(glob.escape(HERE), "docs", "*.rst")))


def read(page):
    """A page's text."""
    with open(os.path.join(HERE, page), encoding="utf-8") as file:
        return file.read()


def literal_blocks(text):
    """The literal blocks of a page, without their indentation."""
    return [textwrap.dedent(found).strip("\n") + "\n" for found in re.findall(
        r"(?m)::\n\n((?:    .*\n|\n)+)", text)]


# ---- Every page ------------------------------------------------------------

@pytest.mark.parametrize("page", PAGES)
def test_markup(page):
    """docutils has nothing to say about it."""
    core = pytest.importorskip("docutils.core")
    core.publish_doctree(read(page), settings_overrides={
        "report_level": 1, "halt_level": 1})


def anchors(page):
    """The anchors of a page's sections."""
    titles = re.findall(r"(?m)^(\S.*)\n([=\-])\2+$", read(page))
    return {re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")
            for title, _ in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    """Each link leads to a file, and to a section of it."""
    targets = re.findall(r"`[^`<]*<([^`>]+)>`__?", read(page)) + re.findall(
        r"(?m)^\.\. _[^:]+: (\S+)$", read(page))
    for target in targets:
        name, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), name))
        assert os.path.exists(os.path.join(HERE, path)), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES)
def test_names_of_files(page):
    """The files of the checkout that a page names are there; it names no
    folder of the author's."""
    for name in re.findall(r"\b(?:tests|examples|docs|tools|src|bench)/"
                           r"[\w./-]*[^\W_]\b", read(page)):
        assert os.path.exists(os.path.join(HERE, name)), name
    assert not re.search(r"/(root|home|work)/", read(page))


# ---- README.rst ------------------------------------------------------------

def test_readme_is_short():
    """It has 200 lines at the most."""
    assert read("README.rst").count("\n") <= 200


def test_readme_example():
    """The README's first example is what the program prints."""
    command, *printed = literal_blocks(read("README.rst"))[0].splitlines()
    assert printed.pop() == "Segmentation fault"
    words = shlex.split(command)
    assert words[:2] == ["$", "python"]
    child = run(PYTHON, *words[2:])
    assert (child.status, child.err.splitlines()) == (-SIGSEGV, printed)


def test_readme_signatures():
    """The calls in the README's table have the functions' parameters."""
    text = read("README.rst")
    cells = re.findall(r"(?m)^\| (.{45}) \| .*\|$|^(\+)-", text)
    rows = "".join(cell or "\n" for cell, _ in cells)
    calls = re.findall(r"(\w+)\((.*?)\)", re.sub(r"`` *``|``", " ", rows))
    assert len(calls) == 14
    for name, parameters in calls:
        names = re.findall(r"(\w+)(?:=\S+)?(?:,|$)", parameters.strip())
        real = inspect.signature(getattr(faulthandler, name)).parameters
        assert names == list(real) or name == "unregister", name


def outline(report):
    """A report without what differs from run to run, from Python to
    Python, and from library to library."""
    if sys.version_info < (3, 11):
        # There is no mixed stack.
        report = re.sub("\n(C and Python|Current thread's C) stack"
                        "(.*\n)+?\n", "\n", report)
    for pattern, to in (
            (r"0x[0-9a-f]{16}", "0x…"),
            (r"thread \d+ (\S+) of process", r"thread … \1 of process"),
            (r"process \d+, CPython [\d.]+\S*,", "process …, CPython …,"),
            (r"\d+-\d\d-\d\dT[\d:]{8}Z, up [\d.]+ s", "TIME, up … s"),
            (r'"/.*/python3\.\d+t?/(\S+\.py)", line \d+', r'"\1", line …'),
            (r'".*examples/report\.py"', '"examples/report.py"'),
            (r"(?m)^((?:Current t|T)hread 0x… )\[.*\] ", r"\1"),
            (r"(?m)(^  C File .*\n)+", "  C File …\n"),
            (r"(?m)(^  \w+ +0x….*\n)+  code .*\n", "  REGISTERS\n"),
            (r'(?m)(^  "/.*" at 0x…, build-id .*\n)+', "  OBJECTS\n")):
        report = re.sub(pattern, to, report)
    return report


def run_example(*words):
    """Run a Python command that a page shows."""
    return run(PYTHON, *[os.path.join(HERE, word) if word.startswith(
        "examples/") else word for word in words])


@pytest.mark.skipif(SANITIZED, reason="other C functions call each other")
def test_readme_report():
    """The README shows the first ten lines of what the script prints."""
    shown, = [found for found in literal_blocks(read("README.rst"))
              if "nightly report" in found]
    child = run_example("examples/report.py")
    assert child.status == -SIGSEGV
    assert len(shown.splitlines()) == 10
    assert (outline(child.raw_err).splitlines()[:10]
            == outline(shown).splitlines())


# ---- Reading a report ------------------------------------------------------

READING = "docs/reading-a-report.rst"


def examples():
    """Each command on the page, and what it prints."""
    return [tuple(found.split("\n", 1)) for text in literal_blocks(
        read(READING)) for found in re.split(r"(?m)^\$ ", text)[1:]]


@pytest.mark.skipif(SANITIZED, reason="other C functions call each other")
@pytest.mark.parametrize("number", range(3))
def test_reading_example(number):
    """The page's examples are what the commands print."""
    assert len(examples()) == 3
    command, shown = examples()[number]
    words = shlex.split(command)
    assert words[0] == "python"
    child = run_example(*words[1:])
    assert (outline(child.raw_err).strip().splitlines()
            == outline(shown).strip().splitlines())


def literals():
    """The string literals of the C code, joined as the compiler does."""
    one = r'"((?:[^"\\\n]|\\.)*)"'
    for text in c_sources().values():
        code = re.sub(r"(?s)/\*.*?\*/|(?-s:(?m:^#\s*include.*))", "", text)
        for found in re.finditer(r"%s(?:\s*%s)*" % (one, one), code):
            yield "".join(re.findall(one, found[0])).replace("\\n", "\n")


def explains(texts, at_least):
    """The page has each of these texts of the C code."""
    page = " ".join(read(READING).split())
    assert len(texts) >= at_least
    assert [text for text in texts if text not in page] == []


def test_reading_explains_marks():
    """Each mark of the C code is on the page."""
    marks = {mark for text in literals()
             for mark in re.findall(r"<[A-Za-z][^<>\n]*>", text)}
    begun = [mark for mark in ("<fault in the ", "<out of time in the ")
             if any(mark in text for text in literals())]
    explains(list(marks), 7)
    explains(begun, 2)


def test_reading_explains_steps():
    """Each step that such a mark can name is on the page."""
    explains(["*%s*" % step for step in re.findall(
        r'report_\w+,\s+"([a-zA-Z ]+)"', c_sources()["src/report.h"])], 11)


def test_reading_explains_titles():
    """Each title and each header of the C code is on the page."""
    header = re.compile(
        r"\n?[A-Z][\w' ]*(\(most recent call first\))?:\s*$")
    explains(re.findall(r'title = "([^"]+)"', c_sources()["src/fault.h"]), 5)
    explains([text.strip() for text in literals() if header.match(text)], 7)


def test_reading_explains_codes():
    """Each code of a signal is on the page, with its words."""
    explains(["``%s`` %s" % (code, words.strip(" ,"))
              for code, words in re.findall(
                  r'\{(?:SIG\w+|0), -?\w+, "(\w+)",\s*"([^"]*)"\}',
                  c_sources()["src/fault.h"])], 25)


# ---- Recipes ---------------------------------------------------------------

def example(name):
    """The path of an example."""
    return os.path.join(HERE, "examples", name)


def test_recipe_process_pool():
    """The report of a worker that crashes says what it worked on."""
    child = run(PYTHON, example("pool.py"),
                env=environment(PYTHONFAULTHANDLER="details"))
    assert (child.status, child.out) == (0, "BrokenProcessPool\n")
    assert child.err.count("Fatal Python error") == 1
    assert "\n  context: job 3\n" in child.err
    assert re.search(r'  File ".*pool\.py", line 12 in work\n', child.err)


def test_recipe_daemon(tmp_path):
    """A daemon that was armed before it forked leaves a file."""
    child = run(PYTHON, example("daemon.py"), str(tmp_path))
    assert (child.status, child.out, child.err) == (0, "", "")
    end = time.monotonic() + LIMIT
    text = ""
    while "\n  code " not in text and time.monotonic() < end:
        time.sleep(0.01)
        for path in tmp_path.glob("daemon-crash-*.txt"):
            text = path.read_text(encoding="utf-8")
    path, = tmp_path.iterdir()
    pid = re.match(r"daemon-crash-(\d+)\.txt$", path.name)[1]
    assert text.startswith("Fatal Python error: Segmentation fault\n")
    assert " of process %s," % pid in text


def test_recipe_process_1():
    """Process 1 survives what is sent, and dies of a fault."""
    child = run("unshare", "--pid", "--fork", PYTHON, example("process_1.py"))
    if child.err.startswith("unshare:"):
        pytest.skip("needs a PID namespace")
    assert child.status in (-SIGSEGV, 128 + SIGSEGV)
    assert child.out == "process 1 is still there\n"
    assert re.findall("Fatal Python error: (.*)", child.err) == [
        "Aborted", "Segmentation fault"]


def test_recipe_hung():
    """Each SIGUSR1 shows where the threads hang."""
    hung = start(PYTHON, example("hung.py"))
    try:
        assert hung.stdout.readline() == b"ready\n"
        end = time.monotonic() + LIMIT
        shown = []
        while len(shown) < 2:
            hung.send_signal(signal.SIGUSR1)
            text = ""
            while not re.search("(?m)^Current thread(?:.*\n)+?.* in <module>",
                                text):
                line = hung.stderr.readline()
                assert line
                text += line.decode()
            # The thread may not have come there yet.
            if (re.search(r'  File ".*hung\.py", line 12 in serve\n', text)
                    or time.monotonic() > end):
                shown.append(text.count("\n  context: GET /orders/17\n"))
        assert shown == [1, 1]
        assert hung.poll() is None
    finally:
        hung.kill()
        hung.communicate()
