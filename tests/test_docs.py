"""README.rst and docs/ say what the module does."""

import glob
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time

from signal import SIGSEGV

import pytest

import faulthandler

from helpers import (
    C_FILE, FOLDER, HERE, LIMIT, PYTHON, SANITIZED, block, c_sources,
    environment, run)


def find_pages():
    """The pages, as paths in the checkout."""
    pages = ["README.rst", "CONTRIBUTING.rst"] + [
        os.path.relpath(path, HERE) for path in glob.glob(
            os.path.join(glob.escape(HERE), "docs", "*.rst"))]
    return sorted(page for page in pages
                  if os.path.exists(os.path.join(HERE, page)))


PAGES = find_pages()
pytestmark = pytest.mark.skipif(
    "docs/reading-a-report.rst" not in PAGES, reason="needs the pages")
needs_c = pytest.mark.skipif(
    not os.path.exists(C_FILE), reason="needs the C file")


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
def test_files_exist(page):
    """The files of the checkout that a page names are there."""
    for name in re.findall(r"\b(?:tests|examples|docs|tools|src|bench)/"
                           r"[\w./-]*\w\b", read(page)):
        if name.endswith("_"):      # test_<room>.py
            continue
        assert os.path.exists(os.path.join(HERE, name)), name


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


def page_words(page):
    """A page's words, one space between them."""
    return " ".join(read(page).split())


def literals():
    """The string literals of the C code, joined as the compiler does."""
    one = r'"((?:[^"\\\n]|\\.)*)"'
    for text in c_sources().values():
        code = re.sub(r"(?s)/\*.*?\*/|(?-s:(?m:^#\s*include.*))", "", text)
        for found in re.finditer(r"%s(?:\s*%s)*" % (one, one), code):
            yield "".join(re.findall(one, found[0])).replace("\\n", "\n")


@needs_c
def test_reading_explains_marks():
    """Each mark of the C code is on the page."""
    marks = {mark for text in literals()
             for mark in re.findall(r"<[A-Za-z][^<>\n]*>", text)}
    assert len(marks) >= 7
    assert [mark for mark in marks if mark not in page_words(READING)] == []
    for beginning in ("<fault in the ", "<out of time in the "):
        assert any(beginning in text for text in literals())
        assert beginning in page_words(READING)


@needs_c
def test_reading_explains_steps():
    """Each step that such a mark can name is on the page."""
    steps = re.findall(r'report_\w+,\s+"([a-zA-Z ]+)"',
                       c_sources()["src/report.h"])
    assert len(steps) > 10
    assert [step for step in steps
            if "*%s*" % step not in page_words(READING)] == []


@needs_c
def test_reading_explains_titles():
    """Each title and each header of the C code is on the page."""
    titles = re.findall(r'title = "([^"]+)"', c_sources()["src/fault.h"])
    header = re.compile(
        r"\n?[A-Z][\w' ]*(\(most recent call first\))?:\s*$")
    headers = [text.strip() for text in literals() if header.match(text)]
    assert len(titles) == 9 and len(headers) >= 7
    assert [title for title in titles + headers
            if title not in page_words(READING)] == []


@needs_c
def test_reading_explains_codes():
    """Each code of a signal is on the page, with its words."""
    codes = re.findall(r'\{(?:SIG\w+|0), -?\w+, "(\w+)",\s*"([^"]*)"\}',
                       c_sources()["src/fault.h"])
    assert len(codes) > 25
    assert [code for code, words in codes if "``%s`` %s" % (
        code, words.strip(" ,")) not in page_words(READING)] == []


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


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_recipe_start_method(method):
    """A process is armed, however it was started."""
    path = os.path.join(FOLDER, "start_%s.py" % method)
    with open(path, "w", encoding="utf-8") as file:
        file.write(block("""
            import multiprocessing
            import faulthandler
            if __name__ == "__main__":
                context = multiprocessing.get_context("%s")
                child = context.Process(target=faulthandler.sigsegv)
                child.start()
                child.join()
                print(child.exitcode)
        """) % method)
    child = run(PYTHON, path, env=environment(PYTHONFAULTHANDLER="1"))
    assert (child.status, child.out) == (0, "%d\n" % -SIGSEGV)
    assert child.err.count("Fatal Python error: Segmentation fault\n") == 1


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
    hung = subprocess.Popen(
        [PYTHON, example("hung.py")], cwd=FOLDER, env=environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    try:
        assert hung.stdout.readline() == b"ready\n"
        text = ""
        for number in (1, 2):
            hung.send_signal(signal.SIGUSR1)
            while len(re.findall("(?m)^Current thread(?:.*\n)+?.* in <module>",
                                 text)) < number:
                line = hung.stderr.readline()
                assert line
                text += line.decode()
        assert text.count("\n  context: GET /orders/17\n") == 2
        assert re.search(r'  File ".*hung\.py", line 12 in serve\n', text)
        assert hung.poll() is None
    finally:
        hung.kill()
        hung.communicate()


def test_no_machine_paths():
    """The pages and the examples name no folder of the author's."""
    for page in PAGES:
        assert not re.search(r"/(root|home|work)/", read(page)), page
