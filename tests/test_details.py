"""details=True: why it died, in which thread of which process."""

import datetime
import platform
import random
import re
import sys
import time

from signal import SIGSEGV

import pytest

from details import CONTEXT, NOWHERE, START, expect
from helpers import (
    X86_64, block, compile_library, died, preload, python, unnamed)


# ---- The origin ----

def test_origin():
    """The numbers of the origin are true; a forked child has an age and
    numbers of its own."""
    child = python(block(START) + block("""
        print(os.getpid(), threading.get_native_id(), time.time(), flush=True)
        time.sleep(1.2)
        start = time.monotonic()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            print(pid, time.monotonic() - start, flush=True)
        faulthandler._read_null()
    """))
    after = time.time()
    pid, tid, before, forked, seconds = child.out.split()
    theirs, ours = re.findall(
        r"(?m)^  thread (\d+) \[MainThread\] of process (\d+), "
        r"CPython (\S+), (\S+), up (\d+\.\d) s$", child.err)
    assert theirs[:2] == (forked, forked)
    assert float(theirs[4]) < float(seconds) + 0.1
    assert ours[:3] == (pid, tid, platform.python_version())
    when = datetime.datetime.strptime(ours[3], "%Y-%m-%dT%H:%M:%SZ")
    when = when.replace(tzinfo=datetime.timezone.utc).timestamp()
    # It slept for 1.2 seconds; the line leaves out what is below one.
    assert float(before) + 0.1 < when < after
    assert 1.1 < float(ours[4]) < child.seconds + 0.1


STARTED = "threading.Thread(target=crash, name=%a).start()"


@pytest.mark.parametrize("start, name", [
    (STARTED % "worker-3", " [worker-3]"),
    (STARTED % ("long" * 40), " [%s]" % ("long" * 40)[:127]),
    (STARTED % "\u00e9\u2026\U0001f40d\n]",
     r" [\xe9\u2026\U0001f40d\x0a]]"),
    (STARTED % "\udcff", " [?]" if sys.version_info >= (3, 14) else ""),
    ("concurrent.futures.ThreadPoolExecutor(thread_name_prefix='pool')"
     ".submit(crash)", " [pool_0]"),
    ("_thread.start_new_thread(crash, ()); time.sleep(60)", ""),
    ("threading.Thread(target=rename, name='older').start()", " [newer]")])
def test_thread_names(start, name):
    """Names of Python's threads, also where the kernel knows none; one that a
    thread gave itself since is newer."""
    child = python(block(START) + block("""
        import _thread, concurrent.futures
        crash = faulthandler._read_null
        def rename():
            libc.prctl(15, b"newer")
            crash()
        %s
    """ % start))
    found = re.search(r"^  thread \d+(.*) of process \d+, ", child.err, re.M)
    assert found is not None
    assert found.group(1) == name


def test_calendar():
    """The time of day, at five thousand times."""
    compile_library("clock")
    numbers = random.Random(5)
    seconds = [0, 1, 951782399, 951782400, 951868799, 951868800,
               2147483647, 2147483648, 4107542399, 4107542400]
    seconds += [numbers.randint(0, 2**32) for _ in range(5000)]
    child = python("""
        import ctypes, faulthandler, sys
        now = ctypes.c_long.in_dll(ctypes.CDLL("./clock.so"), "clock_now")
        for now.value in map(int, sys.stdin):
            faulthandler.dump_traceback(1, details=True)
    """, stdin="\n".join(map(str, seconds)).encode(),
        env=dict(preload("clock"), CLOCK_OFF="0"))
    start = datetime.datetime(1970, 1, 1)
    times = [start + datetime.timedelta(seconds=n) for n in seconds]
    assert re.findall(r", (\d+-\S+T\S+)Z", child.out) == [
        time.isoformat() for time in times]


# ---- What the interpreter was about ----

def about(code, *more):
    """Run code that reads NULL: these lines follow the origin."""
    child = python(block(START) + block(code))
    lines = child.err.split("\n\n")[0].splitlines()[3:]
    assert lines == ["  " + line for line in more]
    died(child)


@pytest.mark.parametrize("raised, shown", [
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
     99 * "x" + r"\xe2...")])
def test_exception_being_handled(raised, shown):
    """The innermost one, with its message where that is safe to show."""
    about("""
        try:
            raise %s
        except BaseException:
            faulthandler._read_null()
    """ % raised, "handling " + shown)


def test_exceptions_in_a_chain():
    """A handler in a handler, a generator, and one that is done."""
    about("""
        try:
            raise ValueError("outer")
        except ValueError:
            try:
                raise KeyError("inner")
            except KeyError:
                faulthandler._read_null()
    """, "handling KeyError: inner")
    about("""
        def values():
            yield faulthandler._read_null()
        try:
            raise ValueError("outer")
        except ValueError:
            next(values())
    """, "handling ValueError: outer")
    about("""
        try:
            raise ValueError("done")
        except ValueError:
            pass
        faulthandler._read_null()
    """)


