"""Crashes where little works.  .ci/stress places has many more."""

import re

from signal import SIGSEGV

import pytest

from helpers import (
    DEBUG, LIMIT, SANITIZED, check, compile_library, python, report,
    status_name)


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
            size = int(file.read().split()[0]) * 4096 + (64 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        eat([], 1 << 22)
    """)
    # 3.15.0 itself crashes in bytearray().
    child.err = child.err.replace("line 6 in eat", "line 9 in eat")
    check(child, SIGSEGV, report(
        '  File "<string>", line 9 in eat\n'
        '  File "<string>", line 13 in <module>\n'))


@pytest.mark.skipif(SANITIZED, reason="the sanitizer has its own malloc()")
@pytest.mark.parametrize(
    "arm", ["", "faulthandler.enable(all_threads=False, c_stack=True)"])
def test_lock_of_malloc(arm):
    """malloc() aborts, and its lock is held."""
    child = python("""
        import ctypes, faulthandler; %s
        def f():
            ctypes.CDLL("./places.so").corrupt_heap()
        f()
    """ % arm)
    assert status_name(child.status) == "-SIGABRT"
    assert child.seconds < LIMIT
    # The first line is the C library's.
    assert re.search(
        r'\A.*\nFatal Python error: Aborted\n\n.*\n'
        r'  File "<string>", line 3 in f\n'
        r'  File "<string>", line 4 in <module>\n'
        + (r"\nCurrent thread's C stack trace .*\n(  .*\n)+"
           if arm else "") + r"\Z", child.err)


def test_lock_of_the_loader():
    """Another thread is in a library's constructor."""
    compile_library("constructor")
    for arm in ("", "faulthandler.enable(all_threads=False, c_stack=True)"):
        child = python("""
            import ctypes, faulthandler; %s
            places = ctypes.CDLL("./places.so")
            def f():
                places.load_in_thread(b"./constructor.so")
                faulthandler.sigsegv()
            f()
        """ % arm)
        assert status_name(child.status) == "-SIGSEGV"
        assert child.seconds < 5
        assert re.search(
            r'\AFatal Python error: Segmentation fault\n\n.*\n'
            r'  File "<string>", line 5 in f\n'
            r'  File "<string>", line 6 in <module>\n'
            + (r"\nCurrent thread's C stack trace .*\n(  .*\n)+"
               if arm else "") + r"\Z", child.err)


@pytest.mark.skipif(DEBUG, reason="the collector asserts that there is none")
def test_collector():
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
