"""Faults in the steps of a report, by a test build of the C file."""

import concurrent.futures
import re
import sys

from signal import SIGFPE

import pytest

from helpers import (
    HANG_LIMIT, LIMIT, block, c_sources, check, environment, python, report,
    special_build, status_name)


KINDS = ("read", "divide", "illegal", "abort")


def inject(step, how, code):
    """Run code with a fault in this step of the first report."""
    return python("import injected, faulthandler, os\n" + block(code),
                  special_build("FAULTHANDLER_TEST"), env=environment(
                      FAULTHANDLER_TEST_STEP=step, FAULTHANDLER_TEST_HOW=how))


THREADS = """
    import waiting
    waiting.start()
    def crash():
        faulthandler.sigbus()
    crash()
"""

STEPS = {
    "title": """
          <fault in the title>
        Traceback (most recent call first):
          File "<string>", line 5 in crash
          File "<string>", line 6 in <module>

        Thread 0x… (most recent call first):
          File "waiting.py", line 16 in wait
    """,
    "list of threads": """
        Fatal Python error: Bus error

          <fault in the list of threads>
        Traceback (most recent call first):
          File "<string>", line 5 in crash
          File "<string>", line 6 in <module>
          <the rest of the threads cannot be read>
    """,
    "search for the thread": """
        Fatal Python error: Bus error

          <fault in the search for the thread>
        Traceback (most recent call first):
          <no Python frame>

        Thread 0x… (most recent call first):
          File "waiting.py", line 16 in wait

        Thread 0x… (most recent call first):
          File "<string>", line 5 in crash
          File "<string>", line 6 in <module>
    """,
    "traceback": """
        Fatal Python error: Bus error

          <fault in the traceback>

        Thread 0x… (most recent call first):
          File "waiting.py", line 16 in wait
    """,
    "threads": """
        Fatal Python error: Bus error

        Traceback (most recent call first):
          File "<string>", line 5 in crash
          File "<string>", line 6 in <module>
          <fault in the threads>
    """,
    "output": """
        Fatal Python error: Bus error

        Traceback (most recent call first):
          File "<string>", line 5 in crash
          File "<string>", line 6 in <module>

        Thread 0x… (most recent call first):
          File "waiting.py", line 16 in wait
          <fault in the output>
    """,
}

LINES = {
    "cause": r"  sent by this process with raise\(\) or "
             r"pthread_kill\(\) \(SI_TKILL\)\n",
    "origin": r"  thread \d+ \[MainThread\] of process \d+, .*\n",
    "context": r"  context: a note\n",
    "exceptions": r"  handling ValueError: it is wrong\n",
    "activities": r"  the garbage collector is at work\n",
}
EXTRAS = ["C stack", "extension modules"]


def test_all_steps_are_known():
    """A new step needs a line in the tests that inject faults."""
    found = set(re.findall(r'\breport_\w+, "([^"]+)"[})]',
                           c_sources()["src/report.h"]))
    assert found == {*STEPS, *LINES, *EXTRAS, "registers",
                     "list of shared objects"}


@pytest.mark.parametrize("step, expected", STEPS.items(), ids=STEPS)
@pytest.mark.parametrize("how", KINDS)
def test_fault_in_each_step(step, expected, how):
    """The step is marked, the rest follows, the first signal kills."""
    child = inject(step, how, THREADS)
    assert status_name(child.status) == "-SIGBUS"
    assert child.err == block(expected)
    assert child.seconds < LIMIT


@pytest.mark.parametrize("step", EXTRAS)
@pytest.mark.parametrize("how", ["read", "abort"])
def test_fault_in_extras(step, how):
    """Faults in the parts of the standard library's report."""
    child = inject(step, how, "faulthandler.enable(2, c_stack=True)\n"
                   + block(THREADS))
    assert status_name(child.status) == "-SIGBUS"
    if step == "C stack" or sys.version_info >= (3, 10):
        assert "\n  <fault in the %s>\n" % step in child.err
    assert ' in crash\n  File "<string>", line 7 in <module>\n' in child.err
    assert child.err.count("C stack trace") == (step != "C stack")


