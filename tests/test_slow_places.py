"""Crashes where little works: each gives one report, in its grammar.

Other bad places are in tests/test_platform.py and tests/test_stack.py.
"""

import os
import re

from signal import SIGABRT, SIGBUS, SIGILL, SIGSEGV

import pytest

from helpers import (
    DEBUG, FOLDER, FREE_THREADED, LIMIT, SANITIZED, SIGNALS, X86_64, block,
    compile_library, preload, python, status_name)
import grammar

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    SANITIZED, reason="the sanitizer takes what is taken away")]

START = """
    import ctypes, errno, faulthandler, os, resource, signal, sys
    import threading, time, warnings
    warnings.simplefilter("ignore")     # fork() in a thread
    lib, libc = ctypes.CDLL("./places.so"), ctypes.CDLL(None)
    if sys.argv[1]:
        faulthandler.enable(all_threads=True, c_stack=sys.argv[1] == "c")
"""
TITLES = {"-" + signum.name: title for signum, title, _ in SIGNALS}
ME = r'File "<string>", line \d+ in '
NOBODY = "<no Python frame>"


def reports(child, text, count=1):
    """There are so many reports, in their grammar; each has the text."""
    parts = re.split("(?m)^(?=Fatal Python error)", child.raw_err)[1:]
    assert len(parts) == count
    for part in parts:
        assert grammar.fault_in(part) is None
        assert re.search(text, part)
    return parts


def dies(child, text, signums=(SIGSEGV,), count=1):
    """It died of one of the signals, soon, and left such reports."""
    name = status_name(child.status)
    assert name in ["-" + signum.name for signum in signums], child
    part = reports(child, text, count)[-1]
    title = part.split(": ", 1)[1].split("\n")[0].replace("-point", " point")
    assert title == TITLES[name]
    assert child.seconds < LIMIT


@pytest.fixture(params=["", "library", "c"])
def crash(request):
    """Runs code in a child that has the library of bad places, with each form
    of the report."""
    compile_library("places")
    return lambda code, **options: python(
        block(START) + block(code), request.param, **options)


in_a_thread = """
        thread = threading.Thread(target=lambda: %s)
        thread.start()
        thread.join()
        time.sleep(20)
"""
ONSTACK = 0x08000000


@pytest.mark.parametrize("code, text", [
    # Nothing is left.
    ("""
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        os.closerange(3, 64)
        lib.crash()
     """, ME),
    ("""
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
        lib.crash()
     """, ME),
    # A call of a freed object.
    ("ctypes.CFUNCTYPE(None)(0xdddddddddddd0000)()", ME),
    # Python ends, or has ended.
    ("import atexit; atexit.register(lambda: lib.crash())", ME + "<lambda>"),
    ("""
        class C:
            crash = lib.crash
            def __del__(self):
                self.crash()
        sys.kept = C()
     """, ME + "__del__"),
    ("ctypes.pythonapi.Py_AtExit(lib.crash)", NOBODY),
    ("libc.__cxa_atexit(lib.crash, None, None)", NOBODY),
    ("lib.on_unload(1)", NOBODY),
    ("""
        threading.Thread(target=lib.crash_later, daemon=True).start()
        lib.on_unload(2)
     """, ""),
    ("""
        key = ctypes.c_uint()
        libc.pthread_key_create(ctypes.byref(key), lib.crash)
     """ + in_a_thread % "libc.pthread_setspecific(key, 1)", ""),
    # Handlers and their stacks.
    *[("""
        lib.install_crasher(signal.SIGUSR2, %d, ctypes.c_size_t(%d))
        os.kill(os.getpid(), signal.SIGUSR2)
       """ % (ONSTACK, used), ME) for used in (100, 16384, 32768, 40000)],
    ("""
        lib.install_crasher(signal.SIGUSR1, 0, ctypes.c_size_t(0))
        faulthandler.register(signal.SIGUSR1, file=open(os.devnull, "w"),
                              chain=True)
        os.kill(os.getpid(), signal.SIGUSR1)
     """, ME),
    # A thread that Python does not know.
    *[("""
        thread, attributes = ctypes.c_size_t(), (ctypes.c_size_t * 8)()
        libc.pthread_attr_init(attributes)
        libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(%d))
        libc.pthread_create(
            ctypes.byref(thread), attributes, lib.crash, None)
        libc.pthread_join(thread, None)
       """ % size, NOBODY) for size in (16384, 65536)]])
