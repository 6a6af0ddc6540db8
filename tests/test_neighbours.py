"""How well-known programs use the module: as with the builtin."""

import datetime
import importlib.util
import os
import re

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, LIMIT, PYTHON, SLOWER, block, check_library, crash,
    forks_beside_a_thread, library_report, python, report, run, run_pytest,
    stack_report, strip, take_file, unnamed, write_file)


def test_wrappers():
    """ipykernel and ddtrace assign wrappers with defaults of their own."""
    child = python("""
        import faulthandler, io, os, signal, sys
        calls = []
        def wrap(name, **defaults):
            original = getattr(faulthandler, name)
            def wrapper(*arguments, **keywords):
                calls.append(name)
                return original(*arguments, **dict(defaults, **keywords))
            setattr(faulthandler, name, wrapper)
        wrap("enable", file=sys.__stderr__, c_stack=False)
        wrap("register", file=sys.__stderr__, chain=False)
        wrap("disable")
        sys.stderr = io.StringIO()
        print(faulthandler.disable())
        for _ in range(100):
            faulthandler.disable()
            faulthandler.enable(all_threads=False)
        faulthandler.register(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        print(len(calls), repr(sys.stderr.getvalue()), flush=True)
        from faulthandler import enable
        enable()
        faulthandler._sigsegv()
    """)
    assert child.out == "True\n202 ''\n"
    first, second = child.err.split("Fatal Python error", 1)
    assert strip(first) == block("""
        Current thread 0x… (most recent call first):
          File "<string>", line 18 in <module>
    """)
    child.err = "Fatal Python error" + second
    check_library(child, SIGSEGV, library_report(
        '  File "<string>", line 22 in <module>\n'))