@pytest.mark.parametrize("step", [*LINES, "registers"])
@pytest.mark.parametrize("how", KINDS)
def test_details(step, how):
    """A fault among the details leaves the other lines, and the stack."""
    child = inject(step, how, """
        import gc, signal
        faulthandler.enable(details=True, c_stack=False)
        faulthandler.context.set("a note")
        def crash(phase, info):
            try:
                raise ValueError("it is wrong")
            except ValueError:
                signal.raise_signal(signal.SIGBUS)
        gc.callbacks.append(crash)
        gc.collect()
    """)
    fault = "  <fault in the %s>\n" % step
    marked = {name: fault if name == step else line
              for name, line in LINES.items()}
    assert status_name(child.status) == "-SIGBUS"
    assert re.search(r"\AFatal Python error: Bus error\n%s\n"
                     r"Current thread 0x… .*:\n"
                     r"(  Garbage-collecting\n)?"
                     r'  File "<string>", line 9 in crash\n'
                     r'  File "<string>", line 11 in <module>\n%s'
                     % ("".join(marked.values()), fault + r"\Z" if step
                        == "registers" else "\nRegisters:\n"), child.err)


STEPS_OF_DUMPS = [step for step in STEPS if step != "traceback"]
TWICE = """
    import signal
    faulthandler.register(signal.SIGUSR1)
    for _ in range(2):
        %s
    os.write(1, b"alive")
"""


@pytest.mark.parametrize("step", STEPS_OF_DUMPS)
@pytest.mark.parametrize("how", ["read", "divide", "abort"])
@pytest.mark.parametrize("call", [
    "faulthandler.dump_traceback()", "os.kill(os.getpid(), signal.SIGUSR1)"])
def test_dump_survives(step, how, call):
    """A fault in a dump on request is marked, the program goes on, and the
    second dump is whole."""
    child = inject(step, how, TWICE % call)
    assert (child.status, child.raw_out) == (0, "alive")
    assert child.err.count("  <fault in the %s>\n" % step) == 1
    assert child.err.endswith(':\n  File "<string>", line 5 in <module>\n')


@pytest.mark.parametrize("step", ["list of threads", "threads"])
@pytest.mark.parametrize("how", ["read", "divide"])
def test_watchdog_survives(step, how):
    """The same for dump_traceback_later()."""
    child = inject(step, how, """
        reader, writer = os.pipe()
        faulthandler.dump_traceback_later(0.05, file=writer)
        text = os.read(reader, 65536)
        faulthandler.cancel_dump_traceback_later()
        os.close(writer)
        with open(reader, "rb") as file:
            os.write(2, text + file.read())
    """)
    assert child.status == 0
    assert child.err.count("<fault in the ") == 1
    assert child.err.startswith("Timeout ")


@pytest.mark.slow
def test_hang():
    """A step that hangs or sleeps is given up; the first signal kills."""
    special_build("FAULTHANDLER_TEST")      # before the threads begin
    jobs = [(step, how) for step in ("threads", "output", "traceback")
            for how in ("hang", "sleep")] + [("list of threads", "hang")]
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        children = list(pool.map(
            lambda job: inject(*job, THREADS), jobs))
    # One of them may be late on a busy machine, hardly all.
    assert min(child.seconds for child in children) < LIMIT
    for (step, how), child in zip(jobs, children):
        assert status_name(child.status) == "-SIGBUS"
        assert child.seconds < HANG_LIMIT
        # No step is begun after the timer.
        assert re.search(
            r"\AFatal Python error: Bus error\n\n"
            r"((?!  <).*\n)*  <out of time in the %s>\n\Z" % step,
            child.err)


def test_no_faults_without_a_test_build():
    """The module that is installed does not look at the variables."""
    child = python("import faulthandler; faulthandler.sigfpe()",
                   env=environment(FAULTHANDLER_TEST_STEP="traceback",
                                   FAULTHANDLER_TEST_HOW="read"))
    check(child, SIGFPE, report(
        '  File "<string>", line 1 in <module>\n',
        "Floating point exception"))