def test_place(code, text, crash):
    """The report of the crash is there."""
    dies(crash(code), text)


def test_destructor_with_a_file(crash):
    """Python has closed the file that the report goes to."""
    child = crash("""
        kept = open("at-end", "w")
        faulthandler.enable(kept, c_stack=sys.argv[1] == "c")
        lib.on_unload(1)
    """)
    with open(os.path.join(FOLDER, "at-end")) as file:
        child.raw_err += file.read()
    dies(child, NOBODY)


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("value", [
    "0", "0xdddddddddddddddd", "8", "damage.forbidden + 2048",
    "id(sys) & ~15"])
def test_lost_stack_pointer(value, thread, crash):
    """The stack pointer points nowhere, or into an object."""
    call = "lib.lose_stack(ctypes.c_ulong(%s))" % value
    child = crash("import damage\n" + (
        block(in_a_thread) % call if thread else call))
    dies(child, ME, (SIGSEGV, SIGBUS, SIGILL))


def test_no_signal_can_be_queued(crash):
    """Another signal than that of the places above."""
    dies(crash("""
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
        faulthandler.sigbus()
    """), ME, [SIGBUS])


@pytest.mark.skipif(DEBUG or FREE_THREADED, reason="the interpreter asserts "
                    "that there is some, or needs it to call C")
def test_no_memory_left_in_a_thread(crash):
    """The thread began before the memory was used up."""
    child = crash("""
        def eat(size=1 << 22):
            kept = []
            while size > 16:
                try:
                    kept.append(bytearray(size))
                except MemoryError:
                    size //= 2
            lib.crash()
        thread = threading.Thread(target=eat)
        size = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, 2 * (size + (64 << 20),))
        thread.start()
        thread.join()
    """)
    dies(child, ME + "eat")


@pytest.mark.parametrize("code", [
    "ctypes.CDLL(None).crash_in_malloc()",
    "ctypes.CDLL(None).crash_without_malloc()",
    "ctypes.PyDLL(None).crash_without_malloc()", """
    def other():
        ctypes.CDLL(None).crash_in_malloc()
    threading.Thread(target=other, daemon=True).start()
    time.sleep(20)
    """, """
    for n in range(5):
        threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
    ctypes.PyDLL(None).crash_without_malloc()
    """])
def test_without_malloc(code, crash):
    """The lock of malloc() is held, or nobody may call it."""
    compile_library("forbid")
    dies(crash(code, env=preload("forbid")), ME)


@pytest.mark.parametrize("code, survives", [
    ("""
        pid = os.fork()
        if pid == 0:
            lib.crash()
        os.kill(os.getpid(), os.WTERMSIG(os.waitpid(pid, 0)[1]))
     """, False),
    # A fork without the handlers of pthread_atfork().
    ("""
        pid = libc.syscall(%d, signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            lib.crash()
        os.kill(os.getpid(), os.WTERMSIG(os.waitpid(pid, 0)[1]))
     """ % (56 if X86_64 else 220), False),
    ("""
        import subprocess
        child = subprocess.run(["true"], preexec_fn=lambda: lib.crash())
        os._exit(-child.returncode)
     """, True),
    ("""
        def forks():
            pid = os.fork()
            if pid == 0:
                faulthandler._stack_overflow()
            os._exit(os.WTERMSIG(os.waitpid(pid, 0)[1]))
        threading.Thread(target=forks).start()
     """, True)])
def test_children_that_crash(code, survives, crash):
    """A child of fork(), of a raw fork, of preexec_fn, of a thread's fork()
    crashes first; then the parent does, or lives on."""
    child = crash(code)
    if not survives:
        dies(child, ME, count=2)
        return
    assert child.status == SIGSEGV
    reports(child, ME)


CALLS = ["rt_tgsigqueueinfo", "timer_create", "process_vm_readv",
         "sigaltstack", "pipe2", "fcntl", "openat"]


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("names, call, signum", [
    ([name], "lib.crash()", SIGSEGV) for name in CALLS + ["tgkill"]] + [
    (CALLS, "lib.crash()", SIGSEGV), (CALLS, "os.abort()", SIGABRT),
    (CALLS, "faulthandler.sigbus()", SIGBUS)])
def test_sandbox(names, call, signum, error, crash):
    """System calls fail: one, or all but those that raise signals."""
    child = crash("""
        from refuse import refuse
        for name in %r:
            refuse(name, errno.%s)
        %s
    """ % (names, error, call))
    dies(child, ME, [signum])
