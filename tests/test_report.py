"""What comes in the way of a report."""

import re
import resource

from signal import SIGABRT, SIGSEGV

import pytest

from helpers import (
    FULL_PIPE, HANG_LIMIT, LIMIT, block, check, compile_library, few_versions,
    permitted, python, report, stack_report, status_name, with_full_pipe,
    with_held_poll)

pytestmark = few_versions


@pytest.mark.slow
def test_page_that_never_comes():
    """A read that blocks for ever is given up, with its line."""
    child = permitted("""
        import sys, damage, faulthandler, stuck
        def inner():
            damage.damage(sys._getframe(1), "name", stuck.page)
            faulthandler.sigsegv()
        def outer():
            inner()
        outer()
    """)
    check(child, SIGSEGV, report(
        '  File "<string>", line 4 in inner\n'
        '  <out of time in the traceback>\n'), limit=HANG_LIMIT)


def test_crash_while_a_dump_is_stuck():
    """A dump that is stuck for ever does not hold up a crash."""
    child = permitted("""
        import damage, faulthandler, os, stuck, sys, waiting
        def work():
            damage.damage(sys._getframe(), "name", stuck.page)
            waiting.wait()
        waiting.start(work)
        faulthandler.dump_traceback_later(
            0.1, file=os.open(os.devnull, os.O_WRONLY))
        os.read(stuck.fault, 32)    # the kernel says that it is stuck
        faulthandler.enable(all_threads=False, c_stack=False)
        faulthandler.sigsegv()
    """)
    check(child, SIGSEGV, stack_report(10))


def test_crowd_into_a_slow_pipe():
    """A report that takes seconds is whole, and the only one."""
    child = with_full_pipe("""
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
    """)
    assert status_name(child.status) == "-SIGSEGV"
    assert child.seconds < LIMIT
    text = child.raw_out
    assert len(text) > 6 * 4096
    assert text.count("Fatal Python error") == 1, text
    assert re.search(r'\A(Fatal .*\n|Th.*:\n|Tr.*:\n|  .*\n|\n)*\Z', text)


def test_claim_of_a_killed_child():
    """A vfork() child killed in its report leaves no claim behind."""
    compile_library("places")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw
    child = python(block(FULL_PIPE) + block("""
        import ctypes
        places = ctypes.CDLL("./places.so")
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
        places.crash_in_vfork()
        faulthandler.enable(all_threads=False, c_stack=False)
        faulthandler.sigsegv()
    """))
    check(child, SIGSEGV, stack_report(47))
    # Waiting 2.5 s for the dead one is 2500 short sleeps.
    sleeps = resource.getrusage(resource.RUSAGE_CHILDREN).ru_nvcsw - before
    assert sleeps < 1500


def test_signals_wait():
    """A signal that comes while a report is written comes after it."""
    child = with_full_pipe("""
        faulthandler.register(signal.SIGUSR1, theirs, all_threads=False)
        faulthandler.register(signal.SIGUSR2, all_threads=False)
        def send():
            until_reports()
            os.kill(parent, signal.SIGUSR2)
        empty(send)
        os.kill(parent, signal.SIGUSR1)
    """)
    assert child.status == 0
    for text in (child.out, child.err):
        assert re.search(r'^Stack \(most recent call first\):\n'
                         r'  File "<string>", line \d+ in <module>\n$', text)


@pytest.mark.parametrize("when, signum", [
    ("reports(parent)", "SIGBUS"),
    ("not blocked(parent) >> signal.SIGRTMAX - 1 & 1", "SIGRTMAX")])
def test_sent_while_it_reports(when, signum):
    """A signal that is sent to a report does not disturb it: neither a fatal
    one nor that of its own timer."""
    child = with_full_pipe("""
        if %r == "SIGRTMAX":
            signal.signal(signal.SIGRTMAX, lambda number, frame: None)
        faulthandler.enable(theirs, all_threads=False, c_stack=False)
        def send():
            until_reports()
            while not (%s and status(parent, "State") == "S"):
                time.sleep(0.001)
            os.kill(parent, signal.%s)
        empty(send)
        faulthandler.sigsegv()
    """ % (signum, when, signum), WITH_TIMERS="1")
    assert status_name(child.status) == "-SIGSEGV"
    assert child.out == stack_report(41)


def test_abort_from_another_thread():
    """It ends a process that dumps, and does not disturb a report."""
    code = block("""
        import mmap, select, threading
        sent = mmap.mmap(-1, 1)
        def send():
            until(lambda: held.value)
            signal.pthread_kill(main, signal.SIGABRT)
            sent[0] = 1
            until(lambda: nobody_reads or select.select(
                [], [theirs], [], 0)[1])
            hold.value = 0
        main = threading.get_ident()
        threading.Thread(target=send).start()
        hold.value = 1
    """)
    child = with_held_poll("nobody_reads = True\n" + code + block("""
        faulthandler.enable(all_threads=False, c_stack=False)
        faulthandler.dump_traceback(theirs)
    """))
    check(child, SIGABRT, stack_report(50, "Aborted"))
    child = with_held_poll("nobody_reads = False\n" + code + block("""
        faulthandler.enable(theirs, all_threads=False, c_stack=False)
        empty(lambda: until(lambda: sent[0]))
        faulthandler.sigsegv(True)
    """))
    assert status_name(child.status) == "-SIGSEGV"
    assert child.out == stack_report(51)


def test_fork_during_calls():
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
                faulthandler.dump_traceback_later(60)
                os._exit(0)
            os.waitpid(pid, 0)
        stop = True
        for thread in threads:
            thread.join()
    """)
    assert (child.status, child.err) == (0, "")


def test_fork_during_a_dump():
    """A child forked during a dump disarms at once, and reports."""
    child = python(block(FULL_PIPE) + block("""
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
    assert (child.status, child.out) == (0, "0\n")
    assert re.search(r'^Stack .*\n  File .*\n$', child.err)


@few_versions
def test_vfork_child_that_was_killed_while_it_read():
    """The read that it left behind is not taken for ours."""
    compile_library("places")
    child = permitted("""
        import ctypes, faulthandler, os, stuck, sys
        from damage import replace, words
        places, parent = ctypes.CDLL("./places.so"), os.getpid()
        if os.fork() == 0:
            os.read(stuck.fault, 32)    # the kernel says that it is stuck
            path = "/proc/%d/task/%d/children" % (parent, parent)
            with open(path) as file:
                for pid in map(int, file.read().split()):
                    if pid != os.getpid():
                        os.kill(pid, 9)
            os._exit(0)
        code = sys._getframe().f_code
        cells, name = words(id(code)), id(code.co_name)
        replace(cells, name, stuck.page)
        assert places.crash_in_vfork() == 9
        replace(cells, stuck.page, name)
        faulthandler.sigsegv()
    """)
    check(child, SIGSEGV, report('  File "<string>", line 17 in <module>\n'))