def test_exception_on_its_way():
    """One that C code has raised, and has not returned with yet."""
    child = python(block(START) + block("""
        import machine
        message = ctypes.create_string_buffer(b"half way")
        function = ctypes.cast(ctypes.pythonapi.PyErr_SetString,
                               ctypes.c_void_p).value
        # PyErr_SetString(ValueError, message), then read NULL.
        names, code = %r
        machine.run(code %% tuple(
            machine.load(*pair) for pair in zip(names, (
                id(ValueError), ctypes.addressof(message), function))),
            ctypes.PYFUNCTYPE)()
    """ % ((("rdi", "rsi", "rbx"), "53%s%s%sffd331c08a00") if X86_64 else
           (("x0", "x1", "x9"), "%s%s%s20013fd6000080d200004039"),)))
    assert "\n  raising ValueError: half way\n" in child.err


@pytest.mark.parametrize("damage, shown", [
    ("words(id(error))[HEAD - 1] = forbidden", "???"),
    ("words(id(error))[HEAD - 1] = id(int)", "???"),
    ("words(id(error))[HEAD - 1] = id(type)", "???"),
    ("replace(words(id(error), 14), id(error.args), 1)",
     "ValueError: ???"),
    ("replace(words(id(error), 14), id(error.args), forbidden)",
     "ValueError: ???"),
    ("replace(words(id(error), 14), id(error.args), id(error))",
     "ValueError"),
    ("words(id(error.args[0]))[HEAD - 1] = 0", "ValueError"),
    ("words(id(error.args[0]))[HEAD - 1] = forbidden", "ValueError"),
    ("replace(words(id(error.args), 8), id(error.args[0]), "
     "forbidden)", "ValueError: ???"),
    ("words(id(error.args[0]))[HEAD] = 2**63",
     "ValueError: ???")])
def test_damaged_exceptions(damage, shown):
    """What cannot be read is said."""
    about("""
        from damage import HEAD, forbidden, replace, words
        try:
            raise ValueError("text")
        except ValueError as error:
            %s
            faulthandler._read_null()
    """ % damage, "handling " + shown)


def test_thread_of_c():
    """A thread that Python does not know."""
    child = python(block(START) + block("""
        import machine
        thread, code = word(), ctypes.c_void_p(machine.code("31c08a00"))
        libc.pthread_create(ctypes.byref(thread), None, code, None)
        time.sleep(60)
    """))
    expect(child, SIGSEGV, [
        "reading address 0x0000000000000000 (a NULL pointer)" + NOWHERE],
        "Stack (most recent call first):\n  <no Python frame>\n",
        CONTEXT.replace(" [MainThread]", ""))


PLACES = {
    "after Python's end": (
        "ctypes.pythonapi.Py_AtExit(libc.abort)",
        r"  thread \d+ of process \d+, .*"
        r"\n  Python is (not initialized, or no longer|being finalized)"
        r"\n\nStack \(most recent call first\):\n"
        r"  <no Python frame>\n\nRegisters:\n"),
    "while Python ends": ("""
        class Last:
            def __init__(self, crash):
                self.crash = crash
            def __del__(self):
                self.crash()
        sys.last = Last(faulthandler._read_null)
    """, r"  Python is being finalized\n\n"),
    "in a function that runs at exit": ("""
        import atexit
        atexit.register(faulthandler._read_null)
    """, r"  thread \d+ \[MainThread\] of process \d+, .*\n\n"),
    "in an interpreter that is not the main one": ("""
        import sub
        interpreter = sub.create(False)
        sub.run(interpreter, "import ctypes; ctypes.string_at(0)")
    """, r"  in interpreter \d+, which is not the main one\n"),
}


@pytest.mark.parametrize("code, lines", PLACES.values(), ids=PLACES)
def test_places(code, lines):
    """Where in Python's life, or in which interpreter, it crashed."""
    child = python(block(START) + block(code))
    assert re.search("\n" + lines, child.err)


# ---- Reports that are asked for ----

@pytest.mark.parametrize("call, title, header", [
    ("dump_traceback(details=True)", "", "Current thread 0x…"),
    ("dump_traceback(all_threads=False, details=True)", "", "Stack"),
    ("register(10, details=True) or signal.raise_signal(10)", "",
     "Current thread 0x…"),
    ("dump_traceback_later(0.1, exit=True, details=True) or time.sleep(60)",
     "Timeout (0:00:00.100000)!\n", "Thread 0x…"),
], ids=["dump", "one thread", "signal", "timeout"])
def test_other_reports(call, title, header):
    """Other reports have the origin on top, and each thread's context."""
    child = python("""
        import faulthandler, signal, time
        faulthandler.context.set("GET /orders/17")
        faulthandler.%s
    """ % call)
    found = re.sub(r"(thread|process) \d+\b", r"\1 N", unnamed(child.err))
    found = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, up \d+\.\d s",
                   "T, up N s", found)
    # A watchdog is a thread of nobody's.
    origin = CONTEXT.split(" of ")[1] if title else CONTEXT
    assert (child.status, found) == (title != "", title + block("""
          %s

        %s (most recent call first):
          context: GET /orders/17
          File "<string>", line 3 in <module>
    """) % (origin, header))
