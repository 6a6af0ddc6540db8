"""The tests of faulthandler.

    python tests.py [-v] [CLASS[.TEST] ...]     or     pytest tests.py

They test the faulthandler that this Python imports. Where that is still
the interpreter's own, they install this checkout into a throw-away
environment first. Every crash happens in a child process, and a test of
a crash checks the exact signal, the whole standard error against a
literal text, that there is one title, and the time it took.

Where is the test for ...?

    what the tests themselves rely on           RunnerTests
    subinterpreters, which CPython              LayoutTests
    damaged objects                             MemoryTests
    escapes, long names, one write              OutputTests
    line numbers                                CodeTests
    kinds of frames, deep stacks                FrameTests
    our frames against the interpreter's        AgreementTests
    other threads, their names and order        ThreadTests
    real crashes, each cause                    FaultTests
    ... in words, with details=True             DetailsTests
    faults and hangs inside a report            ReportTests
    ... in each of its steps                    StepTests
    stack overflow                              StackTests
    older handlers, disable(), the siginfo      SignalTests
    standard error in a strange state           FileTests
    titles, how Python was started, enable()    FatalTests
    sigsegv() and its kin, wrong arguments      CrashTests
    importing, reloading, version               ModuleTests
    who answers `import faulthandler`           InstallTests
    pytest                                      PytestTests
    parameters, names                           SignatureTests
    wrong arguments, messages                   ArgumentTests
    dump_traceback()                            DumpTests
    enable(file)                                EnableTests
    dump_traceback_later()                      LaterTests
    register()                                  UserTests
    dump_c_stack(), c_stack=                    CStackTests
    function, file and line of C frames         SymbolTests
    C and Python frames in one traceback        MixedTests
    file="…", %p, %t                            PathTests
    PYTHONFAULTHANDLER=…                        OptionTests
    context()                                   ContextTests
    pytest, IDEs, process pools, and others     NeighbourTests
    locks held, no memory, vfork() children     PlaceTests
    what each guard is for (see .ci/guards)     GuardTests
    bugs that came back once                    RegressionTests
    the C file, the README                      SourceTests
"""

import concurrent.futures
import contextlib
import ctypes
import datetime
import fcntl
import importlib.util
import os
import platform
import pty
import random
import re
import resource
import select
import shlex
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import unittest
import unittest.mock
import venv

from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTERM

HERE = os.path.dirname(os.path.abspath(__file__))
C_FILE = os.path.join(HERE, "faulthandler.c")
README = os.path.join(HERE, "README.rst")

# A crash has LIMIT seconds, one whose report hangs the 7 more that a report
# is given, any child PATIENCE: then it is killed.
LIMIT = 10
HANG_LIMIT = LIMIT + 7
PATIENCE = 30

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
with open("/proc/cpuinfo") as file:
    PROCESSOR = file.read()
DEBUG = hasattr(sys, "gettotalrefcount")
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


# ---- What the children use -------------------------------------------------

DIE = '''
"""die(): print the caller's stack as traceback sees it, then crash.

die() has no Python frame of its own, so the crash report begins with the
frame that calls it.
"""
import functools
import operator
import os
import sys
import traceback

import faulthandler


def text(string):
    """What a report makes of a name."""
    shown = "".join(
        c if " " <= c <= "~" else
        "\\\\x%02x" % ord(c) if c < "\\u0100" else
        "\\\\u%04x" % ord(c) if c < "\\U00010000" else
        "\\\\U%08x" % ord(c)
        for c in string[:500])
    return shown + "..." * (len(string) > 500)


def lines(frame):
    """The frames from this one on, as a report writes them."""
    return ['  File "%s", line %s in %s' % (
                text(frame.f_code.co_filename),
                "???" if line is None else line,
                text(frame.f_code.co_name))
            for frame, line in traceback.walk_stack(frame)]


def show(depth=1):
    """Print the caller's stack, cut as a report cuts it."""
    found = lines(sys._getframe(depth))
    if len(found) > 100:
        gap = "  ... %d frames not shown ..." % (len(found) - 100)
        found[90:-10] = [gap]
    os.write(1, ("\\n".join(found) + "\\n").encode())
    return True


die = functools.partial(all, map(
    operator.methodcaller("__call__"), [show, faulthandler.sigsegv]))
'''

DAMAGE = '''
"""damage(): overwrite one pointer inside an object of the interpreter."""
import ctypes
import sys
import tempfile

WORD = ctypes.sizeof(ctypes.c_void_p)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_size_t
forbidden = libc.mmap(None, ctypes.c_size_t(4096), 0, 0x22, -1, 0)
with tempfile.TemporaryFile() as file:      # read there: SIGBUS
    beyond = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, file.fileno(), 0)


def words(address, count=40):
    return (ctypes.c_size_t * count).from_address(address)


def replace(cells, target, value):
    """Overwrite the first cell that points to target (tags or not)."""
    index = [cell & ~3 for cell in cells].index(target)
    cells[index] = value


def place(frame):
    """Where the interpreter keeps this frame."""
    if sys.version_info >= (3, 11):
        return words(id(frame))[3]
    return id(frame)


def damage(frame, what, value):
    """Overwrite the frame's code object, or its name, file or lines."""
    code = frame.f_code
    if what == "code":
        replace(words(place(frame), 16), id(code), value)
    elif what == "link":
        replace(words(place(frame), 16), place(frame.f_back), value)
    elif what == "lines" and sys.version_info < (3, 10):
        replace(words(id(code)), id(code.co_lnotab), value)
    elif what == "lines":
        replace(words(id(code)), id(code.co_linetable), value)
    else:
        replace(words(id(code)), id(getattr(code, "co_" + what)), value)
'''

WORK = '''
"""work(): a walk through the standard library's own Python code."""
import argparse
import ast
import asyncio
import collections
import configparser
import contextlib
import copy
import dataclasses
import difflib
import enum
import fractions
import functools
import html.parser
import inspect
import io
import json
import json.decoder
import json.encoder
import pickle
import pprint
import re
import string
import textwrap
import tokenize
import traceback
import types
import typing

DATA = {"name": ["text", 1, 2.5, None, {"deep": [[[["er"]]]]}] * 3}
CODE = """
@decorator
def function(a, b=1, *c, d, **e):
    with a as b, c:
        return [lambda: x for x in y if z] or {k: v for k, v in w}
class C(D, metaclass=E):
    async def f(self):
        async for x in y: await z
try: pass
except OSError as e: raise
"""


async def tasks():
    async def leaf(n):
        await asyncio.sleep(0)
        return n

    async def numbers():
        for n in range(3):
            yield await leaf(n)
    return [n async for n in numbers()], await asyncio.gather(
        *(leaf(n) for n in range(3)))


@contextlib.contextmanager
def managed():
    yield 1


@functools.singledispatch
def generic(value):
    return inspect.signature(generic)


def work():
    text = "".join(json.JSONEncoder(indent=1).iterencode(DATA))
    decoder = json.JSONDecoder()
    decoder.scan_once = json.scanner.py_make_scanner(decoder)
    decoder.decode(text)
    re.purge()
    re.compile(r"(?P<a>x|[yz]{2,3}?)(?=b)|(?i:q)\\\\1*(?<!d)").match("x")
    textwrap.fill("some words to fill " * 10, 30)
    tree = ast.parse(CODE)
    ast.dump(ast.fix_missing_locations(tree))
    getattr(ast, "unparse", ast.dump)(tree)
    list(tokenize.generate_tokens(io.StringIO(CODE).readline))
    list(difflib.unified_diff(text.split(), CODE.split()))
    parser = argparse.ArgumentParser(prog="p")
    parser.add_argument("--number", type=int, choices=[1, 2])
    parser.add_subparsers().add_parser("sub").add_argument("x", nargs="*")
    parser.parse_args(["--number", "1", "sub", "x"])
    parser.format_help()
    collections.namedtuple("Point", "x y")(1, 2)
    dataclasses.make_dataclass("D", ["a", "b"])(1, 2)
    enum.Enum("Colour", "RED GREEN")
    config = configparser.ConfigParser()
    config.read_string("[a]\\nb = %(c)s\\nc = 1\\n")
    config["a"]["b"]
    copy.deepcopy(DATA)
    pickle._loads(pickle._dumps(DATA))
    pprint.pformat(DATA, width=20)
    string.Template("$a ${b}").substitute(a=1, b=2)
    fractions.Fraction(1, 3) + fractions.Fraction("2/7")
    html.parser.HTMLParser().feed("<p class=x>a&amp;b<br></p>")
    typing.get_type_hints(types.SimpleNamespace)
    with managed(), managed():
        generic(1)
    asyncio.run(tasks())
    try:
        json.loads("{")
    except ValueError:
        traceback.format_exc()
'''

MACHINE = '''
"""code() is the address of machine code, run() a function of it."""
import ctypes
import mmap

pages = []


def code(digits):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex(digits))
    pages.append(page)
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


def run(digits, kind=ctypes.CFUNCTYPE):
    return kind(ctypes.c_long)(code(digits))
'''

SUB = '''
"""create() a subinterpreter of either kind, run() code in it."""
import atexit
import sys
try:
    import _interpreters as module
except ImportError:
    import _xxsubinterpreters as module


def create(own_gil):
    if sys.version_info >= (3, 13):
        created = module.create("isolated" if own_gil else "legacy")
    elif sys.version_info >= (3, 10):
        created = module.create(isolated=own_gil)
    else:
        created = module.create()
    atexit.register(module.destroy, created)
    return created


def run(interpreter, code):
    error = module.run_string(interpreter, code)
    if error is not None:
        sys.exit(str(error))
'''

BUSY = '''
"""Threads that run, recurse, start, end and run fresh code, for ever."""
import sys
import threading

stop = False


def recurse(n):
    if n:
        return recurse(n - 1) + 1
    return 0


def run():
    while not stop:
        recurse(40)
        space = {}
        exec("def f(x):\\n return [g for g in (y for y in x)]", space)
        space["f"](range(5))


def start():
    while not stop:
        thread = threading.Thread(target=recurse, args=(20,))
        thread.start()
        thread.join()


def begin():
    sys.setswitchinterval(0.0001)
    threads = [threading.Thread(target=f) for f in (run, run, start, start)]
    for thread in threads:
        thread.start()
    return threads


def end(threads):
    global stop
    stop = True
    for thread in threads:
        thread.join()
'''

# The older handlers of SignalTests. One says what it was told, and exits;
# the other makes the page readable, and returns.
OLDER = r'''
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static int at_exit;

static void
on_signal(int signum, siginfo_t *info, void *context)
{
    char line[200];
    int size;
    void *pc = NULL;

#ifdef __x86_64__
    pc = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#endif
    if (info->si_code > 0)
        size = snprintf(line, sizeof line, "signal %d code %d at %p%s",
                        signum, info->si_code, info->si_addr,
                        info->si_addr == pc ? " which is the pc" : "");
    else
        size = snprintf(line, sizeof line, "signal %d code %d from %s",
                        signum, info->si_code,
                        info->si_pid == getpid() ? "itself" : "another");
    size += snprintf(line + size, sizeof line - (size_t)size,
                     " in thread %ld\n", syscall(SYS_gettid));
    if (write(1, line, (size_t)size) < 0)
        _exit(43);
    _exit(42);
}

static int
handle(int signum, void (*handler)(int, siginfo_t *, void *), int flags,
       struct sigaction *before)
{
    struct sigaction action = {0};

    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    return sigaction(signum, &action, before);
}

int
install(int signum)
{
    return handle(signum, on_signal, 0, NULL);
}

int
is_installed(int signum)
{
    struct sigaction action;

    sigaction(signum, NULL, &action);
    return action.sa_sigaction == on_signal;
}

static int
repair(const siginfo_t *info)
{
    return mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095),
                    4096, PROT_READ);
}

static void
on_repair(int signum, siginfo_t *info, void *context)
{
    (void)context;
    if (repair(info) < 0)
        signal(signum, SIG_DFL);
}

int
is_repairing(void)
{
    struct sigaction action;

    sigaction(SIGSEGV, NULL, &action);
    return action.sa_sigaction == on_repair;
}

int
install_repair(void)
{
    return handle(SIGSEGV, on_repair, 0, NULL);
}

static struct sigaction chained;

static void
on_newer(int signum, siginfo_t *info, void *context)
{
    chained.sa_sigaction(signum, info, context);
}

int
install_newer_for(int signum)
{
    return handle(signum, on_newer, SA_ONSTACK, &chained);
}

int
install_newer(void)
{
    return install_newer_for(SIGSEGV);
}

static void
on_chaining(int signum, siginfo_t *info, void *context)
{
    if (repair(info) < 0)
        chained.sa_sigaction(signum, info, context);
}

int
install_chaining(void)
{
    return handle(SIGSEGV, on_chaining, SA_ONSTACK, &chained);
}

int
remove_newer(void)
{
    return sigaction(SIGSEGV, &chained, NULL);
}

static void
on_retire(int signum, siginfo_t *info, void *context)
{
    static int count;

    on_repair(signum, info, context);
    if (++count == 2)
        signal(signum, SIG_DFL);
}

int
install_retiring(void)
{
    return handle(SIGSEGV, on_retire, 0, NULL);
}

void
crash_at_exit(void)
{
    at_exit = 1;
}

__attribute__((destructor)) static void
finish(void)
{
    if (at_exit)
        *(volatile int *)at_exit = 0;
}
'''

# The slow reader of OutputTests.  It is in the child, and in its poll(), and
# the clock stands still elsewhere: it reads in time on a busy machine too.
SLOW_READER = r'''
#define _GNU_SOURCE
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const struct timespec at_once;
static struct pollfd source = {.fd = -1, .events = POLLIN};
static long now, when, still;

/* Read this descriptor so many milliseconds from now, and pass it on.  In the
   first poll() stand still for so many. */
void
read_later(int fd, int milliseconds, int standstill)
{
    source.fd = fd;
    when = milliseconds;
    still = standstill;
}

static void
read_all(void)
{
    static char text[1 << 20];
    ssize_t size;

    while (ppoll(&source, 1, &at_once, NULL) > 0
           && (size = read(source.fd, text, sizeof text)) > 0)
        if (write(1, text, (size_t)size) < 0 || write(1, "|", 1) < 0)
            _exit(43);
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
    if (source.fd < 0)
        return (int)syscall(SYS_clock_gettime, clock, time);
    time->tv_sec = 1000000 + now / 1000;
    time->tv_nsec = now % 1000 * 1000000;
    return 0;
}

int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec wait = {timeout / 1000, timeout % 1000 * 1000000L};
    int ready;

    if (source.fd < 0)
        return ppoll(fds, count, timeout < 0 ? NULL : &wait, NULL);
    ready = ppoll(fds, count, &at_once, NULL);
    if (ready != 0)
        return ready;
    now += timeout + still;
    still = 0;
    if (now >= when)
        read_all();
    return ppoll(fds, count, &at_once, NULL);
}
'''

# A poll() that counts its calls, and in which a thread stands still as long
# as it is held.
HELD_POLL = r'''
#define _GNU_SOURCE
#include <poll.h>
#include <unistd.h>

volatile int polls, hold, held;

int
poll(struct pollfd *fds, nfds_t count, int timeout)
{
    struct timespec wait = {timeout / 1000, timeout % 1000 * 1000000L};

    polls++;
    if (hold) {
        held = 1;
        while (hold)
            usleep(1000);
    }
    return ppoll(fds, count, timeout < 0 ? NULL : &wait, NULL);
}
'''

# A process_vm_readv() of which one call fails.
FAILING_READ = r'''
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long reads, failing;

ssize_t
process_vm_readv(pid_t pid, const struct iovec *to, unsigned long to_count,
                 const struct iovec *from, unsigned long from_count,
                 unsigned long flags)
{
    if (++reads == failing) {
        errno = EFAULT;
        return -1;
    }
    return syscall(SYS_process_vm_readv, pid, to, to_count, from, from_count,
                   flags);
}
'''


# ---- The runner ------------------------------------------------------------

PYTHON = None           # the interpreter under test
LIBRARY = None          # the folder of its standard library
FOLDER = None           # where the children run; removed at the end
CORE = None             # the limit of core files that we found


def environment(**changes):
    """This process's environment without what alters a child's Python."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "FAULTHANDLER"))}
    kept.update(changes)
    return kept


class Child:
    """A process that has ended: its status, its output, its seconds."""

    def __init__(self, status, out, err, seconds):
        self.status = status
        self.raw_out = out.decode("utf-8", "backslashreplace")
        self.raw_err = err.decode("utf-8", "backslashreplace")
        self.out = tidy(self.raw_out)
        self.err = tidy(self.raw_err)
        self.seconds = seconds

    def __str__(self):
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


def run(*arguments, stdin=b"", limit=PATIENCE, env=None, **options):
    """Run a command to its end, or kill it and all it started."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    start = time.monotonic()
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, cwd=FOLDER, start_new_session=True,
        env=environment() if env is None else env, **options)
    try:
        out, err = process.communicate(stdin, limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        child = Child(process.returncode, out or b"", err or b"", limit)
        raise AssertionError("no end within %s s: %s" % (limit, child))
    seconds = time.monotonic() - start
    return Child(process.returncode, out or b"", err or b"", seconds)


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


def report(frames, title="Segmentation fault"):
    """The report of a process with one thread."""
    return ("Fatal Python error: %s\n\n"
            "Traceback (most recent call first):\n%s" % (title, frames))


class CrashCase(unittest.TestCase):
    """What every test of a crash checks."""

    maxDiff = None

    def check(self, child, signum, expected, limit=LIMIT):
        """It died of this signal, soon, and left exactly this report."""
        self.assertEqual(status_name(child.status), status_name(-signum),
                         child)
        self.assertEqual(child.err, expected, child)
        self.assertEqual(child.err.count("Fatal Python error"),
                         1 if expected else 0)
        self.assertLess(child.seconds, limit)

    def crash(self, code, expected, signum=SIGSEGV, **options):
        """Run code with `python -c`: it crashes like this."""
        child = python(code, **options)
        self.check(child, signum, block(expected))
        return child

    def frames(self, code, expected, header="", **options):
        """Run code that calls die(): traceback agrees, and frames are these.

        An ellipsis as the last line stands for frames of the standard
        library, which differ between versions.
        """
        child = python(code, **options)
        self.check(child, SIGSEGV, report(header + child.out))
        self.assertEqual(child.raw_err, report(header + child.raw_out))
        expected, found = block(expected).splitlines(), child.out.splitlines()
        if expected[-1] == "…":
            del expected[-1], found[len(expected):]
        self.assertEqual(found, ["  " + line for line in expected])


def compile_library(case, name, source):
    """Compile NAME.so into the children's folder, once."""
    path = os.path.join(FOLDER, name + ".so")
    if not os.path.exists(path):
        if compiler() is None:
            case.skipTest("needs a C compiler")
        kept = environment()
        kept.pop("LD_PRELOAD", None)
        child = run(compiler(), "-shared", "-fPIC", "-o", path,
                    write_file(name + ".c", source), env=kept)
        case.assertEqual(child.status, 0, child)


def preload(name):
    """The environment of a child that loads NAME.so first."""
    names = os.environ.get("LD_PRELOAD", "").split() + ["./%s.so" % name]
    return environment(LD_PRELOAD=" ".join(names))


@contextlib.contextmanager
def limits(name, value):
    """A resource limit for the children that start meanwhile."""
    before = resource.getrlimit(name)
    resource.setrlimit(name, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(name, before)


# ---- Which copy is tested --------------------------------------------------

def is_ours(python):
    """Whether `import faulthandler` gives this interpreter our module."""
    code = "import faulthandler as f; print(f.version == 0x100, f.__file__)"
    child = run(python, "-c", code)
    return child.status == 0 and child.out.startswith("True ")


def what_is_missing():
    """One line that says what to install first, or None."""
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return "Python.h is missing: install the package python3-dev"
    if compiler() is None:
        return "a C compiler is missing: install the package gcc"
    return None


def compiler():
    """The C compiler's path, or None."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def pip_command(python):
    """The command that runs pip in an environment without one, or None."""
    pip = importlib.util.find_spec("pip")
    if pip is not None:
        return [python, os.path.dirname(pip.origin)]
    if run(python, "-m", "ensurepip").status == 0:
        return [python, "-m", "pip"]
    return None


def install(python):
    """Install this checkout for python: what pip said last."""
    pip = pip_command(python)
    if pip is None:
        raise SystemExit("tests.py: pip is missing: "
                         "install the package python3-pip")
    sources = os.path.join(FOLDER, "checkout")
    shutil.copytree(HERE, sources, ignore=shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "*.so", "__pycache__"))
    command = pip + ["install", "--no-deps", sources]
    child = run(*command, limit=600)
    setuptools = importlib.util.find_spec("setuptools")
    if child.status and setuptools is not None:
        # No network, perhaps: build with the setuptools that is here.
        path = os.path.dirname(os.path.dirname(setuptools.origin))
        child = run(*command, "--no-build-isolation", limit=600,
                    env=environment(PYTHONPATH=path))
    return child


def build():
    """Make a throw-away environment with this checkout; its Python."""
    missing = what_is_missing()
    if missing:
        raise SystemExit("tests.py: " + missing)
    folder = os.path.join(FOLDER, "environment")
    venv.create(folder, symlinks=True)
    python = os.path.join(folder, "bin", "python")
    child = install(python)
    if not is_ours(python):
        raise SystemExit("tests.py: cannot install the module: %s" % child)
    return python


def setUpModule():
    """Find or make the Python under test, and what the children import."""
    global FOLDER, LIBRARY, PYTHON, CORE
    FOLDER = os.path.realpath(tempfile.mkdtemp(prefix="faulthandler-"))
    LIBRARY = sysconfig.get_path("stdlib")
    CORE = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, CORE[1]))
    for name, text in [("die", DIE), ("damage", DAMAGE), ("work", WORK),
                       ("machine", MACHINE), ("sub", SUB), ("busy", BUSY)]:
        write_file(name + ".py", text)
    PYTHON = sys.executable if is_ours(sys.executable) else build()


def tearDownModule():
    """Leave nothing behind."""
    resource.setrlimit(resource.RLIMIT_CORE, CORE)
    shutil.rmtree(FOLDER)


# ---- The runner itself -----------------------------------------------------

class RunnerTests(CrashCase):
    """What the tests themselves rely on."""

    def test_exact_signal(self):
        """A child's signal is told apart from every other end."""
        for signum in (SIGSEGV, SIGBUS, SIGTERM):
            with self.subTest(signum=signum):
                child = python("""
                    import os, signal
                    signal.signal(%d, signal.SIG_DFL)
                    os.kill(os.getpid(), %d)
                """ % (signum, signum))
                self.assertEqual(child.status, -signum)
                self.assertEqual(status_name(child.status),
                                 "-" + signal.Signals(signum).name)
        self.assertEqual(python("raise SystemExit(11)").status, 11)
        self.assertEqual(status_name(11), "exit 11")

    def test_wrong_signal_fails(self):
        """check() refuses a death of another signal, or none."""
        for status in (-SIGABRT, 0, SIGSEGV, 128 + SIGSEGV):
            with self.subTest(status=status):
                child = Child(status, b"", b"", 0.1)
                with self.assertRaises(AssertionError):
                    self.check(child, SIGSEGV, "")

    def test_whole_standard_error(self):
        """check() compares every byte, before, between and after."""
        text = report('  File "x", line 1 in <module>\n')
        self.check(Child(-SIGSEGV, b"", text.encode(), 0.1), SIGSEGV, text)
        for wrong in ("", text + "\n", "\n" + text, text[:-1], text * 2,
                      text.replace("line 1", "line  1")):
            with self.subTest(wrong=wrong):
                child = Child(-SIGSEGV, b"", wrong.encode(), 0.1)
                with self.assertRaises(AssertionError):
                    self.check(child, SIGSEGV, text)

    def test_output_is_kept_apart(self):
        """Bytes of both outputs arrive whole, whatever they are."""
        child = python(r"""
            import os
            os.write(1, b"out\n" * 50000)
            os.write(2, b"err \xff\x00 no newline")
        """)
        self.assertEqual(child.raw_out, "out\n" * 50000)
        self.assertEqual(child.raw_err, "err \\xff\0 no newline")
        self.assertEqual(child.status, 0)

    def test_slow_crash_fails(self):
        """check() refuses a crash that took too long."""
        with self.assertRaises(AssertionError):
            self.check(Child(-SIGSEGV, b"", b"", LIMIT + 1), SIGSEGV, "")

    def test_time_limit(self):
        """A child that does not end is killed, with its own children."""
        start = time.monotonic()
        with self.assertRaisesRegex(AssertionError, "no end within 1 s"):
            python("""
                import os, time
                os.fork()
                time.sleep(60)
            """, limit=1)
        self.assertLess(time.monotonic() - start, PATIENCE)

    def test_no_core_files(self):
        """Children run with core files off."""
        child = python("""
            import resource
            print(resource.getrlimit(resource.RLIMIT_CORE)[0])
        """)
        self.assertEqual(child.out, "0\n")

    def test_clean_environment(self):
        """What alters Python in this process does not reach a child."""
        with unittest.mock.patch.dict(os.environ, {
                "PYTHONFAULTHANDLER": "1", "FAULTHANDLER_USE_STDLIB": "1",
                "PYTHONPATH": HERE, "OTHER": "stays"}):
            child = python("""
                import os
                print(*sorted(name for name in os.environ if name.startswith(
                    ("PYTHON", "FAULTHANDLER", "OTHER"))))
            """)
        self.assertEqual(child.out, "OTHER\n")

    def test_module_under_test(self):
        """The children import our module, not the interpreter's."""
        child = python("""
            import faulthandler
            print(faulthandler.version == 0x100, faulthandler.__file__)
        """)
        self.assertRegex(child.out, r"^True .*faulthandler\..*so\n$")

    def test_missing_packages(self):
        """One line names the package to install."""
        with unittest.mock.patch.object(shutil, "which", return_value=None):
            self.assertEqual(what_is_missing(), "a C compiler is missing: "
                                                "install the package gcc")
        with unittest.mock.patch.object(sysconfig, "get_path",
                                        return_value="/nowhere"):
            self.assertEqual(what_is_missing(), "Python.h is missing: "
                                                "install the package "
                                                "python3-dev")

    def test_same_python(self):
        """The children run the version that runs the tests."""
        child = python("import sys; print(sys.version)")
        self.assertEqual(child.raw_out.strip(), sys.version)

    def test_addresses(self):
        """Only thread identities of 16 digits in their place are hidden."""
        number = "0x00007f3b2c9fe6c0"
        self.assertEqual(tidy("Thread %s (most" % number), "Thread 0x… (most")
        self.assertEqual(tidy("Thread 0x7f3b2c9fe6c0 (most"),
                         "Thread 0x7f3b2c9fe6c0 (most")
        self.assertEqual(tidy("at " + number), "at " + number)

    def test_die(self):
        """die() names its caller and no frame of its own, then crashes."""
        child = python("from die import die; die()")
        self.assertEqual(child.out, '  File "<string>", line 1 in <module>\n')
        self.assertEqual(child.status, -SIGSEGV)


# ---- CPython layouts -------------------------------------------------------

class LayoutTests(CrashCase):
    """The questions asked of CPython: interpreters, thread states."""

    # What a subinterpreter calls the code that it is given.
    FILE = "<script>" if sys.version_info >= (3, 14) else "<string>"

    def test_crash_in_subinterpreter(self):
        """A crash in a subinterpreter shows the frames it runs."""
        for own_gil in (False, True):
            with self.subTest(own_gil=own_gil):
                child = python("""
                    import faulthandler, sub
                    sub.run(sub.create(%r), '''if True:
                        import faulthandler
                        def inner():
                            faulthandler.sigsegv()
                        inner()
                    ''')
                """ % own_gil)
                self.check(child, SIGSEGV, block("""
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "FILE", line 4 in inner
                      File "FILE", line 5 in <module>

                    Interpreter 0:

                    Thread 0x… (most recent call first):
                      File "sub.py", line 23 in run
                      File "<string>", line 2 in <module>
                """).replace("FILE", self.FILE))

    def test_import_in_subinterpreter_only(self):
        """A subinterpreter alone can arm the process."""
        for own_gil in (False, True):
            with self.subTest(own_gil=own_gil):
                child = python("""
                    import sub
                    sub.run(sub.create(%r), '''if True:
                        import faulthandler
                        faulthandler.sigfpe()
                    ''')
                """ % own_gil)
                self.check(child, SIGFPE, block("""
                    Fatal Python error: Floating point exception

                    Traceback (most recent call first):
                      File "FILE", line 3 in <module>

                    Interpreter 0:

                    Thread 0x… (most recent call first):
                      File "sub.py", line 23 in run
                      File "<string>", line 2 in <module>
                """).replace("FILE", self.FILE))

    def test_crash_after_subinterpreter(self):
        """The main interpreter's frames are found after one has ended."""
        for own_gil in (False, True):
            with self.subTest(own_gil=own_gil):
                self.crash("""
                    import faulthandler, sub
                    other = sub.create(%r)
                    sub.run(other, "import faulthandler")
                    sub.module.destroy(other)
                    faulthandler.sigsegv()
                """ % own_gil, report(
                    '  File "<string>", line 5 in <module>\n'))

    def test_crash_beside_subinterpreter(self):
        """An idle subinterpreter leaves the report as it is."""
        for own_gil in (False, True):
            with self.subTest(own_gil=own_gil):
                self.crash("""
                    import faulthandler, sub
                    other = sub.create(%r)
                    sub.run(other, "import faulthandler")
                    faulthandler.sigsegv()
                """ % own_gil, report(
                    '  File "<string>", line 4 in <module>\n'))


# ---- Memory ----------------------------------------------------------------

class MemoryTests(CrashCase):
    """A damaged object costs its own place in the report, no other."""

    VALUES = {
        "NULL": "0",
        "one": "1",
        "small": "64",
        "unaligned": "id(frame) + 1",
        "not canonical": "0xdddddddddddddddd",
        "forbidden page": "damage.forbidden",
        "end of a forbidden page": "damage.forbidden + 4088",
        "beyond the end of a file": "damage.beyond",
        "another object": "id(42)",
        "itself": "id(code)",
        "top of memory": "2**64 - 8",
    }

    def damaged(self, what, line):
        """Damage something of an outer frame: only its line suffers."""
        for name, value in self.VALUES.items():
            if what == "code" and name == "itself":
                continue
            with self.subTest(value=name):
                child = python("""
                    import sys, damage, faulthandler
                    def inner():
                        frame = sys._getframe(1)
                        code = frame.f_code
                        damage.damage(frame, %r, %s); faulthandler.sigsegv()
                    def outer():
                        inner()
                    def outermost():
                        outer()
                    outermost()
                """ % (what, value))
                self.check(child, SIGSEGV, report(
                    '  File "<string>", line 5 in inner\n'
                    '  File %s\n'
                    '  File "<string>", line 9 in outermost\n'
                    '  File "<string>", line 10 in <module>\n' % line))

    def test_damaged_link(self):
        """Behind a damaged link the next frame is found, and marked."""
        for name, value in dict(self.VALUES, cycle="damage.place(frame)",
                                itself="damage.place(frame)").items():
            if name == "another object":
                continue        # may look like a frame
            with self.subTest(value=name):
                self.crash("""
                    import sys, damage, faulthandler
                    def inner():
                        frame = sys._getframe(1)
                        damage.damage(frame, "link", %s)
                        faulthandler.sigsegv()
                    def outer():
                        inner()
                    outer()
                """ % value, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 5 in inner
                      File "<string>", line 7 in outer
                      <a damaged link: frames may be missing here>
                      File "<string>", line 8 in <module>
                """)

    def test_damaged_link_to_generator(self):
        """Generators that run behind a damaged link are found."""
        calls = {"next": "next(generator())",
                 "for": "for _ in generator(): pass",
                 "yield from": "next(outer_generator())",
                 "C": "list(map(next, [generator()]))"}
        middle = {"yield from":
                  '  File "<string>", line 9 in outer_generator\n'}
        for name, call in calls.items():
            with self.subTest(call=name):
                child = python("""
                    import sys, damage, faulthandler
                    def inner():
                        damage.damage(sys._getframe(), "link",
                                      damage.forbidden)
                        faulthandler.sigsegv()
                    def generator():
                        yield inner()
                    def outer_generator():
                        yield from generator()
                    def caller():
                        %s
                    caller()
                """ % call)
                self.check(child, SIGSEGV, report(
                    '  File "<string>", line 5 in inner\n'
                    '  <a damaged link: frames may be missing here>\n'
                    '  File "<string>", line 7 in generator\n'
                    + middle.get(name, "")
                    + '  File "<string>", line 11 in caller\n'
                    '  File "<string>", line 12 in <module>\n'))

    def test_damaged_link_on_a_small_stack(self):
        """Another thread's C stack is small, with others below it."""
        child = python("""
            import ctypes, threading, sys, damage, faulthandler
            def inner():
                damage.damage(sys._getframe(), "link", damage.forbidden)
                waits.release()
                never.acquire()
            def generator():
                yield inner()
            def caller():
                list(map(next, [generator()]))
            waits, never = threading.Semaphore(0), threading.Lock()
            never.acquire()
            threading.stack_size(128 * 1024)
            thread = threading.Thread(target=caller, daemon=True)
            thread.start()
            waits.acquire()
            # Nothing is replaced: MAP_FIXED_NOREPLACE.
            mmap = ctypes.CDLL(None).mmap
            mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
                             ctypes.c_int, ctypes.c_int, ctypes.c_long]
            mmap((thread.ident - 2**20) // 4096 * 4096, 8192, 1, 0x100022,
                 -1, 0)
            faulthandler.sigsegv()
        """)
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        stack = child.err.partition("\nThread 0x…")[2].partition("\n")
        frames = [line for line in stack[2].splitlines(True)
                  if "threading.py" not in line]
        self.assertEqual("".join(frames),
                         '  File "<string>", line 5 in inner\n'
                         '  <a damaged link: frames may be missing here>\n'
                         '  File "<string>", line 7 in generator\n'
                         '  File "<string>", line 9 in caller\n', child)

    def test_link_past_frames(self):
        """A link to an older frame does not hide those between."""
        first = report(
            '  File "<string>", line 5 in inner\n'
            '  File "<string>", line 13 in <module>\n')
        whole = report(
            '  File "<string>", line 5 in inner\n'
            '  <a damaged link: frames may be missing here>\n'
            '  File "<string>", line 7 in generator\n'
            '  File "<string>", line 9 in middle\n'
            '  File "<string>", line 11 in outer\n'
            '  File "<string>", line 13 in <module>\n')
        # Up to 3.10 they are found after the report.
        again = first + whole[whole.index("\nTraceback"):]
        self.crash("""
            import sys, damage, faulthandler
            def inner():
                damage.damage(sys._getframe(), "link",
                              damage.place(sys._getframe(4)))
                faulthandler.sigsegv()
            def generator():
                yield inner()
            def middle():
                return next(generator())
            def outer():
                return middle()

            outer()
        """, whole if sys.version_info >= (3, 11) else again)

    @unittest.skipIf(sys.version_info >= (3, 11), "frames are no objects")
    def test_link_past_a_page(self):
        """The frame between may begin where a page does."""
        first = report(
            '  File "<string>", line 4 in inner\n'
            '  File "<string>", line 13 in outer\n'
            '  File "<string>", line 14 in <module>\n')
        again = report(
            '  File "<string>", line 4 in inner\n'
            '  <a damaged link: frames may be missing here>\n'
            '  File "<string>", line 8 in middle\n'
            '  File "<string>", line 13 in outer\n'
            '  File "<string>", line 14 in <module>\n')
        self.crash("""
            import sys, types, damage, faulthandler
            def inner():
                damage.damage(sys._getframe(), "link", id(sys._getframe(2)))
                faulthandler.sigsegv()
            def middle():
                if id(sys._getframe()) %% 4096 == 0:
                    %s = 0
                    inner()
            def outer():
                kept = []
                while len(kept) < 50000:
                    kept.append(middle.__code__.replace(co_name="middle"))
                    types.FunctionType(kept[-1], globals())()
            outer()
        """ % " = ".join("a%d" % n for n in range(40)),
                   first + again[again.index("\nTraceback"):])

    def test_long_cycle(self):
        """A cycle of many frames is found, and both ends are shown."""
        child = python("""
            import sys, damage, faulthandler
            def f(n):
                if n:
                    return f(n - 1)
                first, last = sys._getframe(), sys._getframe(800)
                damage.damage(last, "link", damage.place(first))
                faulthandler.sigsegv()
            sys.setrecursionlimit(5000)
            f(1200)
        """)
        child.err = re.sub(r"\.\.\. \d{3,5} frames", "... N frames", child.err)
        lines = child.err.splitlines(True)
        self.assertEqual(lines[:4], report(
            '  File "<string>", line 7 in f\n').splitlines(True))
        self.assertEqual(lines[4:93],
                         89 * ['  File "<string>", line 4 in f\n'])
        self.assertEqual(lines[93], "  ... N frames not shown ...\n")
        self.assertEqual(lines[-1], '  File "<string>", line 9 in <module>\n')
        self.assertEqual(status_name(child.status), "-SIGSEGV")
        self.assertLess(child.seconds, LIMIT)

    def test_damaged_strings(self):
        """A string with a damaged head is no string."""
        for index, value in [(1, "0"), (1, "damage.forbidden"),
                             (1, "id(42)"), (1, "0xdddddddddddddddd"),
                             (2, "2**64 - 1"), (2, "2**63")]:
            with self.subTest(index=index, value=value):
                child = python("""
                    import sys, damage, faulthandler
                    name, file = "name" * 9, "file" * 9
                    def inner():
                        for string in (name, file):
                            damage.words(id(string))[%d] = %s
                        faulthandler.sigsegv()
                    def outer():
                        inner()
                    outer.__code__ = outer.__code__.replace(
                        co_name=name, co_filename=file)
                    outer()
                """ % (index, value))
                self.check(child, SIGSEGV, report(
                    '  File "<string>", line 6 in inner\n'
                    '  File ???, line 8 in ???\n'
                    '  File "<string>", line 11 in <module>\n'))

    def test_many_damaged(self):
        """The tenth fault inside a report is survived like the first."""
        for value in ("forbidden", "beyond"):
            with self.subTest(value=value):
                self.crash("""
                    import sys, damage, faulthandler
                    def f(n):
                        frame = sys._getframe()
                        if n: return f(n - 1)
                        for what in ["name", "filename", "lines"]:
                            damage.damage(frame, what, damage.%s)
                        faulthandler.sigsegv()
                    f(9)
                """ % value, report(
                    10 * "  File ???, line ??? in ???\n"
                    + '  File "<string>", line 8 in <module>\n'))

    def test_damaged_code(self):
        """A frame without a code object is all question marks."""
        self.damaged("code", "???, line ??? in ???")

    def test_damaged_name(self):
        """A damaged function name leaves the file and the line."""
        self.damaged("name", '"<string>", line 7 in ???')

    def test_damaged_file(self):
        """A damaged file name leaves the line and the function."""
        self.damaged("filename", "???, line 7 in outer")

    def test_damaged_lines(self):
        """A damaged line table leaves the file and the function."""
        self.damaged("lines", '"<string>", line ??? in outer')


# ---- Output ----------------------------------------------------------------

class OutputTests(CrashCase):
    """Escapes, long names, whole lines in one write."""

    def crash_in(self, filename, function):
        """The report of a crash in a file and function of these names."""
        return python("""
            from die import die
            def f():
                die()
            names = {"co_filename": %a, "co_name": %a}
            f.__code__ = f.__code__.replace(**names)
            f()
        """ % (filename, function))

    def check_names(self, filename, function, shown):
        """Such names are shown like this, as traceback's are."""
        child = self.crash_in(filename, function)
        self.check(child, SIGSEGV, report(
            '  File %s\n  File "<string>", line 6 in <module>\n' % shown))
        self.assertEqual(child.raw_err, report(child.raw_out))

    def test_printable_ascii(self):
        """Every printable character of ASCII stands for itself."""
        ascii = "".join(map(chr, range(32, 127)))
        self.check_names(ascii, ascii, '"%s", line 3 in %s' % (ascii, ascii))

    def test_empty_names(self):
        """Empty names are shown as what they are."""
        self.check_names("", "", '"", line 3 in ')

    def test_control_characters(self):
        """Control characters cannot break a line or a terminal."""
        self.check_names(
            "a\nb\r\x1b[31m", "\0\t\x7f\x80",
            r'"a\x0ab\x0d\x1b[31m", line 3 in \x00\x09\x7f\x80')

    def test_one_byte_characters(self):
        """A string of kind 1 is escaped with two digits."""
        self.check_names("caf\xe9.py", "\xff",
                         r'"caf\xe9.py", line 3 in \xff')

    def test_two_byte_characters(self):
        """A string of kind 2 is escaped with four digits where it must."""
        self.check_names("a\xe9\u20ac\ufffd.py", "\u0100",
                         r'"a\xe9\u20ac\ufffd.py", line 3 in \u0100')

    def test_four_byte_characters(self):
        """A string of kind 4 is escaped with eight digits where it must."""
        self.check_names("a\xe9\u20ac\U0001f40d", "\U0010ffff",
                         r'"a\xe9\u20ac\U0001f40d", line 3 in \U0010ffff')

    def test_surrogates(self):
        """Lone surrogates are escaped like any other character."""
        self.check_names("\ud800\udc80\udfff", "a\udcff",
                         r'"\ud800\udc80\udfff", line 3 in a\udcff')

    def test_500_characters(self):
        """A name of 500 characters is shown whole."""
        self.check_names("f" * 500, "\u20ac" * 500, '"%s", line 3 in %s' % (
            "f" * 500, r"\u20ac" * 500))

    def test_501_characters(self):
        """Of a longer name the first 500 characters are shown."""
        self.check_names("f" * 499 + "gh", "\u20ac" * 501,
                         '"%s...", line 3 in %s...' % (
                             "f" * 499 + "g", r"\u20ac" * 500))

    def test_million_characters(self):
        """A name of any length costs no more than a long one."""
        child = python("""
            import faulthandler
            def f():
                faulthandler.sigsegv()
            names = {"co_filename": "f" * 10**6, "co_name": "g" * 10**6}
            f.__code__ = f.__code__.replace(**names)
            f()
        """)
        self.check(child, SIGSEGV, report(
            '  File "%s...", line 3 in %s...\n'
            '  File "<string>", line 6 in <module>\n' % (
                "f" * 500, "g" * 500)))

    def test_one_write(self):
        """A report that fits the buffer leaves in one write."""
        for depth in (1, 40):
            with self.subTest(depth=depth):
                ours, theirs = socket.socketpair(
                    socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with ours, theirs:
                    child = python("""
                        import faulthandler
                        def f(n):
                            f(n - 1) if n else faulthandler.sigsegv()
                        f(%d)
                    """ % (depth - 1), stderr=theirs)
                    theirs.close()
                    messages = iter(lambda: ours.recv(1 << 20), b"")
                    child.err = "|".join(m.decode() for m in messages)
                self.check(child, SIGSEGV, report(
                    depth * '  File "<string>", line 3 in f\n'
                    + '  File "<string>", line 4 in <module>\n'))

    def test_nothing_on_standard_output(self):
        """Standard output is not touched."""
        child = python("import faulthandler; faulthandler.sigsegv()")
        self.assertEqual(child.raw_out, "")

    def test_full_device(self):
        """A device that takes nothing costs nothing."""
        with open("/dev/full", "w") as full:
            child = python("import faulthandler; faulthandler.sigsegv()",
                           stderr=full)
        self.check(child, SIGSEGV, "")

    def test_closed_pipe(self):
        """A pipe nobody reads any more does not turn into SIGPIPE."""
        for action in ("SIG_IGN", "SIG_DFL"):
            with self.subTest(action=action):
                reader, writer = os.pipe()
                os.close(reader)
                child = python("""
                    import signal, faulthandler
                    signal.signal(signal.SIGPIPE, signal.%s)
                    faulthandler.sigsegv()
                """ % action, stderr=writer)
                os.close(writer)
                self.check(child, SIGSEGV, "")

    def test_closed_socket(self):
        """A socket whose peer is gone does not turn into SIGPIPE."""
        ours, theirs = socket.socketpair()
        ours.close()
        with theirs:
            child = python("""
                import signal, faulthandler
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                faulthandler.sigsegv()
            """, stderr=theirs)
        self.check(child, SIGSEGV, "")

    def test_full_pipe(self):
        """A pipe that is full and that nobody reads is given up."""
        for blocking in (True, False):
            with self.subTest(blocking=blocking):
                reader, writer = os.pipe()
                self.fill(writer)
                os.set_blocking(writer, blocking)
                before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
                child = python("""
                    import faulthandler, resource
                    usage = resource.getrusage(resource.RUSAGE_SELF)
                    print(usage.ru_nvcsw, flush=True)
                    faulthandler.sigsegv()
                """, stderr=writer)
                os.close(writer)
                self.check(child, SIGSEGV, "")
                # It sleeps 50 ms at a time.  Where it took long though it
                # slept little, the machine is busy.
                after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
                sleeps = after - before - int(child.out)
                self.assertTrue(child.seconds < 5 or sleeps < 80,
                                (sleeps, child))
                with open(reader, "rb") as file:
                    self.assertEqual(file.read().strip(b"x"), b"")

    def fill(self, writer):
        """Write until a pipe takes no more."""
        os.set_blocking(writer, False)
        for size in (65536, 1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(writer, b"x" * size)
        os.set_blocking(writer, True)

    def with_slow_reader(self, code, reader, **options):
        """Run code with the slow reader."""
        compile_library(self, "slow_reader", SLOW_READER)
        return python(code, pass_fds=[reader], env=preload("slow_reader"),
                      **options)

    def test_slow_reader(self):
        """A pipe that is emptied slowly gets the whole report."""
        for blocking, when, standstill in (
                (True, 1900, 0), (False, 1900, 0), (True, 4800, 3000)):
            with self.subTest(blocking=blocking, standstill=standstill):
                reader, writer = os.pipe()
                self.fill(writer)
                os.set_blocking(writer, blocking)
                child = self.with_slow_reader("""
                    import ctypes, faulthandler
                    ctypes.CDLL(None).read_later(%d, %d, %d)
                    faulthandler.sigsegv()
                """ % (reader, when, standstill), reader,
                    stdout=subprocess.DEVNULL, stderr=writer)
                os.close(writer)
                with open(reader, "rb") as file:
                    child.err = file.read().decode()
                self.check(child, SIGSEGV, report(
                    '  File "<string>", line 3 in <module>\n'))

    def test_small_packets(self):
        """A socket of small packets gets the report in several."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with ours:
            with theirs:
                child = self.with_slow_reader("""
                    import ctypes, faulthandler
                    ctypes.CDLL(None).read_later(%d, 0, 0)
                    def f(n):
                        f(n - 1) if n else faulthandler.sigsegv()
                    f.__code__ = f.__code__.replace(co_name="n" * 400)
                    f(89)
                """ % ours.fileno(), ours.fileno(), stderr=theirs)
            rest = iter(lambda: ours.recv(1 << 20).decode(), "")
            packets = child.raw_out.split("|")[:-1] + list(rest)
        child.err = "".join(packets)
        self.check(child, SIGSEGV, report(
            90 * ('  File "<string>", line 4 in %s\n' % ("n" * 400))
            + '  File "<string>", line 6 in <module>\n'))
        self.assertGreater(len(packets), 1)

    def test_file_size_limit(self):
        """A file that may not grow holds what there was room for."""
        path = os.path.join(FOLDER, "small")
        with open(path, "w") as file:
            child = python("""
                import resource, signal, faulthandler
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
                faulthandler.sigsegv()
            """, stderr=file)
        self.check(child, SIGSEGV, "")
        with open(path) as file:
            self.assertEqual(file.read(), "Fatal Python error: ")

    def test_append(self):
        """A file keeps what it held before."""
        path = write_file("log", "before\n")
        with open(path, "a") as file:
            child = python("import faulthandler; faulthandler.sigsegv()",
                           stderr=file)
        with open(path) as file:
            child.err = file.read()
        self.check(child, SIGSEGV, "before\n" + report(
            '  File "<string>", line 1 in <module>\n'))


# ---- Code objects ----------------------------------------------------------

class CodeTests(CrashCase):
    """Line numbers, whatever the line table looks like."""

    def test_call_over_several_lines(self):
        """A call's line is the one that traceback gives."""
        self.frames("""
            from die import die
            def f(*arguments):
                pass
            f(
                1,
                die
                (
                ),
                2,
            )
        """, """
            File "<string>", line 6 in <module>
        """)

    def test_method_call_over_several_lines(self):
        """A chain of method calls is as traceback has it."""
        child = python("""
            from die import die
            class C:
                def a(self): return self
                def die(self): die()
            (C()
             .a()
             .a(
             )
             .die(
             )
             .a())
        """)
        self.check(child, SIGSEGV, report(child.out))

    def test_lines_backwards(self):
        """Line tables with negative steps are followed."""
        self.frames("""
            from die import die
            for i in range(3):
                x = (
                    i,
                    i,
                    lambda: 0)[
                    i == 1 and
                    die() or
                    0]
        """, """
            File "<string>", line 8 in <module>
        """)

    def test_every_line(self):
        """A function crashes on each of its lines in turn."""
        source = block("""
            import sys
            from die import die
            n = int(sys.argv[1])
            def f():
                n == 1 and die()
                n == 2 and die()
                n == 3 and die()
                n == 4 and die()
                n == 5 and die()
            f()
        """)
        for n in range(1, 6):
            with self.subTest(n=n):
                child = run(PYTHON, "-c", source, str(n))
                self.check(child, SIGSEGV, report(
                    '  File "<string>", line %d in f\n'
                    '  File "<string>", line 10 in <module>\n' % (n + 4)))

    def test_jumps_of_100000_lines(self):
        """Long stretches of empty lines are counted right, up and down."""
        self.frames("""
            from die import die
            gap = "\\n" * 100000
            exec("def f():" + gap + " die()" + gap + "f(" + gap + ")")
        """, """
            File "<string>", line 100001 in f
            File "<string>", line 200001 in <module>
            File "<string>", line 3 in <module>
        """)

    def test_lines_above_a_million(self):
        """Seven digits and more are no trouble."""
        self.frames("""
            import ast
            from die import die
            tree = ast.parse("def f():\\n die()\\nf()")
            exec(compile(ast.increment_lineno(tree, 2000000), "x", "exec"))
            tree = ast.parse("def f():\\n die()\\nf()")
        """, """
            File "x", line 2000002 in f
            File "x", line 2000003 in <module>
            File "<string>", line 4 in <module>
        """)

    def test_largest_line(self):
        """The first line may be the largest there is."""
        self.frames("""
            from die import die
            def f(): die()
            f.__code__ = f.__code__.replace(co_firstlineno=2**31 - 1)
            f()
        """, """
            File "<string>", line 2147483647 in f
            File "<string>", line 4 in <module>
        """)

    def test_long_function(self):
        """The last line of a function of 20 000 lines is found."""
        self.frames("""
            from die import die
            body = "".join(" x = %d\\n" % n for n in range(20000))
            exec("def f():\\n" + body + " die()\\nf()")
        """, """
            File "<string>", line 20002 in f
            File "<string>", line 20003 in <module>
            File "<string>", line 3 in <module>
        """)


# ---- Frames ----------------------------------------------------------------

class FrameTests(CrashCase):
    """Every kind of frame, and the traceback module agrees."""

    def test_functions(self):
        """Functions that call each other."""
        self.frames("""
            from die import die
            def inner():
                die()
            def outer():
                inner()
            outer()
        """, """
            File "<string>", line 3 in inner
            File "<string>", line 5 in outer
            File "<string>", line 6 in <module>
        """)

    def test_methods(self):
        """Methods of every binding."""
        self.frames("""
            from die import die
            class C:
                def method(self):
                    self.of_class()
                @classmethod
                def of_class(cls):
                    cls.static()
                @staticmethod
                def static():
                    die()
            C().method()
        """, """
            File "<string>", line 10 in static
            File "<string>", line 7 in of_class
            File "<string>", line 4 in method
            File "<string>", line 11 in <module>
        """)

    def test_lambdas(self):
        """Lambdas are called so."""
        self.frames("""
            from die import die
            f = lambda: die()
            (lambda: f())()
        """, """
            File "<string>", line 2 in <lambda>
            File "<string>", line 3 in <lambda>
            File "<string>", line 3 in <module>
        """)

    def test_comprehensions(self):
        """Comprehensions have frames of their own, before 3.12."""
        inlined = sys.version_info >= (3, 12)
        for kind, code in [("listcomp", "[die() for x in 'a']"),
                           ("setcomp", "{die() for x in 'a'}"),
                           ("dictcomp", "{x: die() for x in 'a'}")]:
            with self.subTest(kind=kind):
                self.frames("""
                    from die import die
                    def f():
                        return %s
                    f()
                """ % code, "%s\n%s\n%s\n" % (
                    "" if inlined else
                    'File "<string>", line 3 in <%s>' % kind,
                    'File "<string>", line 3 in f',
                    'File "<string>", line 4 in <module>'))

    def test_generator_expression(self):
        """A generator expression, driven by C."""
        self.frames("""
            from die import die
            list(
                die() for x in "a")
        """, """
            File "<string>", line 3 in <genexpr>
            File "<string>", line 2 in <module>
        """)

    def test_generators(self):
        """Generators that are resumed, sent to, and delegate."""
        self.frames("""
            from die import die
            def leaf():
                yield 1
                x = yield 2
                die()
            def tree():
                yield from leaf()
            def drive():
                g = tree()
                next(g), next(g)
                g.send(3)
            drive()
        """, """
            File "<string>", line 5 in leaf
            File "<string>", line 7 in tree
            File "<string>", line 11 in drive
            File "<string>", line 12 in <module>
        """)

    def test_generator_throw_and_close(self):
        """Generators that are resumed by an exception."""
        for call in ("throw(ValueError)", "close()"):
            with self.subTest(call=call):
                self.frames("""
                    from die import die
                    def g():
                        try:
                            yield
                        finally:
                            die()
                    x = g()
                    next(x)
                    x.%s
                """ % call, """
                    File "<string>", line 6 in g
                    File "<string>", line 9 in <module>
                """)

    def test_delegating_generator_is_closed(self):
        """One that is closed, and closes another one, is in nobody's stack."""
        for call in ("x.close()", "del x", "x.throw(GeneratorExit)"):
            with self.subTest(call=call):
                self.frames("""
                    from die import die
                    def inner():
                        try:
                            yield
                        finally:
                            die()
                    def outer():
                        yield from inner()
                    def f():
                        x = outer()
                        next(x)
                        %s
                    f()
                """ % call, """
                    File "<string>", line 6 in inner
                    File "<string>", line 12 in f
                    File "<string>", line 13 in <module>
                """)

    def test_suspended_generator(self):
        """A generator that is suspended is in nobody's stack."""
        self.frames("""
            from die import die
            def g():
                yield
            x = g()
            next(x)
            die()
        """, """
            File "<string>", line 6 in <module>
        """)

    def test_coroutines(self):
        """Coroutines under asyncio."""
        self.frames("""
            import asyncio
            from die import die
            async def inner():
                await asyncio.sleep(0)
                die()
            async def outer():
                await inner()
            asyncio.run(outer())
        """, """
            File "<string>", line 5 in inner
            File "<string>", line 7 in outer
            …
        """)

    def test_async_generators(self):
        """Asynchronous generators, comprehensions and managers."""
        self.frames("""
            import asyncio, contextlib
            from die import die
            async def numbers():
                yield 1
                die()
            async def outer():
                async for n in numbers():
                    pass
            asyncio.run(outer())
        """, """
            File "<string>", line 5 in numbers
            File "<string>", line 7 in outer
            …
        """)

    def test_coroutine_by_hand(self):
        """A coroutine that is driven by send()."""
        self.frames("""
            from die import die
            class Wait:
                def __await__(self):
                    yield
                    die()
            async def f():
                await Wait()
            c = f()
            c.send(None)
            c.send(None)
        """, """
            File "<string>", line 5 in __await__
            File "<string>", line 7 in f
            File "<string>", line 10 in <module>
        """)

    def test_class_bodies(self):
        """Class bodies bear the class's name."""
        self.frames("""
            from die import die
            class Outer:
                class Inner:
                    die()
        """, """
            File "<string>", line 4 in Inner
            File "<string>", line 3 in Outer
            File "<string>", line 2 in <module>
        """)

    def test_decorators(self):
        """A decorator is called from its own line, the def's before 3.11."""
        self.frames("""
            from die import die
            def decorate(f):
                die()
            def plain(f):
                return f
            @plain
            @decorate
            @plain
            def f():
                pass
        """, """
            File "<string>", line 3 in decorate
            File "<string>", line %d in <module>
        """ % (7 if sys.version_info >= (3, 11) else 9))

    def test_exec_and_eval(self):
        """Code from strings, with files of their own."""
        self.frames("""
            from die import die
            code = compile("\\n\\neval('die()')", "file one", "exec")
            exec(code)
        """, """
            File "<string>", line 1 in <module>
            File "file one", line 3 in <module>
            File "<string>", line 3 in <module>
        """)

    def test_callbacks_from_c(self):
        """Python called by C called by Python."""
        self.frames("""
            import ctypes, functools
            from die import die
            def key(x):
                die()
            def in_sort(x):
                sorted([1, 2], key=key)
            def in_map(x):
                list(map(in_sort, "a"))
            @ctypes.CFUNCTYPE(None)
            def in_ctypes():
                functools.reduce(lambda x, y: in_map(x), "ab")
            in_ctypes()
        """, """
            File "<string>", line 4 in key
            File "<string>", line 6 in in_sort
            File "<string>", line 8 in in_map
            File "<string>", line 11 in <lambda>
            File "<string>", line 11 in in_ctypes
            File "<string>", line 12 in <module>
        """)

    def test_special_methods(self):
        """Special methods, properties and descriptors."""
        self.frames("""
            from die import die
            class C:
                def __hash__(self):
                    die()
                def __eq__(self, other):
                    return {self}
                def __lt__(self, other):
                    return self == other
                def __getitem__(self, key):
                    return self < 1
                def __getattr__(self, name):
                    return self[1]
                def __enter__(self):
                    self.missing
                def __exit__(self, *error):
                    pass
                def __iter__(self):
                    with self:
                        pass
                def __contains__(self, x):
                    for x in self:
                        pass
                @property
                def value(self):
                    return 1 in self
            C().value
        """, """
            File "<string>", line 4 in __hash__
            File "<string>", line 6 in __eq__
            File "<string>", line 8 in __lt__
            File "<string>", line 10 in __getitem__
            File "<string>", line 12 in __getattr__
            File "<string>", line 14 in __enter__
            File "<string>", line 18 in __iter__
            File "<string>", line 21 in __contains__
            File "<string>", line 25 in value
            File "<string>", line 26 in <module>
        """)

    def test_specialised_init(self):
        """__init__ after thousands of calls, the whole stack below it."""
        self.frames("""
            from die import die
            class C:
                def __init__(self, n):
                    if n == 5000:
                        die()
            def make(n):
                return C(n)
            def loop():
                for n in range(5001):
                    make(n)
            loop()
        """, """
            File "<string>", line 5 in __init__
            File "<string>", line 7 in make
            File "<string>", line 10 in loop
            File "<string>", line 11 in <module>
        """)

    def test_specialised_calls(self):
        """Properties, operators and attributes after thousands of uses."""
        self.frames("""
            from die import die
            class C:
                count = 0
                @property
                def value(self):
                    self.count += 1
                    if self.count == 5000:
                        die()
                    return 1
                def __getattr__(self, name):
                    return self.value
                def __getitem__(self, n):
                    return self.missing
                def __add__(self, n):
                    return self[n]
            def loop(c):
                for n in range(5000):
                    c + n
            loop(C())
        """, """
            File "<string>", line 8 in value
            File "<string>", line 11 in __getattr__
            File "<string>", line 13 in __getitem__
            File "<string>", line 15 in __add__
            File "<string>", line 18 in loop
            File "<string>", line 19 in <module>
        """)

    def test_specialised_generator(self):
        """A loop over a generator after thousands of steps."""
        self.frames("""
            from die import die
            def numbers():
                for n in range(5001):
                    if n == 5000:
                        die()
                    yield n
            def loop():
                for n in numbers():
                    pass
            loop()
        """, """
            File "<string>", line 5 in numbers
            File "<string>", line 8 in loop
            File "<string>", line 10 in <module>
        """)

    def test_metaclass(self):
        """A metaclass's own methods."""
        self.frames("""
            from die import die
            class Meta(type):
                def __call__(cls, *arguments):
                    return super().__call__(*arguments)
            class C(metaclass=Meta):
                def __new__(cls):
                    die()
            C()
        """, """
            File "<string>", line 7 in __new__
            File "<string>", line 4 in __call__
            File "<string>", line 8 in <module>
        """)

    def test_subclass_hook(self):
        """Hooks that run while a class is made."""
        self.frames("""
            from die import die
            class Base:
                def __init_subclass__(cls):
                    die()
            class Derived(Base):
                pass
        """, """
            File "<string>", line 4 in __init_subclass__
            File "<string>", line 5 in <module>
        """)

    def test_del(self):
        """__del__ on the last reference."""
        self.frames("""
            from die import die
            class C:
                def __del__(self):
                    die()
            x = C()
            del x
        """, """
            File "<string>", line 4 in __del__
            File "<string>", line 6 in <module>
        """)

    def test_del_in_collector(self):
        """__del__ in the collector, which the report says."""
        self.frames("""
            import gc
            from die import die
            class C:
                def __del__(self):
                    die()
            x = C()
            x.self = x
            del x
            gc.collect()
        """, """
            File "<string>", line 5 in __del__
            File "<string>", line 9 in <module>
        """, header="  Garbage-collecting\n")

    def test_after_collector(self):
        """The collector is not said to work once it has ended."""
        self.frames("""
            import gc
            from die import die
            class C:
                def __del__(self):
                    pass
            x = C()
            x.self = x
            del x
            gc.collect()
            die()
        """, """
            File "<string>", line 10 in <module>
        """)

    def test_weakref_callback(self):
        """A callback of a weak reference."""
        self.frames("""
            import weakref
            from die import die
            class C:
                pass
            x = C()
            reference = weakref.ref(x, lambda r: die())
            x = None
        """, """
            File "<string>", line 6 in <lambda>
            File "<string>", line 7 in <module>
        """)

    def test_atexit(self):
        """A function that runs at exit has nothing below it."""
        self.frames("""
            import atexit
            from die import die
            @atexit.register
            def last():
                die()
        """, """
            File "<string>", line 5 in last
        """)

    def test_module_teardown(self):
        """__del__ while the modules are taken down."""
        write_file("teardown.py", block("""
            from die import die
            class C:
                def __del__(self, die=die):
                    die()
        """))
        self.frames("""
            import teardown
            keep = teardown.C()
        """, """
            File "teardown.py", line 4 in __del__
        """)

    def test_signal_handler(self):
        """A handler of Python's, on top of what it interrupted."""
        self.frames("""
            import signal
            from die import die
            def on_alarm(signum, frame):
                die()
            def work():
                signal.raise_signal(signal.SIGALRM)
            signal.signal(signal.SIGALRM, on_alarm)
            work()
        """, """
            File "<string>", line 4 in on_alarm
            File "<string>", line 6 in work
            File "<string>", line 8 in <module>
        """)

    def test_exception_handlers(self):
        """Crashes in except and finally blocks."""
        self.frames("""
            from die import die
            def f():
                try:
                    1 / 0
                except ZeroDivisionError:
                    g()
            def g():
                try:
                    raise
                finally:
                    die()
            f()
        """, """
            File "<string>", line 11 in g
            File "<string>", line 6 in f
            File "<string>", line 12 in <module>
        """)

    def test_tracing(self):
        """Frames that are being traced, and the trace function's own."""
        self.frames("""
            import sys
            from die import die
            def trace(frame, event, argument):
                if frame.f_lineno == 9 and event == "line":
                    die()
                return trace
            def f():
                for x in range(3):
                    x += 1
            sys.settrace(trace)
            f()
        """, """
            File "<string>", line 5 in trace
            File "<string>", line 9 in f
            File "<string>", line 11 in <module>
        """)

    def test_traced_function(self):
        """A traced function that crashes by itself."""
        self.frames("""
            import sys
            from die import die
            def trace(frame, event, argument):
                frame.f_trace_opcodes = True
                return trace
            def f(n):
                x = n
                x and f(n - 1)
                x or die()
            sys.settrace(trace)
            f(2)
        """, """
            File "<string>", line 9 in f
            File "<string>", line 8 in f
            File "<string>", line 8 in f
            File "<string>", line 11 in <module>
        """)

    def test_profiling(self):
        """Frames that are being profiled."""
        self.frames("""
            import sys
            from die import die
            def profile(frame, event, argument):
                if event == "return" and frame.f_code is f.__code__:
                    die()
            def f():
                pass
            sys.setprofile(profile)
            f()
        """, """
            File "<string>", line 5 in profile
            File "<string>", line 7 in f
            File "<string>", line 9 in <module>
        """)

    def test_import(self):
        """A module that crashes while it is imported."""
        write_file("crashing.py", "from die import die\n\ndie()\n")
        self.frames("""
            import crashing
        """, """
            File "crashing.py", line 3 in <module>
            …
        """)

    def test_unpacked_arguments(self):
        """Calls with unpacked arguments, through partial objects."""
        self.frames("""
            import functools
            from die import die
            def f(*a, **k):
                die(*a, **k)
            def g(*a, **k):
                functools.partial(f, *a)(**k)
            g(*[], **{})
        """, """
            File "<string>", line 4 in f
            File "<string>", line 6 in g
            File "<string>", line 7 in <module>
        """)

    def deep(self, depth):
        """A stack of so many frames: what traceback would show of it."""
        child = python("""
            import sys
            from die import die
            sys.setrecursionlimit(10**6)
            def f(n):
                if n > 2:
                    f(n - 1)
                else:
                    die()
            f(%d)
        """ % depth, limit=4 * PATIENCE)
        # Most of the time is taken by traceback, to make what we expect.
        self.check(child, SIGSEGV, report(child.out), 4 * PATIENCE)
        return child.out

    def test_100_frames(self):
        """A hundred frames are all shown."""
        self.assertEqual(self.deep(100), (
            '  File "<string>", line 8 in f\n'
            + 98 * '  File "<string>", line 6 in f\n'
            + '  File "<string>", line 9 in <module>\n'))

    def test_more_frames(self):
        """Of more, the 90 innermost and the 10 outermost are shown."""
        for depth in (101, 150, 401):
            with self.subTest(depth=depth):
                self.assertEqual(self.deep(depth), (
                    '  File "<string>", line 8 in f\n'
                    + 89 * '  File "<string>", line 6 in f\n'
                    + '  ... %d frames not shown ...\n' % (depth - 100)
                    + 9 * '  File "<string>", line 6 in f\n'
                    + '  File "<string>", line 9 in <module>\n'))

    def test_100000_frames(self):
        """A stack of any depth is walked to its end."""
        with limits(resource.RLIMIT_STACK, 1 << 30):
            found = self.deep(100000)
        self.assertEqual(found, (
            '  File "<string>", line 8 in f\n'
            + 89 * '  File "<string>", line 6 in f\n'
            + '  ... 99900 frames not shown ...\n'
            + 9 * '  File "<string>", line 6 in f\n'
            + '  File "<string>", line 9 in <module>\n'))


class AgreementTests(CrashCase):
    """Thousands of stacks of real code, ours against the interpreter's."""

    HARNESS = '''
        import gc, os, sys, tempfile
        import faulthandler
        from die import lines
        from work import work

        TITLE = ("Fatal Python error: Segmentation fault\\n\\n"
                 "Traceback (most recent call first):\\n")
        EVERY, WANTED = int(sys.argv[1]), int(sys.argv[2])
        file = tempfile.TemporaryFile()
        outside = os.dup(2)
        events = compared = 0

        def look(frame):
            """Crash a copy of the process; compare what it says."""
            global compared
            expected = lines(frame)
            child = os.fork()
            if child == 0:
                os.dup2(file.fileno(), 2)
                faulthandler.sigsegv()
            status = os.waitpid(child, 0)[1]
            text = os.pread(file.fileno(), 1 << 20, 0).decode("ascii")
            os.ftruncate(file.fileno(), 0)
            os.lseek(file.fileno(), 0, 0)
            found = text[len(TITLE):].splitlines()[2:]
            if not text.startswith(TITLE) or (status, found) != (
                    11, expected):
                os.write(outside, ("status %d\\n%s\\n-- expected\\n%s\\n" % (
                    status, text, "\\n".join(expected))).encode())
                os._exit(1)
            compared += 1

        def event(frame, kind, argument):
            global events
            events += 1
            if events % EVERY == 0 and compared < WANTED:
                look(frame)
            return event

        gc.disable()
    '''

    def agree(self, code, every, wanted):
        """The child compared as many stacks as wanted, all alike."""
        child = python(block(self.HARNESS) + block(code),
                       str(every), str(wanted), limit=4 * PATIENCE)
        self.assertEqual((child.status, child.err, child.out),
                         (0, "", "%d\n" % wanted), child)

    def test_profiled_calls(self):
        """Stacks at calls and returns of the standard library."""
        self.agree("""
            while compared < WANTED:
                sys.setprofile(event)
                work()
                sys.setprofile(None)
            print(compared)
            file.close()
        """, 997, 250)

    def test_traced_lines(self):
        """Stacks at lines of the standard library, traced."""
        self.agree("""
            while compared < WANTED:
                sys.settrace(event)
                work()
                sys.settrace(None)
            print(compared)
            file.close()
        """, 2003, 250)

    def test_interrupted(self):
        """Stacks wherever a timer happens to interrupt the work."""
        self.agree("""
            import signal
            def event(signum, frame):
                look(frame)
                if compared < WANTED:
                    signal.setitimer(signal.ITIMER_REAL, 0.0007)
            signal.signal(signal.SIGALRM, event)
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            while compared < WANTED:
                work()
            print(compared)
            file.close()
        """, 1, 250)


# ---- Threads ---------------------------------------------------------------

class ThreadTests(CrashCase):
    """The other Python threads: order, identities, names, number."""

    def test_main_thread_crashes(self):
        """The crashing thread comes first, then the others."""
        child = python("""
            import _thread, faulthandler
            started, never = _thread.allocate_lock(), _thread.allocate_lock()
            def wait():
                started.release(); never.acquire()
            started.acquire()
            never.acquire()
            print("Thread 0x%016x" % _thread.start_new_thread(wait, ()),
                  flush=True)
            started.acquire()
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 10 in <module>

            Thread 0x… (most recent call first):
              File "<string>", line 4 in wait
        """))
        self.assertIn("\n%s (most" % child.raw_out.strip(), child.raw_err)

    def test_other_thread_crashes(self):
        """The main thread has its place among the others."""
        child = python("""
            import _thread, faulthandler
            lock = _thread.allocate_lock()
            lock.acquire()
            print("Thread 0x%016x" % _thread.get_ident(), flush=True)
            def work():
                faulthandler.sigsegv()
            _thread.start_new_thread(work, ()); lock.acquire()
        """)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 6 in work

            Thread 0x… (most recent call first):
              File "<string>", line 7 in <module>
        """))
        self.assertIn("\n%s (most" % child.raw_out.strip(), child.raw_err)

    def test_crash_without_the_gil(self):
        """The right thread is blamed while another holds the GIL."""
        child = python("""
            import _thread, ctypes, faulthandler
            crash, is_busy = ctypes.CDLL(None).strlen, _thread.allocate_lock()
            def work():
                is_busy.acquire()
                crash(None)
            def busy():
                is_busy.release()
                while True:
                    pass
            is_busy.acquire()
            _thread.start_new_thread(work, ())
            busy()
        """)
        self.check(child, SIGSEGV, child.err)
        self.assertRegex(child.err, block(r"""
            \AFatal Python error: Segmentation fault

            Traceback \(most recent call first\):
              File "<string>", line 5 in work

            Thread 0x… \(most recent call first\):
              File "<string>", line [789] in busy
              File "<string>", line 12 in <module>
            \Z"""))

    def test_thread_names(self):
        """A thread's name is in brackets, where the system knows it."""
        named = " [worker]" if sys.version_info >= (3, 14) else ""
        child = python("""
            import faulthandler, threading
            started, never = threading.Lock(), threading.Lock()
            def wait():
                started.release(); never.acquire()
            started.acquire()
            never.acquire()
            threading.Thread(target=wait, name="worker").start()
            started.acquire()
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 9 in <module>

            Thread 0x…%s (most recent call first):
              File "<string>", line 4 in wait
              File "…/threading.py", line … in run
              File "…/threading.py", line … in _bootstrap_inner
              File "…/threading.py", line … in _bootstrap
        """ % named))

    @unittest.skipIf(sys.version_info < (3, 14), "names are set from 3.14 on")
    def test_escaped_thread_name(self):
        """What a name may hold is escaped; no line is broken by it."""
        child = python("""
            import faulthandler, threading
            started, never = threading.Lock(), threading.Lock()
            def wait():
                started.release(); never.acquire()
            started.acquire()
            never.acquire()
            threading.Thread(target=wait, name="a\\n] \\xe9\\x1b[").start()
            started.acquire()
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, block(r"""
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 9 in <module>

            Thread 0x… [a\x0a] \xe9\x1b[] (most recent call first):
              File "<string>", line 4 in wait
              File "…/threading.py", line … in run
              File "…/threading.py", line … in _bootstrap_inner
              File "…/threading.py", line … in _bootstrap
        """))

    def test_finished_thread(self):
        """A thread that has ended is not shown."""
        self.crash("""
            import faulthandler, threading
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
            faulthandler.sigsegv()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 5 in <module>
        """)

    def many(self, count):
        """The report of the main thread beside so many others."""
        child = python("""
            import _thread, faulthandler
            started, never = _thread.allocate_lock(), _thread.allocate_lock()
            def wait():
                started.release(); never.acquire()
            started.acquire()
            never.acquire()
            for n in range(%d):
                _thread.start_new_thread(wait, ())
                started.acquire()
            faulthandler.sigsegv()
        """ % count)
        numbers = set(re.findall("Thread (.*) \\(", child.raw_err))
        self.assertEqual(len(numbers), min(count, 99))
        return child

    REST = block("""

        Thread 0x… (most recent call first):
          File "<string>", line 4 in wait
    """)

    def test_100_threads(self):
        """A hundred threads are all shown."""
        self.check(self.many(99), SIGSEGV, report(
            '  File "<string>", line 10 in <module>\n')
            + 99 * ("\n" + self.REST))

    def test_120_threads(self):
        """After a hundred threads, three dots end the list."""
        self.check(self.many(120), SIGSEGV, report(
            '  File "<string>", line 10 in <module>\n')
            + 99 * ("\n" + self.REST) + "\n...\n")

    def test_crowd(self):
        """Of threads that crash together one reports, whole and once."""
        for gil in ("PyDLL", "CDLL"):
            with self.subTest(gil=gil):
                child = python("""
                    import ctypes, faulthandler, threading
                    crash = ctypes.%s(None).strlen
                    barrier = threading.Barrier(8)
                    def work():
                        barrier.wait()
                        crash(None)
                    for n in range(8):
                        threading.Thread(target=work).start()
                """ % gil)
                self.assertEqual(status_name(child.status), "-SIGSEGV")
                self.assertTrue(child.err.startswith(block("""
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 6 in work
                      File "…/threading.py", line … in run
                """)), child)
                self.assertEqual(child.err.count("Fatal Python error"), 1)
                for line in child.err.splitlines():
                    self.assertRegex(line, r'^(Fatal Python error: \w+ \w+|'
                                     r'Traceback .*:|Thread 0x.*:|  \S.*|)$')

    def test_native_thread(self):
        """A crash in a thread that Python never saw."""
        self.crash("""
            import ctypes, faulthandler, time
            libc, where = ctypes.CDLL(None), ctypes.byref(ctypes.c_size_t())
            create, strlen = libc.pthread_create, libc.strlen
            create(where, None, strlen, None); time.sleep(60)
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              <no Python frame>

            Thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """)

    def test_thread_without_frames(self):
        """A thread that Python knows, but that runs nothing of it."""
        self.crash("""
            import faulthandler, _thread
            lock = _thread.allocate_lock()
            lock.acquire()
            _thread.start_new_thread(faulthandler.sigsegv, ()); lock.acquire()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              <no Python frame>

            Thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """)


# ---- Fault: real crashes ---------------------------------------------------

class FaultTests(CrashCase):
    """Real crashes: every cause, with and without the GIL."""

    def test_null_read_with_the_gil(self):
        """ctypes reads address 0 and holds the GIL."""
        self.crash("""
            import ctypes, faulthandler
            def f():
                ctypes.string_at(0)
            f()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "…/ctypes/__init__.py", line … in string_at
              File "<string>", line 3 in f
              File "<string>", line 4 in <module>
        """)
        for call in ("ctypes.PyDLL(None).strlen(None)",
                     "ctypes.c_long.from_address(0).value",
                     "ctypes.py_object.from_address(8).value"):
            with self.subTest(call=call):
                self.crash("""
                    import ctypes, faulthandler
                    def f():
                        %s
                    f()
                """ % call, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 3 in f
                      File "<string>", line 4 in <module>
                """)

    def test_null_read_without_the_gil(self):
        """A C function reads address 0 while the GIL is released."""
        self.crash("""
            import ctypes, faulthandler
            def f():
                ctypes.CDLL(None).strlen(None)
            f()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 3 in f
              File "<string>", line 4 in <module>
        """)

    def test_bad_addresses(self):
        """Reads of addresses that are not NULL, and are no address."""
        for address in ("1", "4096", "2**47 - 4096", "2**63", "2**64 - 1",
                        "0xdddddddddddddddd"):
            with self.subTest(address=address):
                self.crash("""
                    import ctypes, faulthandler
                    ctypes.c_char.from_address(%s).value
                """ % address, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 2 in <module>
                """)

    def test_write_to_read_only_page(self):
        """A write to a page that is only readable."""
        self.crash("""
            import ctypes, faulthandler
            libc = ctypes.CDLL(None)
            libc.mmap.restype = ctypes.c_size_t
            page = libc.mmap(None, ctypes.c_size_t(4096), 1, 0x22, -1, 0)
            ctypes.c_char.from_address(page).value
            ctypes.c_char.from_address(page).value = b"x"
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 6 in <module>
        """)

    def test_truncated_file(self):
        """A mapping whose file was truncated meanwhile."""
        self.crash("""
            import faulthandler, mmap, tempfile
            with tempfile.TemporaryFile() as file:
                file.truncate(4096)
                pages = mmap.mmap(file.fileno(), 4096)
                pages[0]
                file.truncate(0)
                pages[0]
        """, """
            Fatal Python error: Bus error

            Traceback (most recent call first):
              File "<string>", line 7 in <module>
        """, SIGBUS)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_illegal_opcode(self):
        """An illegal opcode in machine code made at run time."""
        for kind in ("CFUNCTYPE", "PYFUNCTYPE"):
            with self.subTest(kind=kind):
                self.crash("""
                    import ctypes, faulthandler, machine
                    machine.run("0f0b", ctypes.%s)()
                """ % kind, """
                    Fatal Python error: Illegal instruction

                    Traceback (most recent call first):
                      File "<string>", line 2 in <module>
                """, SIGILL)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_integer_division(self):
        """A division by zero in machine code made at run time."""
        for kind in ("CFUNCTYPE", "PYFUNCTYPE"):
            with self.subTest(kind=kind):
                self.crash("""
                    import ctypes, faulthandler, machine
                    machine.run("31c031d231c9f7f9", ctypes.%s)()
                """ % kind, """
                    Fatal Python error: Floating point exception

                    Traceback (most recent call first):
                      File "<string>", line 2 in <module>
                """, SIGFPE)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_call_through_null(self):
        """A jump to address 0, and to an address that is none."""
        for code in ("31c0ffd0", "48b8ddddddddddddddddffd0"):
            with self.subTest(code=code):
                self.crash("""
                    import faulthandler, machine
                    machine.run("%s")()
                """ % code, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 2 in <module>
                """)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_lost_stack_pointer(self):
        """A crash with a stack pointer that points nowhere."""
        for code in ("31e450", "48bcddddddddddddddddff3425000000000f0b"):
            with self.subTest(code=code):
                self.crash("""
                    import faulthandler, machine
                    machine.run("%s")()
                """ % code, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 2 in <module>
                """)

    def test_abort(self):
        """os.abort()."""
        self.crash("""
            import faulthandler, os
            os.abort()
        """, """
            Fatal Python error: Aborted

            Traceback (most recent call first):
              File "<string>", line 2 in <module>
        """, SIGABRT)

    def test_sent_signals(self):
        """Every signal of the table, raised or sent in every way."""
        for signum, title, _ in SIGNALS:
            for call in ("os.kill(os.getpid(), n)", "signal.raise_signal(n)",
                         "signal.pthread_kill(threading.get_ident(), n)",
                         "ctypes.CDLL(None).raise_(n)"):
                call = call.replace("CDLL(None).raise_", "CDLL(None)['raise']")
                with self.subTest(signal=signum.name, call=call):
                    self.crash("""
                        import ctypes, os, signal, threading, faulthandler
                        n = %d
                        %s
                    """ % (signum, call), """
                        Fatal Python error: %s

                        Traceback (most recent call first):
                          File "<string>", line 3 in <module>
                    """ % title, signum)

    def test_signal_of_another_process(self):
        """A signal from outside, while the process sleeps."""
        for signum, title, _ in SIGNALS:
            with self.subTest(signal=signum.name):
                self.crash("""
                    import os, signal, time
                    import faulthandler
                    def sleeps(pid):
                        with open("/proc/%%d/stat" %% pid) as file:
                            return ") S " in file.read()
                    def nap():
                        parent, (reader, writer) = os.getpid(), os.pipe()
                        if os.fork() == 0:
                            os.read(reader, 1)
                            while not sleeps(parent):
                                time.sleep(0.001)
                            os.kill(parent, %d)
                            os._exit(0)
                        os.write(writer, b"."); time.sleep(60)
                    nap()
                """ % signum, """
                    Fatal Python error: %s

                    Traceback (most recent call first):
                      File "<string>", line 14 in nap
                      File "<string>", line 15 in <module>
                """ % title, signum)

    def test_fork_child(self):
        """A forked child reports its own crash, once."""
        child = python("""
            import faulthandler, os
            pid = os.fork()
            if pid == 0:
                faulthandler.sigfpe()
            print(os.WTERMSIG(os.waitpid(pid, 0)[1]))
        """)
        self.assertEqual((child.status, child.out), (0, "%d\n" % SIGFPE))
        self.assertEqual(child.err, report(
            '  File "<string>", line 4 in <module>\n',
            "Floating point exception"))


# ---- Details ---------------------------------------------------------------

NOWHERE = ": nothing is mapped there (SEGV_MAPERR)"
NO_ADDRESS = ": a non-canonical address, no memory can be there (SI_KERNEL)"
ODD = "0xdddddddddddddddd"
FILL = ", with which CPython fills "
FREED = FILL + "freed memory: likely a use after free"
UNALIGNED = ": this instruction needs an aligned address "
CHECK_ALIGNMENT = "9c810c24000004009d"      # sets EFLAGS.AC

# What machine code of x86-64 dies of, and the lines that say so.  In them
# "0x…" stands for an address, and "…" for anything.
MACHINE_CAUSES = [
    ("call through NULL", SIGSEGV, "31c0ffd0",
     "executing address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("push to NULL", SIGSEGV, "31e450",
     "writing address 0xfffffffffffffff8 (a NULL pointer minus 8)" + NOWHERE),
    ("call of freed memory", SIGSEGV, "48b8ddddddddddddddddffd0",
     "executing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("jump to freed memory", SIGSEGV, "48b8ddddddddddddddddffe0",
     "executing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("call through freed memory", SIGSEGV, "48b8ddddddddddddddddff5010",
     "reading address 0xdddddddddddddded" + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("return to freed memory", SIGSEGV, "48b8dddddddddddddddd50c3",
     "executing address " + ODD + NO_ADDRESS,
     "the address is " + ODD + FREED),
    ("call of what was in memory", SIGSEGV, "48b8dddddddddddddddd50ff1424",
     "executing address " + ODD + NO_ADDRESS,
     "the address is " + ODD + FREED),
    ("index and offset", SIGSEGV, "48b8d5ddddddddddddddb9080000008b448810",
     "reading address 0xddddddddddddde05" + NO_ADDRESS,
     "register rax is 0xddddddddddddddd5, near that with which CPython fills "
     "freed memory: likely a use after free"),
    ("write to freed memory", SIGSEGV, "48b8dddddddddddddddd48894018",
     "writing address 0xddddddddddddddf5" + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("add to freed memory", SIGSEGV, "48b8dddddddddddddddd480118",
     "writing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("compare with freed memory", SIGSEGV, "48b8dddddddddddddddd483b18",
     "reading address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("freed memory as an index", SIGSEGV, "48b9dddddddddddddddd31c0f6040801",
     "reading address " + ODD + NO_ADDRESS,
     "register rcx is " + ODD + FREED),
    ("register of REX", SIGSEGV, "49bddddddddddddddddd498b4500",
     "reading address " + ODD + NO_ADDRESS,
     "register r13 is " + ODD + FREED),
    ("vector from freed memory", SIGSEGV, "48b8dddddddddddddddd0f1000",
     "reading address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("vector to freed memory", SIGSEGV, "48b8dddddddddddddddd0f1100",
     "writing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("absolute address", SIGSEGV, "48a1dddddddddddddddd",
     "reading address " + ODD + NO_ADDRESS,
     "the address is " + ODD + FREED),
    ("copy to memory not written yet", SIGSEGV,
     "48bfcdcdcdcdcdcdcdcd4889e6b910000000f3a4",
     "writing address 0xcdcdcdcdcdcdcdcd" + NO_ADDRESS,
     "register rdi is 0xcdcdcdcdcdcdcdcd" + FILL + "memory that was not "
     "written yet: likely a use too early, or after free"),
    ("copy from old freed memory", SIGSEGV,
     "48bedbdbdbdbdbdbdbdb4889e7b901000000f3a4",
     "reading address 0xdbdbdbdbdbdbdbdb" + NO_ADDRESS,
     "register rsi is 0xdbdbdbdbdbdbdbdb" + FREED),
    ("fill past the end of a block", SIGSEGV,
     "48bffdfdfdfdfdfdfdfdb910000000f3aa",
     "writing address 0xfdfdfdfdfdfdfdfd" + NO_ADDRESS,
     "register rdi is 0xfdfdfdfdfdfdfdfd" + FILL + "the ends of a block: "
     "likely a use past its end, or after free"),
    ("push to freed memory", SIGBUS, "48bcdddddddddddddddd50",
     "writing address 0xddddddddddddddd5" + NO_ADDRESS,
     "register rsp is " + ODD + FREED),
    ("not canonical, no pattern", SIGSEGV, "48b8000000000000800050588b00",
     "reading address 0x0080000000000000" + NO_ADDRESS),
    ("the last bytes are not canonical", SIGSEGV,
     "48b8fcffffffff7f0000488b00",
     "reading address 0x00007ffffffffffc" + NO_ADDRESS),
    ("not aligned for a vector", SIGSEGV, "4889e04883e0f00f284001",
     "reading address 0x…" + UNALIGNED + "(SI_KERNEL)"),
    ("not aligned, alignment checked", SIGBUS,
     CHECK_ALIGNMENT + "4889e04883e0f08b4001",
     "reading address 0x…" + UNALIGNED + "(BUS_ADRALN)"),
    # At 9 of its page, and counted from its end, with the constant.
    ("not aligned, behind it a byte", SIGBUS,
     CHECK_ALIGNMENT + "833d4100000001",
     "reading address …051" + UNALIGNED + "(BUS_ADRALN)"),
    ("not aligned, behind it two bytes", SIGBUS,
     CHECK_ALIGNMENT + "66813d410000000100",
     "reading address …053" + UNALIGNED + "(BUS_ADRALN)"),
    ("not aligned, behind it four bytes", SIGBUS,
     CHECK_ALIGNMENT + "813d4000000001000000",
     "reading address …053" + UNALIGNED + "(BUS_ADRALN)"),
    ("not aligned, a test of four bytes", SIGBUS,
     CHECK_ALIGNMENT + "f7054000000001000000",
     "reading address …053" + UNALIGNED + "(BUS_ADRALN)"),
    ("halt", SIGSEGV, "f4c3",
     "an instruction that only the kernel may use: f4 c3" + 13 * " 00"
     + " at address 0x… (SI_KERNEL)"),
    ("interrupt without a handler", SIGSEGV, "cd81",
     "an instruction that only the kernel may use: cd 81" + 13 * " 00"
     + " at address 0x… (SI_KERNEL)"),
    ("interrupt of an overflow", SIGSEGV, "cd04",
     "sent by the kernel (SI_KERNEL)"),
    ("unreachable", SIGILL, "0f0b",
     "illegal opcode: 0f 0b" + 13 * " 00" + " (ud2, by which compilers mark "
     "what must not be reached) at address 0x… (ILL_ILLOPN)"),
    ("illegal opcode", SIGILL, "0601",
     "illegal opcode: 06 01" + 13 * " 00" + " at address 0x… (ILL_ILLOPN)"),
    ("division by zero", SIGFPE, "31c031d231c9f7f9",
     "integer division by zero (FPE_INTDIV)"),
    ("division by zero in ah", SIGFPE, "31c0f6f4",
     "integer division by zero (FPE_INTDIV)"),
    ("division by zero in memory", SIGFPE, "31c031d26a00f73c24",
     "integer division by zero (FPE_INTDIV)"),
    ("INT_MIN / -1", SIGFPE, "b80000008099b9fffffffff7f9",
     "integer division overflow, the quotient does not fit (FPE_INTDIV)"),
    ("quotient of 65 bits", SIGFPE, "48c7c2ffffffff48c7c10100000048f7f1",
     "integer division overflow, the quotient does not fit (FPE_INTDIV)"),
    # ldmxcsr makes one exception of floating point numbers a trap.
    ("1.0 / 0.0", SIGFPE,
     "68801d00000fae1424b801000000f30f2ac00f57c9f30f5ec1",
     "floating point division by zero (FPE_FLTDIV)"),
    ("0.0 / 0.0", SIGFPE, "68001f00000fae14240f57c00f57c9f30f5ec1",
     "invalid floating point operation (FPE_FLTINV)"),
    ("too large a float", SIGFPE,
     "68801b00000fae1424b80000007f660f6ec0f30f59c0",
     "floating point overflow (FPE_FLTOVF)"),
    ("too small a float", SIGFPE,
     "68801700000fae1424b800008000660f6ec0f30f59c0",
     "floating point underflow (FPE_FLTUND)"),
    ("1.0 / 3.0", SIGFPE,
     "68800f00000fae1424b801000000b903000000f30f2ac0f30f2ac9f30f5ec1",
     "inexact floating point result (FPE_FLTRES)"),
]

# The same for Python code; its last line dies.
CAUSES = [
    ("read of NULL", SIGSEGV, "libc.strlen(None)",
     "reading address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("read of a field of NULL", SIGSEGV,
     "ctypes.c_char.from_address(16).value",
     "reading address 0x0000000000000010 (a NULL pointer plus 16)" + NOWHERE),
    ("write of NULL", SIGSEGV, "libc.memset(ctypes.c_void_p(0), 1, 1)",
     "writing address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("before NULL", SIGSEGV, "ctypes.c_char.from_address(2**64 - 16).value",
     "reading address 0xfffffffffffffff0 (a NULL pointer minus 16)"
     + NOWHERE),
    ("the last that is NULL plus", SIGSEGV,
     "ctypes.c_char.from_address(65535).value",
     "reading address 0x000000000000ffff (a NULL pointer plus 65535)"
     + NOWHERE),
    ("the first that is not", SIGSEGV,
     "ctypes.c_char.from_address(65536).value",
     "reading address 0x0000000000010000" + NOWHERE),
    ("the kernel", SIGSEGV,
     "ctypes.c_char.from_address(0xffff888000000000).value",
     "reading address 0xffff888000000000 (the kernel's part of the addresses)"
     + NOWHERE),
    ("a forbidden page", SIGSEGV,
     "ctypes.c_char.from_address(page(0)).value",
     "reading address 0x…: the mapping allows no access (SEGV_ACCERR)"),
    ("write to a page for reading", SIGSEGV,
     "libc.memset(ctypes.c_void_p(page(1)), 1, 1)",
     "writing address 0x…: the mapping allows only reading (SEGV_ACCERR)"),
    ("write to code", SIGSEGV, "libc.memset(ctypes.c_void_p(page(5)), 1, 1)",
     "writing address 0x…: the mapping allows only reading and executing "
     "(SEGV_ACCERR)"),
    ("call of data", SIGSEGV, "ctypes.CFUNCTYPE(None)(page(3))()",
     "executing address 0x…: the mapping allows only reading and writing "
     "(SEGV_ACCERR)"),
    ("call of nothing", SIGSEGV, "ctypes.CFUNCTYPE(None)(0x700000000000)()",
     "executing address 0x0000700000000000" + NOWHERE),
    ("write to a mapped file", SIGSEGV, """
        file = open(os.path.join(folder, "a b"), "wb+")
        file.truncate(4096)
        at = libc.mmap(None, word(4096), 1, 1, file.fileno(), 0)
        libc.memset(ctypes.c_void_p(at), 1, 1)
     """, "writing address 0x…: the mapping of …/a b allows only reading "
     "(SEGV_ACCERR)"),
    ("past the end of a file", SIGBUS, """
        file = open(os.path.join(folder, "short"), "wb+")
        file.truncate(8192)
        at = libc.mmap(None, word(8192), 3, 1, file.fileno(), 0)
        file.truncate(1)
        ctypes.c_char.from_address(at + 5000).value
     """, "reading address 0x…: past the end of the mapped file …/short "
     "(BUS_ADRERR)"),
    ("past the end of a deleted file", SIGBUS, """
        file = open(os.path.join(folder, "gone"), "wb+")
        file.truncate(8192)
        at = libc.mmap(None, word(8192), 3, 1, file.fileno(), 0)
        file.truncate(0), os.unlink(file.name)
        libc.memset(ctypes.c_void_p(at), 1, 1)
     """, "writing address 0x…: past the end of the mapped file …/gone "
     "(deleted), or no memory for it is left (BUS_ADRERR)"),
    ("os.abort()", SIGABRT, "os.abort()", "abort() was called (SI_TKILL)"),
    ("_sigabrt()", SIGABRT, "faulthandler._sigabrt()",
     "abort() was called (SI_TKILL)"),
    ("raise(SIGABRT)", SIGABRT, "signal.raise_signal(6)",
     "sent by this process with raise() or pthread_kill() (SI_TKILL)"),
    ("pthread_kill()", SIGBUS,
     "signal.pthread_kill(threading.get_ident(), 7)",
     "sent by this process with raise() or pthread_kill() (SI_TKILL)"),
    ("kill()", SIGSEGV, "os.kill(os.getpid(), 11)",
     "sent by this process with kill() (SI_USER)"),
    ("kill(SIGABRT)", SIGABRT, "os.kill(os.getpid(), 6)",
     "sent by this process with kill() (SI_USER)"),
    ("sigqueue()", SIGFPE,
     "libc.sigqueue(os.getpid(), 8, ctypes.c_void_p(2**64 - 5))",
     "sent by this process with sigqueue(), value -5 (SI_QUEUE)"),
]

# All that Linux can deliver, by number: si_code, name, words.  No process
# has the number 4711000: it is beyond Linux's largest one, 4194304.
CODES = {
    SIGSEGV: [
        (1, "SEGV_MAPERR", "nothing is mapped there"),
        (2, "SEGV_ACCERR", "that is not allowed there"),
        (3, "SEGV_BNDERR", "it is out of the object's bounds"),
        (4, "SEGV_PKUERR", "its protection key forbids it, number …"),
        (5, "SEGV_ACCADI", "memory tagging is not enabled there"),
        (6, "SEGV_ADIDERR", "a wrong memory tag, noticed later"),
        (7, "SEGV_ADIPERR", "a wrong memory tag"),
        (8, "SEGV_MTEAERR", "a wrong memory tag, noticed later"),
        (9, "SEGV_MTESERR", "a wrong memory tag"),
        (10, "SEGV_CPERR", "the return address or the jump's target was "
                           "tampered with"),
        (11, "si_code 11", "the kernel says no more")],
    SIGBUS: [
        (1, "BUS_ADRALN", "the address is not aligned"),
        (2, "BUS_ADRERR", "there is no memory behind it"),
        (3, "BUS_OBJERR", "the hardware of this object failed"),
        (4, "BUS_MCEERR_AR", "the machine's memory is broken there"),
        (5, "BUS_MCEERR_AO", "the machine's memory is broken there, found "
                             "before it was used"),
        (6, "si_code 6", "the kernel says no more")],
    SIGFPE: [
        (1, "FPE_INTDIV", "integer division by zero or overflow"),
        (2, "FPE_INTOVF", "integer overflow"),
        (3, "FPE_FLTDIV", "floating point division by zero"),
        (4, "FPE_FLTOVF", "floating point overflow"),
        (5, "FPE_FLTUND", "floating point underflow"),
        (6, "FPE_FLTRES", "inexact floating point result"),
        (7, "FPE_FLTINV", "invalid floating point operation"),
        (8, "FPE_FLTSUB", "subscript out of range"),
        (9, "FPE_DECOVF", "decimal overflow"),
        (10, "FPE_DECDIV", "decimal division by zero"),
        (11, "FPE_DECERR", "decimal packed number is not valid"),
        (12, "FPE_INVASC", "invalid digit"),
        (13, "FPE_INVDEC", "invalid decimal digit"),
        (14, "FPE_FLTUNK", "floating point exception, not told which"),
        (15, "FPE_CONDTRAP", "trap on a condition"),
        (16, "si_code 16", "the kernel says no more")],
    SIGILL: [
        (1, "ILL_ILLOPC", "illegal opcode: ???"),
        (2, "ILL_ILLOPN", "illegal operand: ???"),
        (3, "ILL_ILLADR", "illegal addressing mode: ???"),
        (4, "ILL_ILLTRP", "illegal trap: ???"),
        (5, "ILL_PRVOPC", "privileged opcode: ???"),
        (6, "ILL_PRVREG", "privileged register: ???"),
        (7, "ILL_COPROC", "coprocessor error: ???"),
        (8, "ILL_BADSTK", "error of the register stack: ???"),
        (9, "ILL_BADIADDR", "instruction at an impossible address: ???"),
        (10, "ILL_BREAK", "illegal break: ???"),
        (11, "ILL_BNDMOD", "bundle was changed while it ran: ???"),
        (12, "si_code 12", "the kernel says no more: ???")],
    SIGABRT: [
        (1, "si_code 1", "the kernel says no more"),
        (0x80, "SI_KERNEL", "sent by the kernel"),
        (0, "SI_USER", "sent by process 4711000 of user 1000 with kill()"),
        (-1, "SI_QUEUE", "sent by process 4711000 of user 1000 with "
                         "sigqueue(), value 0"),
        (-2, "SI_TIMER", "a timer of this process has run out"),
        (-3, "SI_MESGQ", "sent by process 4711000 of user 1000, as a message "
                         "came into a queue"),
        (-4, "SI_ASYNCIO", "sent by process 4711000 of user 1000, as "
                           "asynchronous input or output was done"),
        (-5, "SI_SIGIO", "a file is ready for input or output"),
        (-6, "SI_TKILL", "sent by process 4711000 of user 1000 with tgkill()"),
        (-7, "SI_DETHREAD", "execve() ended the process's other threads"),
        (-60, "SI_ASYNCNL", "sent by process 4711000 of user 1000, as a name "
                            "was looked up"),
        (-99, "si_code -99", "sent by process 4711000 of user 1000")],
}

OVERFLOW = r"""
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define RECURSE(name, size) \
    __attribute__((noinline)) int name(int depth) \
    { \
        volatile char frame[size]; \
        frame[0] = (char)depth; \
        frame[size - 1] = 1; \
        int below = name(depth + 1); \
        return below + frame[0] + frame[size - 1]; \
    }
RECURSE(small, 64)
RECURSE(page, 4096)
RECURSE(large, 65536)
RECURSE(larger, 1 << 20)
RECURSE(largest, 20 << 20)

__attribute__((noinline)) int
push(int unused)
{
    (void)unused;
    for (;;) {
        __asm__ volatile("" :: "r"(alloca(16)) : "memory");
        *(volatile char *)alloca(16) = 1;
    }
}

/* What is no overflow of the thread's stack. */

__attribute__((noinline)) int
near(int offset)
{
    pthread_attr_t attributes;
    void *low;
    size_t size;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &size);
    return *(volatile char *)((char *)low + offset);
}

static ucontext_t before, inside;

static void
overflow_here(void)
{
    small(0);
}

int
coroutine(int unused)
{
    char *memory = mmap(NULL, 1 << 18, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)unused;
    mprotect(memory + 4096, (1 << 18) - 4096, PROT_READ | PROT_WRITE);
    getcontext(&inside);
    inside.uc_stack.ss_sp = memory + 4096;
    inside.uc_stack.ss_size = (1 << 18) - 4096;
    inside.uc_link = &before;
    makecontext(&inside, overflow_here, 0);
    return swapcontext(&before, &inside);
}

static void
on_signal(int signum)
{
    small(signum);
}

int
alternate(int unused)
{
    struct sigaction action;
    (void)unused;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGUSR1, &action, NULL);
    return raise(SIGUSR1);
}

int
null_call(int unused)
{
    void (*volatile function)(void) = NULL;
    (void)unused;
    function();
    return 1;
}

/* A thread whose stack has a neighbour: from above the stack, forbidden
   memory, another stack, forbidden memory. */

#define KIB(n) ((size_t)(n) << 10)
static char *base;

static void
write_upwards(void)
{
    static volatile char *at;
    volatile char here = 0;
    for (at = &here;;) {
        *++at = 1;
    }
}

__attribute__((noinline)) static int
reach_over(int unused)
{
    volatile char frame[KIB(1800)];
    frame[0] = (char)unused;
    return frame[unused];
}

static void *
beside(void *kind)
{
    stack_t handler = {.ss_sp = malloc(KIB(128)), .ss_size = KIB(128)};
    char *other = base + KIB(2560);
    size_t size = KIB(512) - 4096;
    if (*(int *)kind == 1) {
        handler.ss_sp = other;
        handler.ss_size = size;
    }
    sigaltstack(&handler, NULL);
    switch (*(int *)kind) {
    case 1:
        alternate(0);
        break;
    case 2:
        reach_over(0);
        break;
    default:
        getcontext(&inside);
        inside.uc_stack.ss_sp = other;
        inside.uc_stack.ss_size = size;
        inside.uc_link = &before;
        makecontext(&inside, *(int *)kind == 0 ? overflow_here
                                               : write_upwards, 0);
        swapcontext(&before, &inside);
    }
    return NULL;
}

int
neighbour(int kind)
{
    pthread_attr_t attributes;
    pthread_t thread;
    base = mmap(NULL, KIB(4096), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0);
    mprotect(base + KIB(3072), KIB(1024), PROT_READ | PROT_WRITE);
    mprotect(base + KIB(2560), KIB(512) - 4096, PROT_READ | PROT_WRITE);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, base + KIB(3072), KIB(1024));
    pthread_create(&thread, &attributes, beside, &kind);
    return pthread_join(thread, NULL);
}

/* A fault that somebody's handler has dealt with. */

static sigjmp_buf repaired;

static void
on_repair(int signum)
{
    siglongjmp(repaired, signum);
}

int
repair(int unused)
{
    struct sigaction action, former;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_repair;
    sigaction(SIGSEGV, &action, &former);
    if (sigsetjmp(repaired, 1) == 0) {
        *(volatile char *)16 = (char)unused;
    }
    return sigaction(SIGSEGV, &former, NULL);
}
"""


class DetailsTests(CrashCase):
    """details=True: why it died, in which thread of which process."""

    START = """
        import ctypes, os, signal, sys, threading, time
        import faulthandler
        faulthandler.enable(all_threads=False, c_stack=False, details=True)
        word = ctypes.c_size_t
        libc = ctypes.CDLL(None)
        libc.mmap.restype = word
        def page(access):
            return libc.mmap(None, word(4096), access, 0x22, -1, 0)
    """

    CONTEXT = ("thread N [MainThread] of process N, CPython %d.%d.%d…, "
               "T, up N s, faulthandler 1.0" % sys.version_info[:3])

    def expect(self, child, signum, lines, frames, context=CONTEXT, more=(),
               title=None):
        """It died so, and the report is the title, these lines, the stack."""
        if title is None:
            title = dict((number, text) for number, text, _ in SIGNALS)[signum]
            if signum == SIGFPE and sys.version_info >= (3, 13):
                title = "Floating-point exception"
        expected = "Fatal Python error: %s\n%s\n%s" % (
            title, "".join("  %s\n" % line
                           for line in [*lines, context, *more]), frames)
        pattern = re.escape(expected)
        for mark, meaning in [("0x…", "0x[0-9a-f]{16}"), ("…", ".*?"),
                              ("thread N", r"thread \d+"),
                              ("process N", r"process \d+"),
                              (", T,", r", \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ,"),
                              ("up N s", r"up \d+\.\d s")]:
            pattern = pattern.replace(re.escape(mark), meaning)
        self.assertEqual(status_name(child.status), status_name(-signum),
                         child)
        if not re.fullmatch(pattern, child.err):
            self.assertEqual(child.err, expected)
        self.assertLess(child.seconds, LIMIT)

    def dies(self, code, signum, *lines, **options):
        """Run code whose last line dies: the report says these lines."""
        code = block(self.START) + block(code)
        last = len(code.rstrip().splitlines())
        self.expect(python(code), signum, lines,
                    'Stack (most recent call first):\n'
                    '  File "<string>", line %d in <module>\n' % last,
                    **options)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_causes_of_machine_code(self):
        """What the processor refuses, each way."""
        for name, signum, digits, *lines in MACHINE_CAUSES:
            with self.subTest(name):
                self.dies("""
                    import machine
                    machine.run(%r)()
                """ % digits, signum, *lines)

    @unittest.skipUnless("avx512f" in PROCESSOR, "needs AVX-512")
    def test_scaled_displacement(self):
        """What is not decoded is shown as bytes, also behind a prefix."""
        for digits in ("62f17c48284801", "6462f17c48284801"):
            with self.subTest(digits):
                self.dies("""
                    import machine
                    machine.run("b801000000" + %r)()
                """ % digits, SIGSEGV, "a non-canonical address, or an "
                          "instruction that is not allowed: %s… "
                          "at address 0x… (SI_KERNEL)"
                          % " ".join(re.findall("..", digits)))

    def test_causes(self):
        """What Python code can do wrong, with memory and with signals."""
        for name, signum, code, *lines in CAUSES:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.dies("folder = %r\n" % folder + block(code), signum,
                          *lines)

    @unittest.skipUnless(X86_64, "needs addresses that are not canonical")
    def test_use_after_free(self):
        """An object that was freed, under CPython's debug allocator."""
        child = python(block(self.START) + block("""
            class Thing:
                pass
            thing = Thing()
            ctypes.pythonapi.PyObject_GC_Del(ctypes.c_void_p(id(thing)))
            thing.name
        """), env=environment(PYTHONMALLOC="debug"))
        self.assertRegex(child.err, (
            r"(?m)^  \w+ing address 0xdddddddddddd[0-9a-f]{4}: "
            r"a non-canonical address, no memory can be there "
            r"\(SI_KERNEL\)\n"
            r"  register r\w+ is 0xdd\w+, .*: likely a use after free\n"))

    def test_all_codes(self):
        """Every si_code of each signal, sent with it, has its words."""
        for signum, rows in CODES.items():
            for code, name, words in rows:
                if signum in (SIGSEGV, SIGBUS):
                    words = ("accessing address 0x0000700000000000: "
                             + words)
                elif signum == SIGILL:
                    words += " at address 0x0000700000000000"
                with self.subTest(signal=signum.name, code=name):
                    self.dies("""
                        import struct
                        info = struct.pack("iiii", %d, 0, %d, 0)
                        who = struct.pack("ii", 4711000, 1000)
                        where = struct.pack("Q", 0x700000000000)
                        info += who if %d <= 0 else where
                        info = ctypes.create_string_buffer(info, 128)
                        number = 297 if %r else 240
                        me = os.getpid(), threading.get_native_id()
                        libc.syscall(number, *me, %d, info)
                    """ % (signum, code, code, X86_64, signum), signum,
                              "%s (%s)" % (words, name))

    def test_another_process(self):
        """A signal of another process, of another user if that can be."""
        child = python(block(self.START) + block("""
            parent, (reader, writer) = os.getpid(), os.pipe()
            if os.fork() == 0:
                print(os.getpid(), os.getuid(), flush=True)
                os.read(reader, 1)
                os.kill(parent, 4)
                os._exit(0)
            os.setuid(1234) if os.getuid() == 0 else None
            os.write(writer, b"."); time.sleep(60)
        """))
        self.expect(child, SIGILL, [
            "sent by process %s of user %s with kill() (SI_USER)"
            % tuple(child.out.split())], 'Stack (most recent call first):\n'
            '  File "<string>", line 16 in <module>\n')

    def test_process_from_outside(self):
        """One that has no number in this process's namespace."""
        self.dies("""
            import struct
            info = struct.pack("iiiiii", 11, 0, 0, 0, 0, 1000)
            info = ctypes.create_string_buffer(info, 128)
            me = os.getpid(), threading.get_native_id()
            libc.syscall(297 if %r else 240, *me, 11, info)
        """ % X86_64, SIGSEGV, "sent by a process from outside, of user 1000 "
                  "with kill() (SI_USER)")

    def test_fatal_error(self):
        """Py_FatalError() reports by itself: what it does not say follows."""
        child = python(block(self.START) + "faulthandler._fatal_error(b'x')\n")
        self.assertEqual(status_name(child.status), "-SIGABRT")
        self.assertEqual(child.err.count("Fatal Python error: "), 1)
        self.assertRegex(child.err, (
            r'  File "<string>", line 9 in <module>\n\n'
            r"  abort\(\) was called by Py_FatalError\(\) \(SI_TKILL\)\n"
            r"  thread \d+ \[MainThread\] of process \d+, CPython .*\n\Z"))

    def test_only_when_asked(self):
        """Without details the report is what it was."""
        for call in ("()", "(all_threads=False, c_stack=False)",
                     "(details=False, all_threads=False, c_stack=False)",
                     "(details=True); faulthandler.enable()"):
            with self.subTest(call=call):
                first = "Traceback" if call.endswith("()") else "Stack"
                self.crash("""
                    import faulthandler
                    faulthandler.enable%s
                    faulthandler._read_null()
                """ % call, """
                    Fatal Python error: Segmentation fault

                    %s (most recent call first):
                      File "<string>", line 3 in <module>
                """ % first)

    # ---- The stack of this thread overflowed ----

    @classmethod
    def overflow_library(cls, *flags):
        """Compile what overflows; the name of the library."""
        compile_with = compiler()
        if compile_with is None:
            raise unittest.SkipTest("needs a C compiler")
        name = os.path.join(FOLDER, "overflow%s.so" % "".join(flags))
        if not os.path.exists(name):
            child = run(compile_with, "-fPIC", "-shared", "-w", "-pthread",
                        *flags, write_file("overflow.c", OVERFLOW), "-o",
                        name, env=environment(LD_PRELOAD=""), limit=120)
            if child.status:
                raise AssertionError(child)
        return name

    RUN = """
        def crash(function, where, argument=0):
            if where == "main":
                function(argument)
            elif where == "fork":
                __import__("warnings").simplefilter("ignore")
                def fork():
                    pid = os.fork()
                    if pid == 0:
                        function(argument)
                    status = os.waitpid(pid, 0)[1]
                    faulthandler.disable()
                    os.kill(os.getpid(), status & 127)
                threading.Thread(target=fork).start()
            else:
                if where != "thread":
                    threading.stack_size(int(where) * 1024)
                threading.Thread(target=function, args=(argument,)).start()
    """

    def overflow(self, flags, function, where, argument=0):
        """The lines of the report of a crash in a thread."""
        library = self.overflow_library(*flags)
        child = python(block(self.START) + block(self.RUN) + block("""
            crash(ctypes.CDLL(%r)[%r], %r, %d)
        """ % (library, function, where, argument)))
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertEqual(child.err.count("Fatal Python error: "), 1, child)
        self.assertLess(child.seconds, LIMIT)
        self.assertEqual(child.err.splitlines()[0],
                         "Fatal Python error: Segmentation fault", child)
        return child.err.splitlines()[1:2]

    BUILDS = [("-O0",), ("-O2", "-fno-stack-clash-protection"),
              ("-O2", "-fstack-clash-protection")]

    def test_overflow(self):
        """Frames of all sizes, in the main thread and in others."""
        sizes = {"main": 8192, "thread": 8192, "fork": 8192, "256": 256}
        soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
        if soft != 8192 * 1024:
            del sizes["main"], sizes["thread"], sizes["fork"]
        for flags in self.BUILDS:
            for function in ("push", "small", "page", "large", "larger"):
                for where, size in sizes.items():
                    if where in ("fork", "256") and (
                            flags != self.BUILDS[0] or "large" in function):
                        continue        # may come to rest elsewhere
                    with self.subTest(flags=flags, function=function,
                                      where=where):
                        line, = self.overflow(flags, function, where)
                        self.assertRegex(line, (
                            r"^  The stack of this thread overflowed "
                            r"\(%d KiB, address 0x[0-9a-f]{16}\): writing "
                            r"below its end \(SEGV_(MAP|ACC)ERR\)$" % size))

    def test_overflow_by_one_frame(self):
        """A frame that is larger than the stack, by far."""
        for flags in self.BUILDS[1:]:
            for where in ("main", "thread"):
                with self.subTest(flags=flags, where=where):
                    line, = self.overflow(flags, "largest", where)
                    self.assertIn("  The stack of this thread overflowed (",
                                  line)

    def test_no_overflow(self):
        """What comes near to it, and is none."""
        cases = [("near", -1), ("near", -2048), ("near", -4096),
                 ("coroutine", 0), ("alternate", 0), ("null_call", 0)]
        for flags in self.BUILDS[:2]:
            for function, argument in cases:
                for where in ("main", "thread", "256", "fork"):
                    if where in ("256", "fork") and "-O0" in flags:
                        continue
                    with self.subTest(flags=flags, function=function,
                                      argument=argument, where=where):
                        line, = self.overflow(flags, function, where,
                                              argument)
                        self.assertRegex(line, (
                            r"^  (reading|writing|executing) address 0x"))

    @unittest.skipUnless(X86_64, "the frame's size is read from the code")
    def test_neighbour_of_the_stack(self):
        """A full stack below this one, a frame over it, a write from it."""
        for kind, expected in [
                (0, "writing address 0x"),      # a coroutine's
                (1, "writing address 0x"),      # the signal handlers'
                (2, "The stack of this thread overflowed (1024 KiB, "),
                (3, "writing address 0x")]:
            for flags in self.BUILDS[:2]:
                with self.subTest(kind=kind, flags=flags):
                    line, = self.overflow(flags, "neighbour", "main", kind)
                    self.assertEqual(line[:2 + len(expected)],
                                     "  " + expected)

    def test_around_the_alternate_stack(self):
        """Large frames do not come to rest on the handlers' stack."""
        child = python("""
            import ctypes, faulthandler, threading
            class Stack(ctypes.Structure):
                _fields_ = [("start", ctypes.c_size_t),
                            ("flags", ctypes.c_int),
                            ("size", ctypes.c_size_t)]
            def look():
                stack = Stack()
                ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
                end = 0
                for line in open("/proc/self/maps"):
                    first, last = (int(n, 16)
                                   for n in line.split()[0].split("-"))
                    if first == stack.start:
                        end = last
                    elif first == end:
                        print(line.split()[1], last - first >= 1 << 20)
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        """)
        self.assertEqual(child.out, "---p True\n", child)

    def test_fault_long_ago(self):
        """What the processor said of an older fault is not told again."""
        self.dies("""
            import struct
            ctypes.CDLL(%r).repair(0)
            info = struct.pack("iiiiQ", 11, 0, 1, 0, 0x700000000000)
            info = ctypes.create_string_buffer(info, 128)
            me = os.getpid(), threading.get_native_id()
            libc.syscall(297 if %r else 240, *me, 11, info)
        """ % (self.overflow_library("-O2"), X86_64), SIGSEGV,
                  "accessing address 0x0000700000000000" + NOWHERE)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_smashed_stack_pointer(self):
        """A stack pointer that points nowhere is no overflow."""
        for digits in ("48bc00000000007000005031c0c3", "4881ec0000004050",
                       "31e450"):
            with self.subTest(digits):
                child = python(block(self.START) + block("""
                    import machine
                    machine.run(%r)()
                """ % digits))
                self.assertIn("\n  writing address 0x", child.err)
                self.assertNotIn("overflowed", child.err)

    def test_limit_of_the_main_thread(self):
        """The size is the limit that the thread ran into."""
        for kib in (1024, 2000, 16384):
            with self.subTest(kib=kib):
                library = self.overflow_library("-O2")
                with limits(resource.RLIMIT_STACK, kib * 1024):
                    child = python(block(self.START) + block("""
                        ctypes.CDLL(%r).small(0)
                    """ % library))
                self.assertRegex(child.err, (
                    r"\n  The stack of this thread overflowed \(%d KiB, "
                    % kib))

    def test_no_descriptors_left(self):
        """Without a descriptor to read /proc with, nothing is missing."""
        library = self.overflow_library("-O2")
        child = python(block(self.START) + block("""
            import resource
            small = ctypes.CDLL(%r).small
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            small(0)
        """ % library))
        self.assertRegex(child.err, r"\n  The stack of this thread overflowed "
                                    r"\(.*\n.*, up \d+\.\d s, ")

    def test_without_proc(self):
        """Where there is no /proc, the lines are shorter."""
        if os.getuid() != 0:
            self.skipTest("only root may change the root folder")
        with tempfile.TemporaryDirectory() as folder:
            child = python(block(self.START) + block("""
                at = page(0)
                os.chroot(%r)
                ctypes.c_char.from_address(at).value
            """ % folder))
        self.expect(child, SIGSEGV, [
            "reading address 0x…: that is not allowed there (SEGV_ACCERR)"],
            'Stack (most recent call first):\n'
            '  File "<string>", line 11 in <module>\n',
            self.CONTEXT.replace(", up N s", ""))

    def test_many_mappings(self):
        """A large map is read within the time that a report has."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        child = python(block(self.START) + block("""
            for number in range(30000):
                page(1 + number % 2 * 2)
            at = page(0)
            ctypes.c_char.from_address(at).value
        """))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.assertIn(": the mapping allows no access (SEGV_ACCERR)\n",
                      child.err)
        self.assertLess(child.seconds, LIMIT)
        # Of the processor's time, which no other process adds to.
        self.assertLess(after.ru_utime + after.ru_stime
                        - before.ru_utime - before.ru_stime, 5)

    def test_main_thread_has_ended(self):
        """Another thread dies, when the process's first one is gone."""
        child = python(block(self.START) + block("""
            def late():
                has_ended = False
                while not has_ended:
                    time.sleep(0.001)
                    with open("/proc/%d/stat" % os.getpid()) as file:
                        has_ended = ") Z " in file.read()
                ctypes.c_char.from_address(page(0)).value
            threading.Thread(target=late, name="late").start()
            libc.pthread_exit(None)
        """))
        found = re.search(
            r"\n  reading address 0x\w+: the mapping allows no access .*"
            r"\n  thread \d+ \[late\] of process \d+, .*, up (\d+\.\d) s, ",
            child.err)
        self.assertIsNotNone(found, child)
        self.assertLess(float(found.group(1)), child.seconds + 0.1)

    # ---- The context ----

    def test_context(self):
        """The numbers of the context line are true."""
        child = python(block(self.START) + block("""
            sys.stdout.write("%d %d %f\\n" % (
                os.getpid(), threading.get_native_id(), time.time()))
            sys.stdout.flush()
            time.sleep(1.2)
            faulthandler._read_null()
        """))
        after = time.time()
        pid, tid, before = child.out.split()
        found = re.search(
            r"^  thread (\d+) \[MainThread\] of process (\d+), CPython (\S+), "
            r"(\S+), up (\d+\.\d) s, faulthandler 1\.0$", child.err, re.M)
        self.assertEqual(found.group(1, 2, 3),
                         (tid, pid, platform.python_version()))
        when = datetime.datetime.strptime(found.group(4),
                                          "%Y-%m-%dT%H:%M:%SZ")
        when = when.replace(tzinfo=datetime.timezone.utc).timestamp()
        # It slept for 1.2 seconds; the line leaves out what is below one.
        self.assertTrue(float(before) + 0.1 < when < after, child)
        self.assertTrue(1.1 < float(found.group(5)) < child.seconds + 0.1,
                        child)

    def test_forked_child(self):
        """A forked child has an age and numbers of its own."""
        child = python(block(self.START) + block("""
            time.sleep(1.5)
            start = time.monotonic()
            pid = os.fork()
            if pid == 0:
                faulthandler._read_null()
            os.waitpid(pid, 0)
            print(pid, time.monotonic() - start)
        """))
        found = re.search(r"thread (\d+) \[MainThread\] of process (\d+), "
                          r".* up (\d+\.\d) s,", child.err)
        self.assertIsNotNone(found, child)
        pid, seconds = child.out.split()
        self.assertEqual(found.group(1, 2), (pid, pid))
        self.assertLess(float(found.group(3)), float(seconds) + 0.1)

    def test_thread_names(self):
        """Names of Python's threads, also where the kernel knows none."""
        class Names:
            worker = "threading.Thread(target=crash, name=%r).start()"
            raw = "_thread.start_new_thread(crash, ()); time.sleep(60)"
            pool = ("concurrent.futures.ThreadPoolExecutor("
                    "thread_name_prefix='pool').submit(crash)")
        for start, name in [
                (Names.worker % "worker-3", " [worker-3]"),
                (Names.worker % ("long" * 40), " [%s]" % ("long" * 40)[:127]),
                (Names.worker % "\u00e9\u2026\U0001f40d\n]",
                 r" [\xe9\u2026\U0001f40d\x0a]]"),
                (Names.worker % "\udcff",
                 " [?]" if sys.version_info >= (3, 14) else ""),
                (Names.pool, " [pool_0]"),
                (Names.raw, "")]:
            with self.subTest(name=name):
                child = python(block(self.START) + block("""
                    import _thread, concurrent.futures
                    crash = faulthandler._read_null
                    %s
                """ % start))
                found = re.search(r"^  thread \d+(.*) of process \d+, ",
                                  child.err, re.M)
                self.assertIsNotNone(found, child)
                self.assertEqual(found.group(1), name)

    def test_name_given_to_the_kernel(self):
        """A name that a thread gave itself since is newer."""
        child = python(block(self.START) + block("""
            def crash():
                libc.prctl(15, b"newer")
                faulthandler._read_null()
            threading.Thread(target=crash, name="older").start()
        """))
        self.assertRegex(child.err, r"\n  thread \d+ \[newer\] of process ")

    def test_calendar(self):
        """The time of day, at a hundred thousand times."""
        library = StepTests.library()
        utc = ctypes.CDLL(library).faulthandler_test_utc
        utc.argtypes = ctypes.c_int64, ctypes.c_char_p, ctypes.c_size_t
        utc.restype = ctypes.c_size_t
        text = ctypes.create_string_buffer(64)
        start = datetime.datetime(1970, 1, 1)
        numbers = random.Random(5)
        seconds = [0, -1, 1, 951782399, 951782400, 951868799, 951868800,
                   2147483647, 2147483648, 4107542399, 4107542400,
                   -2208988801, -62135596800, 253402300799]
        seconds += [numbers.randint(-62135596800, 253402300799)
                    for _ in range(50000)]
        seconds += [numbers.randint(0, 2**32) for _ in range(50000)]
        for number in seconds:
            length = utc(number, text, 64)
            when = start + datetime.timedelta(seconds=number)
            self.assertEqual(text.raw[:length].decode(),
                             when.isoformat() + "Z")

    # ---- What the interpreter was about ----

    def about(self, code, *more):
        """Run code that reads NULL: these lines follow the context line."""
        child = python(block(self.START) + block(code))
        lines = child.err.split("\n\n")[0].splitlines()[3:]
        self.assertEqual(lines, ["  " + line for line in more], child)
        self.assertEqual(status_name(child.status), "-SIGSEGV")
        self.assertEqual(child.err.count("Fatal Python error: "), 1)

    def test_exception_being_handled(self):
        """The innermost one, with its message where that is safe to show."""
        for raised, shown in [
                ("ValueError('it is wrong')", "ValueError: it is wrong"),
                ("ValueError", "ValueError"),
                ("ValueError(1)", "ValueError"),
                ("KeyError('key', 2)", "KeyError: key"),
                ("OSError(2, 'No such file')",
                 "FileNotFoundError: No such file"),
                ("ValueError('x' * 300)", "ValueError: %s..." % (200 * "x")),
                ("ValueError('\\u00e9\\n\\u20ac')",
                 r"ValueError: \xe9\x0a\u20ac"),
                ("type('Odd\\u00e9', (ValueError,), {})('x')",
                 r"Odd\xe9: x"),
                ("SystemExit(3)", "SystemExit"),
                ("ValueError(type('Text', (str,), {})('x'))", "ValueError: x"),
                ("type('x' * 99 + '\\u20ac', (ValueError,), {})",
                 99 * "x" + r"\xe2...")]:
            with self.subTest(raised=raised):
                self.about("""
                    try:
                        raise %s
                    except BaseException:
                        faulthandler._read_null()
                """ % raised, "handling " + shown)

    def test_exceptions_in_a_chain(self):
        """A handler in a handler, a generator, and one that is done."""
        self.about("""
            try:
                raise ValueError("outer")
            except ValueError:
                try:
                    raise KeyError("inner")
                except KeyError:
                    faulthandler._read_null()
        """, "handling KeyError: inner")
        self.about("""
            def values():
                yield faulthandler._read_null()
            try:
                raise ValueError("outer")
            except ValueError:
                next(values())
        """, "handling ValueError: outer")
        self.about("""
            try:
                raise ValueError("done")
            except ValueError:
                pass
            faulthandler._read_null()
        """)

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_exception_on_its_way(self):
        """One that C code has raised, and has not returned with yet."""
        child = python(block(self.START) + block("""
            import machine
            message = ctypes.create_string_buffer(b"half way")
            function = ctypes.cast(ctypes.pythonapi.PyErr_SetString,
                                   ctypes.c_void_p).value
            # PyErr_SetString(ValueError, message), then read NULL.
            code = "5348bf%s48be%s48b8%sffd031c08a00"
            machine.run(code % tuple(
                number.to_bytes(8, "little").hex() for number in (
                    id(ValueError), ctypes.addressof(message), function)),
                ctypes.PYFUNCTYPE)()
        """))
        self.assertIn("\n  raising ValueError: half way\n", child.err)

    def test_damaged_exceptions(self):
        """What cannot be read is said."""
        for damage, shown in [
                ("words(id(error))[1] = forbidden", "???"),
                ("words(id(error))[1] = id(int)", "???"),
                ("words(id(error))[1] = id(type)", "???"),
                ("replace(words(id(error), 12), id(error.args), 1)",
                 "ValueError: ???"),
                ("replace(words(id(error), 12), id(error.args), forbidden)",
                 "ValueError: ???"),
                ("replace(words(id(error), 12), id(error.args), id(error))",
                 "ValueError"),
                ("words(id(error.args[0]))[1] = 0", "ValueError"),
                ("words(id(error.args[0]))[1] = forbidden", "ValueError"),
                ("replace(words(id(error.args), 6), id(error.args[0]), "
                 "forbidden)", "ValueError: ???"),
                ("words(id(error.args[0]))[2] = 2**63",
                 "ValueError: ???")]:
            with self.subTest(damage=damage):
                self.about("""
                    from damage import forbidden, replace, words
                    try:
                        raise ValueError("text")
                    except ValueError as error:
                        %s
                        faulthandler._read_null()
                """ % damage, "handling " + shown)

    def test_collector(self):
        """The collector at work."""
        self.about("""
            import gc
            class Node:
                def __del__(self):
                    faulthandler._read_null()
            node = Node()
            node.node = node
            del node
            gc.collect()
        """, "the garbage collector is at work")

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_thread_of_c(self):
        """A thread that Python does not know, and after Python's end."""
        child = python(block(self.START) + block("""
            import machine
            thread, code = word(), ctypes.c_void_p(machine.code("31c08a00"))
            libc.pthread_create(ctypes.byref(thread), None, code, None)
            time.sleep(60)
        """))
        self.expect(child, SIGSEGV, [
            "reading address 0x0000000000000000 (a NULL pointer)" + NOWHERE],
            "Stack (most recent call first):\n  <no Python frame>\n",
            self.CONTEXT.replace(" [MainThread]", ""))
        child = python(block(self.START) + block("""
            ctypes.pythonapi.Py_AtExit(libc.abort)
        """))
        self.assertRegex(child.err, (
            r"\n  thread \d+ of process \d+, .*"
            r"\n  Python is (not initialized, or no longer|being finalized)"
            r"\n\nStack \(most recent call first\):\n"
            r"  <no Python frame>\n\Z"))

    def test_interpreter(self):
        """An interpreter that is not the main one."""
        child = python(block(self.START) + block("""
            import sub
            interpreter = sub.create(False)
            sub.run(interpreter, "import ctypes; ctypes.string_at(0)")
        """))
        self.assertRegex(child.err, r"\n  in interpreter \d+, "
                         r"which is not the main one\n")

    def test_finalization(self):
        """Python comes to its end."""
        child = python(block(self.START) + block("""
            class Last:
                def __init__(self, crash):
                    self.crash = crash
                def __del__(self):
                    self.crash()
            sys.last = Last(faulthandler._read_null)
        """))
        self.assertRegex(child.err, r"\n  Python is being finalized\n\n")
        self.assertNotRegex(python(block(self.START) + block("""
            import atexit
            atexit.register(faulthandler._read_null)
        """)).err, "finalized")


# ---- Report ----------------------------------------------------------------

INJECTED = '''
"""Importing this makes a test build the faulthandler module."""
import importlib.util
import sys

spec = importlib.util.spec_from_file_location(
    "faulthandler", "./%s.so" % sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["faulthandler"] = module
spec.loader.exec_module(module)
'''


class ReportTests(CrashCase):
    """Faults while a report is written, by test builds of the C file."""

    @classmethod
    def setUpClass(cls):
        """Compile what injects faults."""
        missing = what_is_missing()
        if missing or not os.path.exists(C_FILE):
            raise unittest.SkipTest(missing or "needs the C file")
        write_file("injected.py", INJECTED)
        for name in ("FAULTHANDLER_TEST", "FAULTHANDLER_TEST_BAD_LAYOUT"):
            child = run(
                compiler(), "-std=gnu11", "-O1", "-fPIC", "-shared", "-D",
                name, "-I", sysconfig.get_path("include"), C_FILE, "-o",
                name + ".so", env=environment(LD_PRELOAD=""), limit=120)
            if child.status:
                raise AssertionError(child)

    def inject(self, step, how, arm=""):
        """Crash with a fault in this step of the report."""
        return python("""
            import injected, faulthandler
            %s
            def crash():
                faulthandler.sigfpe()
            crash()
        """ % arm, "FAULTHANDLER_TEST", env=environment(
            FAULTHANDLER_TEST_STEP=step, FAULTHANDLER_TEST_HOW=how))

    STEPS = {
        "title": """
              <fault in the title>
            Traceback (most recent call first):
              File "<string>", line 4 in crash
              File "<string>", line 5 in <module>
        """,
        "list of threads": """
            Fatal Python error: Floating point exception

              <fault in the list of threads>
            Traceback (most recent call first):
              File "<string>", line 4 in crash
              File "<string>", line 5 in <module>
              <the rest of the threads cannot be read>
        """,
        "search for the thread": """
            Fatal Python error: Floating point exception

              <fault in the search for the thread>
            Traceback (most recent call first):
              <no Python frame>

            Thread 0x… (most recent call first):
              File "<string>", line 4 in crash
              File "<string>", line 5 in <module>
        """,
        "traceback": """
            Fatal Python error: Floating point exception

              <fault in the traceback>
        """,
        "threads": """
            Fatal Python error: Floating point exception

            Traceback (most recent call first):
              File "<string>", line 4 in crash
              File "<string>", line 5 in <module>
              <fault in the threads>
        """,
        "output": """
            Fatal Python error: Floating point exception

            Traceback (most recent call first):
              File "<string>", line 4 in crash
              File "<string>", line 5 in <module>
              <fault in the output>
        """,
    }

    def test_fault_in_each_step(self):
        """The step is marked, the rest follows, the first signal kills."""
        for step, expected in self.STEPS.items():
            for how in ("read", "divide", "illegal", "abort"):
                with self.subTest(step=step, how=how):
                    child = self.inject(step, how)
                    self.assertEqual(status_name(child.status), "-SIGFPE")
                    self.assertEqual(child.err, block(expected))
                    self.assertLess(child.seconds, LIMIT)

    def test_fault_in_extras(self):
        """Faults in the parts of the standard library's report."""
        arm = "faulthandler.enable(2, c_stack=True)"
        for step in ("extension modules", "C stack"):
            for how in ("read", "abort"):
                with self.subTest(step=step, how=how):
                    child = self.inject(step, how, arm)
                    self.assertEqual(status_name(child.status), "-SIGFPE")
                    if step == "C stack" or sys.version_info >= (3, 10):
                        self.assertIn("\n  <fault in the %s>\n" % step,
                                      child.err)
                    self.assertIn(' in crash\n  File "<string>", line 5 in '
                                  '<module>\n', child.err)
                    self.assertEqual(child.err.count("C stack trace"),
                                     step != "C stack")

    def test_hang_in_each_step(self):
        """A step that hangs is given up, and the process dies in time."""
        jobs = [(step, how) for step in ("threads", "output", "traceback")
                for how in ("hang", "sleep")]
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            children = list(pool.map(lambda job: self.inject(*job), jobs))
        # One of them may be late on a busy machine, hardly all.
        self.assertLess(min(child.seconds for child in children), LIMIT)
        for (step, how), child in zip(jobs, children):
            with self.subTest(step=step, how=how):
                expected = block(self.STEPS[step])
                expected = expected.replace("fault in", "out of time in")
                self.check(child, SIGFPE, expected, HANG_LIMIT)

    def test_failed_self_test(self):
        """Where the layout is not as expected, the report says so."""
        child = python("""
            import injected, faulthandler
            def crash():
                faulthandler.sigfpe()
            crash()
        """, "FAULTHANDLER_TEST_BAD_LAYOUT")
        self.check(child, SIGFPE, block("""
            Fatal Python error: Floating point exception

            Traceback (most recent call first):
              <Python frames cannot be read on this build>
        """))

    def test_no_faults_without_a_test_build(self):
        """The module that is installed does not look at the variables."""
        child = python("import faulthandler; faulthandler.sigfpe()",
                       env=environment(FAULTHANDLER_TEST_STEP="traceback",
                                       FAULTHANDLER_TEST_HOW="read"))
        self.check(child, SIGFPE, report(
            '  File "<string>", line 1 in <module>\n',
            "Floating point exception"))


class StepTests(CrashCase):
    """Faults in the steps of a report, by a test build of the C file."""

    KINDS = ("read", "divide", "illegal", "abort")
    DETAILS = ("cause", "context", "note", "exceptions", "activities")

    @classmethod
    def setUpClass(cls):
        """Compile what injects faults."""
        cls.library()

    @staticmethod
    def library():
        """The name of the test build."""
        missing = what_is_missing()
        if missing or not os.path.exists(C_FILE):
            raise unittest.SkipTest(missing or "needs the C file")
        name = os.path.join(FOLDER, "steps.so")
        if not os.path.exists(name):
            child = run(
                compiler(), "-std=gnu11", "-O1", "-fPIC", "-shared",
                "-DFAULTHANDLER_TEST", "-I", sysconfig.get_path("include"),
                C_FILE, "-o", name, env=environment(LD_PRELOAD=""), limit=120)
            if child.status:
                raise AssertionError(child)
        return name

    def inject(self, step, how, code):
        """Run code with a fault in this step of the first report."""
        load = """
            import importlib.machinery, importlib.util, os, sys
            loader = importlib.machinery.ExtensionFileLoader(
                "faulthandler", %r)
            spec = importlib.util.spec_from_loader("faulthandler", loader)
            faulthandler = importlib.util.module_from_spec(spec)
            loader.exec_module(faulthandler)
            sys.modules["faulthandler"] = faulthandler
        """ % self.library()
        return python(block(load) + block(code), env=environment(
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

    def steps(self):
        """The names of the steps, from the C file."""
        with open(C_FILE, encoding="utf-8") as file:
            return sorted(set(re.findall(
                r'\breport_step\(r, \w+,\s*"([^"]+)"\)', file.read())))

    def test_all_steps_are_known(self):
        """A new step needs a line in the tests that inject faults."""
        self.assertEqual(self.steps(), [
            "C stack", "activities", "cause", "context", "exceptions",
            "extension modules", "list of shared objects", "list of threads",
            "note", "output", "search for frames", "search for the thread",
            "threads", "title",
            "traceback"])

    def test_two_threads(self):
        """A fault in one step leaves the blocks of the other steps."""
        for step in self.steps():
            if step in ("C stack", "extension modules",
                        "list of shared objects") \
                    or (step == "search for frames"
                        and sys.version_info >= (3, 11)):
                continue
            code = block(self.THREADS)
            if step in self.DETAILS:
                code = ("faulthandler.enable(details=True, c_stack=False)\n"
                        + code)
            for how in self.KINDS:
                with self.subTest(step=step, how=how):
                    child = self.inject(step, how, code)
                    self.assertEqual(status_name(child.status), "-SIGBUS",
                                     child)
                    self.assertLess(child.seconds, LIMIT)
                    self.assertEqual(child.err.count(
                        "  <fault in the %s>\n" % step), 1, child)
                    self.assertEqual(child.err.count("Fatal Python error"),
                                     step != "title", child)
                    self.assertEqual(child.err.count(" in crash\n"),
                                     step != "traceback", child)
                    if step not in ("threads", "list of threads"):
                        self.assertEqual(child.err.count(" in other\n"), 1,
                                         child)

    def test_details(self):
        """A fault among the details leaves the other lines, and the stack."""
        lines = {
            "cause": r"  sent by this process with raise\(\) or "
                     r"pthread_kill\(\) \(SI_TKILL\)\n",
            "context": r"  thread \d+ \[MainThread\] of process \d+, .*\n",
            "note": r"  context: a note\n",
            "exceptions": r"  handling ValueError: it is wrong\n",
            "activities": r"  the garbage collector is at work\n",
        }
        for step in lines:
            for how in self.KINDS:
                with self.subTest(step=step, how=how):
                    child = self.inject(step, how, """
                        import gc
                        faulthandler.enable(details=True, c_stack=False)
                        faulthandler.context("a note")
                        def crash(phase, info):
                            try:
                                raise ValueError("it is wrong")
                            except ValueError:
                                faulthandler.sigbus()
                        gc.callbacks.append(crash)
                        gc.collect()
                    """)
                    marked = dict(lines)
                    marked[step] = "  <fault in the %s>\n" % step
                    self.assertEqual(status_name(child.status), "-SIGBUS",
                                     child)
                    self.assertRegex(child.err, (
                        r"\AFatal Python error: Bus error\n%s\n"
                        r"Current thread 0x… .*:\n"
                        r"(  Garbage-collecting\n)?"
                        r'  File "<string>", line 15 in crash\n'
                        r'  File "<string>", line 17 in <module>\n\Z'
                        % "".join(marked.values())))

    def test_dump_survives(self):
        """A fault in a dump on request is marked, and the program goes on."""
        for step in ("title", "list of threads", "search for the thread",
                     "threads", "output"):
            for how in ("read", "abort"):
                with self.subTest(step=step, how=how):
                    child = self.inject(step, how, """
                        def now():
                            faulthandler.dump_traceback()
                        now()
                        now()
                        os.write(1, b"alive")
                    """)
                    self.assertEqual((child.status, child.raw_out),
                                     (0, "alive"), child)
                    self.assertEqual(child.err.count(
                        "  <fault in the %s>\n" % step), 1, child)
                    # The second dump is whole.
                    self.assertRegex(child.err, r' in now\n.* in <module>\n$')

    def test_user_signal_and_watchdog_survive(self):
        """The same for register() and dump_traceback_later()."""
        for step in ("list of threads", "threads"):
            for how in ("read", "divide"):
                with self.subTest(step=step, how=how, report="signal"):
                    child = self.inject(step, how, """
                        import signal
                        faulthandler.register(signal.SIGUSR1)
                        os.kill(os.getpid(), signal.SIGUSR1)
                        os.kill(os.getpid(), signal.SIGUSR1)
                    """)
                    self.assertEqual(child.status, 0, child)
                    self.assertEqual(child.err.count("<fault in the "), 1)
                with self.subTest(step=step, how=how, report="watchdog"):
                    child = self.inject(step, how, """
                        reader, writer = os.pipe()
                        faulthandler.dump_traceback_later(0.05, file=writer)
                        text = os.read(reader, 65536)
                        faulthandler.cancel_dump_traceback_later()
                        os.close(writer)
                        with open(reader, "rb") as file:
                            os.write(2, text + file.read())
                    """)
                    self.assertEqual(child.status, 0, child)
                    self.assertEqual(child.err.count("<fault in the "), 1)
                    self.assertTrue(child.err.startswith("Timeout "), child)

    def test_hang(self):
        """A step that hangs or sleeps is given up; the first signal kills."""
        jobs = [("list of threads", "hang"), ("threads", "sleep"),
                ("output", "hang")]
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            children = list(pool.map(
                lambda job: self.inject(*job, self.THREADS), jobs))
        # One of them may be late on a busy machine, hardly all.
        self.assertLess(min(child.seconds for child in children), LIMIT)
        for (step, how), child in zip(jobs, children):
            with self.subTest(step=step, how=how):
                self.assertEqual(status_name(child.status), "-SIGBUS", child)
                self.assertLess(child.seconds, HANG_LIMIT)
                # No step is begun after the timer.
                self.assertRegex(child.err, (
                    r"\AFatal Python error: Bus error\n\n"
                    r"((?!  <).*\n)*  <out of time in the %s>\n\Z" % step))


# ---- Stack overflow --------------------------------------------------------

class StackTests(CrashCase):
    """The handler has a stack of its own."""

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_overflow_in_c(self):
        """Machine code that pushes until the stack ends."""
        for kind in ("CFUNCTYPE", "PYFUNCTYPE"):
            with self.subTest(kind=kind):
                self.crash("""
                    import ctypes, faulthandler, machine
                    def f():
                        machine.run("50ebfd", ctypes.%s)()
                    f()
                """ % kind, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 3 in f
                      File "<string>", line 4 in <module>
                """)

    def overflow(self, code, expected):
        """Run code that recurses, so often, and to the call or the def.

        It turns the collector off, which may overflow the stack as well: the
        report says so.
        """
        child = python(code)
        child.err = re.sub(r"\.\.\. \d{4,} frames", "... N frames", child.err)
        first, second = child.err.splitlines()[3:5]
        if first == second.replace("line 4", "line 3").replace("5", "4"):
            child.err = child.err.replace(first, second, 1)
        self.check(child, SIGSEGV, report(expected))

    @unittest.skipIf(sys.version_info >= (3, 12), "CPython counts C frames")
    def test_overflow_through_c(self):
        """Python that recurses through C without a limit."""
        self.overflow("""
            import faulthandler, gc, sys; gc.disable()
            sys.setrecursionlimit(10**9)
            def f(x):
                list(map(f, "a"))
            f(1)
        """, (90 * '  File "<string>", line 4 in f\n'
              + "  ... N frames not shown ...\n"
              + 9 * '  File "<string>", line 4 in f\n'
              + '  File "<string>", line 5 in <module>\n'))

    @unittest.skipIf(sys.version_info >= (3, 12), "CPython counts C frames")
    def test_overflow_through_ctypes(self):
        """A ctypes callback that calls itself."""
        self.overflow("""
            import ctypes, faulthandler, gc, sys; gc.disable()
            sys.setrecursionlimit(10**9)
            @ctypes.CFUNCTYPE(None)
            def f():
                f()
            f()
        """, (90 * '  File "<string>", line 5 in f\n'
              + "  ... N frames not shown ...\n"
              + 9 * '  File "<string>", line 5 in f\n'
              + '  File "<string>", line 6 in <module>\n'))

    @unittest.skipIf(sys.version_info >= (3, 11),
                     "Python calls use no C stack from 3.11 on")
    def test_overflow_in_python(self):
        """Plain Python that recurses without a limit."""
        self.overflow("""
            import faulthandler, gc, sys; gc.disable()
            sys.setrecursionlimit(10**9)
            def f():
                f()
            f()
        """, (90 * '  File "<string>", line 4 in f\n'
              + "  ... N frames not shown ...\n"
              + 9 * '  File "<string>", line 4 in f\n'
              + '  File "<string>", line 5 in <module>\n'))

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_overflow_in_threads(self):
        """Every thread that Python starts has a stack for the handler."""
        starts = {
            "threading": "threading.Thread(target=work).start()",
            "thread": "_thread.start_new_thread(work, ())",
            "executor": "futures.ThreadPoolExecutor().submit(work)",
            "timer": "threading.Timer(0.01, work).start()",
            "small": "threading.stack_size(131072); "
                     "_thread.start_new_thread(work, ())",
            "large": "threading.stack_size(1 << 26); "
                     "_thread.start_new_thread(work, ())",
            "taken before": "taken(work, ())",
            "replaced before": "_thread.start_new_thread(work, ())",
            "thread in thread": "_thread.start_new_thread("
                                "_thread.start_new_thread, (work, ()))",
        }
        for name, start in starts.items():
            with self.subTest(name):
                child = python("""
                    import _thread, threading; taken = _thread.start_new_thread
                    %s
                    import concurrent.futures as futures, faulthandler, machine
                    def work():
                        machine.run("50ebfd")()
                    lock = _thread.allocate_lock()
                    lock.acquire()
                    %s; lock.acquire()
                """ % (
                    # As gevent does.
                    "_thread.start_new_thread = lambda *a: taken(*a)"
                    if name == "replaced before" else "", start))
                self.assertEqual(status_name(child.status), "-SIGSEGV")
                first = report('  File "<string>", line 5 in work\n')
                self.assertEqual(child.err[:len(first)], first)
                self.assertRegex(
                    child.err[len(first):],
                    r'\A(  File "…/.*", line … in \w+\n)*\n'
                    r'Thread 0x… \(most recent call first\):\n(.*\n)*'
                    r'  File "<string>", line 8 in <module>\n\Z')

    def test_many_threads(self):
        """Threads that have ended leave no stack behind."""
        child = python("""
            import faulthandler, os, threading, time
            def mappings():
                with open("/proc/self/maps") as file:
                    return sum(1 for line in file)
            def some(count):
                for n in range(count):
                    thread = threading.Thread(target=int)
                    thread.start()
                    thread.join()
                    # join() may return before the task is gone.
                    while len(os.listdir("/proc/self/task")) > 1:
                        time.sleep(0.0001)
            some(50)
            before = mappings()
            some(2000)
            print(mappings() - before < 20)
        """)
        self.assertEqual((child.status, child.out), (0, "True\n"), child)

    def test_alternate_stack(self):
        """It is mapped with a forbidden page below, and large enough."""
        self.mapped_stack()

    def test_alternate_stack_of_the_builtin(self):
        """The builtin's, smaller and in the heap, is replaced by ours."""
        self.mapped_stack(PYTHONFAULTHANDLER="1")

    def mapped_stack(self, **changes):
        """It is mapped with a forbidden page below, and large enough."""
        child = python("""
            import ctypes, faulthandler, os
            class Stack(ctypes.Structure):
                _fields_ = [("start", ctypes.c_size_t),
                            ("flags", ctypes.c_int),
                            ("size", ctypes.c_size_t)]
            stack = Stack()
            ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
            below = above = None
            for line in open("/proc/self/maps"):
                first, last = (int(n, 16) for n in line.split()[0].split("-"))
                if last == stack.start:
                    below = line.split()[1]
                if first == stack.start:
                    above = line.split()[1]
            print(stack.flags, stack.size >= 65536, below, above)
        """, env=environment(**changes))
        self.assertEqual(child.out, "0 True ---p rw-p\n", child)

    @unittest.skipIf(SANITIZED, "the sanitizer's frames need more")
    def test_foreign_alternate_stack(self):
        """Another owner's alternate stack stays where it is."""
        # The builtin's has one of the small sizes: that is no evidence.
        builtin = python("""
            import ctypes
            words = (ctypes.c_size_t * 3)()
            ctypes.CDLL(None).sigaltstack(None, words)
            print(words[2])
        """, env=environment(FAULTHANDLER_USE_STDLIB="1",
                             PYTHONFAULTHANDLER="1"))
        for size in (1 << 20, 16384, int(builtin.out)):
            with self.subTest(size=size):
                self.foreign_stack(size)

    def foreign_stack(self, size):
        """An alternate stack of this size stays where it is."""
        child = python("""
            import ctypes
            class Stack(ctypes.Structure):
                _fields_ = [("start", ctypes.c_size_t),
                            ("flags", ctypes.c_int),
                            ("size", ctypes.c_size_t)]
            memory = ctypes.create_string_buffer(1 << 20)
            theirs = Stack(ctypes.addressof(memory), 0, %d)
            libc = ctypes.CDLL(None)
            assert libc.sigaltstack(ctypes.byref(theirs), None) == 0
            import faulthandler
            now = Stack()
            libc.sigaltstack(None, ctypes.byref(now))
            print(now.start == theirs.start, now.size == theirs.size)
            faulthandler.disable()
            libc.sigaltstack(None, ctypes.byref(now))
            print(now.start == theirs.start, now.size == theirs.size,
                  flush=True)
            faulthandler.enable()
            faulthandler.sigsegv()
        """ % size)
        self.assertEqual(child.out, "True True\nTrue True\n")
        self.check(child, SIGSEGV, report(
            '  File "<string>", line 19 in <module>\n'))


    def test_stack_that_was_switched_off(self):
        """enable() switches it on again: no other one, and the name stays."""
        child = python("""
            import ctypes, faulthandler, threading
            libc = ctypes.CDLL(None)
            def work():
                now, off = (ctypes.c_size_t * 3)(), (ctypes.c_size_t * 3)(0, 2)
                seen = set()
                for n in range(20):
                    libc.sigaltstack(off, now)
                    seen.add(tuple(now))
                    faulthandler.enable(details=True)
                print(len(seen), flush=True)
                faulthandler.sigsegv()
            threading.Thread(target=work, name="a name of a thread").start()
        """)
        self.assertEqual((status_name(child.status), child.out),
                         ("-SIGSEGV", "1\n"), child)
        self.assertRegex(child.err, r"\n  thread \d+ \[a name of a thread\] ")

    # A foreign alternate stack of so many bytes, with a forbidden page below.
    SMALL = """
        import ctypes, faulthandler, mmap, os, signal, sys, damage
        libc = ctypes.CDLL(None)
        libc.getauxval.restype = ctypes.c_ulong
        memory = mmap.mmap(-1, 1 << 17)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert libc.mprotect(ctypes.c_void_p(start), 4096, 0) == 0
        # No less than the kernel needs for itself, and 1 KiB.
        size = max(%d, libc.getauxval(51) + 1024)
        theirs = (ctypes.c_size_t * 3)(start + 4096, 0, size)
        assert libc.sigaltstack(theirs, None) == 0
        def f():
            damage.damage(sys._getframe(), "name", damage.forbidden)
            crash()
        def g():
            f()
    """

    @unittest.skipUnless(X86_64, "the stack is changed on x86-64 only")
    @unittest.skipIf(SANITIZED, "the sanitizer's frames need more")
    def test_crash_on_small_stack(self):
        """A crash on another's small alternate stack is reported on ours."""
        for size in (4096, 6144, 8192, 16384):
            for how, arm in [("1.0", "pass"), ("C", "faulthandler.enable("
                                           "all_threads=False, c_stack=True)"
                                           )]:
                with self.subTest(size=size, how=how):
                    child = python(block(self.SMALL % size) + block("""
                        %s
                        crash = faulthandler.sigfpe
                        g()
                    """ % arm))
                    self.assertEqual(status_name(child.status), "-SIGFPE",
                                     child)
                    self.assertRegex(child.err, (
                        r'\AFatal Python error: Floating.point exception\n\n'
                        r'.*\n  File "<string>", line 13 in \?\?\?\n'
                        r'  File "<string>", line 15 in g\n'
                        r'  File "<string>", line 18 in <module>\n'
                        + (r"\Z" if how == "1.0" else
                           r"\nCurrent thread's C stack trace .*\n(  .*\n)*"
                           r"  .* at Py_BytesMain\+0x")))

    @unittest.skipUnless(X86_64, "the stack is changed on x86-64 only")
    @unittest.skipIf(SANITIZED, "the sanitizer's frames need more")
    def test_dump_on_small_stack(self):
        """So is a user's signal; their stack is in place again after it."""
        child = python(block(self.SMALL % 4096) + block("""
            def crash():
                for n in range(3):
                    os.kill(os.getpid(), signal.SIGUSR1)
                now = (ctypes.c_size_t * 3)()
                libc.sigaltstack(None, now)
                os.write(1, b"same" if list(now) == list(theirs) else b"other")
                os._exit(7)
            faulthandler.register(signal.SIGUSR1, all_threads=False)
            g()
        """))
        self.assertEqual((child.status, child.out), (7, "same"), child)
        self.assertEqual(child.err, 3 * block("""
            Stack (most recent call first):
              File "<string>", line 18 in crash
              File "<string>", line 13 in ???
              File "<string>", line 15 in g
              File "<string>", line 24 in <module>
        """))

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    @unittest.skipIf(SANITIZED, "the sanitizer's frames need more")
    def test_older_handler_after_small_stack(self):
        """An older handler runs on the stack that its owner gave."""
        compile_library(self, "older", OLDER)
        child = python(block("""
            import ctypes
            ctypes.CDLL("./older.so").install(4)
        """) + block(self.SMALL % 8192) + block("""
            import machine
            crash = machine.run("0f0b")
            g()
        """))
        self.assertEqual(child.status, 42, child)
        self.assertIn(" which is the pc ", child.out)


# ---- Signals ---------------------------------------------------------------

class SignalTests(CrashCase):
    """Older handlers come last and hear the truth; disable() is polite."""

    def library(self):
        """A library with an older handler, compiled once."""
        compile_library(self, "older", OLDER)

    def older(self, call, signum, title, said):
        """An older handler of C comes after the report, and hears this."""
        self.library()
        child = python("""
            import ctypes, os, signal, threading
            older = ctypes.CDLL("./older.so")
            older.install(%d)
            import faulthandler
            print(threading.get_native_id(), flush=True)
            %s
        """ % (signum, call))
        self.assertEqual(child.status, 42, child)
        self.assertEqual(child.err, report(
            '  File "<string>", line 6 in <module>\n', title))
        thread, heard = child.out.split("\n", 1)
        self.assertEqual(heard, "%s in thread %s\n" % (said, thread))

    def test_older_handler_of_real_faults(self):
        """The siginfo of a real fault: cause and address."""
        self.older("faulthandler.sigsegv()", SIGSEGV, "Segmentation fault",
                   "signal 11 code 1 at (nil)")
        self.older("ctypes.c_char.from_address(0x1230).value", SIGSEGV,
                   "Segmentation fault", "signal 11 code 1 at 0x1230")
        self.older("ctypes.c_char.from_address(2**63).value", SIGSEGV,
                   "Segmentation fault", "signal 11 code 128 at (nil)")

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_older_handler_of_opcodes(self):
        """The siginfo and the context of illegal opcodes and divisions."""
        self.library()
        for signum, digits, offset, code, title in [
                (SIGILL, "0f0b", 0, 2, "Illegal instruction"),
                (SIGFPE, "31c031d231c9f7f9", 6, 1,
                 "Floating point exception")]:
            with self.subTest(signal=signum.name):
                child = python("""
                    import ctypes, machine, threading
                    older = ctypes.CDLL("./older.so")
                    older.install(%d)
                    import faulthandler
                    f = machine.run("%s")
                    where = ctypes.cast(f, ctypes.c_void_p).value
                    print(where, threading.get_native_id(), flush=True)
                    f()
                """ % (signum, digits))
                first, heard = child.out.split("\n", 1)
                where, thread = first.split()
                self.assertEqual(heard, (
                    "signal %d code %d at %#x which is the pc in thread %s\n"
                    % (signum, code, int(where) + offset, thread)))
                self.assertEqual(child.status, 42)
                self.assertEqual(child.err, report(
                    '  File "<string>", line 8 in <module>\n', title))

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_older_handler_after_faults_in_the_report(self):
        """Faults inside the report change nothing of what it hears."""
        self.library()
        child = python("""
            import ctypes, damage, machine, sys
            older = ctypes.CDLL("./older.so")
            older.install(11)
            older.install(4)
            import faulthandler
            def crash():
                damage.damage(sys._getframe(1), "name", damage.forbidden)
                machine.run(%r)()
            def outer():
                crash()
            outer()
        """ % "0f0b")
        self.assertRegex(child.out, "^signal 4 code 2 at 0x[0-9a-f]+ "
                                    "which is the pc in thread [0-9]+\n$")
        self.assertEqual(child.status, 42)
        self.assertEqual(child.err, block("""
            Fatal Python error: Illegal instruction

            Traceback (most recent call first):
              File "<string>", line 8 in crash
              File "<string>", line 10 in ???
              File "<string>", line 11 in <module>
        """))

    def test_older_handler_of_sent_signals(self):
        """The siginfo of signals that were sent: by whom, and how."""
        for signum, title, _ in SIGNALS[:-1]:
            with self.subTest(signal=signum.name):
                self.older("os.kill(os.getpid(), %d)" % signum, signum, title,
                           "signal %d code 0 from itself" % signum)
                self.older("signal.pthread_kill(threading.get_ident(), %d)"
                           % signum, signum, title,
                           "signal %d code -6 from itself" % signum)
                self.older("ctypes.CDLL(None).sigqueue(os.getpid(), %d, None)"
                           % signum, signum, title,
                           "signal %d code -1 from itself" % signum)

    def test_older_handler_in_thread(self):
        """The older handler runs in the thread that crashed."""
        self.library()
        child = python("""
            import _thread, ctypes, threading
            older = ctypes.CDLL("./older.so")
            older.install(11)
            import faulthandler
            def work():
                print(threading.get_native_id(), flush=True)
                ctypes.CDLL(None).strlen(None)
            lock = _thread.allocate_lock()
            lock.acquire()
            _thread.start_new_thread(work, ()); lock.acquire()
        """)
        thread, heard = child.out.split("\n", 1)
        self.assertEqual(heard, "signal 11 code 1 at (nil) in thread %s\n"
                         % thread)
        self.assertEqual(child.status, 42)
        self.assertEqual(child.err, block("""
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 7 in work

            Thread 0x… (most recent call first):
              File "<string>", line 10 in <module>
        """))

    def test_older_handler_that_repairs(self):
        """A handler that repairs still does; what it cannot is reported."""
        self.library()
        child = python("""
            import ctypes
            older = ctypes.CDLL("./older.so")
            older.install_repair()
            import faulthandler
            from damage import forbidden, libc
            read = ctypes.c_char.from_address
            for n in range(3):
                print(read(forbidden).value, flush=True)
                libc.mprotect(ctypes.c_void_p(forbidden), 4096, 0)
            print(faulthandler.is_enabled(), flush=True)
            faulthandler.sigsegv()
        """)
        self.assertEqual(status_name(child.status), "-SIGSEGV")
        self.assertEqual(child.out, 3 * "b'\\x00'\n" + "True\n")
        self.assertEqual(child.err, report(
            '  File "<string>", line 8 in <module>\n') + report(
            '  File "<string>", line 11 in <module>\n'))

    def test_older_handler_that_repairs_in_threads(self):
        """What threads repair at once is not reported again."""
        self.library()
        child = python("""
            import ctypes, threading
            older = ctypes.CDLL("./older.so")
            older.install_repair()
            import faulthandler
            from damage import forbidden, libc
            def work():
                for n in range(2000):
                    libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
                    libc.mprotect(ctypes.c_void_p(forbidden), 4096, 0)
            libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
            threads = [threading.Thread(target=work) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print("alive", flush=True)
            faulthandler.disable()
            print(older.is_repairing(), flush=True)
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, report(
            '  File "<string>", line 10 in <module>\n'))
        self.assertEqual(child.out, "alive\n1\n")

    def test_older_handler_that_repairs_under_a_newer_one(self):
        """What it repairs kills nobody, whoever comes and goes above."""
        self.library()
        for steps in (
                "older.install_repair() enable() fault() older.install_newer()"
                " fault() fault()",
                "older.install_repair() enable() fault() older.install_newer()"
                " enable(2) fault() fault()",
                "older.install_repair() enable() older.install_newer()"
                " disable() older.remove_newer() enable() fault() fault()",
                "older.install_retiring() enable() fault() fault()"):
            with self.subTest(steps=steps):
                child = python("""
                    import ctypes, faulthandler, sys
                    from damage import forbidden, libc
                    older = ctypes.CDLL("./older.so")
                    enable, disable = faulthandler.enable, faulthandler.disable
                    disable()
                    def fault():
                        libc.mprotect(ctypes.c_void_p(forbidden), 4096, 0)
                        libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
                    for step in sys.argv[1].split():
                        eval(step)
                    print("alive")
                """, steps)
                self.assertEqual((child.status, child.out), (0, "alive\n"),
                                 child)
                self.assertEqual(child.err.count("Fatal Python"), 1, child)

    def test_newer_handler_that_becomes_the_older_one(self):
        """One that chains to ours, then stands under it: nothing turns in a
        circle, and each fault is reported once."""
        self.library()
        for steps, count in (
                ("older.install_newer() disable() enable() crash()", 1),
                ("older.install_newer() disable() enable() kill()", 1),
                ("older.install_newer() disable() enable() disable() crash()",
                 0),
                ("older.install_chaining() disable() enable() crash()", 1),
                ("older.install_chaining() disable() enable() fault() fault()"
                 " crash()", 2),
                ("older.install_chaining() disable() enable() fault() fault()"
                 " kill()", 2)):
            with self.subTest(steps=steps):
                child = python("""
                    import ctypes, faulthandler, os, sys
                    from damage import forbidden, libc
                    older = ctypes.CDLL("./older.so")
                    enable, disable = faulthandler.enable, faulthandler.disable
                    crash = faulthandler.sigsegv
                    def fault():
                        libc.mprotect(ctypes.c_void_p(forbidden), 4096, 0)
                        libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
                    def kill():
                        os.kill(os.getpid(), 11)
                    for step in sys.argv[1].split():
                        eval(step)
                """, steps)
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                self.assertEqual(child.err.count("Fatal Python"), count, child)

    def test_chain_in_a_circle(self):
        """A handler above ours that chains, and stands under it since the
        signal was registered again with chain=True: one dump a signal."""
        self.library()
        child = python("""
            import ctypes, faulthandler, os
            faulthandler.register(10)
            ctypes.CDLL("./older.so").install_newer_for(10)
            faulthandler.unregister(10)
            faulthandler.register(10, all_threads=False, chain=True)
            for n in range(2):
                os.kill(os.getpid(), 10)
        """)
        self.assertEqual((child.status, child.err), (0, 2 * block('''
            Stack (most recent call first):
              File "<string>", line 7 in <module>
        ''')), child)

    def test_crash_in_destructor(self):
        """A library that crashes after Python has ended is reported."""
        self.library()
        self.crash("""
            import ctypes, faulthandler
            ctypes.CDLL("./older.so").crash_at_exit()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              <no Python frame>
        """)

    def test_disable_restores(self):
        """disable() puts back the handler that was there."""
        self.library()
        child = python("""
            import ctypes
            older = ctypes.CDLL("./older.so")
            older.install(11)
            import faulthandler
            print(older.is_installed(11))
            faulthandler.disable()
            print(older.is_installed(11))
            faulthandler.enable()
            faulthandler.enable()
            print(older.is_installed(11))
            faulthandler.disable()
            print(older.is_installed(11))
        """)
        self.assertEqual(child.out, "0\n1\n0\n1\n", child)

    def test_disable_spares_newer_handler(self):
        """disable() leaves a handler that was installed after ours."""
        self.library()
        child = python("""
            import ctypes
            older = ctypes.CDLL("./older.so")
            import faulthandler
            older.install(11)
            faulthandler.disable()
            print(older.is_installed(11), flush=True)
            faulthandler.sigsegv()
        """)
        self.assertEqual((child.status, child.err), (42, ""), child)
        self.assertRegex(child.out,
                         r"^1\nsignal 11 code 1 at \(nil\) in .*\n$")

    def test_newer_handler_of_c(self):
        """A handler that was installed after ours answers alone."""
        self.library()
        child = python("""
            import ctypes, faulthandler
            older = ctypes.CDLL("./older.so")
            older.install(11)
            faulthandler.sigsegv()
        """)
        self.assertEqual((child.status, child.err), (42, ""), child)

    def test_ignored_signals(self):
        """A signal that was ignored is ignored again after disable()."""
        child = python("""
            import signal
            for n in (signal.SIGFPE, signal.SIGBUS):
                signal.signal(n, signal.SIG_IGN)
            def ignored():
                for line in open("/proc/self/status"):
                    if line.startswith("SigIgn:"):
                        mask = int(line.split()[1], 16)
                return [n for n in (7, 8, 11) if mask >> n - 1 & 1]
            before = ignored()
            import faulthandler
            during = ignored()
            faulthandler.disable()
            print(before, during, ignored())
        """)
        self.assertEqual(child.out, "[7, 8] [] [7, 8]\n", child)

    def test_ignored_signal_that_is_sent(self):
        """A process that ignored a signal survives it, with a report."""
        child = python("""
            import os, signal
            signal.signal(signal.SIGBUS, signal.SIG_IGN)
            import faulthandler
            os.kill(os.getpid(), signal.SIGBUS)
            print("alive")
        """)
        self.assertEqual((child.status, child.out), (0, "alive\n"), child)

    def test_older_handler_of_python(self):
        """A handler of signal.signal() runs after the report."""
        child = python("""
            import os, signal
            def handler(signum, frame):
                print("handler", signum, flush=True)
            signal.signal(signal.SIGBUS, handler)
            import faulthandler
            os.kill(os.getpid(), signal.SIGBUS)
            print("alive")
        """)
        self.assertEqual((child.status, child.out), (0, "handler 7\nalive\n"),
                         child)
        self.assertEqual(child.err, report(
            '  File "<string>", line 6 in <module>\n', "Bus error"))

    def test_newer_handler_of_python(self):
        """A handler of signal.signal() replaces ours."""
        child = python("""
            import os, signal
            import faulthandler
            def handler(signum, frame):
                print("handler", signum, flush=True)
            signal.signal(signal.SIGBUS, handler)
            os.kill(os.getpid(), signal.SIGBUS)
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGBUS)
            faulthandler.sigsegv()
        """)
        self.assertEqual(child.out, "handler 7\nhandler 7\n")
        self.check(child, SIGSEGV, "")

    def test_disabled(self):
        """After disable() a crash is what it is without us."""
        for signum, _, call in SIGNALS:
            with self.subTest(call=call):
                self.check(python("""
                    import faulthandler
                    faulthandler.disable()
                    %s
                """ % call), signum, "")

    @unittest.skipUnless(shutil.which("gdb") and not SANITIZED, "needs gdb")
    def test_debugger_sees_the_truth(self):
        """At the second stop, ours is gone; the fault is where it was."""
        show = ["-ex", "x/i $pc", "-ex", "p $_siginfo.si_signo",
                "-ex", "p $_siginfo.si_code",
                "-ex", "p $_siginfo._sifields._sigfault.si_addr",
                "-ex", "p $_thread", "-ex", "continue"]
        write_file("truth.py", block("""
            import _thread, ctypes, faulthandler
            def work():
                ctypes.c_char.from_address(0x1230).value
            lock = _thread.allocate_lock()
            lock.acquire()
            _thread.start_new_thread(work, ()); lock.acquire()
        """))
        child = run("gdb", "-nx", "-batch", "-ex",
                    "set startup-with-shell off", "-ex", "run",
                    *show, *show, "--args", PYTHON, "truth.py")
        if "received signal SIGSEGV" not in child.out:
            self.skipTest("gdb cannot run the interpreter here")
        stops = child.out.split("received signal SIGSEGV")
        self.assertEqual(len(stops), 3, child)
        seen = [re.findall(r"(?m)^(?:=> .*|\$\d+ = (.*))$", stop)[-5:]
                for stop in stops[1:]]
        self.assertEqual(seen[0][1:], seen[1][1:], child)
        self.assertEqual(seen[1][1:4], ["11", "1", "(void *) 0x1230"])
        code = [re.findall(r"(?m)^=> (\w+)", stop)[0] for stop in stops[1:]]
        self.assertEqual(code[0], code[1])
        self.assertIn("terminated with signal SIGSEGV", stops[2])
        self.assertEqual((child.out + child.err).count("Fatal Python error"),
                         1)


# ---- Standard error --------------------------------------------------------

class FileTests(CrashCase):
    """Importing works whatever standard error is; the death is the same."""

    def test_replaced_stderr(self):
        """sys.stderr does not matter: the report goes to descriptor 2."""
        for change in ("sys.stderr = None", "sys.stderr = io.StringIO()",
                       "sys.stderr = 42", "sys.stderr.close()",
                       "sys.stderr = open('/dev/null', 'w')"):
            with self.subTest(change=change):
                self.crash("""
                    import io, sys
                    %s
                    import faulthandler
                    faulthandler.sigsegv()
                """ % change, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 4 in <module>
                """)

    def test_deleted_stderr(self):
        """Not even a deleted sys.stderr stops the import."""
        self.crash("""
            import sys
            del sys.stderr
            import faulthandler
            faulthandler.sigsegv()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 4 in <module>
        """)

    def test_closed_descriptor(self):
        """With descriptor 2 closed there is no report."""
        child = python("""
            import os
            os.close(2)
            import faulthandler
            print("imported", flush=True)
            faulthandler.sigsegv()
        """)
        self.assertEqual(child.out, "imported\n")
        self.check(child, SIGSEGV, "")

    def test_started_without_stderr(self):
        """Started with descriptor 2 closed: no report."""
        for call, signum in [("sigsegv", SIGSEGV), ("sigfpe", SIGFPE)]:
            with self.subTest(call=call):
                child = run(
                    "sh", "-c", 'exec "$0" "$@" 2>&-', PYTHON, "-c",
                    "import faulthandler; print('imported', flush=True);"
                    "faulthandler.%s()" % call)
                self.assertEqual(child.out, "imported\n")
                self.check(child, signum, "")

    def test_reused_descriptor(self):
        """A file that becomes descriptor 2 later gets nothing."""
        for before, after in [("os.close(2)", ""), ("", "os.close(2)")]:
            with self.subTest(before=before, after=after):
                child = python("""
                    import os
                    %s
                    import faulthandler
                    %s
                    number = os.open("victim", os.O_CREAT | os.O_RDWR)
                    print(number, flush=True)
                    faulthandler.sigsegv()
                """ % (before or "pass", after or "pass"))
                self.assertEqual(child.out, "2\n")
                self.assertEqual(status_name(child.status), "-SIGSEGV")
                with open(os.path.join(FOLDER, "victim")) as file:
                    self.assertEqual(file.read(), "")


# ---- Fatal signals ---------------------------------------------------------

class FatalTests(CrashCase):
    """The report of 1.0, for each signal and each way to run Python."""

    def test_dash_c(self):
        """python -c."""
        for signum, title, call in SIGNALS:
            with self.subTest(call=call):
                self.crash("import faulthandler; " + call, """
                    Fatal Python error: %s

                    Traceback (most recent call first):
                      File "<string>", line 1 in <module>
                """ % title, signum)

    def test_stdin(self):
        """A program on standard input."""
        for signum, title, call in SIGNALS:
            with self.subTest(call=call):
                child = run(PYTHON, stdin=b"import faulthandler; "
                            + call.encode())
                self.check(child, signum, block("""
                    Fatal Python error: %s

                    Traceback (most recent call first):
                      File "<stdin>", line 1 in <module>
                """ % title))

    def test_script(self):
        """A script, with a function."""
        for signum, title, call in SIGNALS:
            with self.subTest(call=call):
                write_file("script.py", block("""
                    import faulthandler

                    def crash():
                        %s

                    crash()
                """ % call))
                self.check(run(PYTHON, "script.py"), signum, block("""
                    Fatal Python error: %s

                    Traceback (most recent call first):
                      File "script.py", line 4 in crash
                      File "script.py", line 6 in <module>
                """ % title))

    def test_module(self):
        """python -m, whose frames stand below the module's."""
        write_file("crashing.py", "from die import die\n\ndie()\n")
        child = run(PYTHON, "-m", "crashing")
        self.check(child, SIGSEGV, report(child.out))
        self.assertTrue(child.out.startswith(
            '  File "crashing.py", line 3 in <module>\n'))

    def prompt(self, line, **changes):
        """Type a line at the interactive prompt."""
        start = time.monotonic()
        terminal, theirs = pty.openpty()
        process = subprocess.Popen(
            [PYTHON, "-q"], stdin=theirs, stdout=theirs,
            stderr=subprocess.PIPE, cwd=FOLDER, start_new_session=True,
            env=environment(HOME=FOLDER, PYTHON_HISTORY=os.devnull,
                            **changes))
        os.close(theirs)
        output = {terminal: b"", process.stderr.fileno(): b""}
        readable = list(output)
        typed = False
        while readable:
            ready = select.select(readable, [], [], PATIENCE)[0]
            if not ready:
                os.killpg(process.pid, signal.SIGKILL)
                self.fail("no end at the prompt: %r" % output)
            for descriptor in ready:
                try:
                    data = os.read(descriptor, 65536)
                except OSError:
                    data = b""
                output[descriptor] += data
                if not data:
                    readable.remove(descriptor)
            if not typed and b">>> " in b"".join(output.values()):
                typed = True
                os.write(terminal, line.encode() + b"\r")
        out, err = output.values()
        process.stderr.close()
        os.close(terminal)
        if err.startswith(b">>> "):
            err = err[4:]
        return Child(process.wait(), out.replace(b"\r\n", b"\n"), err,
                     time.monotonic() - start)

    def test_prompt(self):
        """The interactive prompt; from 3.13 on it has frames below."""
        name = "<stdin>" if sys.version_info < (3, 13) else "<python-input-0>"
        for signum, title, call in SIGNALS:
            with self.subTest(call=call):
                child = self.prompt("import faulthandler; " + call,
                                    TERM="xterm")
                below = ""
                if sys.version_info >= (3, 13):
                    below = re.search(
                        r'(?m)(^  File "(…/|<frozen ).* in .*\n)+\Z',
                        child.err)[0]
                self.check(child, signum, block("""
                    Fatal Python error: %s

                    Traceback (most recent call first):
                      File "%s", line 1 in <module>
                """ % (title, name)) + below)

    def test_frames_of_the_prompt(self):
        """At the prompt too, the frames are those of traceback."""
        child = self.prompt("from die import die; die()", TERM="xterm")
        frames = re.findall('(?m)^.*?(  File ".*", line .* in .*)\n',
                            child.raw_out)
        self.assertEqual(child.status, -SIGSEGV)
        self.assertEqual(child.raw_err, report("\n".join(frames) + "\n"))

    @unittest.skipIf(sys.version_info < (3, 13), "has only the basic prompt")
    def test_basic_prompt(self):
        """The prompt without its own Python code: four lines."""
        child = self.prompt("import faulthandler; faulthandler.sigsegv()",
                            PYTHON_BASIC_REPL="1")
        child.err = re.sub('"<stdin>?-0>?"', '"<stdin-0>"', child.err)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<stdin-0>", line 1 in <module>
        """))

    def test_optimised_and_isolated(self):
        """Switches of the interpreter make no difference."""
        for switches in (["-O"], ["-OO"], ["-I"], ["-X", "dev"], ["-u"],
                         ["-W", "error"], ["-X", "faulthandler"],
                         ["-X", "utf8"], ["-E"], ["-B"]):
            with self.subTest(switches=switches):
                child = run(PYTHON, *switches, "-c",
                            "import faulthandler; faulthandler.sigsegv()")
                self.check(child, SIGSEGV, block("""
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 1 in <module>
                """))

    def test_enable_and_disable(self):
        """In any order and number; the state is always told right."""
        child = python("""
            import faulthandler as f
            state = lambda: print(f.isenabled(), end=" ")
            state()
            print(f.enable(), end=" "); state()
            print(f.disable(), end=" "); state()
            print(f.disable(), end=" "); state()
            print(f.enable(), f.enable(), f.enable(), end=" "); state()
            print(f.disable(), f.disable(), end=" "); state()
        """)
        self.assertEqual(child.out, "True None True True False False False "
                         "None None None True True False False ", child)

    def test_enabled_again(self):
        """What counts is the last call, however many came before."""
        for calls, armed in [("ed", 0), ("de", 1), ("ddde", 1), ("eeed", 0),
                             ("dede", 1), ("eded", 0), ("ede" * 50, 1)]:
            with self.subTest(calls=calls):
                child = python("""
                    import faulthandler
                    for call in %r:
                        if call == "e":
                            faulthandler.enable()
                        else:
                            faulthandler.disable()
                    print(faulthandler.isenabled(), flush=True)
                    faulthandler.sigsegv()
                """ % calls)
                self.assertEqual(child.out, "%s\n" % bool(armed))
                self.check(child, SIGSEGV, armed * report(
                    '  File "<string>", line 8 in <module>\n'))

    def test_no_garbage_on_normal_exit(self):
        """A process that does not crash prints nothing."""
        for code in ("import faulthandler", "import faulthandler as f; "
                     "f.disable(); f.enable(); import sys; sys.exit(3)"):
            child = python(code)
            self.assertEqual((child.status, child.err),
                             (3 if "3" in code else 0, ""))


# ---- Crash on purpose ------------------------------------------------------

class CrashTests(CrashCase):
    """sigsegv() and its kin."""

    def test_release_gil(self):
        """release_gil is true or false like anything in Python."""
        for argument in ("True", "1", "release_gil=True", "0", "[]", "None",
                         "'x'", "release_gil=object()"):
            with self.subTest(argument=argument):
                self.crash("import faulthandler; faulthandler.sigsegv(%s)"
                           % argument, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 1 in <module>
                """)

    def test_no_truth(self):
        """An argument whose truth raises is an error, not a crash."""
        child = python("""
            import faulthandler
            class C:
                def __bool__(self):
                    raise ZeroDivisionError
            try:
                faulthandler.sigsegv(C())
            except ZeroDivisionError:
                print("raised")
        """)
        self.assertEqual((child.status, child.out), (0, "raised\n"), child)

    def test_wrong_arguments(self):
        """Wrong arguments are a TypeError that names the function."""
        calls = ["sigsegv(1, 2)", "sigsegv(x=1)", "sigsegv(1, release_gil=1)",
                 "sigfpe(1)", "sigfpe(x=1)", "sigbus(1)", "sigbus(x=1)",
                 "sigill(1)", "sigill(x=1)", "disable(1)", "isenabled(1)",
                 "isenabled(x=1)", "disable(x=1)"]
        child = python("""
            import faulthandler
            for call in %r:
                try:
                    eval("faulthandler." + call)
                except TypeError as error:
                    print(call, call.split("(")[0] + "()" in str(error))
                else:
                    print(call, "was accepted")
        """ % calls)
        self.assertEqual(child.out.splitlines(),
                         [call + " True" for call in calls], child)


# ---- Module ----------------------------------------------------------------

class ModuleTests(CrashCase):
    """Importing, importing again, reloading."""

    AGAIN = {
        "import": "import faulthandler",
        "reload": "importlib.reload(faulthandler)",
        "reimport": "del sys.modules['faulthandler']; import faulthandler",
        "by name": "faulthandler = importlib.import_module('faulthandler')",
    }

    def test_import_again(self):
        """However often it is imported, one crash gives one report."""
        for name, again in self.AGAIN.items():
            with self.subTest(name):
                self.crash("""
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

    def test_disable_after_import_again(self):
        """disable() really disarms, whichever module object is asked."""
        for name, again in self.AGAIN.items():
            for which in ("first", "faulthandler"):
                with self.subTest(name, which=which):
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
                    self.assertEqual(child.out, "False False\n")
                    self.check(child, SIGSEGV, "")

    def test_import_in_thread(self):
        """Imported by a thread, it arms the whole process."""
        self.crash("""
            import threading
            thread = threading.Thread(
                target=__import__, args=("faulthandler",))
            thread.start()
            thread.join()
            import sys
            sys.modules["faulthandler"].sigsegv()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 7 in <module>
        """)

    def test_version(self):
        """The major and the minor number."""
        child = python("""
            from faulthandler import version
            print(version, version >> 8, version & 255)
        """)
        self.assertEqual(child.out, "256 1 0\n")

    def test_names_and_docstrings(self):
        """Each function of 1.0 is there, and says what it does."""
        child = python("""
            import faulthandler
            for name in ("enable disable isenabled sigsegv sigfpe sigbus "
                         "sigill").split():
                function = getattr(faulthandler, name)
                assert function.__doc__ and function.__name__ == name
                assert function.__module__ == "faulthandler", function
            assert faulthandler.__doc__
            assert faulthandler.__name__ == faulthandler.__spec__.name
            faulthandler.enable = faulthandler.enable
            faulthandler.other = 1
        """)
        self.assertEqual((child.status, child.err), (0, ""))

    @unittest.skipIf(SANITIZED, "the sanitizer keeps what is freed")
    def test_no_leak(self):
        """Arming again and again keeps no memory and no descriptors."""
        child = python("""
            import faulthandler, os, re
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
        self.assertEqual(child.out, "True 0\n", child)


# ---- Installing ------------------------------------------------------------

class InstallTests(CrashCase):
    """The finder, and how this module takes over from the builtin."""

    ORIGIN = "import faulthandler; print(faulthandler.__spec__.origin)"
    KILL = "import os; os.kill(os.getpid(), 11)"
    REPORT = report('  File "<string>", line 1 in <module>\n')

    @classmethod
    def setUpClass(cls):
        """Ask where the module is, and copy its finder, but not itself."""
        cls.origin = python(cls.ORIGIN).out
        cls.finder = python("import _faulthandler_precedence as finder\n"
                            "print(finder.__file__)").raw_out.strip()
        cls.half = os.path.join(FOLDER, "half")
        os.mkdir(cls.half)
        shutil.copy(cls.finder, cls.half)

    def start(self, *arguments, **variables):
        """A child that must end well and say nothing on standard error."""
        child = run(PYTHON, *arguments, env=environment(**variables))
        self.assertEqual((child.status, child.err), (0, ""), child)
        return child

    def start_half(self, code, *options, **variables):
        """Run code where the finder is installed, but not the extension."""
        setup = ("import sys; first = sys.modules.get('faulthandler'); "
                 "sys.path.append(%r); import _faulthandler_precedence; "
                 % self.half)
        return self.start(*options, "-S", "-c", setup + code, **variables)

    def test_extension_answers(self):
        """Importing gives the extension, however Python is started."""
        self.assertRegex(self.origin, r"/faulthandler\..*so\n$")
        for options in ([], ["-E"], ["-I"], ["-X", "dev"], ["-W", "error"],
                        ["-B", "-O"]):
            with self.subTest(options=options):
                child = self.start(*options, "-c", self.ORIGIN)
                self.assertEqual(child.out, self.origin)

    def test_builtin_on_request(self):
        """FAULTHANDLER_USE_STDLIB, unless empty, and -S ask for it."""
        for options, variable, origin in [
                ([], "1", "built-in\n"), ([], "", self.origin),
                (["-E"], "1", "built-in\n"), (["-I"], "1", "built-in\n"),
                (["-S"], "", "built-in\n")]:
            with self.subTest(options=options, variable=variable):
                child = self.start(*options, "-c", self.ORIGIN,
                                   FAULTHANDLER_USE_STDLIB=variable)
                self.assertEqual(child.out, origin)

    def test_builtin_stays_armed_on_request(self):
        """With FAULTHANDLER_USE_STDLIB the builtin is left as it is."""
        child = self.start(
            "-X", "faulthandler", "-c",
            self.ORIGIN + "; print(faulthandler.is_enabled())",
            FAULTHANDLER_USE_STDLIB="1")
        self.assertEqual(child.out, "built-in\nTrue\n")

    def test_silent_start(self):
        """A start that does not import the module says nothing."""
        for options in [], ["-W", "error"], ["-X", "dev", "-W", "error"]:
            with self.subTest(options=options):
                self.assertEqual(self.start(*options, "-c", "").out, "")

    def test_start_imports_nothing(self):
        """The finder needs only what every start has loaded."""
        child = self.start("-S", "-c", block("""
            import os, site, sys
            sys.path.append(%r)
            before = set(sys.modules)
            import _faulthandler_precedence
            print(set(sys.modules) - before)
        """) % self.half)
        self.assertEqual(child.out, "{'_faulthandler_precedence'}\n")

    def test_first_finder(self):
        """The finder comes first, once, and answers one name only."""
        child = self.start("-c", block("""
            import site, sys
            import _faulthandler_precedence as finder
            site.main()
            finder.install()
            print(sys.meta_path.index(finder), sys.meta_path.count(finder))
            print(finder.find_spec("faulthandler_"),
                  finder.find_spec("faulthandler.x", [], None))
        """))
        self.assertEqual(child.out, "0 1\nNone None\n")

    def test_import_system(self):
        """The spec is an extension's, and importlib.util finds it."""
        child = self.start("-c", block("""
            import importlib.machinery, importlib.util
            spec = importlib.util.find_spec("faulthandler")
            print(spec.origin)
            print(isinstance(spec.loader,
                             importlib.machinery.ExtensionFileLoader),
                  spec.has_location, spec.submodule_search_locations)
        """))
        self.assertEqual(child.out, self.origin + "True True None\n")

    def test_imported_again(self):
        """Reloaded, or deleted and imported, it is the extension again."""
        child = self.start("-c", block("""
            import importlib, sys
            import faulthandler
            importlib.reload(faulthandler)
            print(faulthandler.__spec__.origin)
            del sys.modules["faulthandler"]
            import faulthandler
            print(faulthandler.__spec__.origin)
        """))
        self.assertEqual(child.out, self.origin * 2)

    def test_user_module_of_that_name(self):
        """A faulthandler.py beside the program wins over neither module."""
        folder = os.path.join(FOLDER, "user")
        os.mkdir(folder)
        write_file("user/faulthandler.py", "raise SystemExit('the user's')")
        program = write_file("user/program.py", self.ORIGIN)
        self.assertEqual(self.start(program).out, self.origin)

    def test_takes_over(self):
        """Where the builtin was armed, one crash gives one report of ours."""
        for options, variables in [
                (["-X", "faulthandler"], {}), (["-X", "dev"], {}),
                ([], {"PYTHONFAULTHANDLER": "1"}),
                ([], {"PYTHONFAULTHANDLER": "0"}),
                (["-X", "faulthandler"], {"PYTHONFAULTHANDLER": "1"}),
                (["-W", "error", "-X", "dev"], {})]:
            with self.subTest(options=options, variables=variables):
                env = environment(**variables)
                child = run(PYTHON, *options, "-c", self.KILL, env=env)
                self.check(child, SIGSEGV, self.REPORT)
                child = self.start(
                    *options, "-c", self.ORIGIN +
                    "; print(faulthandler.is_enabled())", **variables)
                self.assertEqual(child.out, self.origin + "True\n")

    def test_imported_before(self):
        """A builtin that was imported, but not armed, is only forgotten."""
        child = self.start("-S", "-c", block("""
            import faulthandler, sys
            sys.path.append(%r)
            import _faulthandler_precedence
            print("faulthandler" in sys.modules)
            import faulthandler
            print(faulthandler.__spec__.origin)
        """) % os.path.dirname(self.finder))
        self.assertEqual(child.out, "False\n" + self.origin)

    def test_not_armed_unasked(self):
        """Where nobody armed or imported anything, a crash says nothing."""
        for options, variables in [
                ([], {}), ([], {"PYTHONFAULTHANDLER": ""}),
                (["-E"], {"PYTHONFAULTHANDLER": "1"})]:
            with self.subTest(options=options, variables=variables):
                child = run(PYTHON, *options, "-c", self.KILL,
                            env=environment(**variables))
                self.check(child, SIGSEGV, "")

    def test_disarmed_after_take_over(self):
        """disable() after the take-over leaves no handler of either."""
        child = run(PYTHON, "-X", "faulthandler", "-c", block("""
            import faulthandler, os
            faulthandler.disable()
            os.kill(os.getpid(), 11)
        """))
        self.check(child, SIGSEGV, "")

    def test_missing_extension(self):
        """Where only the finder is left, Python has its builtin."""
        for options in [], ["-W", "error"], ["-X", "dev"]:
            with self.subTest(options=options):
                child = self.start_half(
                    "import importlib.util; print(importlib.util.find_spec("
                    "'faulthandler').origin); " + self.ORIGIN, *options)
                self.assertEqual(child.out, "built-in\n" * 2)

    def test_broken_extension(self):
        """Where the extension cannot be loaded, Python has its builtin."""
        with self.broken_extension():
            child = self.start_half(self.ORIGIN + block("""
                import importlib
                print(faulthandler.__loader__.__name__)
                importlib.reload(faulthandler)
                print(hasattr(faulthandler, "version"))
            """).replace("\n", "; ").join(["; ", ""]))
        self.assertEqual(child.out, "built-in\nBuiltinImporter\nFalse\n")

    def test_failed_take_over(self):
        """Where the extension is missing or broken the builtin stays armed."""
        code = ("import faulthandler; print(faulthandler.is_enabled(), "
                "faulthandler.__spec__.origin, faulthandler is first)")
        armed = "True built-in True\n"
        for options, variables in [
                (["-X", "faulthandler"], {}),
                (["-X", "dev", "-W", "error"], {}),
                ([], {"PYTHONFAULTHANDLER": "1"})]:
            with self.subTest(options=options, variables=variables):
                missing = self.start_half(code, *options, **variables)
                with self.broken_extension():
                    broken = self.start_half(code, *options, **variables)
                self.assertEqual((missing.out, broken.out), (armed, armed))

    @contextlib.contextmanager
    def broken_extension(self):
        """Put a file that is no shared object where the extension is due."""
        path = write_file("half/" + os.path.basename(self.origin.strip()),
                          "This is not an ELF file.\n")
        try:
            yield
        finally:
            os.remove(path)

    def test_subinterpreters(self):
        """The finder works in both kinds of subinterpreter."""
        for options in [], ["-X", "faulthandler"]:
            for own_gil in False, True:
                with self.subTest(options=options, own_gil=own_gil):
                    child = self.start(*options, "-c", block("""
                        import sub
                        interpreter = sub.create(%r)
                        sub.run(interpreter, %r)
                        sub.run(interpreter, "print(faulthandler."
                                "__spec__.origin == %r, flush=True)")
                    """) % (own_gil, self.ORIGIN.split(";")[0],
                            self.origin.strip()))
                    self.assertEqual(child.out, "True\n")

    def test_recorded(self):
        """The metadata names what starts the finder, so that it is removed."""
        child = self.start("-c", block("""
            import importlib.metadata
            found = importlib.metadata.distribution("faulthandler")
            print(found.version)
            print([file.name for file in found.files
                   if file.suffix in (".pth", ".start")
                   and "precedence" in file.name and file.locate().exists()])
        """))
        self.assertIn(child.out, [
            "1.0\n['faulthandler-precedence.%s']\n" % suffix
            for suffix in ("pth", "start")])


# ---- pytest ----------------------------------------------------------------

class PytestTests(CrashCase):
    """pytest with its own faulthandler plugin."""

    def pytest(self, source, *arguments, stderr=subprocess.PIPE, **variables):
        """Run a suite with the pytest that this Python has."""
        try:
            import pytest
        except ImportError:
            self.skipTest("needs pytest")
        write_file("test_suite.py", block(source))
        folders = [os.path.dirname(os.path.dirname(pytest.__file__))]
        return run(PYTHON, "-c", block("""
            import sys
            sys.path += %r
            import pytest
            sys.exit(pytest.main(sys.argv[1:]))
        """ % folders), "-p", "no:cacheprovider", "test_suite.py", *arguments,
            stderr=stderr,
            env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **variables))

    def test_passing_suite(self):
        """A suite passes, and the module is ours in it."""
        child = self.pytest("""
            def test_ours():
                import faulthandler
                assert faulthandler.version == 0x100
                assert faulthandler.is_enabled()
        """)
        self.assertEqual(child.status, 0, child)
        self.assertIn("1 passed", child.out)

    def test_crashing_test(self):
        """A test that crashes is reported once, with its line."""
        child = self.pytest("""
            import ctypes
            def test_crash():
                ctypes.CDLL(None).strlen(None)
        """)
        self.assertEqual(child.status, -SIGSEGV, child)
        self.assertEqual(
            (child.out + child.err).count("Fatal Python error: Segmentation"),
            1, child)
        self.assertIn('  File "test_suite.py", line 3 in test_crash\n',
                      child.err)


# ---- The standard library's API --------------------------------------------

BOTH = '''
"""both(): what each of the two modules dumps, ours and the builtin."""
import sys
import tempfile
import importlib.util
from importlib.machinery import BuiltinImporter

import faulthandler as ours

builtin = importlib.util.module_from_spec(
    BuiltinImporter.find_spec("faulthandler"))
sys.modules["faulthandler"] = ours      # 3.8 puts the builtin there
modules = [ours, builtin]


def both(*arguments, **keywords):
    """Two texts, dumped from the same place."""
    texts = []
    for module in modules:
        with tempfile.TemporaryFile() as file:
            module.dump_traceback(file, *arguments, **keywords)
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
    return texts


def same(*arguments, **keywords):
    """Say where the two differ, and what they are."""
    first, second = both(*arguments, **keywords)
    if first != second:
        print("ours:\\n%s\\nbuiltin:\\n%s" % (first, second), flush=True)
        sys.exit(1)
    return first
'''


class DropInCase(CrashCase):
    """What the tests of the standard library's API share."""

    @classmethod
    def setUpClass(cls):
        """Where the children find both modules."""
        write_file("both.py", BOTH)

    def prints(self, code, expected, status=0, **options):
        """Run code: it ends so, and writes this to standard error."""
        child = python(code, **options)
        found = re.sub(r"(Thread 0x…|thread 0x…) \[python[^\]]*\]", r"\1",
                       child.err)
        self.assertEqual((status_name(child.status), found),
                         (status_name(status), block(expected)), child)
        self.assertLess(child.seconds, LIMIT)
        return child

    def as_builtin(self, code, **options):
        """Run code with either module: status and output are the same."""
        children = [
            python(code, env=environment(FAULTHANDLER_USE_STDLIB=value),
                   **options) for value in ("", "1")]
        ours, builtin = [(status_name(child.status), child.out, child.err)
                         for child in children]
        self.assertEqual(ours, builtin)
        return children[0]

    def agrees(self, code, **options):
        """Run code that compares what both modules dump."""
        child = python("from both import both, same\n" + block(code),
                       **options)
        self.assertEqual((child.status, child.err), (0, ""), child)
        return child


class SignatureTests(DropInCase):
    """Names, parameters, defaults, docstrings, attributes."""

    SIGNATURES = {
        "enable": "file, all_threads=True, c_stack=?, *, max_threads=100, "
                  "details=False",
        "disable": "",
        "is_enabled": "",
        "isenabled": "",
        "dump_traceback": "file, all_threads=True, *, max_threads=100",
        "dump_traceback_later":
            "timeout, repeat=False, file, exit=False, *, max_threads=100",
        "cancel_dump_traceback_later": "",
        "register": "signum, file, all_threads=True, chain=False, "
                    "*, max_threads=100",
        "unregister": "signum, /",
        "context": "text, /",
        "dump_c_stack": "file",
        "sigsegv": "release_gil=False",
        "sigfpe": "", "sigbus": "", "sigill": "",
        "_sigsegv": "release_gil=False, /",
        "_sigfpe": "", "_sigabrt": "", "_stack_overflow": "",
        "_read_null": "", "_fatal_error_c_thread": "",
    }

    def test_signatures(self):
        """inspect.signature() gives the newest release's parameters."""
        child = python("""
            import inspect, faulthandler
            for name in %r:
                shown, star = [], False
                signature = inspect.signature(getattr(faulthandler, name))
                for p in signature.parameters.values():
                    if p.kind is p.KEYWORD_ONLY and not star:
                        shown.append("*")
                        star = True
                    default = "=%%r" %% (p.default,)
                    if p.default is p.empty or p.name == "file":
                        default = ""
                    if p.name == "c_stack":
                        default = "=?"
                    shown.append(p.name + default)
                    if p.name == "file":
                        assert p.default is not p.empty
                    if p.kind is p.POSITIONAL_ONLY:
                        shown.append("/")
                print(name, "(%%s)" %% ", ".join(shown))
        """ % list(self.SIGNATURES))
        expected = ["%s (%s)" % pair for pair in self.SIGNATURES.items()]
        self.assertEqual(child.out.splitlines(), expected, child)

    def test_names_of_the_builtin(self):
        """Whatever the running Python's own module has is here."""
        child = python("""
            from both import builtin, ours
            missing = set(dir(builtin)) - set(dir(ours))
            print(missing - {"__builtins__", "_fatal_error"})
        """)
        self.assertEqual(child.out, "set()\n", child)

    def test_assigned_attributes(self):
        """A function can be wrapped by assigning to it."""
        child = python("""
            import faulthandler
            original = faulthandler.enable
            def enable(*arguments, **keywords):
                print("enable", len(arguments))
                return original(*arguments, **keywords)
            faulthandler.enable = enable
            faulthandler.enable(1)
            print(faulthandler.is_enabled(), faulthandler.disable())
        """)
        self.assertEqual(child.out, "enable 1\nTrue True\n", child)

    def test_docstrings(self):
        """Every function says what it does."""
        child = python("""
            import faulthandler
            for name in %r:
                assert getattr(faulthandler, name).__doc__, name
        """ % list(self.SIGNATURES))
        self.assertEqual(child.status, 0, child)


class ArgumentTests(DropInCase):
    """Wrong arguments: the newest release's exceptions and messages."""

    def raises(self, calls, before=""):
        """Each call raises this, or returns it."""
        child = python("import faulthandler, io, os, signal, sys\n"
                       + block(before) + "\n" + block("""
            for call in %r:
                try:
                    print(repr(eval("faulthandler." + call)))
                except BaseException as error:
                    print(type(error).__name__, error)
        """ % list(calls)))
        self.assertEqual(list(zip(calls, child.out.splitlines())),
                         list(calls.items()), child)
        self.assertEqual(child.status, 0, child)

    FUNCTIONS = ["enable(%s)", "dump_traceback(%s)", "register(10, %s)",
                 "dump_traceback_later(60, file=%s)", "dump_c_stack(%s)"]

    def test_timeouts(self):
        """What is no time, or no number."""
        self.raises({
            "dump_traceback_later(-1)":
                "ValueError timeout must be greater than 0",
            "dump_traceback_later(0)":
                "ValueError timeout must be greater than 0",
            "dump_traceback_later(1e300)":
                "OverflowError timestamp out of range for C PyTime_t",
            "dump_traceback_later(-1e300)":
                "OverflowError timestamp out of range for C PyTime_t",
            "dump_traceback_later(float('-inf'))":
                "OverflowError timestamp out of range for C PyTime_t",
            "dump_traceback_later(9223372036.9)":
                "OverflowError timestamp out of range for C PyTime_t",
            "dump_traceback_later(9223372036.8)": "None",
            "dump_traceback_later(float('nan'))":
                "ValueError Invalid value NaN (not a number)",
            "dump_traceback_later('x')":
                "TypeError must be real number, not str",
            "dump_traceback_later(60)": "None",
            "dump_traceback_later(1e9)": "None",
            "cancel_dump_traceback_later()": "None",
            "cancel_dump_traceback_later() ": "None",
        })

    def test_signal_numbers(self):
        """What is no signal, or one that is refused."""
        refused = ("RuntimeError signal %d cannot be registered, "
                   "use enable() instead")
        calls = {}
        for function in ("register", "unregister"):
            for signum, title, call in SIGNALS:
                calls["%s(%d)" % (function, signum)] = refused % signum
            for number in (0, -1, 65, 99999):
                calls["%s(%d)" % (function, number)] = \
                    "ValueError signal number out of range"
            calls[function + "(2**40)"] = \
                "OverflowError Python int too large to convert to C int"
            calls[function + "('x')"] = "TypeError 'str' object cannot be " \
                "interpreted as an integer"
        calls["register(9)"] = "OSError [Errno 22] Invalid argument"
        calls["register(10)"] = "None"
        calls["unregister(10)"] = "True"
        calls["unregister(10) "] = "False"
        calls["unregister(64)"] = "False"
        self.raises(calls)

    def test_descriptors(self):
        """Numbers that are no descriptors."""
        bad = "ValueError file is not a valid file descriptor"
        big = "OverflowError Python int too large to convert to C int"
        for number, message in [(-1, bad), (-2, bad), (2**31, big),
                                (2**40, big)]:
            with self.subTest(number=number):
                self.raises({function % number: message
                             for function in self.FUNCTIONS})

    def test_objects(self):
        """Objects that are no files."""
        no_file = "AttributeError '%s' object has no attribute 'fileno'"
        for argument, message in [
                ("12.5", no_file % "float"), ("[]", no_file % "list"),
                ("io.StringIO()", "UnsupportedOperation fileno")]:
            with self.subTest(argument=argument):
                self.raises({function % argument: message
                             for function in self.FUNCTIONS})

    def test_fileno(self):
        """Files whose fileno() is no descriptor."""
        class_ = """
            class File:
                def __init__(self, number):
                    self.number = number
                def fileno(self):
                    return self.number
                def flush(self):
                    raise ZeroDivisionError
        """
        wrong = "RuntimeError file.fileno() is not a valid file descriptor"
        for number in ("'x'", "None", "-1", "1.5", "2**40"):
            with self.subTest(number=number):
                self.raises({function % "File(%s)" % number: wrong
                             for function in self.FUNCTIONS}, class_)
        self.raises({"enable(File(1))": "None"}, class_)

    def test_no_stderr(self):
        """sys.stderr is None, or deleted, or no file."""
        functions = [function.replace("file=", "") % "" for function in
                     self.FUNCTIONS if function != "enable(%s)"]
        functions = [f.replace(", )", ")") for f in functions]
        functions.append("enable(all_threads=True)")
        for change, message in [
                ("sys.stderr = None", "RuntimeError sys.stderr is None"),
                ("del sys.stderr", "RuntimeError lost sys.stderr"),
                ("sys.stderr = io.StringIO()", "UnsupportedOperation fileno")]:
            with self.subTest(change=change):
                self.raises({call: message for call in functions}, change)

    def test_max_threads(self):
        """max_threads is a number, by name only."""
        self.raises({
            "enable(max_threads='x')":
                "TypeError 'str' object cannot be interpreted as an integer",
            "enable(1, max_threads=0)": "None",
            "enable(1, max_threads=-1)": "None",
            "enable(1, max_threads=10**6)": "None",
        })

    def test_truth(self):
        """Switches take anything that has a truth."""
        self.raises({
            "enable(1, 'x', [])": "None",
            "enable(1, all_threads=None, c_stack=1)": "None",
            "enable(1, details='x')": "None",
            "register(10, 1, 2, 3)": "None",
            "dump_traceback_later(60, 'x', 1, [])": "None",
        })

    def test_wrong_calls(self):
        """Too many, too few or unknown arguments name the function."""
        calls = ["enable(1, 1, 1, 1)", "enable(foo=1)", "disable(1)",
                 "is_enabled(1)", "dump_traceback(1, 1, 1)",
                 "dump_traceback(foo=1)", "dump_traceback_later()",
                 "dump_traceback_later(1, 1, 1, 1, 1)", "register()",
                 "register(10, 1, 1, 1, 1)", "unregister()",
                 "unregister(10, 11)", "unregister(signum=10)",
                 "cancel_dump_traceback_later(1)", "dump_c_stack(1, 1)",
                 "dump_c_stack(max_threads=1)", "_sigsegv(1, 2)",
                 "_sigfpe(1)", "_sigabrt(1)", "_stack_overflow(1)",
                 "_read_null(1)", "_fatal_error_c_thread(1)"]
        child = python("""
            import faulthandler
            for call in %r:
                try:
                    eval("faulthandler." + call)
                except TypeError as error:
                    print(call, call.split("(")[0] in str(error))
                else:
                    print(call, "was accepted")
        """ % calls)
        self.assertEqual(child.out.splitlines(),
                         [call + " True" for call in calls], child)

    def test_returns(self):
        """What each function returns."""
        self.raises({
            "is_enabled()": "True", "disable()": "True",
            "is_enabled() ": "False", "disable() ": "False",
            "enable(1)": "None", "is_enabled()  ": "True",
            "dump_traceback(os.open(os.devnull, os.O_WRONLY))": "None",
            "dump_c_stack(os.open(os.devnull, os.O_WRONLY))": "None",
            "cancel_dump_traceback_later()": "None",
        })


class DumpTests(DropInCase):
    """dump_traceback(): what the running Python's own module dumps."""

    def test_literal(self):
        """The report itself, for one thread."""
        self.prints("""
            import faulthandler
            def f():
                faulthandler.dump_traceback()
            f()
        """, """
            Current thread 0x… (most recent call first):
              File "<string>", line 3 in f
              File "<string>", line 4 in <module>
        """)

    def test_one_thread(self):
        """all_threads=False has a title of its own."""
        self.prints("""
            import faulthandler
            def f():
                faulthandler.dump_traceback(all_threads=False)
            f()
        """, """
            Stack (most recent call first):
              File "<string>", line 3 in f
              File "<string>", line 4 in <module>
        """)

    def test_identity(self):
        """The hexadecimal number is Thread.ident, and the name follows."""
        child = python("""
            import faulthandler, threading
            print("0x%016x" % threading.main_thread().ident)
            faulthandler.dump_traceback()
        """)
        self.assertRegex(child.raw_err, r"\ACurrent thread %s " %
                         child.raw_out.strip())

    def test_threads(self):
        """All threads, in the builtin's order, with its names."""
        child = self.agrees("""
            import threading
            import time
            waiting, never = [], threading.Lock()
            def wait(n):
                if n:
                    wait(n - 1)
                else:
                    waiting.append(1); never.acquire()
            never.acquire()
            for n in range(20):
                threading.Thread(target=wait, args=(n,), daemon=True,
                                 name="caf\u00e9 %d" % n).start()
            while len(waiting) < 20:
                time.sleep(0.001)
            print(same().count("(most recent call first):"))
            print(same(False).count("(most recent call first):"))
        """)
        self.assertEqual(child.out, "21\n1\n")

    def test_more_than_100_threads(self):
        """A hundred by default, then the current one, then three dots."""
        child = self.agrees("""
            import _thread
            lock = _thread.allocate_lock()
            lock.acquire()
            started = []
            def wait():
                started.append(1)
                lock.acquire()
            for n in range(120):
                _thread.start_new_thread(wait, ())
            while len(started) < 120:
                pass
            text = both()[0]
            print(text.count("hread 0x"), text.endswith("\\n\\n...\\n"),
                  text.count("Current thread"))
            import tempfile
            from both import ours as faulthandler
            for number in (1, 7, 200):
                with tempfile.TemporaryFile("w+") as file:
                    faulthandler.dump_traceback(file, max_threads=number)
                    file.seek(0)
                    text = file.read()
                print(number, text.count("hread 0x"),
                      text.endswith("\\n\\n...\\n"),
                      text.count("Current thread"))
        """)
        self.assertEqual(child.out, block("""
            101 True 1
            1 2 True 1
            7 8 True 1
            200 121 False 1
        """))

    def test_more_threads_than_can_be_listed(self):
        """The current one is always shown, the oldest of many, too."""
        child = python("""
            import ctypes, os, signal, faulthandler
            make = ctypes.pythonapi.PyThreadState_New
            make.restype = ctypes.c_void_p
            make.argtypes = [ctypes.c_void_p]
            main = ctypes.pythonapi.PyInterpreterState_Main
            main.restype = ctypes.c_void_p
            for _ in range(4096):
                make(main())            # no threads: they have no number
            faulthandler.register(signal.SIGUSR1)
            faulthandler.dump_traceback(max_threads=1)
            os.kill(os.getpid(), signal.SIGUSR1); os._exit(0)
        """)
        self.assertEqual(re.sub(r" \[.*\]", "", child.err), block("""
            Current thread 0x… (most recent call first):
              File "<string>", line 10 in <module>

            ...
            Current thread 0x… (most recent call first):
              File "<string>", line 11 in <module>

            ...
        """), child)

    def test_deep_stacks(self):
        """A hundred frames, then the builtin's three dots."""
        self.agrees("""
            def f(n):
                f(n - 1) if n else same()
            for n in (90, 97, 98, 99, 100, 101, 500):
                f(n)
        """)

    def test_names(self):
        """Escapes, and names that are too long."""
        self.agrees(r"""
            def f():
                same()
            for name in ["", "caf\xe9", "\u20ac", "\U0001f40d", "\ud800",
                         "a\nb\0\x7f", "x" * 499, "x" * 500, "x" * 501,
                         "\u20ac" * 499, "\u20ac" * 501, '"quoted"',
                         "".join(map(chr, range(300)))]:
                f.__code__ = f.__code__.replace(co_name=name,
                                                co_filename=name)
                f()
        """)

    def test_subclasses_of_str(self):
        """File names that are more than a str, as templates have them."""
        self.agrees(r"""
            class Name(str):
                pass
            def f():
                same()
            for name in ["", "plain", "caf\xe9", "\u20ac", "\U0001f40d",
                         "x" * 500, "x" * 501]:
                exec(compile("same()", Name(name + ".html"), "exec"))
                f.__code__ = f.__code__.replace(co_name=Name(name),
                                                co_filename=Name(name))
                f()
        """)

    def test_generators(self):
        """Generators, coroutines and comprehensions."""
        self.agrees("""
            import asyncio
            def generate():
                yield same()
            async def coroutine():
                await asyncio.sleep(0)
                [same() for x in generate()]
            asyncio.run(coroutine())
            class C:
                x = [same() for x in (lambda: generate())()]
        """)

    def test_collector(self):
        """The line that says the collector works."""
        child = self.agrees("""
            import gc
            class C:
                def __del__(self):
                    print(same().count("  Garbage-collecting"))
            x = C()
            x.self = x
            del x
            gc.collect()
        """)
        self.assertEqual(child.out,
                         "1\n" if sys.version_info >= (3, 10) else "0\n")

    def test_specialised_init(self):
        """After specialised __init__ calls ours is right, the builtin not."""
        child = python("""
            from both import both
            from die import lines
            import sys
            class C:
                def __init__(self, n):
                    if n == 5000:
                        self.text = both()
                        self.frames = lines(sys._getframe())
            def make(n):
                return C(n)
            for n in range(5001):
                x = make(n)
            ours, builtin = x.text
            found = ours.splitlines()[1:]
            print(found[1:][1:] == x.frames[1:], len(x.frames))
        """)
        self.assertEqual(child.out, "True 3\n", child)

    def test_standard_library(self):
        """At thousands of points of real code both dump the same."""
        child = self.agrees("""
            import gc, sys
            from both import builtin, ours
            from die import lines
            from work import work
            import tempfile
            file = tempfile.TemporaryFile()
            events = compared = 0
            def dump(module):
                module.dump_traceback(file, False)
                text = file.seek(0) or file.read()
                file.seek(0)
                file.truncate()
                return text
            def event(frame, kind, argument):
                global events, compared
                events += 1
                if events % 97 == 0:
                    text = dump(ours).decode("ascii").splitlines()
                    expected = lines(frame)
                    if text[3:] != expected and len(expected) < 98:
                        sys.setprofile(None)
                        print("\\n".join(text + ["expected"] + expected))
                        sys.exit(1)
                    compared += 1
            gc.disable()
            sys.setprofile(event)
            while compared < 5000:
                work()
            sys.setprofile(None)
            file.close()
            print("done")
        """, limit=120)
        self.assertEqual(child.out, "done\n")

    def test_subinterpreter(self):
        """From a subinterpreter, ours goes on where the builtin ends."""
        child = self.agrees("""
            import sub
            other = sub.create(False)
            sub.run(other, "import sys; sys.path.insert(0, '');"
                    "import both; x = both.both()")
            sub.run(other, "assert x[0].startswith(x[1]), x")
            sub.run(other, "print(x[0][len(x[1]):], flush=True)")
        """)
        out = re.sub(r" \[python[^\]]*\]", "", child.out)
        self.assertEqual(out, "\n" + block("""
            Interpreter 0:

            Thread 0x… (most recent call first):
              File "sub.py", line 23 in run
              File "<string>", line 4 in <module>

        """))

    def test_pipe_read_by_a_thread(self):
        """A megabyte goes to a pipe that a thread of ours reads."""
        child = python("""
            import faulthandler, os, threading
            reader, writer = os.pipe()
            total = []
            def read():
                while True:
                    data = os.read(reader, 65536)
                    if not data:
                        break
                    total.append(len(data))
            thread = threading.Thread(target=read)
            thread.start()
            def f(n):
                f(n - 1) if n else [faulthandler.dump_traceback(writer)
                                    for x in range(12)]
            name = "n" * 480
            f.__code__ = f.__code__.replace(co_name=name, co_filename=name)
            f(120)
            os.close(writer)
            thread.join()
            print(sum(total) > 10**6)
        """)
        self.assertEqual((child.status, child.out), (0, "True\n"), child)

    def test_file_is_flushed(self):
        """What is in the file's buffer comes before the dump."""
        child = python("""
            import faulthandler, sys
            sys.stdout.write("first\\n")
            faulthandler.dump_traceback(sys.stdout, all_threads=False)
        """)
        self.assertEqual(child.out, block("""
            first
            Stack (most recent call first):
              File "<string>", line 3 in <module>
        """))


class EnableTests(DropInCase):
    """enable(file): the standard library's report of a crash."""

    def strip(self, text):
        """The report up to what only the running Python adds."""
        text = re.sub(r"(hread 0x…) \[python[^\]]*\]", r"\1", text)
        text = re.sub(r"\nCurrent thread's C stack trace (?s:.*)", "", text)
        return re.sub(r"\nExtension modules: .*\n", "", text)

    def test_literal(self):
        """The report itself, for each signal."""
        for signum, title, call in SIGNALS:
            with self.subTest(call=call):
                child = python("""
                    import faulthandler, sys
                    faulthandler.enable(sys.stderr, c_stack=False)
                    %s
                """ % call)
                child.err = self.strip(child.err)
                if signum == SIGFPE:
                    child.err = child.err.replace("Floating-", "Floating ")
                self.check(child, signum, block("""
                    Fatal Python error: %s

                    Current thread 0x… (most recent call first):
                      File "<string>", line 3 in <module>
                """ % title))

    def test_as_the_builtin(self):
        """The same bytes as from the builtin, extension modules too."""
        c_stack = ", c_stack=False" * (sys.version_info >= (3, 14))
        for arguments, call in [
                ("2", "_sigsegv()"), ("2", "_sigfpe()"), ("2", "_sigabrt()"),
                ("file=2, all_threads=True", "_sigsegv(True)"),
                ("sys.stderr", "_sigsegv()"), ("2, False", "_sigsegv()"),
                ("2, all_threads=0", "_sigfpe()")]:
            with self.subTest(arguments=arguments, call=call):
                self.as_builtin("""
                    import faulthandler, sys
                    import json, decimal, ctypes, unicodedata, array
                    def f():
                        faulthandler.%s
                    faulthandler.enable(%s%s)
                    f()
                """ % (call, arguments, c_stack))

    def test_crashing_thread_first(self):
        """The crashing thread comes first, the others as by the builtin."""
        child = python("""
            import _thread, faulthandler
            lock = _thread.allocate_lock()
            lock.acquire()
            faulthandler.enable(2, c_stack=False)
            def work():
                faulthandler.sigsegv()
            def wait():
                _thread.start_new_thread(work, ()); lock.acquire()
            _thread.start_new_thread(wait, ()); lock.acquire()
        """)
        child.err = self.strip(child.err)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Current thread 0x… (most recent call first):
              File "<string>", line 6 in work

            Thread 0x… (most recent call first):
              File "<string>", line 8 in wait

            Thread 0x… (most recent call first):
              File "<string>", line 9 in <module>
        """))

    def test_deep_stack(self):
        """A fatal report shows the outermost frames too."""
        child = python("""
            import faulthandler
            faulthandler.enable(2, c_stack=False)
            def f(n):
                f(n - 1) if n else faulthandler.sigsegv()
            f(148)
        """)
        child.err = self.strip(child.err)
        self.check(child, SIGSEGV, report(
            90 * '  File "<string>", line 4 in f\n'
            + "  ... 50 frames not shown ...\n"
            + 9 * '  File "<string>", line 4 in f\n'
            + '  File "<string>", line 5 in <module>\n').replace(
                "Traceback (", "Current thread 0x… ("))

    def test_enable_again(self):
        """The last call's file is the one that counts."""
        child = python("""
            import faulthandler, sys
            faulthandler.enable(1, c_stack=False)
            faulthandler.enable(sys.__stderr__, c_stack=False)
            faulthandler.sigsegv()
        """)
        self.assertEqual(child.out, "")
        self.assertEqual(child.err.count("Fatal Python error"), 1)
        child = python("""
            import faulthandler
            faulthandler.enable(1, c_stack=False)
            faulthandler.enable()
            faulthandler.sigsegv()
        """)
        self.assertEqual(child.out, "")
        self.check(child, SIGSEGV, report(
            '  File "<string>", line 4 in <module>\n'))

    def test_file_is_kept_alive(self):
        """A file object that only enable() refers to stays open."""
        child = python("""
            import faulthandler, gc
            faulthandler.enable(open("kept.txt", "w"), c_stack=False)
            gc.collect()
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, "")
        with open(os.path.join(FOLDER, "kept.txt")) as file:
            self.assertEqual(file.readline(),
                             "Fatal Python error: Segmentation fault\n")

    def test_closed_descriptor(self):
        """disable() and os.close() at once, as pytest does."""
        child = python("""
            import faulthandler, os
            number = os.dup(2)
            faulthandler.enable(number)
            faulthandler.disable()
            os.close(number)
            victim = os.open("victim", os.O_CREAT | os.O_RDWR | os.O_TRUNC)
            assert victim == number, (victim, number)
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, "")
        self.assertEqual(
            os.path.getsize(os.path.join(FOLDER, "victim")), 0)

    def test_crash_functions(self):
        """The functions that test suites crash with."""
        for call, signum in [("_sigsegv()", SIGSEGV), ("_sigfpe()", SIGFPE),
                             ("_sigsegv(True)", SIGSEGV),
                             ("_sigabrt()", SIGABRT),
                             ("_read_null()", SIGSEGV),
                             ("_stack_overflow()", SIGSEGV)]:
            with self.subTest(call=call):
                title = {s: t for s, t, _ in SIGNALS}[signum]
                self.crash("import faulthandler; faulthandler." + call, """
                    Fatal Python error: %s

                    Traceback (most recent call first):
                      File "<string>", line 1 in <module>
                """ % title, signum)


class LaterTests(DropInCase):
    """The watchdog."""

    # Arm and wait in one line: a dump may come before the next one runs.

    def dumps_once(self, seconds, title):
        """Armed for so long, it dumps once, to standard error."""
        self.prints("""
            import faulthandler as f, os, time
            (reader, writer), error = os.pipe(), os.dup(2)
            os.dup2(writer, 2)
            f.dump_traceback_later(%s); text = os.read(reader, 9999)
            time.sleep(0.5)
            f.cancel_dump_traceback_later()
            os.close(writer), os.dup2(error, 2)
            os.write(2, text + os.read(reader, 9999))
        """ % seconds, """
            %s
            Thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """ % title)

    def test_subinterpreter_that_ended(self):
        """The watchdog of an interpreter that is gone shows the others."""
        child = python("""
            import atexit, os, faulthandler, sub
            ours, theirs = os.pipe()
            def read(count):
                text = b""
                while text.count(b"Timeout") < count:
                    text += os.read(ours, 4096)
                return text
            gone = sub.create(False)
            sub.run(gone, "import faulthandler; faulthandler."
                    "dump_traceback_later(0.01, True, %d)" % theirs)
            atexit.unregister(sub.module.destroy)
            sub.module.destroy(gone)
            os.set_blocking(ours, False)
            try:
                while os.read(ours, 65536):
                    pass
            except BlockingIOError:
                os.set_blocking(ours, True)
            read(2)         # one of them was begun before
            text = read(3).decode()
            faulthandler.cancel_dump_traceback_later()
            print("threads cannot be read" in text, "in <module>" in text)
        """)
        self.assertEqual((child.status, child.out, child.err),
                         (0, "False True\n", ""), child)

    def test_once(self):
        """One dump, after the time."""
        self.dumps_once(0.2, "Timeout (0:00:00.200000)!")

    def test_time_in_the_title(self):
        """Fractions are written only where there are any."""
        self.dumps_once(1, "Timeout (0:00:01)!")

    def test_time_rounded_as_python_does(self):
        """Up to nanoseconds, then up to microseconds, as binary numbers."""
        self.dumps_once(0.067, "Timeout (0:00:00.067001)!")
        self.dumps_once(0.07, "Timeout (0:00:00.070000)!")

    def test_large_thread_local_variables(self):
        """They lie on the stack of the watchdog's thread, which has room."""
        compile_library(self, "local", """
            __attribute__((tls_model("initial-exec")))
            __thread char large[248 * 1024];
        """)
        compile_library(self, "larger", """
            __attribute__((tls_model("initial-exec")))
            __thread char larger[300 * 1024];
        """)
        for name in ("local", "larger"):
            with self.subTest(name=name):
                child = python("""
                    import faulthandler as f, os
                    reader, writer = os.pipe()
                    f.dump_traceback_later(0.01, file=writer)
                    print(os.read(reader, 26).decode())
                """, env=preload(name))
                self.assertEqual((child.status, child.out),
                                 (0, "Timeout (0:00:00.010000)!\n\n"), child)

    def test_early_enough_and_late_enough(self):
        """The dump comes at the time, not before it."""
        child = python("""
            import faulthandler, os, time
            reader, writer = os.pipe()
            waited = []
            for n in range(5):
                start = time.monotonic()
                faulthandler.dump_traceback_later(0.2, file=writer)
                os.read(reader, 9999)
                waited.append(time.monotonic() - start)
            # Of the others some may have met a busy machine.
            print(0.2 <= min(waited) < 1.2, waited)
        """)
        self.assertEqual(child.out.split()[:1], ["True"], child)

    def test_repeat_until_cancelled(self):
        """Dumps again and again, with nothing between, until cancelled."""
        self.prints("""
            import faulthandler as f, os
            reader, writer = os.pipe()
            reads = map(os.read, [reader] * 3, [9999] * 3)
            f.dump_traceback_later(0.05, True, writer); text = list(reads)
            f.cancel_dump_traceback_later()
            os.close(writer)
            # The pipe ends when the watchdog does.
            text += iter(lambda: os.read(reader, 9999), b"")
            two = b"".join(text).split(b"Timeout")[:3]
            os.write(2, b"Timeout".join(two))
        """, 2 * block("""
            Timeout (0:00:00.050000)!
            Thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """))

    def test_exit(self):
        """exit=True ends the process with status 1, after the dump."""
        child = self.prints("""
            import atexit, faulthandler, time
            atexit.register(print, "atexit")
            faulthandler.dump_traceback_later(0.2, exit=True); time.sleep(30)
        """, """
            Timeout (0:00:00.200000)!
            Thread 0x… (most recent call first):
              File "<string>", line 3 in <module>
        """, status=1)
        self.assertEqual(child.out, "")

    def test_cancelled(self):
        """Cancelled in time, it prints nothing, and closes its file."""
        child = self.prints("""
            import faulthandler, os
            reader, writer = os.pipe()
            faulthandler.cancel_dump_traceback_later()
            faulthandler.dump_traceback_later(60, file=writer, exit=True)
            faulthandler.cancel_dump_traceback_later()
            faulthandler.cancel_dump_traceback_later()
            os.close(writer)
            print(os.read(reader, 9999))
        """, "")
        self.assertEqual(child.out, "b''\n")

    def test_armed_again(self):
        """Arming again replaces what was armed, arguments and all."""
        self.prints("""
            import faulthandler as f, os, time
            (old, theirs), (reader, writer) = os.pipe(), os.pipe()
            arm = f.dump_traceback_later
            arm(60, True, theirs, exit=True)
            arm(60, file=theirs)
            arm(0.2, file=writer); text = os.read(reader, 9999)
            time.sleep(0.5)
            f.cancel_dump_traceback_later()
            os.close(theirs), os.close(writer)
            os.write(2, text + os.read(reader, 9999) + os.read(old, 9999))
        """, """
            Timeout (0:00:00.200000)!
            Thread 0x… (most recent call first):
              File "<string>", line 6 in <module>
        """)

    def test_as_the_builtin(self):
        """The same bytes as from the builtin, with threads."""
        self.as_builtin("""
            import faulthandler, os, threading, time
            never, waiting = threading.Lock(), []
            never.acquire()
            def wait():
                waiting.append(1); never.acquire()
            for n in range(3):
                threading.Thread(target=wait, daemon=True,
                                 name="worker-%d" % n).start()
            while len(waiting) < 3:
                time.sleep(0.001)
            reader, writer = os.pipe()
            later = faulthandler.dump_traceback_later
            end = faulthandler.cancel_dump_traceback_later
            later(0.2, file=writer); text = os.read(reader, 1); end()
            os.close(writer)
            os.write(2, text + os.read(reader, 9999))
        """)

    def test_no_exit_at_the_end(self):
        """A watchdog that is armed does not keep the process."""
        for code in ("", "import sys; sys.exit(3)", "import os; os._exit(4)"):
            child = python("import faulthandler; faulthandler."
                           "dump_traceback_later(60, exit=True); " + code)
            self.assertEqual(child.err, "")
            self.assertLess(child.seconds, LIMIT)

    def test_cancel_while_stuck(self):
        """cancel returns within a second though the pipe is full."""
        child = python("""
            import faulthandler, os, time
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            try:
                while True:
                    os.write(writer, b"x" * 65536)
            except BlockingIOError:
                os.set_blocking(writer, True)
            took = []
            for n in range(3):
                faulthandler.dump_traceback_later(0.1, True, writer)
                time.sleep(0.5)
                start = time.monotonic()
                faulthandler.cancel_dump_traceback_later()
                took.append(time.monotonic() - start)
            # Of the others some may have met a busy machine.
            print(min(took) < 1, took)
        """)
        self.assertEqual((child.status, child.out.split()[:1]), (0, ["True"]),
                         child)
        self.assertLess(child.seconds, LIMIT)

    def test_threads_run_while_cancelling(self):
        """Other threads run on while a stuck watchdog is cancelled."""
        child = python("""
            import faulthandler, os, sys, threading, time
            sys.setswitchinterval(60)   # nobody loses the GIL who keeps it
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            try:
                while True:
                    os.write(writer, b"x" * 65536)
            except BlockingIOError:
                os.set_blocking(writer, True)
            beats, most, cancelling = 0, 0, False
            def beat():
                global beats
                while most < 5:
                    time.sleep(0.001)
                    beats += cancelling
            threading.Thread(target=beat).start()
            # Until one takes so long that the other thread is seen to run.
            while most < 5:
                faulthandler.dump_traceback_later(0.1, True, writer)
                time.sleep(0.15)
                beats, cancelling = 0, True
                faulthandler.cancel_dump_traceback_later()
                cancelling, most = False, max(most, beats)
        """)
        self.assertEqual((child.status, child.err), (0, ""), child)

    def test_descriptor_closed_after_cancel(self):
        """After cancel the caller's descriptor is left alone."""
        child = python("""
            import faulthandler, os, time
            for n in range(20):
                number = os.open(os.devnull, os.O_WRONLY)
                faulthandler.dump_traceback_later(0.005, True, number)
                time.sleep(0.012)
                faulthandler.cancel_dump_traceback_later()
                os.close(number)
                victim = os.open("victim", os.O_CREAT | os.O_RDWR
                                 | os.O_TRUNC)
                time.sleep(0.01)
                assert os.fstat(victim).st_size == 0
                os.close(victim)
        """)
        self.assertEqual((child.status, child.err), (0, ""))

    def test_busy_threads(self):
        """Dumps of threads that run on read lines, and kill nobody."""
        child = python("""
            import faulthandler, os, re, tempfile, time
            import busy
            file = tempfile.TemporaryFile("w+")
            threads = busy.begin()
            faulthandler.dump_traceback_later(0.002, True, file)
            time.sleep(2)
            # On a busy machine these are few.
            while os.pread(file.fileno(), 10**8, 0).count(b"Timeout") < 51:
                time.sleep(0.1)
            faulthandler.cancel_dump_traceback_later()
            busy.end(threads)
            file.seek(0)
            text = file.read()
            line = re.compile(
                r"Timeout \\(0:00:00.002000\\)!|(Thread|Current thread) 0x"
                r"[0-9a-f]{16}.* \\(most recent call first\\):|"
                r'  File (".*"|\\?{3}), line (\\d+|\\?{3}) in \\S+|'
                r"  <[a-zA-Z ]+>|  [.]{3}|[.]{3}|$")
            file.close()
            print(text.count("Timeout") > 50)
            print([x for x in text.splitlines() if not line.match(x)][:5])
        """)
        self.assertEqual((child.status, child.err, child.out),
                         (0, "", "True\n[]\n"), child)

    def test_forked_child(self):
        """A forked child can exit, cancel, arm again, and be dumped."""
        for action in ("pass", "faulthandler.cancel_dump_traceback_later()",
                       "faulthandler.dump_traceback_later(60)",
                       "sys.exit(0)", "faulthandler.dump_traceback(1)"):
            with self.subTest(action=action):
                child = python("""
                    import faulthandler, os, sys
                    faulthandler.dump_traceback_later(60, exit=True)
                    pid = os.fork()
                    if pid == 0:
                        %s
                    else:
                        status = os.waitpid(pid, 0)[1]
                        faulthandler.cancel_dump_traceback_later()
                        print("status", status)
                """ % action)
                self.assertIn("status 0\n", child.out)
                self.assertEqual(child.status, 0, child)
                self.assertLess(child.seconds, LIMIT)

    def test_forked_child_has_no_file(self):
        """What the watchdog's file was duplicated to is not left open."""
        child = python("""
            import faulthandler, os
            __import__("warnings").simplefilter("ignore")
            files = len(os.listdir("/proc/self/fd"))
            faulthandler.dump_traceback_later(60, file=1)
            pid = os.fork()
            if pid == 0:
                os._exit(len(os.listdir("/proc/self/fd")) - files)
            print(os.waitpid(pid, 0)[1])
        """)
        self.assertEqual((child.status, child.out), (0, "0\n"), child)

    def test_forked_child_dumps(self):
        """A watchdog armed in a forked child works there."""
        child = python("""
            import faulthandler, os, time
            faulthandler.dump_traceback_later(60)
            pid = os.fork()
            if pid == 0:
                faulthandler.dump_traceback_later(0.1, exit=True)
                time.sleep(60)
            print(os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
        """)
        self.assertEqual(child.out, "1\n")
        self.assertEqual(child.err.count("Timeout (0:00:00.100000)!"), 1)

    def test_multiprocessing(self):
        """Every start method lives with an armed watchdog."""
        write_file("workers.py", block("""
            import faulthandler, multiprocessing, sys
            def work(x):
                faulthandler.cancel_dump_traceback_later()
                return x * 2
            if __name__ == "__main__":
                faulthandler.dump_traceback_later(60, exit=True)
                context = multiprocessing.get_context(sys.argv[1])
                with context.Pool(2) as pool:
                    print(pool.map(work, [1, 2, 3]))
        """))
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method=method):
                child = run(PYTHON, "-W", "ignore", "workers.py", method)
                self.assertEqual((child.status, child.out, child.err),
                                 (0, "[2, 4, 6]\n", ""))


class UserTests(DropInCase):
    """User signals."""

    def test_literal(self):
        """A registered signal dumps; the process goes on."""
        self.prints("""
            import faulthandler, os, signal
            faulthandler.register(signal.SIGUSR1)
            def f():
                os.kill(os.getpid(), signal.SIGUSR1)
            f()
            faulthandler.unregister(signal.SIGUSR1)
        """, """
            Current thread 0x… (most recent call first):
              File "<string>", line 4 in f
              File "<string>", line 5 in <module>
        """)

    def test_one_thread(self):
        """all_threads=False."""
        self.prints("""
            import faulthandler, signal
            faulthandler.register(signal.SIGUSR1, all_threads=False)
            signal.raise_signal(signal.SIGUSR1)
        """, """
            Stack (most recent call first):
              File "<string>", line 3 in <module>
        """)

    def test_as_the_builtin(self):
        """The same bytes as from the builtin, with threads."""
        for arguments in ("", ", 2, False", ", chain=False, file=2"):
            with self.subTest(arguments=arguments):
                self.as_builtin("""
                    import faulthandler, signal, threading, time
                    never, waiting = threading.Lock(), []
                    never.acquire()
                    def wait():
                        waiting.append(1); never.acquire()
                    for n in range(3):
                        threading.Thread(target=wait, daemon=True,
                                         name="worker-%%d" %% n).start()
                    while len(waiting) < 3:
                        time.sleep(0.001)
                    faulthandler.register(signal.SIGUSR2%s)
                    signal.raise_signal(signal.SIGUSR2)
                """ % arguments)

    def test_unregister(self):
        """unregister() puts the older action back."""
        child = python("""
            import faulthandler, signal
            signal.signal(signal.SIGUSR1, lambda *a: print("python"))
            faulthandler.register(signal.SIGUSR1)
            print(faulthandler.unregister(signal.SIGUSR1))
            signal.raise_signal(signal.SIGUSR1)
            print(faulthandler.unregister(signal.SIGUSR1))
        """)
        self.assertEqual((child.status, child.err, child.out),
                         (0, "", "True\npython\nFalse\n"))

    def test_default_action_comes_back(self):
        """After unregister() a signal kills again."""
        child = python("""
            import faulthandler, signal
            faulthandler.register(signal.SIGUSR1)
            faulthandler.unregister(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        """)
        self.assertEqual((status_name(child.status), child.err),
                         ("-SIGUSR1", ""))

    def test_chain_to_python(self):
        """chain=True: the dump, then the handler of signal.signal()."""
        for signals in (1, 3):
            child = self.prints("""
                import faulthandler, signal
                signal.signal(signal.SIGUSR1, lambda *a: print("python"))
                faulthandler.register(signal.SIGUSR1, chain=True)
                for n in range(%d):
                    signal.raise_signal(signal.SIGUSR1)
            """ % signals, block("""
                Current thread 0x… (most recent call first):
                  File "<string>", line 5 in <module>
            """) * signals)
            self.assertEqual(child.out, "python\n" * signals)

    def test_no_chain(self):
        """Without chain the older handler is not called."""
        child = self.prints("""
            import faulthandler, signal
            signal.signal(signal.SIGUSR1, lambda *a: print("python"))
            faulthandler.register(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        """, """
            Current thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """)
        self.assertEqual(child.out, "")

    def test_chain_to_default_action(self):
        """chain=True over a default action that kills: it does."""
        self.prints("""
            import faulthandler, signal
            faulthandler.register(signal.SIGUSR1, chain=True)
            signal.raise_signal(signal.SIGUSR1)
        """, """
            Current thread 0x… (most recent call first):
              File "<string>", line 3 in <module>
        """, status=-signal.SIGUSR1)

    def test_chain_to_ignored_signal(self):
        """chain=True over an ignored signal: the process goes on."""
        child = self.prints("""
            import faulthandler, signal
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            faulthandler.register(signal.SIGUSR1, chain=True)
            signal.raise_signal(signal.SIGUSR1)
            print("alive")
        """, """
            Current thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """)
        self.assertEqual(child.out, "alive\n")

    def test_register_again(self):
        """The last call's file is the one that counts."""
        child = self.prints("""
            import faulthandler, signal
            faulthandler.register(signal.SIGUSR1, 1)
            faulthandler.register(signal.SIGUSR1, 2)
            signal.raise_signal(signal.SIGUSR1)
        """, """
            Current thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """)
        self.assertEqual(child.out, "")

    def test_many_signals(self):
        """Every signal that can be caught can be registered."""
        child = python("""
            import faulthandler, os, signal
            null = os.open(os.devnull, os.O_WRONLY)
            refused = {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV,
                       signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
                       signal.SIGABRT}
            for number in sorted(signal.valid_signals() - refused):
                faulthandler.register(number, null)
                signal.raise_signal(number)
                assert faulthandler.unregister(number), number
            print("alive")
        """)
        self.assertEqual((child.out, child.err), ("alive\n", ""))

    def test_interrupted_call(self):
        """A call that a signal interrupts goes on."""
        child = python("""
            import faulthandler, os, signal, time
            faulthandler.register(signal.SIGUSR1, os.open(os.devnull, 1))
            reader, writer = os.pipe()
            if os.fork() == 0:
                for n in range(20):
                    time.sleep(0.01)
                    os.kill(os.getppid(), signal.SIGUSR1)
                os.write(writer, b"done")
                os._exit(0)
            print(os.read(reader, 10))
        """)
        self.assertEqual(child.out, "b'done'\n", child)

    def test_busy_threads(self):
        """Dumps of threads that run on kill nobody."""
        child = python("""
            import faulthandler, os, signal, time
            import busy
            null = os.open(os.devnull, os.O_WRONLY)
            faulthandler.register(signal.SIGUSR1, null)
            threads = busy.begin()
            end = time.monotonic() + 2
            while time.monotonic() < end:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.0003)
            busy.end(threads)
        """)
        self.assertEqual((child.status, child.err), (0, ""), child)

    def test_not_interleaved(self):
        """Dumps of several kinds at once do not mix, however long."""
        child = python("""
            import faulthandler, itertools, os, signal, tempfile, time
            file = tempfile.TemporaryFile("w+")
            faulthandler.register(signal.SIGUSR1, file)
            def dump():
                # Those of the watchdog too come only while we are down here.
                faulthandler.dump_traceback_later(0.01, True, file)
                late = 0
                while late < 10:
                    for n in range(100):
                        faulthandler.dump_traceback(file)
                        time.sleep(0.003)
                        signal.raise_signal(signal.SIGUSR1)
                    data = os.pread(file.fileno(), 10**9, 0)
                    late = data.count(b"Timeout")
                faulthandler.cancel_dump_traceback_later()
                while len(os.listdir("/proc/self/task")) > 1:
                    time.sleep(0.001)
            def f(n):
                if n:
                    f(n - 1)
                else:
                    dump()
            name = "n" * 490
            f.__code__ = f.__code__.replace(co_name=name, co_filename=name)
            f(120)
            file.seek(0)
            lines = [len(line) > 900 for line in file]
            runs = [len(list(run)) for deep, run in itertools.groupby(lines)
                    if deep]
            file.close()
            print(len(runs) > 200, {n for n in runs if n not in (97, 98, 99)})
        """)
        self.assertEqual((child.status, child.err, child.out),
                         (0, "", "True set()\n"), child)

    def test_errno_is_kept(self):
        """A handler leaves errno as it found it."""
        child = python("""
            import ctypes, faulthandler, os, signal
            libc = ctypes.CDLL(None, use_errno=True)
            faulthandler.register(signal.SIGUSR1, 99)
            location = ctypes.PyDLL(None)["__errno_location"]
            location.restype = ctypes.POINTER(ctypes.c_int)
            both = ctypes.PyDLL(None)
            kept = []
            for n in range(100):
                location()[0] = 77
                both["raise"](signal.SIGUSR1)
                kept.append(location()[0])
            print(set(kept))
        """)
        self.assertEqual(child.out, "{77}\n", child)


class CStackTests(DropInCase):
    """The C stack: on every version, in the format of 3.14."""

    LINE = (r"  Binary file (\"[^\"]+\"(, at [\w.@]*\+0x[0-9a-f]+)?|"
            r"'<unknown>') \[0x[0-9a-f]+\]")

    def shape(self, text):
        """The lines of the C stack in this text; each is well formed."""
        head = "Current thread's C stack trace (most recent call first):\n"
        self.assertEqual(text.count(head), 1, text)
        lines = text.split(head)[1].splitlines()
        for line in lines:
            self.assertRegex(line, "^(%s)$" % self.LINE)
        return lines

    def test_dump(self):
        """dump_c_stack() shows the calls from main() to itself."""
        child = python("""
            import faulthandler
            faulthandler.dump_c_stack()
        """)
        self.assertEqual(child.status, 0)
        lines = self.shape(child.err)
        self.assertGreater(len(lines), 5)
        self.assertTrue(any("main" in line for line in lines), lines)

    def test_file(self):
        """Its file is like that of the others."""
        child = python("""
            import faulthandler, sys
            faulthandler.dump_c_stack(1)
            faulthandler.dump_c_stack(file=sys.stdout)
        """)
        self.assertEqual(child.err, "")
        self.assertEqual(child.out.count("C stack trace"), 2)

    @unittest.skipIf(SANITIZED, "a function of the sanitizer comes first")
    def test_crash(self):
        """enable(c_stack=True) adds it, from the faulting frame on."""
        child = python("""
            import ctypes, faulthandler
            faulthandler.enable(2, c_stack=True)
            ctypes.CDLL(None).strlen(None)
        """)
        self.assertEqual(child.status, -SIGSEGV)
        self.assertEqual(child.err.count("Fatal Python error"), 1)
        lines = self.shape(child.err)
        self.assertIn("libc.so", lines[0])
        self.assertIn("libffi", lines[1])

    def test_call_through_bad_pointer(self):
        """Where the processor jumped to comes first, then who jumped."""
        for address in (8, 1 << 40):
            with self.subTest(address=address):
                child = python("""
                    import ctypes, faulthandler
                    faulthandler.enable(2, c_stack=True)
                    ctypes.CFUNCTYPE(None)(%d)()
                """ % address)
                self.assertEqual(child.status, -SIGSEGV)
                lines = self.shape(child.err)
                self.assertRegex(lines[0], r"^  Binary file '<unknown>' \[")
                self.assertIn("libffi", lines[1])

    @unittest.skipUnless(X86_64, "needs machine code of x86-64")
    def test_lost_stack_pointer(self):
        """Without a stack pointer the Python part is whole all the same."""
        for code in ("31e450", "4831ed31e450", "4831ed0f0b",
                     "48bcddddddddddddddddff342500000000"):
            with self.subTest(code=code):
                child = python("""
                    import faulthandler, machine
                    faulthandler.enable(2, c_stack=True)
                    machine.run("%s")()
                """ % code)
                self.assertLess(child.status, 0)
                self.assertIn('  File "<string>", line 3 in <module>\n',
                              child.err)
                self.assertEqual(child.err.count("Fatal Python error"), 1)
                self.assertLess(child.seconds, LIMIT)

    def test_default(self):
        """It is on from 3.14 on, where enable() has arguments."""
        child = python("""
            import faulthandler
            faulthandler.enable(2)
            faulthandler.sigsegv()
        """)
        self.assertEqual(child.err.count("C stack trace"),
                         1 if sys.version_info >= (3, 14) else 0)
        child = python("""
            import faulthandler
            faulthandler.enable(2, c_stack=False)
            faulthandler.sigsegv()
        """)
        self.assertNotIn("C stack trace", child.err)

    def test_native_thread(self):
        """It is there also where there is no Python frame."""
        child = python("""
            import ctypes, faulthandler, time
            faulthandler.enable(2, c_stack=True)
            libc, thread = ctypes.CDLL(None), ctypes.c_size_t()
            libc.pthread_create(ctypes.byref(thread), None, libc.strlen, None)
            time.sleep(60)
        """)
        self.assertEqual(child.status, -SIGSEGV)
        self.assertGreater(len(self.shape(child.err)), 1)


# The library that crashes in SymbolTests, and what else it does to lookups.
SYMBOLS = r"""
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

static inline __attribute__((always_inline)) int
inner(volatile int *p)
{
    return *p;                                  /* line 12 */
}

static __attribute__((noinline)) int
outer(volatile int *p)
{
    return inner(p) + 1;                        /* line 18 */
}

int
boom(volatile int *p)
{
    return outer(p) + 2;                        /* line 24 */
}

__attribute__((noinline, noreturn)) void
never_returns(volatile int *p)
{
    *p = 1;                                     /* line 30 */
    __builtin_trap();
}

void
ends_with_call(volatile int *p)
{
    never_returns(p);                           /* line 37 */
}

static sem_t held;

static int
on_object(struct dl_phdr_info *info, size_t size, void *data)
{
    sem_post(&held);
    for (;;)
        pause();
}

static void *
hold(void *argument)
{
    dl_iterate_phdr(on_object, 0);
    return 0;
}

/* Another thread takes the loader's lock, and keeps it. */
int
hold_loader(void)
{
    pthread_t thread;

    sem_init(&held, 0, 0);
    if (pthread_create(&thread, 0, hold, 0) != 0)
        return -1;
    while (sem_wait(&held) != 0)
        ;
    return 0;
}
"""

# malloc() and its kin, which never return once asked to.
STUCK_HEAP = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <unistd.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);

int heap_is_stuck;

static void
enter(void)
{
    while (heap_is_stuck)
        pause();
}

void *malloc(size_t n) { enter(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { enter(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { enter(); return __libc_realloc(p, n); }
void free(void *p) { enter(); __libc_free(p); }
"""

# A library whose debug data are written by hand: entries in its unit, where 2
# opens a block and 3 is a type, and units that share a list of ranges.
UNUSUAL = r"""
    .text
    .globl boom
    .type boom, @function
boom:
    .cfi_startproc
    movl (%%rdi), %%eax
    ret
    .cfi_endproc
end_of_boom:
    .size boom, . - boom
    .section .debug_abbrev, "", @progbits
    .byte 1, 0x11, 1, 0x10, 0x17, 0x11, 1, 0x12, 1, 3, 8, 0, 0
    .byte 2, 0x0b, 1, 0, 0
    .byte 3, 0x24, 0, 0, 0
    .byte 4, 0x11, 0, 0x55, 0x17, 0, 0
    .byte 0
    .section .debug_line, "", @progbits
    .long end_of_lines - 4
    .short 4
    .long end_of_header - start_of_header
start_of_header:
    .byte 1, 1, 1, -5, 14, 13
    .byte 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1
    .byte 0
    .asciz "boom.c"
    .byte 0, 0, 0
    .byte 0
end_of_header:
    .byte 0, 9, 2
    .quad boom
    .byte 3, 6, 1, 2, 4, 0, 1, 1
end_of_lines:
    .section .debug_str, "", @progbits
    .byte 0
    .section .debug_ranges, "", @progbits
    .fill %(ranges)d, 8, 1
    .quad 0, 0
    .section .debug_info, "", @progbits
    .rept %(units)d
    .long 2f - 1f
1:  .short 4
    .long 0
    .byte 8
    .byte 4
    .long 0
2:
    .endr
    .long 2f - 1f
1:  .short 4
    .long 0
    .byte 8
    .byte 1
    .long 0
    .quad boom
    .quad end_of_boom
    .asciz "boom.c"
    .fill %(entries)d, 1, %(entry)d
2:
    .section .note.GNU-stack, "", @progbits
"""


class SymbolTests(CrashCase):
    """C frames: function, file and line, and the objects that they are in.

    In the reports a line with three dots stands for C frames of other
    objects: which these are depends on the Python.
    """

    CRASH = """
        import faulthandler
        faulthandler.enable(2, c_stack="mixed")
        import ctypes
        ctypes.CDLL("./%s.so").boom(None)
    """
    REPORT = """
        Fatal Python error: Segmentation fault

        Current thread 0x… (most recent call first):
          File "<string>", line 4 in <module>

        Traceback (most recent call first):
        %s
          …
          File "<string>", line 4 in <module>
          …
    """
    LINES = """
          C File "…/symbols.c", line 12 in inner (%(name)s.so+0x…)
          C File "…/symbols.c", line 18 in outer (%(name)s.so+0x…)
          C File "…/symbols.c", line 24 in boom (%(name)s.so+0x…)
    """
    # Without debug data.
    NAMES = """
          C File ???, line ??? in outer (%(name)s.so+0x…)
          C File ???, line ??? in boom (%(name)s.so+0x…)
    """
    # Without symbols.
    EXPORTED = """
          C File ???, line ??? in ??? (%(name)s.so+0x…)
          C File ???, line ??? in boom (%(name)s.so+0x…)
    """

    # A lookup that hangs is ended after so many seconds.
    HANG = 5
    # What a module has that was built with libbacktrace.
    MESSAGE = b"no debug info in ELF executable"

    @classmethod
    def setUpClass(cls):
        child = python("import faulthandler; print(faulthandler.__file__)")
        with open(child.raw_out.strip(), "rb") as file:
            cls.complete = cls.MESSAGE in file.read()
        if compiler() is None:
            raise unittest.SkipTest("needs a C compiler")
        cls.build("symbols", SYMBOLS, "-g")
        with open(os.path.join(FOLDER, "symbols.so"), "rb") as file:
            cls.library = file.read()

    @classmethod
    def build(cls, name, source, *options, suffix=".c"):
        """Make a shared library in the children's folder."""
        path = write_file(name + suffix, source)
        child = run(compiler(), "-O2", "-fPIC", "-shared", "-pthread",
                    "-Wl,--build-id", *options, path, "-o", name + ".so",
                    env=environment(LD_PRELOAD=""))
        if child.status:
            raise unittest.SkipTest("the compiler fails: %s" % child)

    def copy(self, name, data=None):
        """Write a library: the compiled one, or what was made of it."""
        with open(os.path.join(FOLDER, name + ".so"), "wb") as file:
            file.write(self.library if data is None else data)

    def need_libbacktrace(self):
        if not self.complete:
            self.skipTest("the module was built without libbacktrace")

    def tidy(self, text, *names):
        """The report with the frames of other objects as three dots."""
        lines = []
        ours = tuple("(%s.so+0x" % name for name in names)
        # From 3.14 on a thread's name stands there.
        text = re.sub(r"(?m)^(Current thread 0x…) \[.*?\]", r"\1", text)
        for line in text.splitlines():
            match = re.match(r'  C File (?:".*"|\?\?\?), line (?:\d+|\?\?\?)'
                             r' in [\w.?@]+ (\((\S+)\+0x)[0-9a-f]+\)$', line)
            if match and match.group(1) in ours:
                line = re.sub(r"\+0x[0-9a-f]+\)$", "+0x…)", line)
                line = line.replace('"%s/' % FOLDER, '"…/')
            elif match:
                line = "  …"
                self.others.append(match.group(0))
            if line != "  …" or lines[-1] != line:
                lines.append(line)
        return "".join(line + "\n" for line in lines).replace(
            'C File "symbols.c"', 'C File "…/symbols.c"')

    def expect(self, child, name, lines, limit=LIMIT, report=REPORT):
        """The report of a crash in boom(), and the frames around it."""
        self.others = []
        child.err = self.tidy(child.err, name)
        lines = textwrap.indent(block(lines % {"name": name}), "  ")
        self.check(child, SIGSEGV, block(report).replace("%s\n", lines), limit)
        if self.complete:
            self.check_others()

    def check_others(self):
        """The frames of other objects are looked up all the same."""
        named = [line for line in self.others if " in ??? (" not in line]
        self.assertGreater(len(named), 5, self.others)

    def crash_in(self, name, lines, limit=LIMIT, **options):
        """boom() of a library crashes, with these lines in the report."""
        child = python(self.CRASH % name, **options)
        self.expect(child, name, lines if self.complete else self.EXPORTED,
                    limit)
        return child

    # ---- what is shown ----

    def test_function_file_line(self):
        """Static functions, inlined ones, in a library opened later."""
        self.copy("whole")
        self.crash_in("whole", self.LINES)

    def test_offset(self):
        """The offset is that of the file's symbols; lines of one call share
        theirs."""
        self.copy("offset")
        child = python(self.CRASH % "offset")
        found = re.findall(r" in (\w+|\?\?\?) \(offset\.so\+0x(\w+)\)",
                           child.err)
        nm = run("nm", "symbols.so")
        if nm.status:
            self.skipTest("needs nm")
        start = {name: int(at, 16) for at, kind, name in
                 (line.split() for line in nm.out.splitlines()
                  if len(line.split()) == 3)}
        at = [int(number, 16) for name, number in found]
        self.assertEqual([name for name, number in found], [
            "inner", "outer", "boom"] if self.complete else ["???", "boom"])
        self.assertTrue(start["outer"] <= at[0] < start["outer"] + 32)
        self.assertTrue(start["boom"] < at[-1] < start["boom"] + 32)
        if self.complete:
            self.assertEqual(at[0], at[1])

    def test_last_instruction(self):
        """A call is the last instruction of its function."""
        self.copy("last")
        child = python((self.CRASH % "last").replace(
            "boom", "ends_with_call"))
        self.expect(child, "last", """
              C File "…/symbols.c", line 30 in never_returns (last.so+0x…)
              C File "…/symbols.c", line 37 in ends_with_call (last.so+0x…)
        """ if self.complete else """
              C File ???, line ??? in never_returns (last.so+0x…)
              C File ???, line ??? in ends_with_call (last.so+0x…)
        """)

    def test_no_debug_data(self):
        """The names of the symbol table, also those of static functions."""
        self.build("names", SYMBOLS)
        self.crash_in("names", self.NAMES)

    def test_no_symbols(self):
        """The names that the library exports."""
        self.build("stripped", SYMBOLS, "-s")
        self.crash_in("stripped", self.EXPORTED)

    def test_debug_file(self):
        """The debug data are in a file of their own."""
        self.copy("split")
        for command in (
                ("objcopy", "--only-keep-debug", "split.so", "split.debug"),
                ("objcopy", "--strip-all", "--add-gnu-debuglink=split.debug",
                 "split.so")):
            if not shutil.which("objcopy") or run(*command).status:
                self.skipTest("needs objcopy")
        self.crash_in("split", self.LINES)

    def test_long_names(self):
        """A name is cut after 500 characters, and escaped."""
        long = "long_" * 110
        self.build("long", SYMBOLS.replace("outer", long), "-g")
        child = python(self.CRASH % "long")
        self.assertEqual(child.status, -SIGSEGV)
        if self.complete:
            self.assertNotIn(long, child.err)
            self.assertIn(" in %s... (long.so+0x" % long[:500], child.err)
        self.build("strange", '#line 8 "st\\303\\244\\nnge.c"\n'
                   "int boom(volatile int *p)\n{ return *p; }\n", "-g")
        child = python(self.CRASH % "strange")
        self.expect(child, "strange", self.NAME.replace(
            "???, line ???", '"st\\xc3\\xa4\\x0ange.c", line 9')
                    if self.complete else self.NAME)

    def test_objects(self):
        """With details: path, address and build-id of the frames' objects."""
        self.copy("listed")
        self.build("anonymous", SYMBOLS, "-Wl,--build-id=none")
        for name, c_stack in (("listed", "'mixed'"), ("listed", "True"),
                              ("anonymous", "True")):
            with self.subTest(name=name, c_stack=c_stack):
                child = python((self.CRASH % name).replace(
                    '"mixed"', c_stack + ", details=True"))
                self.assertEqual(child.status, -SIGSEGV, child)
                text = child.raw_err.split("\n\nShared objects:\n")
                self.assertEqual(len(text), 2, child)
                lines = text[1].splitlines()
                for line in lines:
                    self.assertRegex(line, r'^  "\S+" at 0x[0-9a-f]{16}, '
                                           r"build-id ([0-9a-f]{40}|\?\?\?)$")
                note = run("readelf", "-n", name + ".so").out
                build_id = re.search("Build ID: (.*)|$", note).group(1)
                self.assertRegex(lines[0], r'^  "\./%s\.so" at 0x\w+000, '
                                 "build-id %s$" % (
                                     name, build_id or r"\?\?\?"))
                frames = re.findall(r"\((\S+)\+0x\w+\)$" if "mixed" in c_stack
                                    else r'Binary file "(?:.*/)?(.*?)"',
                                    text[0], re.MULTILINE)
                # The program's path is the real one, whatever it is called.
                frames = [os.path.basename(os.path.realpath(PYTHON))
                          if frame == os.path.basename(PYTHON) else frame
                          for frame in frames]
                listed = [os.path.basename(line.split('"')[1])
                          for line in lines]
                self.assertEqual(listed, list(dict.fromkeys(frames)))
        child = python((self.CRASH % "listed").replace(
            'c_stack="mixed"', "c_stack=False, details=True"))
        self.assertNotIn("Shared objects", child.err)

    @unittest.skipUnless(X86_64, "an instruction of x86-64")
    def test_aligned_build_id(self):
        """A build-id in a segment of notes that are aligned to 8 bytes."""
        for alignment, note in ((4, 4), (8, 4), (8, 8)):
            name = "aligned_%d_%d" % (alignment, note)
            source = write_file(name + ".s", block("""
                    .globl boom
                    .type boom, @function
                boom:
                    movl 16, %%eax
                    ret
                    .size boom, .-boom
                    .section .note.all, "a", @note
                    .balign %(alignment)d
                    .long %(note)d, 6, 1
                    .zero %(note)d
                    .balign %(alignment)d
                    .zero 6
                    .balign %(alignment)d
                    .long 4, 8, 3
                    .asciz "GNU"
                    .quad 0x8877665544332211
                    .section .note.GNU-stack, "", @progbits
            """ % {"alignment": alignment, "note": note}))
            child = run(compiler(), "-shared", "-Wl,--build-id=none", source,
                        "-o", name + ".so", env=environment(LD_PRELOAD=""))
            self.assertEqual(child.status, 0, child)
            with self.subTest(name=name):
                child = python((self.CRASH % name).replace(
                    '"mixed"', "True, details=True"))
                self.assertEqual(child.status, -SIGSEGV, child)
                self.assertRegex(child.err, r'(?m)^  "\./%s\.so" at 0x\w+, '
                                 "build-id 1122334455667788$" % name)

    def test_old_loader(self):
        """A C library whose loader has only a list of the objects."""
        if not os.path.exists(C_FILE):
            self.skipTest("needs the C file")
        self.copy("listed")
        write_file("injected.py", INJECTED)
        child = run(compiler(), "-std=gnu11", "-O1", "-fPIC", "-shared",
                    "-DFAULTHANDLER_TEST_OLD_LOADER", "-I",
                    sysconfig.get_path("include"), C_FILE, "-o",
                    "old_loader.so", limit=120,
                    env=environment(LD_PRELOAD=""))
        self.assertEqual(child.status, 0, child)
        code = (self.CRASH % "listed").replace(
            "import", "import injected,", 1)
        for options in ("", ", details=True"):
            child = python(code.replace('"mixed"', '"mixed"' + options),
                           "old_loader")
            frames, _, objects = child.err.partition("\n\nShared objects:\n")
            listed = [os.path.basename(line.split('"')[1])
                      for line in objects.splitlines()]
            self.assertEqual("listed.so" in listed, bool(options), child)
            if not options:
                self.expect(child, "listed", self.EXPORTED)
            self.assertNotIn("(0x", frames)

    def test_build(self):
        """setup.py looks for libbacktrace, unless it is told."""
        code = "import setuptools; print(setuptools.__file__)"
        if run(sys.executable, "-c", code).status:
            self.skipTest("needs setuptools")
        sources = os.path.join(FOLDER, "sources")
        shutil.copytree(HERE, sources, ignore=shutil.ignore_patterns(
            ".*", "build", "dist", "*.egg-info", "*.so", "__pycache__"))
        without = write_file("without", """#!/bin/sh
            case "$*" in *backtrace*) exit 1 ;; esac
            exec %s "$@"
        """ % compiler())
        os.chmod(without, 0o755)
        found = run(compiler(), "-include", "backtrace.h", "-fPIC", "-shared",
                    "-x", "c", os.devnull, "-lbacktrace", "-o", "found.so")
        for wanted, cc, expected in (
                ("", compiler(), found.status == 0), ("", without, False),
                ("0", compiler(), False)):
            with self.subTest(wanted=wanted, cc=cc):
                folder = tempfile.mkdtemp(dir=FOLDER)
                child = run(sys.executable, "setup.py", "-q", "build_ext",
                            "--build-lib", folder, "--build-temp", folder,
                            limit=120, preexec_fn=lambda: os.chdir(sources),
                            env=environment(CC=cc, CFLAGS="-O0",
                                            FAULTHANDLER_LIBBACKTRACE=wanted))
                self.assertEqual(child.status, 0, child)
                self.assertNotIn("backtrace", child.out + child.err)
                name, = [name for name in os.listdir(folder)
                         if name.startswith("faulthandler.")
                         and name.endswith(".so")]
                with open(os.path.join(folder, name), "rb") as file:
                    self.assertIs(self.MESSAGE in file.read(), expected)

    def test_kernel_code(self):
        """A fault in the code that the kernel maps, which has no file."""
        child = python("""
            import ctypes, faulthandler
            faulthandler.enable(2, c_stack="mixed")
            ctypes.CDLL(None).clock_gettime(1, ctypes.c_void_p(8))
        """)
        if child.status == 0:
            self.skipTest("the kernel's code makes a system call here")
        self.assertEqual(child.status, -SIGSEGV)
        lines = child.err.splitlines()
        at = lines.index("Traceback (most recent call first):")
        self.assertRegex(lines[at + 1], r"^  C File \?\?\?, line \?\?\? in "
                         r"(__vdso_)?clock_gettime \(linux-\S+\+0x\w+\)$")

    # ---- what is not there, or wrong ----

    def test_replaced_file(self):
        """The file of a library is another one by now, or none."""
        self.copy("replaced")
        other = SYMBOLS.replace("#define", "\n\n\n#define", 1)
        self.build("other", other, "-g")
        for how in ("os.replace('other.so', 'replaced.so')",
                    "os.remove('replaced.so')",
                    "os.remove('replaced.so'), os.mkfifo('replaced.so')",
                    "os.remove('replaced.so'), os.mkdir('replaced.so')"):
            with self.subTest(how=how):
                child = python("""
                    import ctypes, faulthandler, os
                    faulthandler.enable(2, c_stack="mixed")
                    boom = ctypes.CDLL("./replaced.so").boom; %s
                    boom(None)
                """ % how)
                self.expect(child, "replaced", self.EXPORTED)
            if os.path.isdir(os.path.join(FOLDER, "replaced.so")):
                os.rmdir(os.path.join(FOLDER, "replaced.so"))
            elif os.path.lexists(os.path.join(FOLDER, "replaced.so")):
                os.remove(os.path.join(FOLDER, "replaced.so"))
            self.copy("replaced")

    def test_deleted_program(self):
        """The program's own file is gone."""
        copy = os.path.join(FOLDER, "deleted-python")
        shutil.copy(os.path.realpath(PYTHON), copy)
        self.copy("deleted")
        code = block(self.CRASH % "deleted").replace(
            "import ctypes\n", "import ctypes, os; os.remove(%r)\n" % copy)
        # PYTHONPATH is no place where .pth files work.
        code = code.replace("import", "import _faulthandler_precedence,", 1)
        paths = run(PYTHON, "-c", "import sys; print(sys.prefix); "
                    "print(*sys.path[1:], sep=':')").raw_out.splitlines()
        child = run(copy, "-c", code, env=environment(
            PYTHONHOME=os.path.dirname(os.path.dirname(LIBRARY)),
            PYTHONPATH=paths[1]))
        self.expect(child, "deleted",
                    self.LINES if self.complete else self.EXPORTED)

    def damage(self, seed):
        """The library with damage to what is read by lookups only."""
        numbers = random.Random(seed)
        data = bytearray(self.library)
        table, = struct.unpack_from("<Q", data, 40)
        size, count = struct.unpack_from("<HH", data, 58)
        parts = [(table, size * count)]
        end = 0
        for i in range(count):
            kind, flags, _, at, n = struct.unpack_from(
                "<IQQQQ", data, table + i * size + 4)
            if flags & 2:
                end = max(end, at + (0 if kind == 8 else n))
            elif n > 0:
                parts.append((at, n))
        at, n = numbers.choice(parts)
        how = seed % 5
        if how == 0:
            for _ in range(1 + n // 20):
                data[at + numbers.randrange(n)] = numbers.randrange(256)
        elif how == 1:
            data[at:at + n] = bytes(numbers.randrange(256)
                                    for _ in range(n))
        elif how == 2:
            data[at + numbers.randrange(n)] = numbers.choice([0, 127, 255])
        elif how == 3:
            data[at:at + n] = numbers.choice([b"\xff", b"\0", b"\x80"]) * n
        else:
            del data[numbers.randrange(end, len(data)):]
        return bytes(data)

    @unittest.skipUnless(struct.calcsize("P") == 8, "reads 64-bit files")
    def test_damaged_debug_data(self):
        """Symbols, debug data, section headers: any part may be nonsense."""
        for seed in range(20):
            with self.subTest(seed=seed):
                self.copy("damaged", self.damage(seed))
                child = python(self.CRASH % "damaged")
                self.others = []
                text = re.sub(r"(?m)^  C File .* in .* \(damaged\.so\+0x\w+\)"
                              r"\n", "", child.err)
                self.assertIn("(damaged.so+0x", child.err)
                child.err = self.tidy(text)
                self.check(child, SIGSEGV, block(self.REPORT % "").replace(
                    "first):\n\n  …", "first):\n  …"))
                self.check_others()

    def unusual(self, name, **counts):
        counts = dict({"units": 0, "ranges": 0, "entry": 3, "entries": 0},
                      **counts)
        self.build(name, UNUSUAL % counts, suffix=".s")

    UNUSUAL_LINE = """
          C File "boom.c", line 7 in boom (%(name)s.so+0x…)
    """
    NAME = """
          C File ???, line ??? in boom (%(name)s.so+0x…)
    """

    @unittest.skipUnless(X86_64, "needs the assembler of x86-64")
    def test_deep_debug_data(self):
        """Entries are nested deeper than any stack."""
        self.need_libbacktrace()
        self.unusual("plain", entries=1000)
        self.crash_in("plain", self.UNUSUAL_LINE)
        self.unusual("deep", entry=2, entries=1000000)
        self.crash_in("deep", self.NAME, limit=self.HANG)

    @unittest.skipUnless(X86_64, "needs the assembler of x86-64")
    def test_slow_debug_data(self):
        """Debug data that take minutes cost 5 s, and their own frames."""
        self.need_libbacktrace()
        self.unusual("slow", units=10000, ranges=1000000)
        child = self.crash_in("slow", self.NAME)
        self.assertGreater(child.seconds, 4)

    # ---- the worst moment ----

    def test_loader_lock(self):
        """Another thread has the loader's lock."""
        self.copy("loader")
        child = python("""
            import faulthandler; faulthandler.enable(2, False, "mixed")
            import ctypes; library = ctypes.CDLL("./loader.so")
            assert library.hold_loader() == 0
            library.boom(None)
        """)
        self.expect(child, "loader",
                    self.LINES if self.complete else self.EXPORTED, self.HANG,
                    report=self.REPORT.replace(
                        "Current thread 0x… (", "Stack ("))

    @unittest.skipIf(SANITIZED, "the sanitizer has its own heap")
    def test_heap_lock(self):
        """Nobody can allocate."""
        self.copy("heap")
        self.build("stuck_heap", STUCK_HEAP)
        child = python("""
            import faulthandler; faulthandler.enable(2, c_stack="mixed")
            import ctypes; boom = ctypes.CDLL("./heap.so").boom
            stuck = ctypes.c_int.in_dll(ctypes.CDLL(None), "heap_is_stuck")
            stuck.value = 1; boom(None)
        """, env=environment(LD_PRELOAD=os.path.join(FOLDER, "stuck_heap.so")))
        self.expect(child, "heap",
                    self.LINES if self.complete else self.EXPORTED, self.HANG)

    def limited(self, name, prepare, lines, **options):
        """boom() crashes after some Python code has run."""
        self.copy(name)
        code = block(self.CRASH % name).replace(
            "import ctypes\n", "import ctypes; exec(%r); boom = "
            'ctypes.CDLL("./%s.so").boom; exec(prepare)\n' % (
                "prepare = %r" % block(prepare), name)).replace(
            'ctypes.CDLL("./%s.so").boom(None)' % name, "boom(None)")
        child = run(PYTHON, "-c", code, **options)
        self.expect(child, name, lines)

    def test_no_descriptors(self):
        """All descriptors are in use."""
        self.limited("descriptors", """
            import os, resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            try:
                while True:
                    os.dup(2)
            except OSError:
                pass
        """, self.LINES if self.complete else self.EXPORTED)

    def test_no_memory(self):
        """There is no more address space, for us or at all."""
        some = self.LINES if self.complete else self.EXPORTED
        for limit, lines in (("(size, hard)", self.EXPORTED),
                             ("(size, size)", self.EXPORTED),
                             ("(size + 300000, hard)", some)):
            with self.subTest(limit=limit):
                self.limited("memory", """
                    import resource
                    with open("/proc/self/statm") as file:
                        size = int(file.read().split()[0])
                    size *= resource.getpagesize()
                    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
                    resource.setrlimit(resource.RLIMIT_AS, %s)
                """ % limit, lines)

    @unittest.skipUnless(X86_64, "needs a number of x86-64")
    def test_no_processes(self):
        """A sandbox refuses to make processes."""
        self.limited("processes", """
            import struct
            # clone, number 56: EPERM, all others: allowed
            rules = ctypes.create_string_buffer(struct.pack(
                "HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 56,
                6, 0, 0, 0x50001, 6, 0, 0, 0x7fff0000))
            program = ctypes.create_string_buffer(struct.pack(
                "HxxxxxxQ", 4, ctypes.addressof(rules)))
            libc = ctypes.CDLL(None)
            assert libc.prctl(38, 1, 0, 0, 0) == 0
            assert libc.prctl(22, 2, program, 0, 0) == 0
        """, self.EXPORTED)

    def test_no_trace(self):
        """A process that lives on has no child and no mapping more."""
        if not X86_64 or SANITIZED:
            self.skipTest("needs the older handler of x86-64")
        self.copy("again")
        self.build("older", OLDER)
        child = python("""
            import ctypes, mmap, os
            ctypes.CDLL("./older.so").install_repair()
            import faulthandler
            faulthandler.enable(os.open("/dev/null", 1), c_stack="mixed")
            boom = ctypes.CDLL("./again.so").boom
            protect = ctypes.CDLL(None).mprotect
            page = mmap.mmap(-1, 4096)
            at = ctypes.c_void_p(ctypes.addressof(
                ctypes.c_char.from_buffer(page)))

            def crash():
                faulthandler.enable(os.open("/dev/null", 1), c_stack="mixed")
                protect(at, 4096, 0)
                boom(at)
                try:
                    print("a child:", os.waitpid(-1, 0x40000000))
                except ChildProcessError:
                    pass
                with open("/proc/self/maps") as file:
                    return len(file.readlines())

            crash()
            print(crash() == crash())
        """)
        self.assertEqual((child.status, child.out), (0, "True\n"), child)


class MixedTests(DropInCase):
    """c_stack="mixed": Python frames at the C frames that run them.

    .ci/mixed_check compares them with what debuggers see. Here the C frames
    of a small library tell where Python frames stand; the interpreter's own,
    which differ from build to build, are shown as one line, an ellipsis.
    """

    LIBRARY = r"""
        /* Not a tail call: the frame must stay. */
        #define STAY __asm__ volatile ("" : : : "memory")

        void mixed_read(const int *at)
        {
            volatile int word = *(const volatile int *)at;
            word++;
            STAY;
        }

        void mixed_call(void (*function)(void))
        {
            function();
            STAY;
        }

        void mixed_deep(void (*function)(void), int depth)
        {
            if (depth > 0) {
                mixed_deep(function, depth - 1);
            }
            else {
                mixed_call(function);
            }
            STAY;
        }

        void mixed_smash(void)
        {
            unsigned long volatile *frame = __builtin_frame_address(0);
            frame[0] = frame[1] = 0x4141414141414141;
        }

        void mixed_odd(void)
        {
            unsigned long volatile *frame = __builtin_frame_address(0);
        #ifdef __x86_64__
            __asm__ volatile ("sub $6, %%rsp\n\tmovl $0, 16" : : "r" (frame));
        #endif
        }

        int mixed_overflow(char *below)
        {
            char here[64];
            here[0] = below == 0 ? 0 : *below;
            int n = mixed_overflow(here);
            STAY;
            return n + here[0];
        }
    """

    START = """
        import ctypes, faulthandler, sys, threading
        faulthandler.enable(2, c_stack="mixed")
        library = ctypes.PyDLL(%r)
        kind = ctypes.PYFUNCTYPE(None)
        def call(function):
            library.mixed_call(kind(function))
        def crash():
            library.mixed_read(16)
    """

    C_LINE = (r"  C File (\"[^\"\n]*\"|\?\?\?), line (\d+|\?\?\?) in (.*) "
              r"\((?:(\S+)\+)?0x([0-9a-f]+)\)$")
    TITLE = "\nTraceback (most recent call first):\n"

    @classmethod
    def setUpClass(cls):
        """Build the library."""
        super().setUpClass()
        source = write_file("mixed.c", block(cls.LIBRARY))
        cls.path = os.path.join(FOLDER, "libmixed.so")
        child = run(compiler(), "-O1", "-shared", "-fPIC", "-o", cls.path,
                    source)
        if child.status:
            raise AssertionError("cannot build the library: %s" % child)

    def mixed(self, code, signum=SIGSEGV, **options):
        """Run code that crashes; (the child, the lines of the traceback)."""
        child = python(block(self.START) % self.path + block(code), **options)
        self.assertEqual(status_name(child.status), status_name(-signum),
                         child)
        self.assertEqual(child.err.count("Fatal Python error"), 1, child)
        self.assertLess(child.seconds, LIMIT)
        plain, title, mixed = child.err.rpartition(self.TITLE)
        self.assertTrue(title, child)
        self.assertNotIn("  C File", plain)
        return child, self.physical(mixed.splitlines())

    def physical(self, lines):
        """Without the lines of functions that were inlined into the next."""
        places = [re.match(self.C_LINE, line) for line in lines] + [None]
        return [line for line, here, next in zip(lines, places, places[1:])
                if not (here and next and here.group(4) != "libmixed.so"
                        and here.group(4, 5) == next.group(4, 5))]

    def shape(self, lines):
        """The lines, but of C frames only the library's."""
        shown = []
        for line in lines:
            found = re.match(self.C_LINE, line)
            if line.startswith("  C "):
                self.assertTrue(found, line)
            if found and found.group(4) == "libmixed.so":
                line = "  C %s" % found.group(3).split(".")[0]
            elif found:
                line = "  …"
            if line != "  …" or shown[-1:] != ["  …"]:
                shown.append(line)
        return self.squeeze("\n".join(line[2:] for line in shown) + "\n")

    @staticmethod
    def squeeze(text):
        """Until 3.10 a Python function is called through C functions."""
        if sys.version_info >= (3, 11):
            return text
        return re.sub(r"(?m)^(File .*\n)…\n(?=File )", r"\1", text)

    def shows(self, code, expected, **options):
        """Run code: the traceback is this; returns the child."""
        child, lines = self.mixed(code, **options)
        self.assertEqual(self.shape(lines), self.squeeze(block(expected)),
                         child)
        return child

    def test_report(self):
        """After the plain report, which is what it is without."""
        child, lines = self.mixed("crash()")
        plain = python(block(self.START).replace('c_stack="mixed"',
                                                 "c_stack=False")
                       % self.path + "crash()")
        self.assertEqual(child.err[:len(plain.err)], plain.err)
        self.assertTrue(child.err[len(plain.err):].startswith(self.TITLE))

    def test_frames(self):
        """Python functions that call each other stand together."""
        self.shows("""
            def inner():
                crash()
            def outer():
                inner()
            outer()
        """, """
              C mixed_read
              …
              File "<string>", line 8 in crash
              File "<string>", line 10 in inner
              File "<string>", line 12 in outer
              File "<string>", line 13 in <module>
              …
        """)

    def test_callbacks(self):
        """Each is at the loop that runs it, between the calls through C."""
        self.shows("""
            def down():
                crash()
            def middle():
                library.mixed_deep(kind(down), 2)
            def up():
                middle()
            call(up)
        """, """
              C mixed_read
              …
              File "<string>", line 8 in crash
              File "<string>", line 10 in down
              …
              C mixed_call
              C mixed_deep
              C mixed_deep
              C mixed_deep
              …
              File "<string>", line 12 in middle
              File "<string>", line 14 in up
              …
              C mixed_call
              …
              File "<string>", line 6 in call
              File "<string>", line 15 in <module>
              …
        """)

    def test_generators(self):
        """Generators and coroutines have loops of their own, or share one."""
        self.shows("""
            def inner():
                yield 1
                call(crash)
            def outer():
                yield from inner()
            async def leaf():
                for x in outer():
                    pass
            async def main():
                await leaf()
            main().send(None)
        """, """
              C mixed_read
              …
              File "<string>", line 8 in crash
              …
              C mixed_call
              …
              File "<string>", line 6 in call
              File "<string>", line 11 in inner
              …
              File "<string>", line 13 in outer
              …
              File "<string>", line 15 in leaf
              …
              File "<string>", line 18 in main
              …
              File "<string>", line 19 in <module>
              …
        """ if sys.version_info < (3, 12) else """
              C mixed_read
              …
              File "<string>", line 8 in crash
              …
              C mixed_call
              …
              File "<string>", line 6 in call
              File "<string>", line 11 in inner
              File "<string>", line 13 in outer
              File "<string>", line 15 in leaf
              File "<string>", line 18 in main
              …
              File "<string>", line 19 in <module>
              …
        """)

    @unittest.skipIf((3, 9) <= sys.version_info < (3, 10),
                     "the interpreter loses the frames behind the generators")
    def test_generators_that_are_thrown_into(self):
        """One that hands the exception on has no loop of its own."""
        expected = """
              C mixed_read
              …
              File "<string>", line 8 in crash
              File "<string>", line 13 in inner
              …
              File "<string>", line 15 in middle
              File "<string>", line 17 in outer
              File "<string>", line 19 in throw
              …
              C mixed_call
              …
              File "<string>", line 6 in call
              File "<string>", line 22 in <module>
              …
        """
        if sys.version_info < (3, 9):
            # They are in no chain then.
            expected = re.sub(".* in (middle|outer)\n", "", expected)
        self.shows("""
            def inner():
                try:
                    yield
                except ValueError:
                    crash()
            def middle():
                yield from inner()
            def outer():
                yield from middle()
            def throw():
                generator.throw(ValueError)
            generator = outer()
            next(generator)
            call(throw)
        """, expected)

    def test_finalizer(self):
        """A __del__ stands at the place where the object died."""
        self.shows("""
            class A:
                def __del__(self):
                    call(crash)
            def f():
                A()
                return 1
            f()
        """, """
              C mixed_read
              …
              File "<string>", line 8 in crash
              …
              C mixed_call
              …
              File "<string>", line 6 in call
              File "<string>", line 11 in __del__
              …
              File "<string>", line 13 in f
              File "<string>", line 15 in <module>
              …
        """)

    def test_thread(self):
        """Only the crashing thread's stack, which ends where it began."""
        child = self.shows("""
            import time
            threading.Thread(target=time.sleep, args=(60,)).start()
            threading.Thread._bootstrap = lambda self: call(crash)
            threading.Thread().start()
            time.sleep(60)
        """, """
              C mixed_read
              …
              File "<string>", line 8 in crash
              …
              C mixed_call
              …
              File "<string>", line 6 in call
              File "<string>", line 11 in <lambda>
              …
        """)
        self.assertNotIn("Py_BytesMain", child.err)

    def test_native_thread(self):
        """A thread without Python frames has C frames."""
        child, lines = self.mixed("""
            import time
            libc, thread = ctypes.CDLL(None), ctypes.c_size_t()
            libc.pthread_create(ctypes.byref(thread), None,
                                library.mixed_read, ctypes.c_void_p(16))
            time.sleep(60)
        """)
        self.assertEqual(self.shape(lines), "C mixed_read\n…\n")

    def test_subinterpreter(self):
        """Its frames come first, then those of who called it."""
        self.shows("""
            import sub
            CODE = '''if 1:
                import ctypes
                library = ctypes.PyDLL(%r)
                def inner(x):
                    library.mixed_read(16)
                def outer():
                    sorted([1], key=inner)
                outer()
            '''
            def f():
                sub.run(sub.create(False), CODE % library._name)
            f()
        """, """
            C mixed_read
            …
            File "<string>", line 5 in inner
            …
            File "<string>", line 7 in outer
            File "<string>", line 8 in <module>
            …
            File "sub.py", line 23 in run
            File "<string>", line 20 in f
            File "<string>", line 21 in <module>
            …
        """.replace("<string>", "<script>" if sys.version_info >= (3, 14)
                    else "<string>", 3))

    def test_call_through_null(self):
        """Where the processor jumped to comes first, then who jumped."""
        for target in (0, 0x5000):
            with self.subTest(target=target):
                child, lines = self.mixed("""
                    def f():
                        library.mixed_call(ctypes.c_void_p(%d))
                    f()
                """ % target)
                self.assertEqual(
                    lines[0], "  C File ???, line ??? in ??? (0x%016x)"
                    % target)
                self.assertEqual(self.shape(lines[1:]), self.squeeze(block("""
                      C mixed_call
                      …
                      File "<string>", line 10 in f
                      File "<string>", line 11 in <module>
                      …
                """)), child)

    def test_evaluation_loop(self):
        """A fault in the loop itself: its C frame, and what it runs."""
        child, lines = self.mixed("""
            import damage
            def f():
                return ("a constant", [])
            damage.replace(damage.words(id(f.__code__)),
                           id(f.__code__.co_consts), damage.forbidden)
            f()
        """)
        self.assertRegex(lines[0], "  C File .*python")
        self.assertEqual(self.shape(lines), self.squeeze(block("""
              …
              File "<string>", line 11 in f
              File "<string>", line 14 in <module>
              …
        """)), child)

    def test_same_c_frames(self):
        """The C frames are those of c_stack=True, but for the loops."""
        code = """
            def inner():
                yield from map(lambda x: call(crash), [1])
            def outer():
                return sorted([1], key=lambda x: list(inner()))
            call(outer)
        """
        child, lines = self.mixed(code)
        other = python((block(self.START).replace('"mixed"', "True")
                        % self.path) + block(code))
        places = re.findall(r"\[0x[0-9a-f]*([0-9a-f]{3})\]$", other.raw_err,
                            re.M)
        loops = [i for i, line in enumerate(re.findall(
                     r"^  Binary file .*$", other.raw_err, re.M))
                 if "_PyEval_EvalFrameDefault+" in line]
        found, ours = [], []
        for before, line in zip([""] + lines, lines):
            c = re.match(self.C_LINE, line)
            if c:
                ours.append(c.group(5)[-3:])
            elif before.startswith("  C "):
                found.append(len(ours) + len(found))
        rest = [place for i, place in enumerate(places) if i not in found]
        self.assertEqual(ours, rest, "%s\n%s" % (child, other.raw_err))
        if loops:       # not where they are in a part without a name
            self.assertLessEqual(set(loops), set(found))

    def test_deep(self):
        """Of a deep stack the two ends, and how many are between."""
        child, lines = self.mixed("""
            def f(n):
                library.mixed_call(kind(lambda: f(n - 1))) if n else crash()
            f(100)
        """)
        self.assertEqual(len(lines), 129)
        found = re.match(r"  \.\.\. (\d+) frames not shown \.\.\.$",
                         lines[100])
        self.assertGreater(int(found.group(1)), 500)
        shape = self.shape(lines)
        self.assertTrue(shape.startswith(self.squeeze(block("""
              C mixed_read
              …
              File "<string>", line 8 in crash
              File "<string>", line 10 in f
              File "<string>", line 10 in <lambda>
              …
              C mixed_call
        """))), shape)
        if hasattr(sys, "gettotalrefcount"):
            return      # a debug build needs more C frames to begin
        self.assertTrue(shape.endswith(self.squeeze(block("""
              C mixed_call
              …
              File "<string>", line 10 in f
              File "<string>", line 11 in <module>
              …
        """))), shape)

    def test_overflow(self):
        """An overflowed stack: the C function that did it, who called it."""
        for start in ("f()", "t = threading.Thread(target=f); t.start(); "
                      "t.join()"):
            with self.subTest(start=start):
                child, lines = self.mixed("""
                    def f():
                        library.mixed_overflow(None)
                    %s
                """ % start)
                self.assertEqual(
                    {re.sub(r".* in (\w+).* \(libmixed.so.*", r"\1", line)
                     for line in lines[:100]}, {"mixed_overflow"})
                # The oldest frames; in a debug build just those of
                # threading, which needs more C frames.
                self.assertRegex("\n".join(lines[101:]), r'  File ".*", '
                                 r"line .* in (f\n|_bootstrap)")

    def test_damaged_link(self):
        """Frames behind a damaged link are only in the plain report."""
        child, lines = self.mixed("""
            import damage
            def inner():
                damage.damage(sys._getframe(1), "link", damage.forbidden)
                crash()
            def outer():
                inner()
            def outermost():
                outer()
            call(outermost)
        """)
        # Until 3.10 each frame has a loop, and inner() stands at its own.
        # 3.11+ do not know where a loop is whose last frame they miss.
        lost = 3 if sys.version_info >= (3, 11) else 0
        loops = 2 if sys.version_info >= (3, 11) else 3
        self.assertEqual(
            lines[-1], "  <not matched: %d evaluation loops, %d Python frames>"
            % (loops, lost), child)
        self.assertIn("in outermost", child.err)

    @unittest.skipIf(sys.version_info >= (3, 11), "frames are no objects")
    @unittest.skipUnless(X86_64, "instructions of x86-64")
    def test_link_past_frames(self):
        """What links pass over is found, wherever the unwinder got to."""
        child = python(block(self.START) % self.path + block("""
            import damage, mmap
            # push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret
            page = mmap.mmap(-1, 4096, prot=7)
            page.write(bytes.fromhex("554889e5ffd75dc3"))
            at = ctypes.addressof(ctypes.c_char.from_buffer(page))
            through = ctypes.PYFUNCTYPE(None, kind)(at)
            def inner():
                damage.damage(sys._getframe(), "link",
                              damage.place(sys._getframe(3)))
                faulthandler.sigsegv()
            def middle():
                inner()
            def callback():
                middle()
            def outer():
                through(kind(callback))
            def outermost():
                outer()
            outermost()
        """))
        self.assertEqual(child.status, -SIGSEGV, child)
        reports = child.err.split(self.TITLE)
        self.assertEqual(len(reports), 3, child)
        self.assertEqual(reports[2], textwrap.indent(block("""
              File "<string>", line 18 in inner
              <a damaged link: frames may be missing here>
              File "<string>", line 20 in middle
              File "<string>", line 22 in callback
              File "<string>", line 24 in outer
              File "<string>", line 26 in outermost
              File "<string>", line 27 in <module>
        """), "  "))

    @unittest.skipUnless(X86_64, "smashes a stack of x86-64")
    def test_smashed_stack(self):
        """Behind an overwritten return address it goes on at the next loop."""
        child, lines = self.mixed("""
            def f():
                library.mixed_smash()
            def outer():
                list(map(lambda x: f(), [1]))
            outer()
        """)
        shown = self.shape(lines)
        if sys.version_info < (3, 10):
            self.assertEqual(shown.replace("…\n<", "<"), self.squeeze(block("""
                C mixed_smash
                <the rest of the C stack cannot be read>
                File "<string>", line 10 in f
                File "<string>", line 12 in <lambda>
                File "<string>", line 12 in outer
                File "<string>", line 13 in <module>
            """)), child)
            return
        # An unwinder that looks at the code there faults, and says no more.
        self.assertEqual(shown.replace("…\n<", "<"), self.squeeze(block("""
            C mixed_smash
            <C frames may be missing here>
            File "<string>", line 10 in f
            File "<string>", line 12 in <lambda>
            …
            File "<string>", line 12 in outer
            File "<string>", line 13 in <module>
            …
        """)), child)

    @unittest.skipUnless(X86_64, "a stack pointer of x86-64")
    def test_odd_stack_pointer(self):
        """A stack pointer that is not aligned does not look like a gap."""
        child, lines = self.mixed("""
            library.mixed_odd()
        """)
        self.assertEqual(self.shape(lines), self.squeeze(block("""
            C mixed_odd
            …
            File "<string>", line 9 in <module>
            …
        """)), child)

    def test_wrong_value(self):
        """Another string is an error; all else counts as true or false."""
        child = python("""
            import faulthandler
            for value in ("Mixed", "", "mixed\\0"):
                try:
                    faulthandler.enable(2, c_stack=value)
                except ValueError as error:
                    print(error)
            class Odd:
                def __bool__(self):
                    raise KeyError("odd")
            try:
                faulthandler.enable(2, c_stack=Odd())
            except KeyError as error:
                print(error)
            class Text(str):
                pass
            for value in (0, 1, None, b"mixed", Text("mixed")):
                faulthandler.enable(2, True, value)
        """)
        self.assertEqual((child.status, child.err, child.out), (0, "", block(r"""
            c_stack must be False, True or 'mixed', not 'Mixed'
            c_stack must be False, True or 'mixed', not ''
            c_stack must be False, True or 'mixed', not 'mixed\x00'
            'odd'
        """)))


# ---- Programs that use it --------------------------------------------------

class PathTests(DropInCase):
    """file as a path: opened when there is something to write."""

    REPORT = """
        Fatal Python error: Segmentation fault

        Current thread 0x… (most recent call first):
          File "%s", line %d in <module>
    """

    CALLS = ["enable(%s)", "dump_traceback(%s)", "dump_c_stack(%s)",
             "register(10, %s)", "dump_traceback_later(60, file=%s)"]

    def setUp(self):
        """A folder of its own for each test."""
        self.folder = tempfile.mkdtemp(dir=FOLDER)
        os.chmod(self.folder, 0o755)

    def path(self, name=""):
        """A path in the test's folder."""
        return os.path.join(self.folder, name)

    def files(self):
        """The files in the test's folder: {name: text}."""
        texts = {}
        for name in sorted(os.listdir(self.folder)):
            if not os.path.isfile(self.path(name)):
                continue
            with open(self.path(name), encoding="ascii") as file:
                texts[name] = self.unnamed(file.read())
        return texts

    @staticmethod
    def unnamed(text):
        """A report without addresses and the main thread's name."""
        return re.sub(r"(thread 0x…) \[python[^\]]*\]", r"\1", tidy(text))

    def dies(self, code, *arguments, files, line=None, err="", **options):
        """Run code in the test's folder: what it leaves there is this."""
        code = "import os\nos.chdir(%r)\n" % self.folder + block(code)
        child = python(code, *arguments, **options)
        self.check(child, SIGSEGV, err)
        expected = self.REPORT % ("<string>", line) if line else ""
        self.assertEqual(self.files(), {
            name: text.replace("REPORT", block(expected))
            for name, text in files.items()}, child)
        return child

    def test_kinds(self):
        """str, bytes, os.PathLike; a number in quotes is a path."""
        for argument in ("'report'", "b'report'", "pathlib.Path('report')",
                         "os.path.abspath('report')", "'./report'",
                         "'../' + os.path.basename(os.getcwd()) + '/report'"):
            with self.subTest(argument=argument):
                self.dies("""
                    import faulthandler, pathlib
                    faulthandler.enable(%s, c_stack=False)
                    faulthandler.sigsegv()
                """ % argument, line=5, files={"report": "REPORT"})
                os.unlink(self.path("report"))
        self.dies("""
            import faulthandler
            faulthandler.enable("2", c_stack=False)
            faulthandler.sigsegv()
        """, line=5, files={"2": "REPORT"})

    def test_codes(self):
        """%p is the process, %t the time, %% a percent sign."""
        before = int(time.time())
        child = python("""
            import faulthandler, os, sys
            faulthandler.enable(sys.argv[1], c_stack=False)
            print(os.getpid(), flush=True)
            faulthandler.sigsegv()
        """, self.path("a%%p-%p-%t-%%.txt"))
        self.check(child, SIGSEGV, "")
        (name, text), = self.files().items()
        self.assertEqual(text, block(self.REPORT % ("<string>", 4)))
        found = re.fullmatch(r"a%p-(\d+)-(\d+)-%\.txt", name)
        self.assertEqual(found[1], child.out.strip())
        self.assertTrue(before <= int(found[2]) <= time.time(), name)

    def test_folder_with_percent_sign(self):
        """A folder's percent sign is doubled too."""
        os.mkdir(self.path("100%"))
        self.dies("""
            import faulthandler, os
            faulthandler.enable("100%%/../report", c_stack=False)
            faulthandler.enable("100%%/report", c_stack=False)
            faulthandler.disable()
            os.rmdir("100%")
            faulthandler.enable("report", c_stack=False)
            faulthandler.sigsegv()
        """, line=9, files={"report": "REPORT"})

    def test_every_function(self):
        """Each function that has a file takes a path."""
        child = python("""
            import faulthandler, os, signal, sys, time
            os.chdir(sys.argv[1])
            faulthandler.dump_traceback("dump")
            faulthandler.dump_c_stack("c_stack")
            faulthandler.register(signal.SIGUSR1, "user")
            signal.raise_signal(signal.SIGUSR1)
            faulthandler.dump_traceback_later(0.1, file="later")
            while len(os.listdir("/proc/self/task")) > 1:
                time.sleep(0.01)
            faulthandler.cancel_dump_traceback_later()
            print(len(os.listdir("/proc/self/fd")))
            signal.raise_signal(signal.SIGUSR1)
            print(len(os.listdir("/proc/self/fd")))
        """, self.folder)
        self.assertEqual((child.status, child.err), (0, ""), child)
        self.assertEqual(len(set(child.out.split())), 1, child)
        files = self.files()
        self.assertEqual(sorted(files), ["c_stack", "dump", "later", "user"])
        head = "Current thread 0x… (most recent call first):\n"
        frame = '  File "<string>", line %d in <module>\n'
        self.assertEqual(files["dump"], head + frame % 3)
        self.assertEqual(files["user"], head + frame % 6 + head + frame % 12)
        self.assertRegex(files["later"], r"^Timeout \(0:00:00\.100000\)!\n"
                         r"Thread 0x… .*:\n  File \"<string>\", line \d+ in ")
        self.assertTrue(files["c_stack"].startswith(
            "Current thread's C stack trace (most recent call first):\n"))

    def test_nothing_where_nothing_crashes(self):
        """Arming makes no file and keeps no descriptor open."""
        child = python("""
            import faulthandler, os, sys
            os.chdir(sys.argv[1])
            before = os.listdir("/proc/self/fd")
            faulthandler.enable("a-%p", c_stack=False)
            faulthandler.register(10, "b-%p")
            faulthandler.dump_traceback_later(60, file="c-%p")
            faulthandler.cancel_dump_traceback_later()
            print(os.listdir("/proc/self/fd") == before)
        """, self.folder)
        self.assertEqual((child.status, child.out, child.err),
                         (0, "True\n", ""), child)
        self.assertEqual(self.files(), {})

    def test_cancelled(self):
        """A watchdog that is cancelled in time leaves no empty file."""
        child = python("""
            import faulthandler, os, sys, time
            os.chdir(sys.argv[1])
            for n in range(1000):
                faulthandler.dump_traceback_later(0.0005, file=str(n))
                end = time.perf_counter() + 0.0004 + n % 100 * 3e-6
                while time.perf_counter() < end:
                    pass
                faulthandler.cancel_dump_traceback_later()
            # One that was writing may still be at it.
            while len(os.listdir("/proc/self/task")) > 1:
                time.sleep(0.01)
            for name in os.listdir("."):
                assert os.path.getsize(name), name
        """, self.folder)
        self.assertEqual((child.status, child.err), (0, ""), child)

    def crash_20(self, name):
        """Crash 20 processes at once that have this path as their file."""
        return python("""
            import faulthandler, os, sys
            faulthandler.enable(sys.argv[1], c_stack=False)
            read, write = os.pipe()
            children = []
            for n in range(20):
                child = os.fork()
                if child == 0:
                    os.close(write)
                    os.read(read, 1)
                    faulthandler.sigsegv()
                children.append(child)
            os.close(write)
            for child in children:
                assert os.waitpid(child, 0)[1] & 127 == 11
                print("worker-%d.txt" % child)
        """, self.path(name))

    def test_20_workers(self):
        """20 processes that crash at once leave 20 whole files."""
        child = self.crash_20("worker-%p.txt")
        self.assertEqual((child.status, child.err), (0, ""), child)
        report = block(self.REPORT % ("<string>", 10))
        self.assertEqual(self.files(), dict.fromkeys(child.out.split(),
                                                     report))
        self.assertEqual(len(self.files()), 20)

    def test_workers_in_one_file(self):
        """20 reports in one file do not mix."""
        child = self.crash_20("all.txt")
        self.assertEqual((child.status, child.err), (0, ""), child)
        report = block(self.REPORT % ("<string>", 10))
        self.assertEqual(self.files(), {"all.txt": 20 * report})

    def test_mode(self):
        """The file is its owner's alone, whatever the umask."""
        for umask in (0, 0o22, 0o77):
            with self.subTest(umask=umask):
                self.dies("""
                    import faulthandler, os
                    os.umask(%d)
                    faulthandler.enable("report", c_stack=False)
                    faulthandler.sigsegv()
                """ % umask, line=6, files={"report": "REPORT"})
                self.assertEqual(os.stat(self.path("report")).st_mode & 0o777,
                                 0o600)
                os.unlink(self.path("report"))

    def test_appended(self):
        """What is in the file already stays, and so does its mode."""
        with open(self.path("report"), "w") as file:
            file.write("before\n")
        os.chmod(self.path("report"), 0o644)
        self.dies("""
            import faulthandler
            faulthandler.enable("report", c_stack=False)
            faulthandler.sigsegv()
        """, line=5, files={"report": "before\nREPORT"})
        self.assertEqual(os.stat(self.path("report")).st_mode & 0o777, 0o644)

    def test_changed_folder(self):
        """A relative path means the current folder of the call."""
        self.dies("""
            import faulthandler, os
            faulthandler.enable("report", c_stack=False)
            os.chdir("/")
            faulthandler.sigsegv()
        """, line=6, files={"report": "REPORT"})

    def test_folder_made_again(self):
        """A folder that was removed and made again is the one."""
        self.dies("""
            import faulthandler, os
            folder = os.getcwd()
            faulthandler.enable("report", c_stack=False)
            os.rmdir(folder)
            os.mkdir(folder)
            os.closerange(3, 100)
            faulthandler.sigsegv()
        """, line=9, files={"report": "REPORT"})

    def test_current_folder_removed(self):
        """In a folder that is gone a relative path is an error."""
        os.mkdir(self.path("gone"))
        self.dies("""
            import faulthandler, os
            os.chdir("gone")
            os.rmdir("../gone")
            try:
                faulthandler.enable("report", c_stack=False)
            except FileNotFoundError as error:
                print(error.filename)
            faulthandler.enable(2, c_stack=False)
            faulthandler.disable()
            faulthandler.sigsegv()
        """, files={})

    def test_errors(self):
        """What cannot be written is told at once, with its name."""
        os.mkdir(self.path("folder"))
        os.symlink("target", self.path("link"))
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(self.path("socket"))
        longest = 255 * "x"
        errors = {
            "''": "FileNotFoundError [Errno 2] No such file or directory: ''",
            "'missing/x'": "FileNotFoundError [Errno 2] No such file or "
                           "directory: 'missing/x'",
            "b'missing/x'": "FileNotFoundError [Errno 2] No such file or "
                            "directory: b'missing/x'",
            "'/proc/version/x'": "NotADirectoryError [Errno 20] Not a "
                                 "directory: '/proc/version/x'",
            "'folder'": "IsADirectoryError [Errno 21] Is a directory: "
                        "'folder'",
            "'folder/'": "IsADirectoryError [Errno 21] Is a directory: "
                         "'folder/'",
            "'.'": "IsADirectoryError [Errno 21] Is a directory: '.'",
            "'..'": "IsADirectoryError [Errno 21] Is a directory: '..'",
            "'/'": "IsADirectoryError [Errno 21] Is a directory: '/'",
            "'link'": "OSError [Errno 40] Too many levels of symbolic links: "
                      "'link'",
            "'socket'": "PermissionError [Errno 1] Operation not permitted: "
                        "'socket'",
            "256 * 'x'": "OSError [Errno 36] File name too long: '%s'"
                         % (256 * "x"),
            "246 * 'x' + '%p'": "OSError [Errno 36] File name too long: '%s'"
                                % (246 * "x" + "%p"),
            "5000 * 'x/'": "IsADirectoryError [Errno 21] Is a directory: "
                           "'%s'" % (5000 * "x/"),
            "5000 * 'x/' + 'x'": "OSError [Errno 36] File name too long: "
                                 "'%s'" % (5000 * "x/" + "x"),
            "'a\\0b'": "ValueError file: embedded null byte",
            "'%'": "ValueError file: after % must come p, t or %",
            "'%x'": "ValueError file: after % must come p, t or %",
            "'a%P.txt'": "ValueError file: after % must come p, t or %",
            "'%p/x'": "ValueError file: the folder's name can have no % but "
                      "%%",
            "'%/x'": "ValueError file: the folder's name can have no % but "
                     "%%",
            "'\\ud800'": "UnicodeEncodeError 'utf-8' codec can't encode "
                        "character '\\ud800' in position 0: surrogates not "
                        "allowed",
            "Path(OSError('no'))": "OSError no",
            "Path(3)": "TypeError expected Path.__fspath__() to return str or "
                       "bytes, not int",
            "bytearray(b'x')": "AttributeError 'bytearray' object has no "
                               "attribute 'fileno'",
            repr(longest): "None",
            "'é%p'": "None",
        }
        child = python("""
            import faulthandler, os, sys
            class Path:
                def __init__(self, path):
                    self.path = path
                def __fspath__(self):
                    if isinstance(self.path, Exception):
                        raise self.path
                    return self.path
            os.chdir(sys.argv[1])
            for argument in %r:
                for call in %r:
                    try:
                        print(eval("faulthandler." + call %% argument))
                    except Exception as error:
                        print(type(error).__name__, error)
            faulthandler.cancel_dump_traceback_later()
        """ % (list(errors), self.CALLS), self.folder,
            env=environment(PYTHONUTF8="1"))
        self.assertEqual(child.status, 0, child)
        self.assertEqual(child.out.splitlines(), [
            error for error in errors.values() for _ in self.CALLS])

    def test_failed_call(self):
        """A call that raises changes nothing."""
        self.dies("""
            import faulthandler
            faulthandler.enable("report", c_stack=False)
            for name in ("missing/x", "%x", "a\\0b", ".", "/dev/null/x"):
                try:
                    faulthandler.enable(name, all_threads=False)
                except (OSError, ValueError):
                    pass
                else:
                    print(name)
            faulthandler.sigsegv()
        """, line=12, files={"report": "REPORT"})

    def test_object_with_both(self):
        """An object with fileno() and a path is a file."""
        self.dies("""
            import faulthandler
            class File:
                def fileno(self):
                    return file.fileno()
                def __fspath__(self):
                    return "path"
            file = open("file", "w")
            faulthandler.enable(File(), c_stack=False)
            faulthandler.sigsegv()
        """, line=11, files={"file": "REPORT"})

    def test_linked_folder(self):
        """The folder may be reached through a symbolic link."""
        os.symlink(".", self.path("link"))
        child = python("""
            import faulthandler, os, sys
            faulthandler.enable(sys.argv[1] + "/link/report", c_stack=False)
            os.unlink(sys.argv[1] + "/link")
            faulthandler.sigsegv()
        """, self.folder)
        self.check(child, SIGSEGV, "")
        self.assertEqual(self.files(), {
            "report": block(self.REPORT % ("<string>", 4))})

    def test_planted_link(self):
        """A link that comes later is not followed: no report."""
        for target, files in [("missing", {}),
                              ("victim", {"victim": "", "report": ""})]:
            with self.subTest(target=target):
                child = self.dies("""
                    import faulthandler, os
                    faulthandler.enable("report", c_stack=False)
                    if %r == "victim":
                        open("victim", "w").close()
                    os.symlink(%r, "report")
                    try:
                        faulthandler.dump_traceback("report")
                    except OSError as error:
                        print(error, flush=True)
                    faulthandler.sigsegv()
                """ % (target, target), files=files)
                self.assertEqual(child.out, "[Errno 40] Too many levels of "
                                 "symbolic links: 'report'\n")
                os.unlink(self.path("report"))

    def test_planted_file(self):
        """Where everybody writes, only one's own files are appended to."""
        changes = ["os.link('report', 'victim')"]
        if os.getuid() == 0:
            changes.append("os.chown('report', 1, 1)")
        for change in changes:
            for mode in (0o755, 0o1777):
                with self.subTest(change=change, mode=mode):
                    os.chmod(self.folder, mode)
                    child = python("""
                        import faulthandler, os, sys
                        os.chdir(sys.argv[1])
                        faulthandler.enable("report", c_stack=False)
                        open("report", "w").close()
                        %s
                        try:
                            faulthandler.register(10, "report")
                        except PermissionError as error:
                            print(error, flush=True)
                        faulthandler.sigsegv()
                    """ % change, self.folder)
                    self.check(child, SIGSEGV, "")
                    text, message = block(self.REPORT % ("<string>", 10)), ""
                    if mode == 0o1777:
                        message = ("[Errno 1] Operation not permitted: "
                                   "'report'\n")
                        text = ""
                    self.assertEqual(child.out, message)
                    self.assertEqual(set(self.files().values()), {text})
                    for name in self.files():
                        os.unlink(self.path(name))

    def test_planted_folder(self):
        """A link in the place of the folder is not followed: no report."""
        os.mkdir(self.path("folder"))
        child = python("""
            import faulthandler, os, sys
            os.chdir(sys.argv[1])
            faulthandler.enable("folder/report", c_stack=False)
            os.rename("folder", "elsewhere")
            os.symlink("elsewhere", "folder")
            faulthandler.sigsegv()
        """, self.folder)
        self.check(child, SIGSEGV, "")
        self.assertEqual(os.listdir(self.path("elsewhere")), [])

    def test_pipe(self):
        """A named pipe is written to if it is read, and never waited for."""
        # A wait would last 6.5 s: then the timer breaks it.
        os.mkfifo(self.path("pipe"))
        code = """
            import faulthandler, sys
            faulthandler.enable(sys.argv[1], c_stack=False)
            faulthandler.sigsegv()
        """
        child = python(code, self.path("pipe"))
        self.check(child, SIGSEGV, "", limit=6)
        reader = os.open(self.path("pipe"), os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        child = python(code, self.path("pipe"))
        self.check(child, SIGSEGV, "", limit=6)
        text = os.read(reader, 10000).decode("ascii")
        self.assertEqual(self.unnamed(text),
                         block(self.REPORT % ("<string>", 3)))

    def test_device(self):
        """A full device takes nothing, and changes nothing."""
        for path in ("/dev/null", "/dev/full"):
            with self.subTest(path=path):
                child = python("""
                    import faulthandler
                    faulthandler.enable(%r, c_stack=False)
                    faulthandler.sigsegv()
                """ % path)
                self.check(child, SIGSEGV, "")

    def test_file_size_limit(self):
        """Where the file may not grow, the process dies all the same."""
        with limits(resource.RLIMIT_FSIZE, 20):
            self.dies("""
                import faulthandler
                faulthandler.enable("report", c_stack=False)
                faulthandler.sigsegv()
            """, files={"report": "Fatal Python error: "})

    def test_removed_folder(self):
        """Without the folder there is no report, not even elsewhere."""
        os.mkdir(self.path("folder"))
        self.dies("""
            import faulthandler, os
            faulthandler.enable("folder/report", c_stack=False)
            os.rmdir("folder")
            faulthandler.sigsegv()
        """, files={})

    @unittest.skipIf(os.getuid(), "needs root")
    def test_lost_permission(self):
        """Another user writes what that user may write."""
        os.chmod(FOLDER, 0o755)
        self.addCleanup(os.chmod, FOLDER, 0o700)
        code = """
            import faulthandler, os
            faulthandler.enable("report", c_stack=False)
            os.setuid(65534)
            try:
                faulthandler.register(10, "report-%p")
            except PermissionError as error:
                print(error)
            print("uid", os.getuid(), flush=True)
            faulthandler.sigsegv()
        """
        child = self.dies(code, files={})
        self.assertEqual(child.out, "[Errno 13] Permission denied: "
                         "'report-%p'\nuid 65534\n")
        os.chmod(self.folder, 0o777)
        child = self.dies(code, line=11, files={"report": "REPORT"})
        self.assertEqual(child.out, "uid 65534\n")
        self.assertEqual(os.stat(self.path("report")).st_uid, 65534)

    def test_no_descriptors_left(self):
        """A program that ran out of descriptors leaves its report."""
        self.dies("""
            import faulthandler, os, resource, signal
            faulthandler.enable("report", c_stack=False)
            faulthandler.register(signal.SIGUSR1, "report")
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
            try:
                while True:
                    os.dup(1)
            except OSError as error:
                assert error.errno == 24
            signal.raise_signal(signal.SIGUSR1)
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            os.unlink("report")
            assert limit == (20, hard)
            faulthandler.sigsegv()
        """, line=17, files={"report": "REPORT"})

    def test_standard_descriptors(self):
        """The file never becomes a closed standard descriptor."""
        child = python("""
            import faulthandler, os, signal, sys, threading
            os.chdir(sys.argv[1])
            faulthandler.register(signal.SIGUSR1, "report")
            os.close(0)
            os.close(2)
            done = False
            def write():
                while not done:
                    for number in (0, 2):
                        try:
                            os.write(number, b"stray")
                        except OSError:
                            pass
            threads = [threading.Thread(target=write) for _ in range(2)]
            for thread in threads:
                thread.start()
            for n in range(300):
                signal.raise_signal(signal.SIGUSR1)
            done = True
        """, self.folder)
        self.assertEqual(child.status, 0, child)
        self.assertEqual(self.files()["report"].count("Current thread"), 300)
        self.assertFalse("stray" in self.files()["report"])

    def test_descriptors_closed(self):
        """A program that closes all descriptors keeps its report."""
        self.dies("""
            import faulthandler, os
            faulthandler.enable("report", c_stack=False)
            os.closerange(0, 100)
            faulthandler.sigsegv()
        """, line=6, files={"report": "REPORT"})

    def test_long_report(self):
        """A report of many pieces is in one file, whatever the time is."""
        child = python("""
            import faulthandler, sys, threading
            faulthandler.enable(sys.argv[1], c_stack=False)
            names = {}
            def call(n):
                if n:
                    return call(n - 1)
                ready.release()
                never.acquire()
            ready, never = threading.Semaphore(0), threading.Semaphore(0)
            for n in range(60):
                threading.Thread(target=call, args=(60,), daemon=True).start()
                ready.acquire()
            faulthandler.sigsegv()
        """, self.path("report-%t"))
        self.check(child, SIGSEGV, "")
        (name, text), = self.files().items()
        self.assertGreater(len(text), 100000)
        self.assertEqual(text.count("(most recent call first):"), 61)
        self.assertEqual(text.count("Fatal Python error"), 1)

    def test_a_file_a_report(self):
        """With %t a later report has a file of its own."""
        child = python("""
            import faulthandler, os, signal, sys, time
            os.chdir(sys.argv[1])
            faulthandler.register(signal.SIGUSR1, "signal-%t")
            for n in range(2):
                signal.raise_signal(signal.SIGUSR1)
                second = int(time.time())
                while int(time.time()) == second:
                    time.sleep(0.01)
            faulthandler.unregister(signal.SIGUSR1)
            # One that is late may come in the same second as the next.
            faulthandler.dump_traceback_later(1.1, True, "later-%t")
            while len(os.listdir(".")) < 4:
                time.sleep(0.01)
            faulthandler.cancel_dump_traceback_later()
            while len(os.listdir("/proc/self/task")) > 1:
                time.sleep(0.01)
        """, self.folder)
        self.assertEqual((child.status, child.err), (0, ""), child)
        texts = {"signal": [], "later": []}
        for name, text in self.files().items():
            texts[re.fullmatch(r"(\w+)-\d+", name)[1]].append(text)
        self.assertEqual(texts["signal"], 2 * [
            "Current thread 0x… (most recent call first):\n"
            '  File "<string>", line 5 in <module>\n'])
        self.assertGreaterEqual(len(texts["later"]), 2)
        for text in texts["later"]:
            self.assertRegex(text, r"\A(Timeout .*\nThread .*\n(  .*\n)+)+\Z")

    def test_replaced_while_armed(self):
        """Calls with paths and descriptors replace one another."""
        self.dies("""
            import faulthandler, os
            before = os.listdir("/proc/self/fd")
            faulthandler.enable("one", c_stack=False)
            faulthandler.enable(2, c_stack=False)
            faulthandler.enable("two", c_stack=False)
            faulthandler.disable()
            faulthandler.enable("three", c_stack=False)
            assert os.listdir("/proc/self/fd") == before
            faulthandler.sigsegv()
        """, line=11, files={"three": "REPORT"})


class OptionTests(DropInCase):
    """PYTHONFAULTHANDLER with options, for programs as they are."""

    KILL = "import os; os.kill(os.getpid(), 11)"
    PLAIN = report('  File "<string>", line 1 in <module>\n')
    STACK = ('Fatal Python error: Segmentation fault\n\n'
             'Stack (most recent call first):\n'
             '  File "<string>", line %d in <module>\n')

    def start(self, value, *arguments, code=KILL, **variables):
        """Start Python with these options."""
        return run(PYTHON, *arguments, "-c", code, env=environment(
            PYTHONFAULTHANDLER=value, **variables))

    def report_of(self, path):
        """The report in a file, which is then removed."""
        with open(path, encoding="ascii") as file:
            text = tidy(file.read())
        os.unlink(path)
        return text

    def test_any_other_value(self):
        """1, and what people write for it, asks for the defaults."""
        for value in ("1", "0", "2", "true", "True", "yes", "on", "x", "no",
                      "enabled", ",", " ", "1,"):
            with self.subTest(value=value):
                child = self.start(value)
                self.check(child, SIGSEGV, self.PLAIN)

    def test_words(self):
        """Each word is an argument of enable()."""
        threads = block("""
            import os, threading
            lock = threading.Lock()
            lock.acquire()
            for n in range(3):
                threading.Thread(target=lock.acquire, daemon=True).start()
            os.kill(os.getpid(), 11)
        """)
        stack = self.STACK % 6
        for value, shown in [
                ("all_threads=0", stack), ("all_threads=no", stack),
                ("all_threads=False", stack), ("1,all_threads=off,", stack),
                ("all_threads=1,all_threads=0", stack),
                ("max_threads=2", 2), ("max_threads=3,all_threads", 3),
                ("all_threads", 4), (" all_threads=1 , max_threads=0", 4),
                ("all_threads=yes", 4)]:
            with self.subTest(value=value):
                child = self.start(value + ",c_stack=0", code=threads)
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                if shown == stack:
                    self.assertEqual(child.err, stack)
                else:
                    self.assertEqual(
                        child.err.count("hread 0x… "), shown, child)
        for value, shown in [("c_stack", 1), ("c_stack=1", 1),
                             ("c_stack=0", 0), ("c_stack=off", 0)]:
            with self.subTest(value=value):
                child = self.start(value)
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                self.assertEqual(child.err.count("C stack trace"), shown)
        for value, line in [
                ("details", r"  thread \d+ \[MainThread\] of process \d+, "),
                ("details=1,c_stack=0", r"  sent by this process"),
                ("c_stack=mixed", r"  C File .*, line .* in "),
                ("c_stack=mixed,details", r"  C File ")]:
            with self.subTest(value=value):
                child = self.start(value)
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                self.assertRegex(child.err, "(?m)^" + line)
                self.assertEqual("  thread " in child.err, "details" in value)

    def test_file(self):
        """file= is a path: the rest of its word."""
        path = os.path.join(FOLDER, "caf\xe9 =%%.txt")
        for value in ("file=" + path + ",all_threads=0,c_stack=0",
                      "all_threads=0,c_stack=0,file="
                      + os.path.basename(path)):
            with self.subTest(value=value):
                child = self.start(value, code="import os; os.chdir('/'); "
                                   + self.KILL)
                self.check(child, SIGSEGV, "")
                self.assertEqual(self.report_of(path.replace("%%", "%")),
                                 self.STACK % 1)

    def test_defaults_of_enable(self):
        """What a call of enable() does not give is taken from the options."""
        path = os.path.join(FOLDER, "options.txt")
        value = "all_threads=0,c_stack=0,file=options.txt"
        for call, place, shown in [
                ("enable()", path, "Stack"),
                ("enable(2)", 2, "Stack"),
                ("enable(file=2)", 2, "Stack"),
                ("enable(sys.stderr)", 2, "Stack"),
                ("enable(None)", 2, "Stack"),
                ("enable(all_threads=True)", path, "Current thread 0x…"),
                ("enable(2, True)", 2, "Current thread 0x…"),
                ("enable(max_threads=5)", path, "Stack"),
                ("disable(); faulthandler.enable()", path, "Stack")]:
            with self.subTest(call=call):
                child = self.start(value, code=block("""
                    import faulthandler, os, sys
                    os.chdir("/")
                    faulthandler.%s
                    faulthandler.sigsegv()
                """) % call)
                err = child.err if place == 2 else self.report_of(path)
                err = re.sub(r" \[python[^\]]*\]", "", err)
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                self.assertEqual(err, self.STACK.replace("Stack", shown) % 4)
                self.assertEqual(os.path.exists(path), False)

    def test_other_functions(self):
        """The options are enable()'s: the others are as they were."""
        child = self.start("file=options.txt,all_threads=0", code=block("""
            import faulthandler
            faulthandler.dump_traceback()
        """))
        self.assertEqual((child.status, re.sub(r" \[.*?\]", "", child.err)), (
            0, "Current thread 0x… (most recent call first):\n"
            '  File "<string>", line 2 in <module>\n'))

    def test_wrong_words(self):
        """They are named once, in one line, and ignored."""
        for value, message, expected in [
                ("detials", "'detials' (not known)", self.PLAIN),
                ("foo,c_stak=1,all_threads=0",
                 "'foo' (not known), 'c_stak=1' (not known)", self.STACK % 1),
                ("all_threads=0,max_threads=x", "'max_threads=x' "
                 "(not a number)", self.STACK % 1),
                ("max_threads=-1", "'max_threads=-1' (not a number)",
                 self.PLAIN),
                ("max_threads", "'max_threads' (not a number)", self.PLAIN),
                ("c_stack=maybe", "'c_stack=maybe' (neither 1 nor 0 nor "
                 "mixed)", self.PLAIN),
                ("details=2", "'details=2' (neither 1 nor 0)", self.PLAIN),
                ("all_threads=", "'all_threads=' (neither 1 nor 0)",
                 self.PLAIN),
                ("file=", "'file=' (no path)", self.PLAIN),
                ("file", "'file' (no path)", self.PLAIN),
                ("file=/missing/x", "'file=/missing/x' (No such file or "
                 "directory)", self.PLAIN),
                ("file=/missing/x,all_threads=0", "'file=/missing/x' (No such "
                 "file or directory)", self.STACK % 1),
                ("file=%x", "'file=%x' (file: after % must come p, t or %)",
                 self.PLAIN),
                ("\xff\n\x1b=1", "'\\xc3\\xbf\\n\\x1b=1' (not known)",
                 self.PLAIN)]:
            if expected != self.PLAIN:
                value += ",c_stack=0"
            for options in [], ["-W", "error"], ["-X", "dev"]:
                with self.subTest(value=value, options=options):
                    child = self.start(value, *options, PYTHONUTF8="1")
                    self.check(child, SIGSEGV, "PYTHONFAULTHANDLER: ignored "
                               + message + "\n" + expected)

    def test_no_stderr(self):
        """Without standard error Python starts, and writes to the file."""
        path = os.path.join(FOLDER, "options.txt")
        for value, written in [("foo,all_threads=0", None),
                               ("foo,all_threads=0,c_stack=0,"
                                "file=options.txt", path)]:
            child = run("sh", "-c", 'exec "$0" "$@" 2>&-', PYTHON, "-c",
                        self.KILL, env=environment(PYTHONFAULTHANDLER=value))
            self.check(child, SIGSEGV, "")
            if written:
                self.assertEqual(self.report_of(path), self.STACK % 1)

    def test_environment_ignored(self):
        """-E and -I do not look at it, whatever else armed the builtin."""
        for options in ["-E"], ["-I"]:
            with self.subTest(options=options):
                self.check(self.start("all_threads=0,foo", *options),
                           SIGSEGV, "")
                child = self.start("all_threads=0,foo", *options,
                                   "-X", "faulthandler")
                self.check(child, SIGSEGV, self.PLAIN)

    def test_builtin(self):
        """Without this module the same value arms the builtin."""
        code = "import faulthandler; print(faulthandler.is_enabled(), " \
            "hasattr(faulthandler, 'version'), flush=True); " + self.KILL
        for options, variables in [(["-S"], {}),
                                   ([], {"FAULTHANDLER_USE_STDLIB": "1"})]:
            child = self.start("all_threads=0,foo,file=options.txt", *options,
                               code=code, **variables)
            self.assertEqual((status_name(child.status), child.out),
                             ("-SIGSEGV", "True False\n"), child)
            self.assertTrue(child.err.startswith(
                "Fatal Python error: Segmentation fault\n\nCurrent thread"))

    def test_children(self):
        """Children inherit it: started, forked, spawned or served."""
        write_file("workers.py", block("""
            import multiprocessing, os, subprocess, sys
            def crash():
                print(os.getpid(), flush=True)
                os.kill(os.getpid(), 11)
            if __name__ == "__main__":
                subprocess.run([sys.executable, "-c",
                                "import workers; workers.crash()"])
                for method in ("fork", "spawn", "forkserver"):
                    context = multiprocessing.get_context(method)
                    child = context.Process(target=crash)
                    child.start()
                    child.join()
                    assert child.exitcode == -11, child.exitcode
        """))
        child = run(PYTHON, "workers.py", env=environment(
            PYTHONFAULTHANDLER="all_threads=0,c_stack=0,file=worker-%p.txt"))
        self.assertEqual((child.status, child.err), (0, ""), child)
        self.assertEqual(len(set(child.out.split())), 4, child)
        for number in child.out.split():
            text = self.report_of(os.path.join(FOLDER,
                                               "worker-%s.txt" % number))
            self.assertTrue(text.startswith(
                "Fatal Python error: Segmentation fault\n\n"
                "Stack (most recent call first):\n"
                '  File "workers.py", line 4 in crash\n'), text)

    def test_pytest(self):
        """pytest's plugin gives a file; the other options hold."""
        child = PytestTests.pytest(self, """
            import ctypes
            def test_crash():
                ctypes.CDLL(None).strlen(None)
        """, PYTHONFAULTHANDLER="all_threads=0,c_stack=0,file=options.txt")
        self.assertEqual(child.status, -SIGSEGV, child)
        self.assertIn("Fatal Python error: Segmentation fault\n\n"
                      "Stack (most recent call first):\n"
                      '  File "test_suite.py", line 3 in test_crash\n',
                      child.err)
        child = PytestTests.pytest(self, """
            import ctypes
            def test_crash():
                ctypes.CDLL(None).strlen(None)
        """, "-p", "no:faulthandler",
            PYTHONFAULTHANDLER="all_threads=0,c_stack=0,file=options.txt")
        self.assertEqual(child.status, -SIGSEGV, child)
        self.assertIn('  File "test_suite.py", line 3 in test_crash\n',
                      self.report_of(os.path.join(FOLDER, "options.txt")))

    def test_start_imports_nothing(self):
        """Reading the options imports no more than arming does."""
        code = "import sys; print(sorted(sys.modules))"
        children = [self.start(value, code=code) for value in
                    ("1", "all_threads=0,max_threads=5,file=options.txt")]
        self.assertEqual(children[0].out, children[1].out)


class ContextTests(DropInCase):
    """context(): what each thread says it is about, in details reports."""

    ARM = "faulthandler.enable(2, c_stack=False, details=True)\n"

    THREADS = """
        import threading
        def start(function, *arguments):
            thread = threading.Thread(target=function, args=arguments,
                                      daemon=True)
            thread.start()
            return thread
        never = threading.Lock()
        never.acquire()
    """

    def crash_with(self, code, *arguments, **options):
        """Run code that arms with details, and crashes; the report's parts.

        The first is the lines between the cause and the first header; for
        each header there is one more, of its block.
        """
        child = python("import faulthandler\n" + self.ARM + block(code),
                       *arguments, **options)
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertEqual(child.err.count("Fatal Python error"), 1, child)
        self.assertLess(child.seconds, LIMIT)
        parts = re.split(r"(?m)^\n?.*hread 0x.* \(most recent call first\):\n",
                         child.err)
        head = parts[0].split("\n", 3)[3]
        return [re.findall(r"(?m)^  context: (.*)$", part)
                for part in [head] + parts[1:]], child

    def one(self, text, expected):
        """The main thread says this: the report shows that."""
        found, child = self.crash_with("""
            faulthandler.context(%s)
            faulthandler.sigsegv()
        """ % text)
        self.assertEqual(found, [expected, []], child)

    def test_returns(self):
        """It returns what was said before: None, or an equal str."""
        child = python("""
            import faulthandler
            class Text(str):
                pass
            texts = ["", "a", "request 7", "x" * 200, "a\\nb\\0"] + [
                chr(n) * 200 for n in (0xe9, 0x20ac, 0xd800, 0x1f600)]
            assert faulthandler.context(None) is None
            assert faulthandler.context("first") is None
            before = "first"
            for text in texts:
                assert faulthandler.context(text) == before
                before = text
            assert faulthandler.context(Text("sub")) == before
            assert type(faulthandler.context("x" * 1000)) is str
            assert faulthandler.context("old") == "x" * 200
            old = faulthandler.context("inner")
            assert faulthandler.context(old) == "inner"
            assert faulthandler.context(None) == "old"
            assert faulthandler.context(None) is None
        """)
        self.assertEqual((child.status, child.err), (0, ""), child)

    def test_wrong_arguments(self):
        """Anything but a str and None is a TypeError, and changes nothing."""
        ArgumentTests.raises(self, {
            "context('kept')": "None",
            "context(1)": "TypeError context() argument must be str or None, "
                          "not int",
            "context(b'x')": "TypeError context() argument must be str or "
                             "None, not bytes",
            "context(['x'])": "TypeError context() argument must be str or "
                              "None, not list",
            "context('x') ": "'kept'",
        })
        child = python("""
            import faulthandler
            for call in ("context()", "context('a', 'b')",
                         "context(text='a')"):
                try:
                    eval("faulthandler." + call)
                except TypeError as error:
                    print("context() takes" in str(error))
        """)
        self.assertEqual(child.out, "True\n" * 3, child)

    def test_literal(self):
        """The line stands under that of the thread."""
        child = python("""
            import faulthandler
            faulthandler.enable(2, c_stack=False, details=True)
            faulthandler.context("request 4711")
            faulthandler.sigsegv()
        """)
        err = re.sub(r"(?m)^  thread \d+ .*$", "  thread …", child.err)
        err = re.sub(r" \[python[^\]]*\]", "", err)
        self.assertEqual(err, block("""
            Fatal Python error: Segmentation fault
              reading address 0x0000000000000000 (a NULL pointer): nothing is mapped there (SEGV_MAPERR)
              thread …
              context: request 4711

            Current thread 0x… (most recent call first):
              File "<string>", line 4 in <module>
        """), child)

    def test_texts(self):
        """ASCII as it is, all else escaped; 200 characters and an ellipsis."""
        for text, shown in [
                ("plain [text] 'quoted' \\x41", None),
                ("caf\xe9\x7f", "caf\\xe9\\x7f"),
                ("\u20ac\ud800 \xff", "\\u20ac\\ud800 \\xff"),
                ("\U0001f600", "\\U0001f600"),
                ("a\nThread 0x1\0", "a\\x0aThread 0x1\\x00"),
                ("x" * 200, None),
                ("\U0010ffff" * 200, "\\U0010ffff" * 200)]:
            with self.subTest(text=text[:10]):
                self.one(ascii(text), [text if shown is None else shown])
        for text, count in [("x", 201), ("\u1234", 10000),
                            ("\U0010ffff", 300)]:
            with self.subTest(text=text, count=count):
                shown = text if text < "~" else ascii(text)[1:-1]
                self.one("%a * %d" % (text, count), [shown * 200 + "..."])
        for nothing in "None", "''":
            self.one(nothing, [])

    def test_plain_reports(self):
        """Reports without details are as they were."""
        for arm in ("", "faulthandler.enable()",
                    "faulthandler.enable(2, c_stack=False)"):
            with self.subTest(arm=arm):
                child = python("""
                    import faulthandler
                    %s
                    faulthandler.context("request 4711")
                    faulthandler.dump_traceback()
                    faulthandler.sigsegv()
                """ % (arm or "pass"))
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                self.assertNotIn("4711", child.err)

    def test_threads(self):
        """Each thread's note stands in its own block."""
        found, child = self.crash_with(self.THREADS + """
        def run(n):
            if n != 1:
                faulthandler.context("first")
                faulthandler.context("thread %d" % n)
            ready.release()
            never.acquire()
        ready = threading.Semaphore(0)
        for n in range(3):
            start(run, n)
            ready.acquire()
        faulthandler.context("main")
        faulthandler.sigsegv()
        """)
        self.assertEqual(found, [["main"], [], ["thread 2"], [],
                                 ["thread 0"]], child)

    def test_other_thread_crashes(self):
        """The note of the thread that crashes comes first."""
        found, child = self.crash_with(self.THREADS + """
        def run():
            faulthandler.context("other")
            faulthandler.sigsegv()
        faulthandler.context("main")
        start(run).join()
        """)
        self.assertEqual(found, [["other"], [], ["main"]], child)

    def test_threads_that_end(self):
        """A note ends with its thread: the next one begins without."""
        found, child = self.crash_with(self.THREADS + """
        import os
        def run():
            if faulthandler.context("gone") is not None:
                os._exit(1)
        def wait():
            ready.release()
            never.acquire()
        ready = threading.Semaphore(0)
        for n in range(200):
            start(run).join()
        for n in range(5):
            start(wait)
            ready.acquire()
        faulthandler.sigsegv()
        """)
        self.assertEqual(found, [[]] * 7, child)

    @unittest.skipIf(SANITIZED, "the sanitizer keeps memory")
    def test_no_leak(self):
        """10000 threads, one after another, share the memory of a few."""
        child = python(self.THREADS + """
        import faulthandler, os, re, time
        def run():
            faulthandler.context("x")
        def size():
            # Counted page by page; statm's sums are up to 1 MB off.
            with open("/proc/self/smaps_rollup") as file:
                return int(re.search(r"Anonymous: +(\\d+)",
                                     file.read()).group(1))
        def many(n):
            for _ in range(n):
                start(run).join()
            while len(os.listdir("/proc/self/task")) > 1:
                time.sleep(0.01)    # join() may return before it is gone
        many(500)
        before = size()
        many(10000)
        print(size() - before < 1000, size() - before)
        """)
        self.assertEqual((child.status, child.out[:4]), (0, "True"), child)

    def test_many_threads_at_once(self):
        """Notes of many threads at once do not mix."""
        found, child = self.crash_with(self.THREADS + """
        def run(n):
            faulthandler.context(str(n))
            ready.release()
            never.acquire()
        ready = threading.Semaphore(0)
        threading.stack_size(256 * 1024)
        for n in range(98):
            start(run, n)
            ready.acquire()
        faulthandler.sigsegv()
        """)
        self.assertEqual(found, [[], []] + [
            [str(n)] for n in reversed(range(98))], child)

    def test_fork(self):
        """A child keeps its own thread's note, and none of the others'."""
        found, child = self.crash_with(self.THREADS + """
        import os, warnings
        warnings.simplefilter("ignore")
        def run():
            faulthandler.context("parent's")
            ready.release()
            never.acquire()
        def wait():
            ready.release()
            never.acquire()
        ready = threading.Semaphore(0)
        for n in range(3):
            start(run)
            ready.acquire()
        faulthandler.context("forked")
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 11
            faulthandler.disable()
            faulthandler.sigsegv()
        for n in range(3):
            start(wait)
            ready.acquire()
        faulthandler.sigsegv()
        """)
        self.assertEqual(found, [["forked"], [], [], [], []], child)

    def test_subinterpreter(self):
        """A note belongs to the thread, in whichever interpreter it is."""
        found, child = self.crash_with("""
            import sub
            faulthandler.context("main")
            interpreter = sub.create(False)
            sub.run(interpreter, "import faulthandler\\n"
                    "assert faulthandler.context('sub') == 'main'")
            faulthandler.sigsegv()
        """)
        self.assertEqual(found[0], ["sub"], child)

    BROKEN = """
        import ctypes, sys
        import damage
        class Text(str):
            pass
        text = Text("x" * 100)
        cells = damage.words(id(text), 10)
        pointer = ctypes.pythonapi.PyUnicode_AsUTF8
        pointer.restype = ctypes.c_size_t
        pointer.argtypes = [ctypes.py_object]
        characters = [n for n, cell in enumerate(cells)
                      if cell == pointer(text)]
        cells[characters[-1]] = damage.forbidden
    """

    def test_crash_inside(self):
        """A note that was being changed is marked, not shown in part."""
        found, child = self.crash_with(self.BROKEN + """
        faulthandler.context("before")
        faulthandler.context(text)
        """)
        self.assertEqual(found, [["???"], []], child)

    def test_not_torn(self):
        """A note that another thread keeps changing is whole, or marked."""
        for n in range(10):
            found, child = self.crash_with(self.THREADS + """
        import itertools, os, subprocess, time
        def run():
            context = faulthandler.context
            for n, text in enumerate(itertools.cycle(["a" * 200,
                                                      "\U0001f600" * 200])):
                context(text)
                if n == 0:
                    begun.release()
        begun = threading.Semaphore(0)
        start(run)
        begun.acquire()
        subprocess.Popen(["sh", "-c", "sleep 0.05; kill -SEGV %d"
                          % os.getpid()])
        time.sleep(PATIENCE)
            """.replace("PATIENCE", str(PATIENCE)))
            self.assertIn(sum(found, []), (
                ["a" * 200], ["\\U0001f600" * 200], ["???"]), child)

    @unittest.skipIf(SANITIZED or hasattr(sys, "gettotalrefcount"),
                     "measures time, not of a debug build")
    def test_cost(self):
        """A call takes less than 200 ns."""
        child = python("""
            import faulthandler, timeit
            context = faulthandler.context
            text = "request 4711"
            # Short ones: some of them are not interrupted.
            print(min(timeit.repeat("context(text)", number=1000, repeat=1000,
                                    globals=globals())) / 1000 * 1e9)
        """)
        self.assertLess(float(child.out), 200)


class NeighbourTests(DropInCase):
    """How well-known programs use the module: as with the builtin."""

    pytest = PytestTests.pytest
    strip = EnableTests.strip

    def test_wrappers(self):
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
        self.assertEqual(child.out, "True\n202 ''\n")
        first, second = child.err.split("Fatal Python error", 1)
        self.assertEqual(self.strip(first), block("""
            Current thread 0x… (most recent call first):
              File "<string>", line 18 in <module>
        """))
        child.err = self.strip("Fatal Python error" + second)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Current thread 0x… (most recent call first):
              File "<string>", line 22 in <module>
        """))

    def test_spyder(self):
        """A file that lives as long as the process, parsed by thread."""
        child = python("""
            import faulthandler, tempfile, threading
            handle = tempfile.NamedTemporaryFile(
                "wt", suffix=".fault", dir=".")
            faulthandler.enable(handle)
            ready, never = threading.Event(), threading.Event()
            def wait():
                ready.set(); never.wait()
            thread = threading.Thread(target=wait, daemon=True)
            thread.start()
            ready.wait()
            print(handle.name, threading.get_ident(), thread.ident,
                  flush=True)
            faulthandler._sigsegv()
        """)
        self.check(child, SIGSEGV, "")
        name, *idents = child.raw_out.split()
        with open(os.path.join(FOLDER, name), encoding="ascii") as file:
            text = file.read()
        os.remove(os.path.join(FOLDER, name))
        self.assertTrue(text.startswith(
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x"))
        threads = re.findall(
            r"(?m)^(?:Current thread|Thread) (0x[\da-f]+)(?: \[.*\])? "
            r"\(most recent call first\):\n((?:  File .*\n)+)", text)
        self.assertEqual([int(ident, 16) for ident, _ in threads],
                         [int(ident) for ident in idents])
        self.assertEqual(threads[0][1],
                         '  File "<string>", line 13 in <module>\n')
        self.assertIn('  File "<string>", line 7 in wait\n', threads[1][1])

    def test_qutebrowser(self):
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
        child = python(code)
        self.check(child, SIGSEGV, "")
        with open(log, encoding="ascii") as file:
            self.assertEqual(
                list(re.match(expected, file.read()).groups()), found)
        child = python(code, "quit")
        self.assertEqual(child.status, -SIGSEGV, child)
        self.assertEqual(list(re.match(expected, child.err).groups()), found)
        self.assertFalse(os.path.exists(log))

    def test_what_they_catch(self):
        """The exceptions for a standard error without a descriptor."""
        child = self.as_builtin("""
            import faulthandler, io, sys
            class NullWriter:
                pass
            class Closed(io.StringIO):
                def fileno(self):
                    return -1
            for stream in None, NullWriter(), io.StringIO(), Closed():
                sys.stderr = stream
                for call in (faulthandler.enable,
                             lambda: faulthandler.enable(all_threads=False),
                             lambda: faulthandler.enable(stream),
                             faulthandler.dump_traceback,
                             lambda: faulthandler.dump_traceback_later(60),
                             lambda: faulthandler.register(10)):
                    try:
                        print(call())
                    except Exception as error:
                        print(type(error).__name__, error)
            sys.stderr = sys.__stderr__
            faulthandler.cancel_dump_traceback_later()
        """)
        self.assertIn("RuntimeError sys.stderr is None\n", child.out)
        self.assertIn("UnsupportedOperation fileno\n", child.out)
        self.assertIn("AttributeError 'NullWriter' object has no attribute "
                      "'fileno'\n", child.out)

    def test_ray(self):
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
        self.assertEqual(child.out, "fileno\nTrue\n")
        child.err = self.strip(child.err)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Stack (most recent call first):
              File "<string>", line 15 in <module>
        """))

    # pytest; a suite that passes and one that crashes are in PytestTests.

    # The timeout is long: each test has to begin, the quick one to end in it.
    SLOW = """
        import os, time
        def test_slow():
            while %s: time.sleep(0.01)
        def test_quick():
            pass
    """

    def check_timeout(self, text):
        """Its own timeout dumped the test that was running, once."""
        self.assertRegex(text, (
            r'\ATimeout \(0:00:04\.400000\)!\n'
            r'Thread 0x…(?: \[.*\])? \(most recent call first\):\n'
            r'  File "test_suite\.py", line 3 in test_slow\n'))
        self.assertEqual(text.count("Timeout ("), 1, text)

    def test_pytest_timeout(self):
        """faulthandler_timeout dumps, and the suite goes on."""
        path = os.path.join(FOLDER, "timeout.txt")
        with open(path, "w+", encoding="ascii") as file:
            child = self.pytest(
                self.SLOW % "not os.stat('timeout.txt').st_size",
                "-o", "faulthandler_timeout=4.4", stderr=file)
            file.seek(0)
            text = tidy(file.read())
        self.assertEqual(child.status, 0, child)
        self.assertIn("2 passed", child.out)
        self.check_timeout(text)

    def test_pytest_exit_on_timeout(self):
        """faulthandler_exit_on_timeout ends it with status 1."""
        try:
            import _pytest.faulthandler as plugin
        except ImportError:
            self.skipTest("needs pytest")
        with open(plugin.__file__, encoding="utf-8") as file:
            if "exit_on_timeout" not in file.read():
                self.skipTest("needs a newer pytest")
        child = self.pytest(self.SLOW % "True",
                            "-o", "faulthandler_timeout=4.4",
                            "-o", "faulthandler_exit_on_timeout=true")
        self.assertEqual(child.status, 1, child)
        self.assertNotIn("passed", child.out)
        self.check_timeout(child.err)

    CRASH = """
        import ctypes
        def test_crash():
            ctypes.CDLL(None).strlen(None)
        def test_quick():
            pass
    """

    def test_pytest_without_plugin(self):
        """Without pytest's plugin nobody imports or arms the module."""
        child = self.pytest(self.CRASH, "-p", "no:faulthandler")
        self.check(child, SIGSEGV, "")

    def test_pytest_workers(self):
        """A worker of pytest-xdist that crashes is reported and replaced."""
        if importlib.util.find_spec("xdist") is None:
            self.skipTest("needs pytest-xdist")
        child = self.pytest(self.CRASH, "-p", "xdist.plugin", "-n2")
        self.assertEqual(child.status, 1, child)
        self.assertRegex(child.out, "1 failed, 1 passed")
        self.assertRegex(child.out,
                         "worker '.*' crashed while running .*test_crash")
        self.assertEqual(child.err.count("Fatal Python error"), 1, child)
        self.assertRegex(child.err, (
            r'Fatal Python error: Segmentation fault\n\n'
            r'Current thread 0x…(?: \[.*\])? \(most recent call first\):\n'
            r'  File "test_suite\.py", line 3 in test_crash\n'))

    def test_regrtest(self):
        """The timeout of CPython's own test runner ends it with status 1."""
        if importlib.util.find_spec("test.libregrtest") is None:
            self.skipTest("needs CPython's own tests")
        write_file("test_hang.py", block("""
            import time, unittest
            class Hang(unittest.TestCase):
                def test_hang(self):
                    time.sleep(60)
        """))
        child = run(PYTHON, "-m", "test", "--timeout", "5", "--testdir",
                    FOLDER, "test_hang")
        self.assertEqual(child.status, 1, child)
        self.assertRegex(child.err, (
            r'(?m)^Timeout \(0:00:05\)!\n'
            r'Thread 0x…(?: \[.*\])? \(most recent call first\):\n'
            r'  File "test_hang\.py", line 4 in test_hang\n'))
        self.assertEqual(child.err.count("Timeout ("), 1, child)

    # Processes.  Children that only cancel or arm again are in LaterTests.

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

        if __name__ == "__main__":
            faulthandler.dump_traceback_later(60)
            context = multiprocessing.get_context(sys.argv[2])
            print(globals()[sys.argv[1]](context), flush=True)
            faulthandler.cancel_dump_traceback_later()
    """

    def test_processes_that_crash(self):
        """A child of multiprocessing or a process pool is reported once."""
        write_file("crashers.py", block(self.WORKERS))
        for function, printed in [("run", "-11\n"), ("submit", "broken\n")]:
            for method in ("fork", "forkserver", "spawn"):
                with self.subTest(function=function, method=method):
                    child = run(PYTHON, "-W", "ignore", "crashers.py",
                                function, method)
                    self.assertEqual((child.status, child.out), (0, printed),
                                     child)
                    self.assertTrue(child.err.startswith(report(
                        '  File "crashers.py", line 5 in crash\n')), child)
                    self.assertEqual(child.err.count("Fatal Python"), 1)
                    self.assertLess(child.seconds, LIMIT)

    def test_subprocesses_that_crash(self):
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
                                       timeout=20, **options)
                print(child.returncode, child.stderr.count(b"Fatal"))
            pid = os.posix_spawn(sys.executable, arguments, os.environ)
            print(os.waitpid(pid, 0)[1] & 127)
            print(os.system("exit 7") >> 8)
        """, "-W", "ignore")
        self.assertEqual((child.status, child.out),
                         (0, "-11 1\n" * 5 + "11\n7\n"), child)
        self.assertEqual(child.err.count("Fatal Python error"), 1, child)


# ---- Places ----------------------------------------------------------------

PLACES = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* malloc() finds its own data damaged, and aborts with its lock held. */
void
corrupt_heap(void)
{
    char *volatile last = malloc(24);

    for (int i = 0; i < 4000; i++)
        last = malloc(40000);
    memset(last + 40000, 0x41, 64);
    for (int i = 0; i < 10; i++)
        last = malloc(100000);
}

static void *
load(void *path)
{
    dlopen(path, RTLD_NOW);
    return NULL;
}

/* Another thread holds the loader's lock, in a library's constructor, which
   says so. */
void
load_in_thread(const char *path)
{
    char number[20], byte;
    pthread_t thread;
    int begun[2];

    if (pipe(begun) < 0)
        abort();
    snprintf(number, sizeof number, "%d", begun[1]);
    setenv("BEGUN", number, 1);
    pthread_create(&thread, NULL, load, strdup(path));
    if (read(begun[0], &byte, 1) != 1)
        abort();
}

/* The child shares our memory. Returns the signal that it died of. */
int
crash_in_vfork(void)
{
    int status = 0;
    pid_t pid = vfork();

    if (pid == 0) {
        *(volatile int *)8 = 1;
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return WTERMSIG(status);
}
"""

CONSTRUCTOR = r"""
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void
begin(void)
{
    if (write(atoi(getenv("BEGUN")), "", 1) == 1)
        sleep(20);
}
"""


class PlaceTests(CrashCase):
    """Crashes where little works.  .ci/stress places has many more."""

    def setUp(self):
        """Compile the library, once."""
        compile_library(self, "places", PLACES)

    @unittest.skipIf(SANITIZED, "the sanitizer needs the address space")
    @unittest.skipIf(DEBUG, "the interpreter asserts that there is some")
    def test_no_memory_left(self):
        """Not a byte can be allocated."""
        child = python("""
            import ctypes, resource, sys, faulthandler
            strlen = ctypes.CDLL(None).strlen
            def eat(kept, size):
                while size > 16:
                    try:
                        kept.append(bytearray(size))
                    except MemoryError:
                        size //= 2
                strlen(None)
            with open("/proc/self/statm") as file:
                size = int(file.read().split()[0]) * 4096 + (64 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (size, size))
            eat([], 1 << 22)
        """)
        # 3.15.0 itself crashes in bytearray().
        child.err = child.err.replace("line 6 in eat", "line 9 in eat")
        self.check(child, SIGSEGV, report(
            '  File "<string>", line 9 in eat\n'
            '  File "<string>", line 13 in <module>\n'))

    @unittest.skipIf(SANITIZED, "the sanitizer has its own malloc()")
    def test_lock_of_malloc(self):
        """malloc() aborts, and its lock is held."""
        for arm in ("", "faulthandler.enable(all_threads=False, c_stack=True)"):
            with self.subTest(arm=arm):
                child = python("""
                    import ctypes, faulthandler; %s
                    def f():
                        ctypes.CDLL("./places.so").corrupt_heap()
                    f()
                """ % arm)
                self.assertEqual(status_name(child.status), "-SIGABRT", child)
                self.assertLess(child.seconds, LIMIT)
                # The first line is the C library's.
                self.assertRegex(child.err, (
                    r'\A.*\nFatal Python error: Aborted\n\n.*\n'
                    r'  File "<string>", line 3 in f\n'
                    r'  File "<string>", line 4 in <module>\n'
                    + (r"\nCurrent thread's C stack trace .*\n(  .*\n)+"
                       if arm else "") + r"\Z"))

    def test_lock_of_the_loader(self):
        """Another thread is in a library's constructor."""
        compile_library(self, "constructor", CONSTRUCTOR)
        for arm in ("", "faulthandler.enable(all_threads=False, c_stack=True)"):
            with self.subTest(arm=arm):
                child = python("""
                    import ctypes, faulthandler; %s
                    places = ctypes.CDLL("./places.so")
                    def f():
                        places.load_in_thread(b"./constructor.so")
                        faulthandler.sigsegv()
                    f()
                """ % arm)
                self.assertEqual(status_name(child.status), "-SIGSEGV", child)
                self.assertLess(child.seconds, 5)
                self.assertRegex(child.err, (
                    r'\AFatal Python error: Segmentation fault\n\n.*\n'
                    r'  File "<string>", line 5 in f\n'
                    r'  File "<string>", line 6 in <module>\n'
                    + (r"\nCurrent thread's C stack trace .*\n(  .*\n)+"
                       if arm else "") + r"\Z"))

    @unittest.skipIf(DEBUG, "the collector asserts that there is none")
    def test_collector(self):
        """The collector meets a damaged object."""
        child = python("""
            import ctypes, faulthandler, gc
            kept = [[object()] for n in range(10)]
            items = ctypes.c_void_p.from_address(id(kept[3]) + 24).value
            def f():
                ctypes.c_void_p.from_address(items).value = 0x10
                gc.collect()
            f()
        """)
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertEqual(child.err, report(
            '  Garbage-collecting\n'
            '  File "<string>", line 6 in f\n'
            '  File "<string>", line 7 in <module>\n'))

    def test_vfork_child(self):
        """A vfork() child crashes, then the parent."""
        child = python("""
            import ctypes, faulthandler
            def f():
                print(ctypes.CDLL("./places.so").crash_in_vfork(), flush=True)
            f()
            faulthandler.sigfpe()
        """)
        self.assertEqual((status_name(child.status), child.out),
                         ("-SIGFPE", "11\n"), child)
        self.assertEqual(child.err, report(
            '  File "<string>", line 3 in f\n'
            '  File "<string>", line 4 in <module>\n') + report(
            '  File "<string>", line 5 in <module>\n',
            "Floating point exception"))
        self.assertLess(child.seconds, LIMIT)


# ---- Guards ----------------------------------------------------------------

# Handlers around ours: a newer one that defers nothing and calls ours, an
# older one that aborts; and what looks around once Python has ended.
AROUND = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sigaction before;
static int unblocks;

static void
on_newer(int signum, siginfo_t *info, void *context)
{
    before.sa_sigaction(signum, info, context);
}

static void
on_older(int signum)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, signum);
    if (unblocks)
        sigprocmask(SIG_UNBLOCK, &one, NULL);
    abort();
}

int
install_newer(int signum)
{
    struct sigaction action = {0};

    action.sa_sigaction = on_newer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    return sigaction(signum, &action, &before);
}

int
install_older(int signum, int flags)
{
    struct sigaction action = {0};

    unblocks = flags != 0;
    action.sa_flags = flags;
    action.sa_handler = on_older;
    return sigaction(signum, &action, NULL);
}

/* At the end: has every other thread ended, or does it within 5 s? */
void
count_threads(void)
{
    struct stat task;

    for (int i = 0; i < 500; i++) {
        if (stat("/proc/self/task", &task) == 0 && task.st_nlink == 3)
            _exit(7);
        usleep(10000);
    }
}

int
crash_in_vfork(void)
{
    int status = 0;
    pid_t pid = vfork();

    if (pid == 0) {
        *(volatile int *)8 = 1;
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return status;
}
"""

# refuse(number): from now on a system call is not permitted.
REFUSE = """
import ctypes
import struct

libc = ctypes.CDLL(None, use_errno=True)


def refuse(number):
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number),
            (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
    code = b"".join(struct.pack("HBBI", *line) for line in code)
    code = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
"""


# page: an address that blocks who reads there, for ever.
STUCK = """
import ctypes
import fcntl
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_size_t
page = libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, 0)
fault = libc.syscall(323, os.O_CLOEXEC | 1)     # userfaultfd
if fault < 0:
    raise SystemExit(77)
for call, words in ((0xc018aa3f, (0xaa, 0, 0)),
                    (0xc020aa00, (page, 4096, 1, 0))):
    fcntl.ioctl(fault, call, bytearray(struct.pack("%dQ" % len(words),
                                                   *words)))
"""


@unittest.skipIf(
    os.environ.get("CI") and (hasattr(sys, "gettotalrefcount") or SANITIZED
                              or sys.version_info[:2] not in (
                                  (3, 8), (3, 11), (3, 13), (3, 15))),
    "they wait for long, and depend little on the version")
class GuardTests(CrashCase):
    """What guards are for that do nothing in a usual report.

    .ci/guards removes each of them, and sees a test go red.
    """

    def around(self):
        """Compile AROUND, once."""
        compile_library(self, "around", AROUND)

    def older(self):
        """Compile OLDER, once."""
        compile_library(self, "older", OLDER)

    def stuck(self, code):
        """Run code that imports stuck, where the kernel permits it."""
        if not X86_64:
            self.skipTest("knows the system calls of x86-64")
        write_file("stuck.py", STUCK)
        child = python(code)
        if child.status == 77:
            self.skipTest("needs userfaultfd()")
        return child

    def test_page_that_never_comes(self):
        """A read that blocks for ever is given up, with its line."""
        child = self.stuck("""
            import sys, damage, faulthandler, stuck
            def inner():
                damage.damage(sys._getframe(1), "name", stuck.page)
                faulthandler.sigsegv()
            def outer():
                inner()
            outer()
        """)
        self.check(child, SIGSEGV, report(
            '  File "<string>", line 4 in inner\n'
            '  <out of time in the traceback>\n'), limit=20)

    def test_crash_while_a_dump_is_stuck(self):
        """A dump that is stuck for ever does not hold up a crash."""
        child = self.stuck("""
            import damage, faulthandler, os, stuck, sys, threading, time
            damaged = threading.Semaphore(0)
            def work():
                damage.damage(sys._getframe(), "name", stuck.page)
                damaged.release()
                time.sleep(60)
            threading.Thread(target=work, daemon=True).start()
            damaged.acquire()
            faulthandler.dump_traceback_later(
                0.1, file=os.open(os.devnull, os.O_WRONLY))
            os.read(stuck.fault, 32)    # the kernel says that it is stuck
            faulthandler.enable(all_threads=False, c_stack=False)
            faulthandler.sigsegv()
        """)
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Stack (most recent call first):
              File "<string>", line 13 in <module>
        """))

    def test_no_code(self):
        """What looks like a code object but for its type is none."""
        self.crash("""
            import ctypes, sys, damage, faulthandler
            def inner():
                code = sys._getframe(1).f_code
                copy = ctypes.create_string_buffer(
                    ctypes.string_at(id(code), code.__sizeof__()))
                damage.words(ctypes.addressof(copy))[1] = id(int)
                damage.damage(sys._getframe(1), "code",
                              ctypes.addressof(copy))
                faulthandler.sigsegv()
            def outer():
                inner()
            outer()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 9 in inner
              File ???, line ??? in ???
              File "<string>", line 12 in <module>
        """)

    def test_cycle_of_threads(self):
        """Threads that are linked in a circle are listed once."""
        child = python("""
            import ctypes, damage, faulthandler, threading, time
            get = ctypes.pythonapi.PyThreadState_Get
            get.restype = ctypes.c_size_t
            states = []
            def work():
                states.append(get())
                time.sleep(60)
            for n in range(3):
                threading.Thread(target=work, daemon=True).start()
                while len(states) <= n:
                    time.sleep(0.001)
            damage.words(get())[1] = states[-1]     # main is the last one
            faulthandler.sigsegv()
        """)
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertEqual((child.err.count("Thread 0x"),
                          child.err.count(" in work\n")), (3, 3), child)

    # Threads that run, and a watchdog that dumps them as often as it can.
    def test_a_read_that_fails(self):
        """A stack is read again if any one of its reads fails."""
        compile_library(self, "failing_read", FAILING_READ)
        child = python("""
            import ctypes, faulthandler, tempfile, threading
            library = ctypes.CDLL("./failing_read.so")
            reads, failing = [ctypes.c_long.in_dll(library, name)
                              for name in ("reads", "failing")]
            waiting, never = [], threading.Lock()
            never.acquire()
            def wait(n):
                if n:
                    return wait(n - 1)
                waiting.append(1); never.acquire()
            threading.Thread(target=wait, args=(5,), daemon=True).start()
            while not waiting:
                pass
            faulthandler.disable()      # the kernel reads, not the handler
            def dump(number):
                with tempfile.TemporaryFile("w+") as file:
                    reads.value, failing.value = 0, number
                    faulthandler.dump_traceback(file)
                    file.seek(0)
                    return file.read(), reads.value
            count = dump(0)[1]
            whole, *texts = [dump(n)[0] for n in range(count + 1)]
            theirs, ours = whole.split("\\n\\n")
            absent = 0
            for number, text in enumerate(texts, 1):
                # Of a state that cannot be read the thread has ended.
                absent += text == ours
                if text != ours and not text.startswith(theirs + "\\n"):
                    print(number, text)
            print(count > 50, absent < 10, count, absent)
        """, env=preload("failing_read"))
        self.assertEqual((child.status, child.err, child.out[:9]),
                         (0, "", "True True"), child)

    def test_torn_stacks(self):
        """Of stacks that change while they are read few are cut."""
        child = python("""
            import busy, faulthandler, os, tempfile, time
            file = tempfile.TemporaryFile("w+")
            threads = busy.begin()
            faulthandler.dump_traceback_later(0.0005, True, file)
            end = time.monotonic() + 2
            while (time.monotonic() < end
                   or os.fstat(file.fileno()).st_size < 1000000):
                time.sleep(0.1)
            faulthandler.cancel_dump_traceback_later()
            busy.end(threads)
            file.seek(0)
            text = file.read()
            stacks = text.count("most recent call first")
            torn = text.count("cannot be read") + text.count("???")
            print(stacks, torn)
        """)
        stacks, torn = map(int, child.out.split())
        self.assertGreater(stacks, 1000)
        self.assertLess(torn, 3 + stacks / 1000)

    def test_crowd_into_a_slow_pipe(self):
        """A report that takes seconds is whole, and the only one."""
        child = python(block(self.FULL_PIPE) + block("""
            import ctypes, fcntl, threading
            ours, theirs = os.pipe()
            fcntl.fcntl(theirs, 1031, 4096)         # F_SETPIPE_SZ
            os.dup2(theirs, 2)
            crash = ctypes.CDLL(None).strlen
            barrier = threading.Barrier(8)
            def work(n):
                if n:
                    return work(n - 1)
                barrier.wait()
                crash(None)
            def read_slowly():
                os.close(2)
                end = time.monotonic() + 1
                while time.monotonic() < end:
                    masks = map(blocked, os.listdir("/proc/%d/task" % parent))
                    if sum(mask != 0 for mask in masks) == 8:
                        break       # all have crashed
                for n in range(6):  # longer than they wait at the door
                    os.write(1, os.read(3, 4096))
                    time.sleep(0.5)
            empty(read_slowly)
            for n in range(8):
                threading.Thread(target=work, args=(95,)).start()
        """))
        self.assertEqual(status_name(child.status), "-SIGSEGV")
        self.assertLess(child.seconds, LIMIT)
        text = child.raw_out
        self.assertGreater(len(text), 6 * 4096)
        self.assertEqual(text.count("Fatal Python error"), 1, text)
        self.assertRegex(text, r'\A(Fatal .*\n|Th.*:\n|Tr.*:\n|  .*\n|\n)*\Z')

    def test_claim_of_a_killed_child(self):
        """A vfork() child killed in its report leaves no claim behind."""
        self.around()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
        child = python(block(self.FULL_PIPE) + block("""
            import ctypes
            around = ctypes.CDLL("./around.so")
            faulthandler.enable(theirs, all_threads=False, c_stack=False)
            if os.fork() == 0:
                path = "/proc/%d/task/%d/children" % (parent, parent)
                while os.getppid() == parent:
                    with open(path) as file:
                        children = set(map(int, file.read().split()))
                    for pid in children - {os.getpid()}:
                        if reports(pid):
                            os.kill(pid, signal.SIGKILL)
                            os._exit(0)
                os._exit(0)
            around.crash_in_vfork()
            faulthandler.enable(all_threads=False, c_stack=False)
            faulthandler.sigsegv()
        """))
        self.check(child, SIGSEGV, block("""
            Fatal Python error: Segmentation fault

            Stack (most recent call first):
              File "<string>", line 52 in <module>
        """))
        # Waiting 2.5 s for the dead one is 2500 short sleeps.
        sleeps = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw - before
        self.assertLess(sleeps, 1500)

    def with_held_poll(self, code, **options):
        """Run code with a full pipe, and a poll() that can be held."""
        compile_library(self, "held_poll", HELD_POLL)
        return python(block(self.FULL_PIPE) + block("""
            import ctypes
            library = ctypes.CDLL("./held_poll.so")
            polls, hold, held = [ctypes.c_int.in_dll(library, name)
                                 for name in ("polls", "hold", "held")]
            def until(done):
                while not done():
                    time.sleep(0.001)
        """) + block(code), env=preload("held_poll"), **options)

    def test_armed_again_during_a_crash(self):
        """Who arms twice while a crash is written does not spoil it."""
        for again in ("faulthandler.enable(1)", "faulthandler.disable()"):
            with self.subTest(again=again):
                reader, writer = os.pipe()
                child = self.with_held_poll("""
                    import threading
                    os.dup2(%d, ours), os.dup2(%d, theirs)
                    os.set_blocking(theirs, False)
                    try:
                        while True:
                            os.write(theirs, b"x" * 4096)
                    except BlockingIOError:
                        os.set_blocking(theirs, True)
                    faulthandler.enable(1)      # so that theirs comes next
                    faulthandler.enable(theirs, False, False)
                    hold.value = 1
                    threading.Thread(target=faulthandler.sigsegv,
                                     args=(True,)).start()
                    until(lambda: held.value)
                    def again():
                        %s
                        faulthandler.enable(2)
                    thread = threading.Thread(target=again, daemon=True)
                    thread.start()
                    thread.join(0.5)    # it waits, for this thread too
                    os.read(ours, 1 << 20)
                    hold.value = 0
                    time.sleep(60)
                """ % (reader, writer, again), pass_fds=[reader, writer])
                os.close(writer)
                with open(reader) as file:
                    self.assertRegex(file.read(), r"\A%sStack \(most.*\n(  "
                                     r"File .*\n)+\n?(Ext.*\n)?\Z" % (
                                         "Fatal Python error: Segmentation "
                                         "fault\n\n"))
                self.assertEqual((status_name(child.status), child.err),
                                 ("-SIGSEGV", ""), child)

    @unittest.skipUnless(X86_64, "the stack is changed on x86-64 only")
    @unittest.skipIf(SANITIZED, "the sanitizer's frames need more")
    def test_forked_while_the_spare_stack_is_used(self):
        """The child has a spare stack again."""
        child = self.with_held_poll("""
            import threading
            __import__("warnings").simplefilter("ignore")
            def take_small_stack():
                stack = ctypes.create_string_buffer(16384)
                words = (ctypes.c_size_t * 3)(ctypes.addressof(stack), 0,
                                              16384)
                assert ctypes.CDLL(None).sigaltstack(words, None) == 0
                return stack
            def work():
                keep = take_small_stack()
                # Without the GIL.
                getattr(ctypes.CDLL(None), "raise")(signal.SIGUSR1)
            faulthandler.register(signal.SIGUSR1, file=theirs)
            hold.value = 1
            threading.Thread(target=work).start()
            until(lambda: held.value)
            pid = os.fork()
            if pid == 0:
                keep = take_small_stack()
                faulthandler.register(signal.SIGUSR1, 2, False)
                os.kill(os.getpid(), signal.SIGUSR1)
                os._exit(0)
            print(os.waitpid(pid, 0)[1])
            os.read(ours, 1 << 20)
            hold.value = 0
        """)
        self.assertEqual((child.status, child.out), (0, "0\n"), child)
        self.assertRegex(child.err, r'\AStack \(most recent call first\):\n'
                         r'  File "<string>", line \d+ in <module>\n\Z')

    def test_registered_again_during_a_dump(self):
        """Who registers twice meanwhile does not divert a dump to a path."""
        child = self.with_held_poll("""
            import threading
            os.mkfifo("again")
            there = os.open("again", os.O_RDWR | os.O_NONBLOCK)
            try:
                while True:
                    os.write(there, b"x" * 4096)
            except BlockingIOError:
                pass
            def deep(n):
                if n:
                    return deep(n - 1)
                getattr(ctypes.CDLL(None), "raise")(signal.SIGUSR1)
            # Two buffers full.
            deep.__code__ = deep.__code__.replace(co_name="\\U0001f40d" * 500)
            faulthandler.register(signal.SIGUSR1, "again", False)
            hold.value = 1
            threading.Thread(target=deep, args=(90,)).start()
            until(lambda: held.value)
            def again():
                faulthandler.register(signal.SIGUSR1, os.devnull)
                faulthandler.register(signal.SIGUSR1, 1)
            thread = threading.Thread(target=again)
            thread.start()
            thread.join(4)
            hold.value = 0
            text = b""
            while text.count(b"bootstrap") < 2:
                try:
                    text += os.read(there, 1 << 20)
                except BlockingIOError:
                    time.sleep(0.001)
            thread.join()
            os.unlink("again")
            print(text.count(b"U0001f40d"))
        """)
        self.assertEqual((child.status, child.out, child.err),
                         (0, "%d\n" % (91 * 500), ""), child)

    def test_cancelled_at_once(self):
        """What was cancelled before it was written is not written."""
        child = python(block(self.FULL_PIPE) + block("""
            faulthandler.dump_traceback_later(0.1, file=theirs)
            time.sleep(0.3)
            faulthandler.cancel_dump_traceback_later()
            empty(lambda: time.sleep(0.8))
            time.sleep(1)
        """))
        self.assertEqual((child.status, child.out, child.err), (0, "", ""))

    def test_cancelled_does_not_wait(self):
        """A watchdog that is cancelled soon stops waiting for a pipe."""
        child = self.with_held_poll("""
            faulthandler.dump_traceback_later(0.01, file=theirs)
            until(lambda: polls.value)
            before = polls.value
            faulthandler.cancel_dump_traceback_later()
            until(lambda: len(os.listdir("/proc/self/task")) == 1)
            print(polls.value - before < 12, polls.value - before)
        """)
        self.assertEqual((child.status, child.out[:4]), (0, "True"), child)

    def test_cancelled_while_it_stands_still(self):
        """Nor is it written by a thread that could not run meanwhile."""
        child = self.with_held_poll("""
            hold.value = 1
            faulthandler.dump_traceback_later(0.01, file=theirs)
            until(lambda: held.value)
            faulthandler.cancel_dump_traceback_later()
            os.set_blocking(ours, False)
            try:
                while os.read(ours, 65536):
                    pass
            except BlockingIOError:
                os.set_blocking(ours, True)
            hold.value = 0
            os.close(theirs)
            print(os.read(ours, 65536))
        """)
        self.assertEqual((child.status, child.out, child.err),
                         (0, "b''\n", ""))

    def test_cancel_while_another_writes(self):
        """cancel does not wait long for a watchdog at the door."""
        child = python(block(self.FULL_PIPE) + block("""
            import threading
            # Time that does not pass while the process stands still.
            ticks = 0
            def tick():
                global ticks
                while True:
                    time.sleep(0.01)
                    ticks += 1
            threading.Thread(target=tick, daemon=True).start()
            writer = threading.Thread(target=faulthandler.dump_traceback,
                                      args=(theirs,))
            writer.start()
            while not reports(writer.native_id):
                time.sleep(0.01)
            faulthandler.dump_traceback_later(0.1)
            time.sleep(0.2)
            start = ticks
            faulthandler.cancel_dump_traceback_later()
            print(ticks - start < 130, ticks - start)
        """))
        self.assertEqual((child.status, child.out[:4]), (0, "True"), child)

    def test_forked_child_cancels_at_once(self):
        """A forked child has no watchdog to wait for."""
        child = python("""
            import faulthandler, os, resource, time
            __import__("warnings").simplefilter("ignore")
            def sleeps():
                return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
            faulthandler.dump_traceback_later(60)
            pid = os.fork()
            if pid == 0:
                before, start = sleeps(), time.monotonic()
                faulthandler.cancel_dump_traceback_later()
                # It may have stood still; but did it sleep?
                os._exit(time.monotonic() - start > 0.5
                         and sleeps() > before)
            print(os.waitpid(pid, 0)[1])
        """)
        self.assertEqual((child.status, child.out), (0, "0\n"), child)

    def test_unregister_while_it_waits(self):
        """unregister() lets a report that has begun have its file."""
        child = python(block(self.FULL_PIPE) + block("""
            import threading
            begun = threading.Lock()
            begun.acquire()
            def victim():
                begun.release()
                time.sleep(20)
            thread = threading.Thread(target=victim, daemon=True)
            thread.start()
            begun.acquire()
            faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
            signal.pthread_kill(thread.ident, signal.SIGUSR1)
            while not reports(thread.native_id):
                time.sleep(0.001)
            empty(until_reports)
            faulthandler.unregister(signal.SIGUSR1)
            while reports(thread.native_id):
                time.sleep(0.001)
            os._exit(7)
        """))
        self.assertEqual(child.status, 7, child)
        self.assertRegex(child.out, r'\AStack .*\n  File .* in victim\n'
                                    r'(  File .*\n)*\Z')

    def test_no_descriptor_is_kept(self):
        """A file that a long report kept open is closed by the next call."""
        child = python(block(self.FULL_PIPE) + block("""
            import threading
            # A page every 0.4 s: the report lasts as long as one may, 6 s.
            def read():
                while slowly:
                    time.sleep(0.4)
                    os.read(ours, 4096)
                while True:
                    os.read(ours, 4096)
            def victim(n):
                if n:
                    return victim(n - 1)
                deep.release()
                time.sleep(20)
            victim.__code__ = victim.__code__.replace(co_name="v" * 499)
            slowly, deep = True, threading.Semaphore(0)
            def descriptors():
                return len(os.listdir("/proc/self/fd"))
            threading.Thread(target=read, daemon=True).start()
            thread = threading.Thread(target=victim, args=(95,), daemon=True)
            thread.start()
            deep.acquire()
            before = descriptors()
            faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
            signal.pthread_kill(thread.ident, signal.SIGUSR1)
            while not reports(thread.native_id):
                time.sleep(0.001)
            faulthandler.unregister(signal.SIGUSR1)
            print(descriptors() - before)
            slowly = False
            faulthandler.register(signal.SIGUSR1)
            faulthandler.unregister(signal.SIGUSR1)
            faulthandler.register(signal.SIGUSR1)
            faulthandler.unregister(signal.SIGUSR1)
            print(descriptors() - before, flush=True)
            os._exit(7)
        """))
        self.assertEqual((child.status, child.out), (7, "1\n0\n"), child)

    def test_signals_in_two_threads(self):
        """Threads that are dumped at once take turns."""
        child = python(block(self.FULL_PIPE) + block("""
            import _thread, threading
            numbers = []
            def first():
                numbers.append(threading.get_native_id()); time.sleep(20)
            def second():
                numbers.append(threading.get_native_id()); time.sleep(20)
            idents = []
            for function in first, second:
                idents.append(_thread.start_new_thread(function, ()))
                while len(numbers) < len(idents):
                    time.sleep(0.001)
            faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
            for ident, number in zip(idents, numbers):
                signal.pthread_kill(ident, signal.SIGUSR1)
                while not reports(number):
                    time.sleep(0.001)
            empty()
            while any(map(reports, numbers)):
                time.sleep(0.001)
            os._exit(7)
        """))
        self.assertEqual((child.status, child.out), (7, block("""
            Stack (most recent call first):
              File "<string>", line 40 in first
            Stack (most recent call first):
              File "<string>", line 42 in second
        """)), child)

    def test_dump_while_disarmed(self):
        """Without our handlers the kernel reads damaged memory for us."""
        child = python("""
            import damage, faulthandler, sys
            faulthandler.disable()
            def f():
                damage.damage(sys._getframe(), "name", damage.forbidden)
                faulthandler.dump_traceback(all_threads=False)
            def g():
                f()
            g()
            __import__("os")._exit(7)
        """)
        self.assertEqual((child.status, child.err), (7, block("""
            Stack (most recent call first):
              File "<string>", line 5 in ???
              File "<string>", line 7 in g
              File "<string>", line 8 in <module>
        """)), child)

    @unittest.skipUnless(X86_64, "knows the system calls of x86-64")
    def test_dump_in_a_sandbox(self):
        """Where the kernel refuses to read for us, a pipe does."""
        write_file("refuse.py", REFUSE)
        child = python("""
            import damage, faulthandler, refuse, sys
            faulthandler.disable()
            refuse.refuse(310)      # process_vm_readv
            def f():
                damage.damage(sys._getframe(), "name", damage.forbidden)
                faulthandler.dump_traceback(all_threads=False)
            def g():
                f()
            g()
            __import__("os")._exit(7)
        """)
        self.assertEqual((child.status, child.err), (7, block("""
            Stack (most recent call first):
              File "<string>", line 6 in ???
              File "<string>", line 8 in g
              File "<string>", line 9 in <module>
        """)), child)

    # A pipe that is full; another process waits, and empties it.  Who writes
    # a report has blocked all signals but those of faults.
    FULL_PIPE = """
        import faulthandler, os, signal, sys, time
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        try:
            while True:
                os.write(theirs, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(theirs, True)
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
            while os.getppid() == parent and not reports(parent):
                time.sleep(0.001)
        def empty(wait=None):
            forked, begin = os.pipe()
            if os.fork() == 0:
                os.read(forked, 1)      # fork() blocks signals, too
                os.dup2(ours, 3)
                os.closerange(4, 100)
                if wait is not None:
                    wait()
                with open(3, "rb") as file:
                    text = file.read().lstrip(b"x")
                os.write(1, text)
                os._exit(0)
            os.close(ours)
            os.write(begin, b"x")
    """

    def test_signals_wait(self):
        """A signal that comes while a report is written comes after it."""
        child = python(block(self.FULL_PIPE) + block("""
            faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
            faulthandler.register(signal.SIGUSR2, all_threads=False)
            def send():
                until_reports()
                os.kill(parent, signal.SIGUSR2)
            empty(send)
            os.kill(parent, signal.SIGUSR1)
        """))
        self.assertEqual(child.status, 0, child)
        for text in (child.out, child.err):
            self.assertRegex(text, r'^Stack \(most recent call first\):\n'
                             r'  File "<string>", line \d+ in <module>\n$')

    def test_sent_while_it_reports(self):
        """A fatal signal that is sent to a report does not disturb it."""
        child = python(block(self.FULL_PIPE) + block("""
            faulthandler.enable(theirs, all_threads=False)
            def send():
                until_reports()
                os.kill(parent, signal.SIGBUS)
            empty(send)
            faulthandler.sigsegv()
        """))
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertRegex(
            child.out, r'^Fatal Python error: Segmentation fault\n\n'
            r'Stack \(most recent call first\):\n'
            r'  File "<string>", line \d+ in <module>\n'
            r'(\nCurrent thread\'s C stack trace .*\n(  .*\n)+)?$')

    def test_abort_from_another_thread(self):
        """It ends a process that dumps, and does not disturb a report."""
        code = block("""
            import mmap, threading
            sent = mmap.mmap(-1, 1)
            def send():
                until(lambda: held.value)
                signal.pthread_kill(main, signal.SIGABRT)
                sent[0] = 1
                hold.value = 0
            main = threading.get_ident()
            threading.Thread(target=send).start()
            hold.value = 1
        """)
        child = self.with_held_poll(code + block("""
            faulthandler.enable(all_threads=False, c_stack=False)
            faulthandler.dump_traceback(theirs)
        """))
        self.check(child, SIGABRT, block("""
            Fatal Python error: Aborted

            Stack (most recent call first):
              File "<string>", line 55 in <module>
        """))
        child = self.with_held_poll(code + block("""
            faulthandler.enable(theirs, all_threads=False, c_stack=False)
            empty(lambda: until(lambda: sent[0]))
            faulthandler.sigsegv(True)
        """))
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertEqual(child.out, block("""
            Fatal Python error: Segmentation fault

            Stack (most recent call first):
              File "<string>", line 56 in <module>
        """))

    def test_timer_signal_of_others(self):
        """The timer's signal, sent by somebody else, ends no report."""
        child = python(block(self.FULL_PIPE) + block("""
            signal.signal(signal.SIGRTMAX, lambda number, frame: None)
            faulthandler.enable(theirs, all_threads=False, c_stack=False)
            def send():
                until_reports()
                while (blocked(parent) >> signal.SIGRTMAX - 1 & 1
                       or status(parent, "State") != "S"):
                    time.sleep(0.001)
                os.kill(parent, signal.SIGRTMAX)
            empty(send)
            faulthandler.sigsegv()
        """))
        self.assertEqual(status_name(child.status), "-SIGSEGV", child)
        self.assertRegex(
            child.out, r'^Fatal Python error: Segmentation fault\n\n'
            r'Stack \(most recent call first\):\n'
            r'  File "<string>", line \d+ in <module>\n$')

    def test_disable_during_a_dump(self):
        """disable() leaves handlers that a dump relies on where they are."""
        child = python(block(self.FULL_PIPE) + block("""
            import damage, threading
            ready, never = threading.Event(), threading.Lock()
            never.acquire()
            def deep(n):
                if n:
                    return deep(n - 1)
                ready.set()
                never.acquire()
            def last():
                damage.damage(sys._getframe(), "name", damage.forbidden)
                ready.set()
                never.acquire()
            # The oldest thread is listed last, and the rest do not fit the
            # buffer: the watchdog reads it once the pipe is read.
            for target in [(last,)] + 30 * [(deep, 90)]:
                ready.clear()
                threading.Thread(target=target[0], args=target[1:],
                                 daemon=True).start()
                ready.wait()
            before = set(os.listdir("/proc/self/task"))
            faulthandler.dump_traceback_later(0.1, file=theirs)
            watchdog, = set(os.listdir("/proc/self/task")) - before
            def sleeps(thread):
                return int(status(thread, "voluntary_ctxt_switches"))
            def until_disabling():
                end = time.monotonic() + 0.8
                while time.monotonic() < end:
                    before = sleeps(parent)
                    time.sleep(0.01)
                    if sleeps(parent) - before >= 10:
                        break       # it waits, in many short sleeps
            while sleeps(watchdog) < 5:     # until it waits at the pipe
                time.sleep(0.01)
            empty(until_disabling)
            faulthandler.disable()
            while os.path.exists("/proc/self/task/" + watchdog):
                time.sleep(0.01)
            os._exit(7)
        """))
        self.assertEqual(child.status, 7, child)
        self.assertRegex(child.out, r' in \?\?\?\n')

    def test_disable_closes_its_own(self):
        """A file that got our duplicate's number is not closed."""
        child = python("""
            import faulthandler, os
            path = "other"
            faulthandler.enable(os.open(path, os.O_CREAT | os.O_RDWR))
            os.closerange(3, 100)
            files = [os.open(os.devnull, os.O_RDWR) for n in range(10)]
            faulthandler.disable()
            print(all(os.fstat(file) for file in files))
        """)
        self.assertEqual((child.status, child.out), (0, "True\n"), child)

    def test_pending_signal_is_kept(self):
        """A SIGPIPE that was pending before a dump still is."""
        child = python("""
            import faulthandler, os, signal
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
            signal.pthread_kill(__import__("threading").get_ident(),
                                signal.SIGPIPE)
            ours, theirs = os.pipe()
            os.close(ours)
            faulthandler.dump_traceback(theirs)
            print(signal.SIGPIPE in signal.sigpending())
        """)
        self.assertEqual((child.status, child.out), (0, "True\n"), child)

    def test_damaged_length(self):
        """Of a string that ends elsewhere nothing is shown."""
        for length in (30, 499, 600):
            with self.subTest(length=length):
                child = python("""
                    import sys, damage, faulthandler
                    name = "n" * 1200
                    def inner():
                        damage.words(id(name))[2] = %d
                        faulthandler.sigsegv()
                    def outer():
                        inner()
                    outer.__code__ = outer.__code__.replace(co_name=name)
                    outer()
                """ % length)
                self.check(child, SIGSEGV, report(
                    '  File "<string>", line 5 in inner\n'
                    '  File "<string>", line 7 in ???\n'
                    '  File "<string>", line 9 in <module>\n'))

    def test_older_handler_of_a_call_through_null(self):
        """The C stack of a bad call is no change to what it hears."""
        self.older()
        child = python("""
            import ctypes
            older = ctypes.CDLL("./older.so")
            older.install(11)
            import faulthandler
            faulthandler.enable(c_stack=True)
            ctypes.CFUNCTYPE(None)(16)()
        """)
        self.assertEqual(child.status, 42, child)
        self.assertRegex(child.out, r"^signal 11 code 1 at 0x10"
                         + (" which is the pc" if X86_64 else ""))

    def test_newer_handler_that_defers_nothing(self):
        """A handler that calls ours with SA_NODEFER changes no truth."""
        self.older()
        self.around()
        child = python("""
            import ctypes, machine, threading
            older = ctypes.CDLL("./older.so")
            older.install(4)
            import faulthandler
            ctypes.CDLL("./around.so").install_newer(4)
            machine.run("0f0b")()
        """)
        self.assertEqual(child.status, 42, child)
        self.assertRegex(child.out, "which is the pc")
        self.assertEqual(child.err, report(
            '  File "<string>", line 6 in <module>\n', "Illegal instruction"))

    def test_abort_inside_an_older_handler(self):
        """An older handler that aborts makes no second report."""
        self.around()
        # A JVM has unblocked the signal by then.
        for flags in (0, 0x10000000, 0x18000000):   # SA_RESTART, SA_ONSTACK
            with self.subTest(flags=flags):
                self.crash("""
                    import ctypes
                    ctypes.CDLL("./around.so").install_older(11, %d)
                    import faulthandler
                    faulthandler.sigsegv()
                """ % flags, """
                    Fatal Python error: Segmentation fault

                    Traceback (most recent call first):
                      File "<string>", line 4 in <module>
                """, SIGABRT)

    def test_fork_during_calls(self):
        """A child of a process that was calling us can call us, too."""
        child = python("""
            import faulthandler, os, threading, time, warnings
            warnings.simplefilter("ignore")
            stop = False
            def arm():
                while not stop:
                    faulthandler.dump_traceback_later(60)
                    faulthandler.cancel_dump_traceback_later()
            threads = [threading.Thread(target=arm) for _ in range(3)]
            for thread in threads:
                thread.start()
            end = time.monotonic() + 2
            while time.monotonic() < end:
                pid = os.fork()
                if pid == 0:
                    faulthandler.enable()
                    os._exit(0)
                os.waitpid(pid, 0)
            stop = True
            for thread in threads:
                thread.join()
        """, limit=15)
        self.assertEqual((child.status, child.err), (0, ""), child)

    def test_fork_during_a_dump(self):
        """A child forked during a dump disarms at once, and reports."""
        child = python(block(self.FULL_PIPE) + block("""
            faulthandler.dump_traceback_later(0.1, file=theirs)
            time.sleep(0.4)
            __import__("warnings").simplefilter("ignore")
            pid = os.fork()
            if pid == 0:
                faulthandler.disable()
                faulthandler.enable()
                faulthandler.dump_traceback(all_threads=False)
                # Waiting for the dump is thousands of short sleeps.
                usage = __import__("resource").getrusage(0)
                os._exit(usage.ru_nvcsw > 500)
            print(os.waitpid(pid, 0)[1])
        """))
        self.assertEqual((child.status, child.out), (0, "0\n"), child)
        self.assertRegex(child.err, r'^Stack .*\n  File .*\n$')

    def test_watchdog_takes_no_signals(self):
        """A signal that all threads block is not taken by the watchdog."""
        child = python("""
            import faulthandler, os, signal
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
            faulthandler.dump_traceback_later(60)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
            faulthandler.cancel_dump_traceback_later()
            faulthandler.dump_traceback_later(60)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
            os.kill(os.getpid(), signal.SIGUSR2)
            print(signal.SIGUSR2 in signal.sigpending())
        """)
        self.assertEqual((child.status, child.out), (0, "True\n"), child)

    def test_watchdog_at_exit(self):
        """Once Python has ended the watchdog is quiet."""
        self.around()
        child = python("""
            import ctypes
            around = ctypes.PyDLL("./around.so")
            ctypes.pythonapi.Py_AtExit(around.count_threads)
            import faulthandler
            faulthandler.dump_traceback_later(60)
        """)
        self.assertEqual((child.status, child.err), (7, ""), child)


# ---- Bugs that came back once ----------------------------------------------

class RegressionTests(CrashCase):
    """One test for each bug; the docstring says what broke."""

    def test_watchdogs_armed_at_once(self):
        """One of two watchdogs was lost, and could not be cancelled."""
        child = python("""
            import faulthandler, os, threading, time
            def arm():
                for _ in range(100):
                    faulthandler.dump_traceback_later(60)
            threads = [threading.Thread(target=arm) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            faulthandler.cancel_dump_traceback_later()
            end = time.monotonic() + 20     # join() may return before the
            while (len(os.listdir("/proc/self/task")) > 1   # task is gone
                   and time.monotonic() < end):
                time.sleep(0.01)
            print(len(os.listdir("/proc/self/task")))
        """)
        self.assertEqual((child.status, child.out, child.err), (0, "1\n", ""))

    def test_longest_timeout(self):
        """The longest timeout came at once: its end was no number."""
        child = python("""
            import faulthandler, threading, time
            faulthandler.dump_traceback_later(threading.TIMEOUT_MAX, exit=True)
            time.sleep(0.2)
            faulthandler.cancel_dump_traceback_later()
        """)
        self.assertEqual((child.status, child.out, child.err), (0, "", ""))

    @unittest.skipIf(SANITIZED, "the sanitizer's frames need more")
    def test_small_alternate_stack(self):
        """A damaged name killed a process dumped on another's small stack."""
        child = python("""
            import ctypes, damage, faulthandler, os, signal, sys
            class Stack(ctypes.Structure):
                _fields_ = [("start", ctypes.c_size_t),
                            ("flags", ctypes.c_int),
                            ("size", ctypes.c_size_t)]
            import mmap
            memory = mmap.mmap(-1, 12288)
            start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            libc = ctypes.CDLL(None)
            libc.mprotect(ctypes.c_void_p(start), 4096, 0)
            theirs = Stack(start + 4096, 0, 8192)
            assert libc.sigaltstack(ctypes.byref(theirs), None) == 0
            faulthandler.register(signal.SIGUSR1)
            def f():
                damage.damage(sys._getframe(), "name", damage.forbidden)
                os.kill(os.getpid(), signal.SIGUSR1)
                os._exit(7)
            f()
        """)
        self.assertEqual(child.status, 7, child)

    def test_import_while_collecting(self):
        """3.8's collector met a module that had no state yet."""
        self.crash("""
            import gc
            gc.set_threshold(1)
            import faulthandler
            faulthandler.sigsegv()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 4 in <module>
        """)

    def test_reused_inode(self):
        """A new file with a deleted one's inode got its report."""
        path = os.path.join(FOLDER, "deleted")
        child = python("""
            import faulthandler, os, sys, time
            path = sys.argv[1]
            file = os.open(path, os.O_CREAT | os.O_RDWR)
            faulthandler.enable(file)
            os.closerange(3, 100)
            os.unlink(path)
            time.sleep(0.02)    # more than a tick of the clock of inodes
            for n in range(10):
                os.open(path + str(n), os.O_CREAT | os.O_RDWR)
            faulthandler.sigsegv()
        """, path)
        self.check(child, SIGSEGV, "")
        for n in range(10):
            self.assertEqual(os.path.getsize(path + str(n)), 0)

    def test_enable_after_default_action(self):
        """enable() said it was armed where SIG_DFL had replaced it."""
        self.crash("""
            import faulthandler, signal
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            faulthandler.enable()
            faulthandler.sigsegv()
        """, """
            Fatal Python error: Segmentation fault

            Traceback (most recent call first):
              File "<string>", line 4 in <module>
        """)

    def test_fatal_error(self):
        """Py_FatalError() gave its own traceback, and ours as well."""
        child = python("""
            import ctypes, faulthandler
            ctypes.pythonapi.Py_FatalError(b"message")
        """)
        self.assertEqual(status_name(child.status), "-SIGABRT")
        self.assertEqual(child.err.count("Fatal Python error"), 1, child)
        self.assertEqual(child.err.count('File "<string>", line 2'), 1, child)

    def test_threads_that_start(self):
        """Threads that start were listed twice, or with the number 0."""
        child = python("""
            import faulthandler, os, re, signal, tempfile, threading, time
            import busy
            file = tempfile.TemporaryFile("w+")
            faulthandler.register(signal.SIGUSR1, file)
            threads = busy.begin()
            creators = {threading.get_ident(), *(t.ident for t in threads)}
            end = time.monotonic() + 1.5
            count = 0
            while count <= 100 or time.monotonic() < end:
                count += 1
                file.seek(0, 2)
                file.write("dump\\n")
                file.flush()
                signal.raise_signal(signal.SIGUSR1)
            busy.end(threads)
            file.seek(0)
            text = file.read()
            file.close()
            dumps = [[int(number, 16)
                      for number in re.findall("hread (0x\\w+)", dump)]
                     for dump in text.split("dump\\n")]
            # One that starts had its creator's number. Another one may end,
            # and the next one get its number, during a dump: a creator stays.
            doubles = sum(dump.count(number) > 1 for dump in dumps
                          for number in creators)
            print(len(dumps) > 100, doubles,
                  sum(dump.count(0) for dump in dumps))
        """)
        self.assertEqual((child.status, child.out), (0, "True 0 0\n"), child)


# ---- The sources -----------------------------------------------------------

@unittest.skipUnless(os.path.exists(C_FILE), "needs the C file")
class SourceTests(unittest.TestCase):
    """The C file keeps its promises, and the README tells the truth."""

    @classmethod
    def setUpClass(cls):
        """Read the C file once."""
        with open(C_FILE, encoding="utf-8") as file:
            cls.source = file.read()
        cls.lines = cls.source.splitlines()

    def sections(self):
        """The banners: line, number and title of each section."""
        banner = re.compile(r"/\* ==== (\d+)\. (.*?) ==== \*/$")
        return [(number, int(found[1]), found[2])
                for number, found in enumerate(map(banner.match, self.lines))
                if found]

    def test_map(self):
        """The map on top lists the sections, in their order."""
        top = self.source[:self.source.index("*/")].split("The map.")[1]
        listed = re.findall(r"(?m)^[ *]*(\d+)\. (.*?)(?:  .*)?$", top)
        self.assertEqual([(int(n), title) for n, title in listed],
                         [(n, title) for _, n, title in self.sections()])
        self.assertGreater(len(listed), 10)

    def test_conditions(self):
        """Only two sections know a version or a platform."""
        places = self.sections() + [(len(self.lines), 0, "")]
        words = re.compile(
            r"PY_VERSION|PY_M[A-Z]+_VERSION|Py_DEBUG|Py_GIL|__[a-zA-Z]|_WIN|"
            r"_MSC|BSD|\bHAVE_[A-Z]+_H\b")
        for (first, _, title), (last, _, _) in zip(places, places[1:]):
            if title.split(":")[0] in ("Platform", "CPython layouts"):
                continue
            for number in range(first, last):
                line = self.lines[number]
                if re.match(r"\s*#\s*(if|elif)", line):
                    with self.subTest(section=title, line=number + 1):
                        self.assertNotRegex(line, words)

    def functions(self):
        """The name and the number of lines of each function."""
        start = None
        for number, line in enumerate(self.lines):
            if line == "{":
                start = number
            elif line == "}" and start is not None:
                head = "\n".join(self.lines[start - 6:start])
                names = re.findall(r"(?m)^(?:[\w*]+ )*?\**(\w+)\(", head)
                yield (names or ["?"])[-1], number - start + 1
                start = None

    def test_length_of_functions(self):
        """No function has more than 70 lines."""
        lengths = dict(self.functions())
        self.assertGreater(len(lengths), 50)
        self.assertEqual({name: lines for name, lines in lengths.items()
                          if lines > 70}, {})

    def test_signal_table(self):
        """The table of signals is the one these tests use."""
        rows = re.findall(r'\.signum = (SIG\w+),\s*\.title = "([^"]+)"',
                          self.source)
        ours = [(signum.name, title) for signum, title, _ in SIGNALS[:-1]]
        self.assertEqual(rows, ours)

    def test_width(self):
        """Lines have at most 79 characters, no tabs, no trailing blanks."""
        self.assertEqual([number for number, line in enumerate(self.lines, 1)
                          if len(line) > 79 or "\t" in line
                          or line != line.rstrip()], [])

    def readme(self):
        """The README's text."""
        if not os.path.exists(README):
            self.skipTest("needs README.rst")
        with open(README, encoding="utf-8") as file:
            return file.read()

    def test_index(self):
        """The index on top of this file lists its classes, in order."""
        listed = re.findall(r"(?m)^    \S.*  (\w+Tests)$", __doc__)
        classes = [name for name in globals() if name.endswith("Tests")]
        self.assertEqual(listed, classes)

    def test_readme_example(self):
        """The README's first example is what the program prints."""
        example = textwrap.dedent(re.search(
            r"(?m)^::\n\n((?:    .*\n|\n)+)", self.readme())[1])
        command, *printed = example.strip().splitlines()
        self.assertEqual(printed.pop(), "Segmentation fault")
        words = shlex.split(command)
        self.assertEqual(words[:2], ["$", "python"])
        child = run(PYTHON, *words[2:])
        self.assertEqual((child.status, child.err.splitlines()),
                         (-SIGSEGV, printed))

    @staticmethod
    def outline(report):
        """A report without what differs from run to run, from Python to
        Python, and from library to library."""
        # Up to 3.10 there are C frames between any two of Python.
        c_frames = "  C File …\n" if sys.version_info >= (3, 11) else ""
        for pattern, to in (
                (r"0x[0-9a-f]{16}", "0x…"),
                (r"thread \d+ (\S+) of process \d+, CPython [\d.]+\S*,",
                 r"thread … \1 of process …, CPython …,"),
                (r"\d+-\d\d-\d\dT[\d:]{8}Z, up [\d.]+ s", "TIME, up … s"),
                (r'"/.*/python3\.\d+/(\S+\.py)", line \d+', r'"\1", line …'),
                (r'".*examples/report\.py"', '"examples/report.py"'),
                (r"(?m)^((?:Current t|T)hread 0x… )\[.*\] ", r"\1"),
                (r"(?m)(^  C File .*\n)+", c_frames),
                (r'(?m)(^  "/.*" at 0x…, build-id .*\n)+', "  OBJECTS\n")):
            report = re.sub(pattern, to, report)
        return report

    @unittest.skipIf(SANITIZED, "other C functions call each other")
    def test_readme_report(self):
        """The README's full report is what the script prints."""
        script = os.path.join(HERE, "examples", "report.py")
        if not os.path.exists(script):
            self.skipTest("needs examples/report.py")
        shown = textwrap.dedent(re.search(
            r"``python examples/report.py`` .*\n(?:.+\n)*\n"
            r"((?:    .*\n|\n)+)", self.readme())[1]).strip() + "\n"
        self.assertEqual(len(re.findall(r"build-id [0-9a-f]{40}$", shown,
                                        re.MULTILINE)), 5)
        child = run(PYTHON, script)
        self.assertEqual(child.status, -SIGSEGV, child)
        self.assertEqual(self.outline(child.raw_err).splitlines(),
                         self.outline(shown).splitlines())

    def test_readme_names_tests(self):
        """The tests that the README names are there."""
        for line in re.findall(r"``tests\.py ([\w. ]+)``", self.readme()):
            for name in line.split():
                with self.subTest(name=name):
                    found = globals()
                    for part in name.split("."):
                        self.assertIn(part, found)
                        found = vars(found[part])

    @unittest.skipIf(SANITIZED, "the compiler leaks")
    def test_call_graph(self):
        """Handlers reach only what is allowed, within their stack."""
        if os.environ.get("CI"):
            self.skipTest(".ci/run does this by itself")
        script = os.path.join(HERE, ".ci", "callgraph.py")
        if not os.path.exists(script):
            self.skipTest("needs .ci/callgraph.py")
        gcc = shutil.which("gcc")
        if gcc is None or run(gcc, "-fcallgraph-info=su", "-c", "-x", "c",
                              os.devnull, "-o", "empty.o").status:
            self.skipTest("needs gcc with -fcallgraph-info")
        for built in "01":
            if built == "1" and run(gcc, "-include", "backtrace.h", "-E",
                                    "-x", "c", os.devnull).status:
                continue
            with self.subTest(libbacktrace=built):
                child = run(sys.executable, script, limit=300,
                            env=environment(CALLGRAPH_LIBBACKTRACE=built))
                self.assertEqual(child.status, 0, child)


if __name__ == "__main__":
    unittest.main()
