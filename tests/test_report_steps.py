"""Faults in the steps of a report, by a test build of the C file."""

import concurrent.futures
import re

import pytest

from helpers import (
    HANG_LIMIT, LIMIT, block, c_sources, environment, python,
    special_build, status_name)


KINDS = ("read", "divide", "illegal", "abort")
DETAILS = ("cause", "origin", "context", "exceptions", "activities",
           "registers")


def inject(step, how, code):
    """Run code with a fault in this step of the first report."""
    return python("import injected, faulthandler, os\n" + block(code),
                  special_build("FAULTHANDLER_TEST"), env=environment(
                      FAULTHANDLER_TEST_STEP=step, FAULTHANDLER_TEST_HOW=how))


THREADS = """
    import threading
    ready, never = threading.Event(), threading.Lock()
    never.acquire()
    def other():
        ready.set()
        never.acquire()
    threading.Thread(target=other, daemon=True).start()
    ready.wait()
    def crash():
        faulthandler.sigbus()
    crash()
"""


ALL_STEPS = [
    "C stack", "activities", "cause", "context", "exceptions",
    "extension modules", "list of shared objects", "list of threads",
    "origin", "output", "registers", "search for the thread", "threads",
    "title", "traceback"]


def test_all_steps_are_known():
    """A new step needs a line in the tests that inject faults."""
    assert ALL_STEPS == sorted(set(re.findall(
        r'\breport_\w+, "([^"]+)"[})]', c_sources()["src/report.h"])))


@pytest.mark.parametrize("step", [
    step for step in ALL_STEPS
    if step not in ("C stack", "extension modules",
                    "list of shared objects")])
@pytest.mark.parametrize("how", KINDS)
def test_two_threads(step, how):
    """A fault in one step leaves the blocks of the other steps."""
    code = block(THREADS)
    if step in DETAILS:
        code = "faulthandler.enable(details=True, c_stack=False)\n" + code
    child = inject(step, how, code)
    assert status_name(child.status) == "-SIGBUS"
    assert child.seconds < LIMIT
    assert child.err.count("  <fault in the %s>\n" % step) == 1
    assert child.err.count("Fatal Python error") == (step != "title")
    assert child.err.count(" in crash\n") == (step != "traceback")
    if step not in ("threads", "list of threads"):
        assert child.err.count(" in other\n") == 1


LINES = {
    "cause": r"  sent by this process with raise\(\) or "
             r"pthread_kill\(\) \(SI_TKILL\)\n",
    "origin": r"  thread \d+ \[MainThread\] of process \d+, .*\n",
    "context": r"  context: a note\n",
    "exceptions": r"  handling ValueError: it is wrong\n",
    "activities": r"  the garbage collector is at work\n",
}


@pytest.mark.parametrize("step", LINES)
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
    marked = dict(LINES)
    marked[step] = "  <fault in the %s>\n" % step
    assert status_name(child.status) == "-SIGBUS"
    assert re.search(r"\AFatal Python error: Bus error\n%s\n"
                     r"Current thread 0x… .*:\n"
                     r"(  Garbage-collecting\n)?"
                     r'  File "<string>", line 9 in crash\n'
                     r'  File "<string>", line 11 in <module>\n\nRegisters:\n'
                     % "".join(marked.values()), child.err)


@pytest.mark.parametrize("step", [
    "title", "list of threads", "search for the thread",
    "threads", "output"])
@pytest.mark.parametrize("how", ["read", "abort"])
def test_dump_survives(step, how):
    """A fault in a dump on request is marked, and the program goes on."""
    child = inject(step, how, """
        def now():
            faulthandler.dump_traceback()
        now()
        now()
        os.write(1, b"alive")
    """)
    assert (child.status, child.raw_out) == (0, "alive")
    assert child.err.count(
        "  <fault in the %s>\n" % step) == 1
    # The second dump is whole.
    assert re.search(r' in now\n.* in <module>\n$', child.err)


@pytest.mark.parametrize("step", ["list of threads", "threads"])
@pytest.mark.parametrize("how", ["read", "divide"])
def test_user_signal_and_watchdog_survive(step, how):
    """The same for register() and dump_traceback_later()."""
    child = inject(step, how, """
        import signal
        faulthandler.register(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
    """)
    assert child.status == 0
    assert child.err.count("<fault in the ") == 1
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
    jobs = [("list of threads", "hang"), ("threads", "sleep"),
            ("output", "hang")]
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
