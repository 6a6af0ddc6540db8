"""What every test needs: children, their limits, and what they must leave.

Every crash happens in a child process. check() compares the exact signal,
the whole standard error and the time.
"""

import contextlib
import functools
import glob
import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time

from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV

import pytest

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CHILDREN = os.path.join(HERE, "tests", "children")
C_FILE = os.path.join(HERE, "faulthandler.c")

PYTHON = sys.executable                     # the interpreter under test
LIBRARY = sysconfig.get_path("stdlib")      # the folder of its library
# Where the children of this process run; conftest.py removes it.
FOLDER = os.path.realpath(tempfile.mkdtemp(prefix="faulthandler-"))

# A crash has LIMIT seconds, one whose report hangs the 7 more that a report
# is given, any child PATIENCE: then it is killed.  That is many times what a
# busy machine needs; an emulator needs more.
SLOWER = int(os.environ.get("FAULTHANDLER_TEST_SLOWER", "1"))
LIMIT = 60 * SLOWER
HANG_LIMIT = LIMIT + 7
PATIENCE = 120 * SLOWER

# The table of the C file: the signal, its title, how to raise it.
SIGNALS = [
    (SIGBUS, "Bus error", "faulthandler.sigbus()"),
    (SIGILL, "Illegal instruction", "faulthandler.sigill()"),
    (SIGFPE, "Floating point exception", "faulthandler.sigfpe()"),
    (SIGABRT, "Aborted", "__import__('os').abort()"),
    (SIGSEGV, "Segmentation fault", "faulthandler.sigsegv()"),
    (SIGSEGV, "Segmentation fault", "faulthandler.sigsegv(True)"),
]

X86_64 = os.uname().machine == "x86_64"
DEBUG = hasattr(sys, "gettotalrefcount")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")

# The minor numbers of the Pythons that setup.py takes.
with open(os.path.join(HERE, "setup.py"), encoding="utf-8") as file:
    NEWEST = int(re.search(r"\nNEWEST = \(3, (\d+)\)", file.read()).group(1))
MINORS = range(8, NEWEST + 1)