def test_spyder():
    """A file that lives as long as the process, parsed by thread."""
    child = crash("""
        import faulthandler, tempfile, threading, waiting
        handle = tempfile.NamedTemporaryFile(
            "wt", suffix=".fault", dir=".")
        faulthandler.enable(handle)
        waiting.start(name="worker")
        print(handle.name, *[thread.ident for thread in threading.enumerate()],
              flush=True)
        faulthandler._sigsegv()
    """, "")
    name, *idents = child.raw_out.split()
    with open(os.path.join(FOLDER, name), encoding="ascii") as file:
        text = file.read()
    os.remove(os.path.join(FOLDER, name))
    assert text.startswith(
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x")
    threads = re.findall(
        r"(?m)^(?:Current thread|Thread) (0x[\da-f]+)(?: \[.*\])? "
        r"\(most recent call first\):\n((?:  File .*\n)+)", text)
    assert [int(ident, 16) for ident, _ in threads] == (
        [int(ident) for ident in idents])
    assert threads[0][1] == '  File "<string>", line 8 in <module>\n'
    assert threads[1][1].startswith('  File "%s/waiting.py", line ' % FOLDER)


def test_qutebrowser():
    """A log file that it parses at the next start, or else removes."""
    code = """
        import faulthandler, os, sys
        faulthandler.enable(sys.__stderr__)
        log = open("crash.log", "w", encoding="ascii")
        faulthandler.enable(log)
        if len(sys.argv) > 1:
            faulthandler.enable(sys.__stderr__)
            log.close()
            os.remove(log.name)
        def schlie\xdfen():
            faulthandler._sigsegv()
        schlie\xdfen()
    """
    expected = (r"\AFatal Python error: (.*)\n *\n"
                r"Current thread .* \(most recent call first\): *\n"
                r'  File ".*", line \d+ in (.*)\n')
    found = ["Segmentation fault", r"schlie\xdfen"]
    log = os.path.join(FOLDER, "crash.log")
    child = crash(code, "")
    with open(log, encoding="ascii") as file:
        assert list(re.match(expected, file.read()).groups()) == found
    child = python(code, "quit")
    assert child.status == -SIGSEGV
    assert list(re.match(expected, child.err).groups()) == found
    assert not os.path.exists(log)


def test_ray():
    """Armed for one thread unless it is armed; a refusal is ignored."""
    child = python("""
        import faulthandler, io, sys
        def arm():
            try:
                if not faulthandler.is_enabled():
                    faulthandler.enable(all_threads=False)
            except io.UnsupportedOperation as error:
                print(error)
        sys.stderr = io.StringIO()
        arm()
        faulthandler.disable()
        arm()
        sys.stderr = sys.__stderr__
        arm()
        print(faulthandler.is_enabled(), flush=True)
        faulthandler._sigsegv()
    """)
    assert child.out == "fileno\nTrue\n"
    check_library(child, SIGSEGV, stack_report(15))


# ---- pytest with its own plugin --------------------------------------------

CRASH = """
    import ctypes
    def test_crash():
        ctypes.CDLL(None).strlen(None)
    def test_quick():
        pass
"""
CRASHED = """\
Fatal Python error: Segmentation fault

%s (most recent call first):
  File "test_suite.py", line 3 in test_crash
"""
THREAD, STACK = CRASHED % "Current thread 0x…", CRASHED % "Stack"
OPTIONS = "all_threads=0,c_stack=0,file=options.txt"


def test_pytest_passes():
    """A suite passes, and the module is ours in it."""
    child = run_pytest("""
        def test_ours():
            import faulthandler
            assert faulthandler.version == 0x100
            assert faulthandler.is_enabled()
    """)
    assert child.status == 0
    assert "1 passed" in child.out


@pytest.mark.parametrize("arguments, value, err, written", [
    ([], "", THREAD, None), ([], OPTIONS, STACK, None),
    (["-p", "no:faulthandler"], "", "", None),
    (["-p", "no:faulthandler"], OPTIONS, "", STACK)])
def test_pytest_crashes(arguments, value, err, written):
    """A test that crashes is reported once, with its line: where the plugin
    says, with the other options; without it where they say, or nowhere."""
    child = run_pytest(CRASH, *arguments, PYTHONFAULTHANDLER=value)
    assert child.status == -SIGSEGV
    assert (child.out + child.err).count("Fatal Python error") == bool(err)
    assert err in unnamed(child.err) if err else child.err == ""
    text = take_file("options.txt")
    assert text is None if written is None else text.startswith(written)


# Each test has to begin in it, the quick one to end.
TIMEOUT = 8.5 * SLOWER

SLOW = """
    import os, time
    def test_slow():
        while %s: time.sleep(0.01)
    def test_quick():
        pass
"""


def check_timeout(text, seconds, frame):
    """The timeout of a runner dumped the test that was running, once."""
    assert block("""
        Timeout (%s)!
        Thread 0x… (most recent call first):
          File "%s
    """) % (datetime.timedelta(seconds=seconds), frame) in strip(text)
    assert text.count("Timeout (") == 1, text


@pytest.mark.slow
@pytest.mark.parametrize("exits", [False, True])
def test_pytest_timeout(exits):
    """faulthandler_timeout dumps, and the suite goes on; with
    faulthandler_exit_on_timeout it ends with status 1."""
    options = ["-o", "faulthandler_timeout=%s" % TIMEOUT]
    if exits:
        plugin = pytest.importorskip("_pytest.faulthandler")
        with open(plugin.__file__, encoding="utf-8") as file:
            if "exit_on_timeout" not in file.read():
                pytest.skip("needs a newer pytest")
        options += ["-o", "faulthandler_exit_on_timeout=true"]
    with open(os.path.join(FOLDER, "timeout.txt"), "w") as file:
        child = run_pytest(
            SLOW % (exits or "not os.stat('timeout.txt').st_size"), *options,
            stderr=file)
    assert child.status == exits
    assert ("passed" in child.out, "2 passed" in child.out) == (
        (not exits,) * 2)
    check_timeout(take_file("timeout.txt"), TIMEOUT,
                  'test_suite.py", line 3 in test_slow')


def test_pytest_workers():
    """A worker of pytest-xdist that crashes is reported; the other goes on.

    It is not replaced: a replacement that comes late may hang pytest-xdist.
    """
    if importlib.util.find_spec("xdist") is None:
        pytest.skip("needs pytest-xdist")
    child = run_pytest(CRASH, "-p", "xdist.plugin", "-n2",
                       "--max-worker-restart=0")
    assert child.status == 1
    assert re.search("1 failed, 1 passed", child.out)
    assert re.search(
        "worker '.*' crashed while running .*test_crash", child.out)
    assert child.err.count("Fatal Python error") == 1
    assert THREAD in re.sub(r"(0x…) \[.*\]", r"\1", child.err)


@pytest.mark.slow
def test_regrtest():
    """The timeout of CPython's own test runner ends it with status 1."""
    if importlib.util.find_spec("test.libregrtest") is None:
        pytest.skip("needs CPython's own tests")
    write_file("test_hang.py", block("""
        import time, unittest
        class Hang(unittest.TestCase):
            def test_hang(self):
                time.sleep(60)
    """))
    child = run(PYTHON, "-m", "test", "--timeout", str(8 * SLOWER),
                "--testdir", FOLDER, "test_hang")
    assert child.status == 1
    check_timeout(child.err, 8 * SLOWER, 'test_hang.py", line 4 in test_hang')


# ---- Processes: those that only fork are in test_later.py ------------------

WORKERS = """
    import concurrent.futures.process as futures
    import ctypes, faulthandler, multiprocessing, sys

    def crash(x=None):
        ctypes.CDLL(None).strlen(x)

    def run(context):
        process = context.Process(target=crash)
        process.start()
        process.join()
        return process.exitcode

    def submit(context):
        executor = futures.ProcessPoolExecutor(2, mp_context=context)
        with executor:
            try:
                return executor.submit(crash).result()
            except futures.BrokenProcessPool:
                return "broken"

    def double(x):
        faulthandler.cancel_dump_traceback_later()
        return x * 2

    def pool(context):
        with context.Pool(2) as pool:
            return pool.map(double, [1, 2, 3])

    if __name__ == "__main__":
        faulthandler.dump_traceback_later(60)
        context = multiprocessing.get_context(sys.argv[2])
        print(globals()[sys.argv[1]](context), flush=True)
        faulthandler.cancel_dump_traceback_later()
"""


@pytest.mark.parametrize("function, printed", [
    ("run", "-11\n"), ("submit", "broken\n"), ("pool", "[2, 4, 6]\n")])
@pytest.mark.parametrize("method", [
    pytest.param("fork", marks=forks_beside_a_thread), "forkserver", "spawn"])
def test_processes(function, printed, method):
    """A child of multiprocessing or a process pool that crashes is reported
    once; one that does not lives with an armed watchdog."""
    write_file("workers.py", block(WORKERS))
    child = run(PYTHON, "-W", "ignore", "workers.py",
                function, method)
    assert (child.status, child.out) == (0, printed)
    assert child.seconds < LIMIT
    if function == "pool":
        assert child.err == ""
        return
    assert child.err.startswith(report(
        '  File "workers.py", line 5 in crash\n'))
    assert child.err.count("Fatal Python") == 1


@forks_beside_a_thread
def test_subprocesses_that_crash():
    """A child of subprocess is reported once, however it starts."""
    child = python("""
        import faulthandler, os, subprocess, sys
        code = ("import faulthandler; faulthandler.enable(2, False);"
                "faulthandler._sigsegv()")
        arguments = [sys.executable, "-c", code]
        faulthandler.dump_traceback_later(60, exit=True)
        for options in (
                {}, {"close_fds": False}, {"start_new_session": True},
                {"preexec_fn": faulthandler.cancel_dump_traceback_later},
                {"env": dict(os.environ, PYTHONFAULTHANDLER="1")}):
            child = subprocess.run(arguments, stderr=subprocess.PIPE,
                                   timeout=50, **options)
            print(child.returncode, child.stderr.count(b"Fatal"))
        pid = os.posix_spawn(sys.executable, arguments, os.environ)
        print(os.waitpid(pid, 0)[1] & 127)
        print(os.system("exit 7") >> 8)
    """, "-W", "ignore")
    assert (child.status, child.out) == (0, "-11 1\n" * 5 + "11\n7\n")
    assert child.err.count("Fatal Python error") == 1
