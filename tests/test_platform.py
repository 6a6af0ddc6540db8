"""Crashes where little works.  More are in tests/test_slow_places.py."""

import re
import shutil

from signal import SIGABRT, SIGSEGV

import pytest

from helpers import (
    DEBUG, LIMIT, PATIENCE, SANITIZED, check, compile_library, preload, python,
    report, run, status_name)


@pytest.fixture(autouse=True)
def places():
    """Compile the library, once."""
    compile_library("places")


@pytest.mark.skipif(SANITIZED, reason="the sanitizer needs the address space")
@pytest.mark.skipif(DEBUG, reason="the interpreter asserts that there is some")
def test_no_memory_left():
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
            size = int(file.read().split()[0]) * resource.getpagesize()
        size += 64 << 20
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        eat([], 1 << 22)
    """)
    # 3.15.0 itself crashes in bytearray().
    child.err = child.err.replace("line 6 in eat", "line 9 in eat")
    check(child, SIGSEGV, report(
        '  File "<string>", line 9 in eat\n'
        '  File "<string>", line 14 in <module>\n'), PATIENCE)


@pytest.mark.parametrize(
    "arm", ["", "faulthandler.enable(all_threads=False, c_stack=True)"])
@pytest.mark.parametrize("call, signum, title", [
    pytest.param(
        "corrupt_heap()", SIGABRT, "Aborted", marks=pytest.mark.skipif(
            SANITIZED, reason="the sanitizer has its own malloc()")),
    ("load_in_thread(b'./constructor.so'); faulthandler.sigsegv()", SIGSEGV,
     "Segmentation fault")])
def test_locks(call, signum, title, arm):
    """malloc() aborts, and its lock is held; another thread is in a library's
    constructor, and the loader's lock is held."""
    compile_library("constructor")
    child = python("""
        import ctypes, faulthandler; %s
        places = ctypes.CDLL("./places.so")
        def f():
            places.%s
        f()
    """ % (arm, call))
    assert status_name(child.status) == "-" + signum.name
    assert child.seconds < LIMIT
    # The first line is the C library's.
    assert re.search(
        r'\A%sFatal Python error: %s\n\n.*\n'
        r'  File "<string>", line 4 in f\n'
        r'  File "<string>", line 5 in <module>\n%s\Z' % (
            r".*\n" if signum == SIGABRT else "", title,
            r"\nCurrent thread's C stack trace .*\n(  .*\n)+" if arm else ""),
        child.err)


@pytest.mark.skipif(DEBUG, reason="the collector asserts that there is none")
def test_collector():
    """The collector meets a damaged object."""
    child = python("""
        import ctypes, damage, faulthandler, gc
        kept = [[object()] for n in range(10)]
        items = damage.words(id(kept[3]))[damage.HEAD + 1]
        def f():
            ctypes.c_void_p.from_address(items).value = 0x10
            gc.collect()
        f()
    """)
    assert status_name(child.status) == "-SIGSEGV"
    assert child.err == report(
        '  Garbage-collecting\n'
        '  File "<string>", line 6 in f\n'
        '  File "<string>", line 7 in <module>\n')


def test_vfork_child():
    """A vfork() child crashes, then the parent."""
    child = python("""
        import ctypes, faulthandler
        def f():
            print(ctypes.CDLL("./places.so").crash_in_vfork(), flush=True)
        f()
        faulthandler.sigfpe()
    """)
    assert (status_name(child.status), child.out) == ("-SIGFPE", "11\n")
    assert child.err == (report(
        '  File "<string>", line 3 in f\n'
        '  File "<string>", line 4 in <module>\n') + report(
        '  File "<string>", line 5 in <module>\n',
        "Floating point exception"))
    assert child.seconds < LIMIT


@pytest.mark.parametrize("off, told", [
    (0, True), (-100 * 86400 * 365, False), (1794576175, False)])
def test_faked_clock(off, told):
    """Where the clock and /proc disagree, no age of the process is told."""
    compile_library("clock")
    environment = preload("clock")
    environment["CLOCK_OFF"] = str(off)
    child = python("""
        import faulthandler
        faulthandler.enable(details=True)
        faulthandler.sigsegv()
    """, env=environment)
    assert status_name(child.status) == "-SIGSEGV"
    assert bool(re.search(r"Z, up \d+\.\d s", child.err)) == told
    assert child.err.count("Fatal Python error") == 1


def test_symbols():
    """What an older C library may not have is not linked to."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    child = python("import faulthandler; print(faulthandler.__file__)")
    symbols = run(nm, "-D", "--undefined-only", child.out.strip()).out
    assert "process_vm_readv" in symbols
    for name in ("_dl_find_object", "backtrace"):
        assert not re.search(r"(?m) %s\b" % name, symbols)