def load_runner():
    """tests.py, which makes the environment that the tests run in."""
    spec = importlib.util.spec_from_file_location(
        "runner", os.path.join(HERE, "tests.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


# ---- Children --------------------------------------------------------------

def environment(**changes):
    """This process's environment without what alters a child's Python."""
    return runner.environment(**changes)


# The children of this test: conftest.py shows the last where it fails.
run_children = []


class Child:
    """A process that has ended: its status, its output, its seconds."""

    def __init__(self, status, out, err, seconds):
        self.status = status
        self.raw_out = out.decode("utf-8", "backslashreplace")
        self.raw_err = err.decode("utf-8", "backslashreplace")
        self.out = tidy(self.raw_out)
        self.err = tidy(self.raw_err)
        self.seconds = seconds

    def __repr__(self):
        return "%s after %.1f s\n---- stdout\n%s\n---- stderr\n%s" % (
            status_name(self.status), self.seconds,
            self.out[:2000], self.err[:2000])


def tidy(text):
    """Output without addresses and without this machine's folders."""
    text = re.sub(r"(?m)^(Current thread|Thread) 0x[0-9a-f]{16}\b",
                  r"\1 0x…", text)
    text = text.replace('File "%s/' % FOLDER, 'File "')
    return re.sub(r'File "%s/(.*?)", line \d+' % re.escape(LIBRARY),
                  r'File "…/\1", line …', text)


def status_name(status):
    """An exit status as a reader wants to see it."""
    if status < 0:
        return "-" + signal.Signals(-status).name
    return "exit %d" % status


def start(*arguments, env=None, cwd=FOLDER, **options):
    """Start a command in the children's folder, in a session of its own."""
    for stream in ("stdin", "stdout", "stderr"):
        options.setdefault(stream, subprocess.PIPE)
    began = time.monotonic()
    process = subprocess.Popen(
        arguments, cwd=cwd, start_new_session=True,
        env=environment() if env is None else env, **options)
    process.began = began
    return process


def finish(process, stdin=b"", limit=PATIENCE):
    """Wait for the end of a command, or kill it and all it started."""
    late = False
    try:
        out, err = process.communicate(stdin, limit)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    child = Child(process.returncode, out or b"", err or b"",
                  time.monotonic() - process.began)
    run_children.append(child)
    if late:
        raise AssertionError("no end within %s s" % limit)
    return child


def run(*arguments, stdin=b"", limit=PATIENCE, **options):
    """Run a command to its end, or kill it and all it started."""
    return finish(start(*arguments, **options), stdin, limit)


def block(text):
    """A literal block of a test as the text it stands for."""
    return textwrap.dedent(text).lstrip("\n")


def python(code, *arguments, **options):
    """Run code with `python -c`."""
    return run(PYTHON, "-c", block(code), *arguments, **options)


def write_file(name, text):
    """Put a file into the children's folder."""
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as file:
        file.write(text)
    return os.path.join(FOLDER, name)


def take_file(name):
    """The report in a file of that folder, which is removed; or None."""
    path = os.path.join(FOLDER, name)
    if not os.path.exists(path):
        return None
    with open(path, encoding="ascii") as file:
        text = tidy(file.read())
    os.unlink(path)
    return text


def preload(*names):
    """The environment of a child that loads NAME.so first."""
    names = os.environ.get("LD_PRELOAD", "").split() + [
        "./%s.so" % name for name in names]
    return environment(LD_PRELOAD=" ".join(names))


def patient():
    """The environment of a child in which no limit of the module's is
    reached, however long others take."""
    compile_library("patient")
    return preload("patient")


@contextlib.contextmanager
def limits(name, value):
    """A resource limit for the children that start meanwhile."""
    before = resource.getrlimit(name)
    resource.setrlimit(name, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(name, before)


# ---- What they must leave --------------------------------------------------

def report(frames, title="Segmentation fault"):
    """The report of a process with one thread."""
    return ("Fatal Python error: %s\n\n"
            "Traceback (most recent call first):\n%s" % (title, frames))


def stack_report(line, title="Segmentation fault"):
    """The library's report of one thread, in this line of the program."""
    return report('  File "<string>", line %d in <module>\n' % line,
                  title).replace("Traceback", "Stack")


def library_report(frames, title="Segmentation fault"):
    """The report of the standard library's module for the same process."""
    return ("Fatal Python error: %s\n\n"
            "Current thread 0x… (most recent call first):\n%s" % (
                title, frames))


def died(child, signum=SIGSEGV, reports=1, limit=LIMIT):
    """It died of this signal, soon, and left one report."""
    assert status_name(child.status) == status_name(-signum)
    assert child.err.count("Fatal Python error") == reports
    assert child.seconds < limit


def check(child, signum, expected, limit=LIMIT):
    """It died of this signal, soon, and left exactly this report."""
    assert child.err == expected
    died(child, signum, 1 if expected else 0, limit)


def check_library(child, signum, expected, limit=LIMIT):
    """The same, but for what only the running Python's report has."""
    child.err = strip(child.err)
    check(child, signum, expected, limit)


def crash(code, expected, signum=SIGSEGV, **options):
    """Run code with `python -c`: it crashes like this."""
    child = python(code, **options)
    check(child, signum, block(expected))
    return child


def frames(code, header="", **options):
    """Run code that calls die(): the report has what traceback shows."""
    child = python(code, **options)
    check(child, SIGSEGV, report(header + child.out))
    assert child.raw_err == report(header + child.raw_out)
    return child.out


# How long each way of a race lasts.
SECONDS = float(os.environ.get("SLOW_SECONDS", 8))


# A thread that just starts may hold the lock of the sanitizer's malloc(): its
# child of fork() then waits for ever.
forks_beside_a_thread = pytest.mark.skipif(
    SANITIZED, reason="the sanitizer's malloc() may be locked at a fork()")


# ---- The worst moments -----------------------------------------------------

# These tests wait for long, and depend little on the version.
few_versions = pytest.mark.skipif(
    bool(os.environ.get("CI")) and (
        DEBUG or SANITIZED
        or sys.version_info[:2] not in ((3, 8), (3, 11), (3, 13), (3, 15))),
    reason="waits for long, and depends little on the version")


def permitted(code, **options):
    """Run code that may need what the kernel does not permit here."""
    child = python(code, **options)
    if child.status == 77:
        pytest.skip("the kernel does not permit it")
    return child


def with_full_pipe(code, *arguments, **changes):
    """Run code with a full pipe; a report waits until it is emptied."""
    return python(block(FULL_PIPE) + block(code), *arguments,
                  env=dict(patient(), **changes))


def with_held_poll(code, **options):
    """Run code with a full pipe, and a poll() that can be held."""
    compile_library("held_poll")
    return python(block(FULL_PIPE) + block("""
        import ctypes
        library = ctypes.CDLL("./held_poll.so")
        polls, hold, held = [ctypes.c_int.in_dll(library, name)
                             for name in ("polls", "hold", "held")]
    """) + block(code), env=preload("held_poll"), **options)


# A pipe that is full; another process waits, and empties it.  Who writes
# a report has blocked all signals but those of faults.
FULL_PIPE = """
    import faulthandler, os, signal, sys, time, warnings
    from waiting import fill, until
    warnings.simplefilter("ignore")     # of fork() beside a watchdog
    ours, theirs = os.pipe()
    fill(theirs)
    parent = os.getpid()
    def status(thread, word):
        try:
            with open("/proc/%s/status" % thread) as file:
                return file.read().split(word + ":")[1].split()[0]
        except (OSError, IndexError):
            return "0"      # it is gone
    def blocked(thread):
        return int(status(thread, "SigBlk"), 16)
    def reports(thread):
        return bool(blocked(thread) >> signal.SIGTERM - 1 & 1)
    def until_reports():
        until(lambda: os.getppid() != parent or reports(parent))
    def empty(wait=None):
        forked, begin = os.pipe()
        if os.fork() == 0:
            os.read(forked, 1)      # fork() blocks signals, too
            os.dup2(ours, 3)
            os.closerange(4, 100)
            if wait is not None:
                wait()
            with open(3, "rb") as file:
                os.write(1, file.read().lstrip(b"x"))
            os._exit(0)
        os.close(ours)
        os.write(begin, b"x")
"""


# ---- Our module and the builtin --------------------------------------------

def prints(code, expected, status=0, **options):
    """Run code: it ends so, and writes this to standard error."""
    child = python(code, **options)
    assert (status_name(child.status), unnamed(child.err)) == (
        status_name(status), block(expected))
    assert child.seconds < LIMIT
    return child


def unnamed(text):
    """The report without the main thread's name, which 3.14 adds."""
    return re.sub(r"(hread 0x…) \[python[^\]]*\]", r"\1", text)


def strip(text):
    """The report up to what only the running Python adds."""
    text = re.sub(r"\nCurrent thread's C stack trace (?s:.*)", "",
                  unnamed(text))
    return re.sub(r"\nExtension modules: .*\n", "", text)


# Three threads that wait, each with a name.
WORKERS = """
    import waiting
    for n in range(3):
        waiting.start(name="worker-%d" % n)
"""


def as_builtin(code, **options):
    """Run code with either module: status and output are the same."""
    children = [
        python(code, env=environment(FAULTHANDLER_USE_STDLIB=value),
               **options) for value in ("", "1")]
    ours, builtin = [(status_name(child.status), child.out, child.err)
                     for child in children]
    assert ours == builtin
    return children[0]


def agrees(code, **options):
    """Run code that compares what both modules dump."""
    child = python("from both import both, same\n" + block(code), **options)
    assert (child.status, child.err) == (0, "")
    return child


# Calls with a file.
TAKES_FILE = ["enable(%s)", "dump_traceback(%s)", "dump_c_stack(%s)",
              "register(10, %s)", "dump_traceback_later(60, file=%s)"]


def raises(calls, before="", **options):
    """Each call raises this, or returns it."""
    child = python("import faulthandler, io, os, signal, sys\n"
                   + block(before) + "\n" + block("""
        for call in %r:
            try:
                print(repr(eval("faulthandler." + call)))
            except BaseException as error:
                print(type(error).__name__, error)
        sys.stderr = sys.__stderr__     # which Python flushes
    """ % list(calls)), **options)
    assert list(zip(calls, child.out.splitlines())) == (
        list(calls.items()))
    assert child.status == 0


# What runs the pytest that runs this one, with `python -c`.  The folder that it
# is in comes last: there may be a faulthandler in it.
WITH_PYTEST = block("""
    import sys
    sys.path += %r
    import pytest
    sys.exit(pytest.main(sys.argv[1:]))
""" % [os.path.dirname(os.path.dirname(pytest.__file__))])


def run_pytest(source, *arguments, stderr=subprocess.PIPE, **variables):
    """Run a suite.

    With the usual folder for temporary files it might delete those of older
    runs at its end, which takes long.
    """
    write_file("test_suite.py", block(source))
    return run(
        PYTHON, "-c", WITH_PYTEST, "-p", "no:cacheprovider",
        "--basetemp=pytest-of-a-test", "test_suite.py", *arguments,
        stderr=stderr,
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **variables))


# ---- C ---------------------------------------------------------------------

compiler = runner.compiler
what_is_missing = runner.what_is_missing


def child_source(name):
    """The text of a file in tests/children."""
    with open(os.path.join(CHILDREN, name), encoding="utf-8") as file:
        return file.read()


def compile_c(output, *arguments):
    """Compile C with Python's headers, into the children's folder."""
    if compiler() is None:
        pytest.skip("needs a C compiler")
    child = run(compiler(), "-pthread", *arguments, "-o", output, "-I",
                sysconfig.get_path("include"), env=environment(LD_PRELOAD=""),
                limit=4 * PATIENCE)
    assert child.status == 0


@functools.lru_cache(maxsize=None)
def compile_library(name, *options):
    """Compile children/NAME.c to a library there, once; its file's name."""
    file = name + "".join(options) + ".so"
    compile_c(file, "-shared", "-fPIC", *options,
              os.path.join(CHILDREN, name + ".c"))
    return file


def compile_module(path, *options, source=C_FILE):
    """Compile the module to this path."""
    missing = what_is_missing()
    if missing or not os.path.exists(source):
        pytest.skip(missing or "needs the C file")
    child = run(compiler(), "-std=gnu11", "-O1", "-fPIC", "-shared", "-w",
                "-fvisibility=hidden", "-Wl,-z,now", *options, "-I",
                sysconfig.get_path("include"), source, "-o", path,
                env=environment(LD_PRELOAD=""), limit=10 * PATIENCE)
    assert child.status == 0


@functools.lru_cache(maxsize=None)
def special_build(macro):
    """Compile the module with this macro defined; its path."""
    path = os.path.join(FOLDER, macro + ".so")
    compile_module(path, "-D" + macro)
    return path


def c_sources():
    """The module's C code: {path: text}, faulthandler.c first."""
    paths = [C_FILE] + sorted(glob.glob(
        os.path.join(glob.escape(HERE), "src", "**", "*.h"), recursive=True))
    texts = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            texts[os.path.relpath(path, HERE)] = file.read()
    return texts


def copy_checkout(folder):
    """Copy what the module is built from to a new folder."""
    shutil.copytree(HERE, folder, ignore=runner.IGNORED)
