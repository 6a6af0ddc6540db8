"""The handler has a stack of its own."""

import os
import re
import resource
import sys
import tempfile

from signal import SIGSEGV

import pytest

from details import CONTEXT, NOWHERE, START, dies, expect
from helpers import (
    DEBUG, FREE_THREADED, LIMIT, PATIENCE, SANITIZED, X86_64, block, check,
    compile_library, crash, died, environment, few_versions, limits, python,
    report, status_name, with_held_poll)


@pytest.mark.parametrize("kind", ["CFUNCTYPE", "PYFUNCTYPE"])
def test_overflow_in_c(kind):
    """Machine code that pushes until the stack ends."""
    crash("""
        import ctypes, faulthandler, machine
        def f():
            machine.run("50ebfd", ctypes.%s)()
        f()
    """ % kind, report(
        '  File "<string>", line 3 in f\n'
        '  File "<string>", line 4 in <module>\n'))


# Until which version they overflow the stack.
@pytest.mark.parametrize("before, call", [
    ((3, 12), "list(map(f, 'a'))"), ((3, 11), "f()")],
    ids=["through C", "in Python"])
def test_recursion(before, call):
    """Code that recurses without a limit, so often, and to the call or the
    def.

    It turns the collector off, which may overflow the stack as well: the
    report says so.
    """
    if sys.version_info >= before:
        pytest.skip("uses no C stack, or CPython counts its frames")
    child = python("""
        import faulthandler, gc, sys; gc.disable()
        sys.setrecursionlimit(10**9)
        def f(x=1):
            %s
        f()
    """ % call)
    child.err = re.sub(r"\.\.\. \d{4,} frames", "... N frames", child.err)
    frame = '  File "<string>", line 4 in f\n'
    child.err = child.err.replace(frame.replace("4", "3"), frame, 1)
    check(child, SIGSEGV, report(
        90 * frame + "  ... N frames not shown ...\n" + 9 * frame
        + '  File "<string>", line 5 in <module>\n'))


STARTS = {
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


@pytest.mark.parametrize("name, start", STARTS.items(), ids=STARTS)
def test_overflow_in_threads(name, start):
    """Every thread that Python starts has a stack for the handler."""
    child = python("""
        import _thread, threading; taken = _thread.start_new_thread
        %s
        import concurrent.futures as futures, faulthandler, machine, waiting
        def work():
            machine.run("50ebfd")()
        %s; waiting.never.acquire()
    """ % (
        # As gevent does.
        "_thread.start_new_thread = lambda *a: taken(*a)"
        if name == "replaced before" else "", start))
    assert status_name(child.status) == "-SIGSEGV"
    first = report('  File "<string>", line 5 in work\n')
    assert child.err[:len(first)] == first
    assert re.search(
        r'\A(  File "…/.*", line … in \w+\n)*\n'
        r'Thread 0x… \(most recent call first\):\n(.*\n)*'
        r'  File "<string>", line 6 in <module>\n\Z',
        child.err[len(first):])


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps mappings")
def test_many_threads():
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
    assert (child.status, child.out) == (0, "True\n")


def test_around_the_alternate_stacks():
    """Each is large enough, with a forbidden page or a guard below; large
    frames do not come to rest on them from above."""
    child = python("""
        import altstack, ctypes, faulthandler, os, waiting
        reader, writer = os.pipe()
        stacks = []
        def readable(address):
            at = ctypes.c_void_p(address)
            return altstack.libc.write(writer, at, 1) == 1
        def has_guard(address):
            end = 0
            for line in open("/proc/self/maps"):
                words = line.split()
                first, last = (int(n, 16) for n in words[0].split("-"))
                if first <= address < last:
                    end = last
                elif first == end:
                    return words[1] == "---p" and last - first >= 1 << 20
        def work():
            start, flags, size = altstack.now()
            # Before Linux 6.13 the next stack's end may lie below.
            kernel = tuple(map(int, os.uname().release.split(".")[:2]))
            stacks.append((flags & 0xffffffff, size >= 65536,
                           readable(start), readable(start + size - 1),
                           readable(start - 1) and kernel >= (6, 13),
                           bool(stacks) or has_guard(start)))
        waiting.together(work, 1), waiting.together(work, 99)
        print(len(stacks), set(stacks))
    """)
    assert child.out == "100 {(0, True, True, True, False, True)}\n"


# Start threads until there are so many, or no more.  Print how many, and
# the process's mappings.
START_THREADS = """
    import _thread, faulthandler, os, resource, sys, threading
    limit, count = int(sys.argv[1]), int(sys.argv[2])
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = bytearray(1 << 22)       # for what comes when no more is left
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        # A debug build takes no less than 100 KiB.
        debug = hasattr(sys, "gettotalrefcount")
        size = 131072 if debug else 65536
        least = os.sysconf("SC_THREAD_STACK_MIN")
        threading.stack_size(max(size, least))
    os.close(2)         # threads say there that they have no memory
    lock, begun = threading.Lock(), threading.Semaphore(0)
    lock.acquire()
    def wait():
        begun.release(); lock.acquire()
    started = 0
    try:
        while started < count:
            _thread.start_new_thread(wait, ())
            # One that waits for the GIL wakes up all the time.
            if not begun.acquire(timeout=10):
                break
            started += 1
    except (MemoryError, RuntimeError):
        pass
    del room
    resource.setrlimit(resource.RLIMIT_AS, before)
    lines = 0
    if not limit:
        with open("/proc/self/maps") as file:
            lines = sum(1 for line in file)
    os.write(1, b"%d %d" % (started, lines))
    os._exit(0)
"""


def start_threads(limit, count, **changes):
    """How many threads start, and how many mappings there are then."""
    child = python(START_THREADS, str(limit), str(count), env=environment(
        MALLOC_ARENA_MAX="1", **changes), limit=4 * PATIENCE)
    assert child.status == 0, child
    return list(map(int, child.out.split()))


def test_threads_cost_few_mappings():
    """A process may have 65,530: threads need two of their own."""
    started, ours = start_threads(0, 1000)
    assert started == 1000
    _, plain = start_threads(0, 1000, FAULTHANDLER_USE_STDLIB="1")
    assert ours - plain < 150


@pytest.mark.skipif(SANITIZED or FREE_THREADED or DEBUG,
                    reason="the sanitizer, the allocator or the larger frames"
                           " need the memory")
def test_threads_under_a_limit_of_memory():
    """Nine tenths of the threads that start without the module, with small
    stacks and 400 MiB of addresses."""
    ours, _ = start_threads(400 << 20, 10000)
    plain, _ = start_threads(400 << 20, 10000, FAULTHANDLER_USE_STDLIB="1")
    assert 1000 < plain < 10000
    assert ours > plain * 0.9


@pytest.mark.skipif(SANITIZED, reason="the sanitizer gives threads stacks")
def test_threads_of_a_forked_child():
    """The stacks of threads that a child does not have are for its own."""
    child = python("""
        import altstack, faulthandler, os, waiting
        def work():
            stacks.add(altstack.now()[0])
            waiting.wait()
        before = None
        for generation in range(3):
            stacks = set()
            for n in range(100):
                waiting.start(work)
            assert before in (None, stacks)
            before = stacks
            if os.fork():
                os._exit(os.wait()[1] != 0)
        os.write(1, b"done")
    """)
    assert (child.status, child.out) == (0, "done"), child


# The frames of altstack.g().
SMALL = ('  File "altstack.py", line 37 in \\?\\?\\?\n'
         '  File "altstack.py", line 41 in g\n')


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's frames need more")
@pytest.mark.parametrize("size", [1 << 20, 16384])
def test_foreign_alternate_stack(size):
    """Another owner's alternate stack stays where it is."""
    child = python("""
        import altstack
        theirs = altstack.take(%d)
        import faulthandler
        print(altstack.now() == theirs)
        faulthandler.disable()
        print(altstack.now() == theirs, flush=True)
        faulthandler.enable()
        faulthandler.sigsegv()
    """ % size)
    assert child.out == "True\nTrue\n"
    check(child, SIGSEGV, report('  File "<string>", line 8 in <module>\n'))


def test_stack_of_the_builtin():
    """The builtin module's small stack stays, too: a report that begins
    there is written on another one."""
    child = python("""
        import altstack, faulthandler
        faulthandler.enable(c_stack=False)
        print(altstack.now()[2] < 65536, flush=True)
        altstack.crash = faulthandler.sigsegv
        altstack.g()
    """, env=environment(PYTHONFAULTHANDLER="1"))
    assert (child.out, status_name(child.status)) == ("True\n", "-SIGSEGV")
    assert re.match(r"Fatal Python error: Segmentation fault\n\n.*\n"
                    + SMALL + r'  File "<string>", line 5 in <module>\n',
                    child.err), child


def test_stack_that_was_switched_off():
    """enable() switches it on again: no other one, and the name stays."""
    child = python("""
        import altstack, faulthandler, threading
        def work():
            seen = set()
            for n in range(20):
                seen.add(tuple(altstack.now()))
                altstack.put(0, 2, 0)
                faulthandler.enable(details=True)
            print(len(seen), flush=True)
            faulthandler.sigsegv()
        threading.Thread(target=work, name="a name of a thread").start()
    """)
    assert (status_name(child.status), child.out) == ("-SIGSEGV", "1\n")
    assert re.search(r"\n  thread \d+ \[a name of a thread\] ", child.err)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's frames need more")
@pytest.mark.parametrize("size", [4096, 6144, 8192, 16384])
@pytest.mark.parametrize("arm, end", [
    ("pass", r"\Z"),
    ("faulthandler.enable(all_threads=False, c_stack=True)",
     r"\nCurrent thread's C stack trace .*\n(  .*\n)*"
     r"  .* at Py_BytesMain\+0x")], ids=["1.0", "C stack"])
def test_crash_on_small_stack(size, arm, end):
    """A crash on another's small alternate stack is reported on ours."""
    child = python("""
        import altstack, faulthandler
        altstack.take(%d)
        %s
        altstack.crash = faulthandler.sigfpe
        altstack.g()
    """ % (size, arm))
    assert status_name(child.status) == "-SIGFPE"
    assert re.search(
        r"\AFatal Python error: Floating.point exception\n\n.*\n" + SMALL
        + r'  File "<string>", line 5 in <module>\n' + end, child.err)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's frames need more")
def test_dump_on_small_stack():
    """So is a user's signal; their stack is in place again after it."""
    child = python("""
        import altstack, faulthandler, os
        theirs = altstack.take(4096)
        def crash():
            for n in range(3):
                os.kill(os.getpid(), 10)
            print(altstack.now() == theirs, flush=True)
            os._exit(7)
        faulthandler.register(10, all_threads=False)
        altstack.crash = crash
        altstack.g()
    """)
    assert (child.status, child.out) == (7, "True\n")
    assert re.fullmatch(3 * (
        r"Stack \(most recent call first\):\n"
        r'  File "<string>", line 5 in crash\n' + SMALL
        + r'  File "<string>", line 10 in <module>\n'), child.err)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's frames need more")
def test_older_handler_after_small_stack():
    """An older handler runs on the stack that its owner gave."""
    compile_library("older")
    child = python("""
        from handlers import install
        install("exit", 4)
        import altstack, faulthandler, machine
        altstack.take(8192)
        altstack.crash = machine.run("0f0b")
        altstack.g()
    """)
    assert child.status == 42
    assert " which is the pc " in child.out


# ---- what is said of an overflow, with details -----------------------------

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


def said_of_overflow(flags, function, where, argument=0):
    """The lines of the report of a crash in a thread."""
    library = compile_library("overflow", *flags)
    child = python(block(START) + block(RUN) + block("""
        crash(ctypes.CDLL("./%s")[%r], %r, %d)
    """ % (library, function, where, argument)))
    died(child)
    assert child.err.splitlines()[0] == (
        "Fatal Python error: Segmentation fault")
    return child.err.splitlines()[1:2]


BUILDS = [("-O0",), ("-O2", "-fno-stack-clash-protection"),
          ("-O2", "-fstack-clash-protection")]


def may_come_near_others(flags, function, where):
    """Does a frame reach over a thread's guard, unchecked?  Memory that was
    mapped later may lie in between: then it could be a coroutine's stack."""
    return (where != "main" and "large" in function
            and "-fstack-clash-protection" not in flags)


@pytest.mark.parametrize("flags", BUILDS)
@pytest.mark.parametrize(
    "function", ["push", "small", "page", "large", "larger", "largest"])
def test_overflow(flags, function):
    """Frames of all sizes, in the main thread and in others."""
    sizes = {"main": 8192, "thread": 8192, "fork": 8192, "256": 256}
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != 8192 * 1024:
        del sizes["main"], sizes["thread"], sizes["fork"]
    for where, size in sizes.items():
        if where in ("fork", "256") and (
                flags != BUILDS[0] or "large" in function):
            continue        # may come to rest elsewhere
        line, = said_of_overflow(flags, function, where)
        if may_come_near_others(flags, function, where) \
                and line.startswith("  writing address 0x"):
            continue
        assert re.search(
            r"^  The stack of this thread overflowed "
            r"\(%d KiB, address 0x[0-9a-f]{16}\): writing "
            r"below its end \(SEGV_(MAP|ACC)ERR\)$" % size, line)


# The last four have a full stack below theirs: a coroutine that overflows, a
# signal handler that does, a large frame below both stacks, a coroutine that
# writes upwards.
@pytest.mark.parametrize("flags", BUILDS[:2])
@pytest.mark.parametrize("function, argument", [
    ("near", -1), ("near", -2048), ("near", -4096), ("coroutine", 0),
    ("alternate", 0), *[
        ("neighbour", kind) for kind in range(4)]])
def test_no_overflow(function, argument, flags):
    """What comes near to it, and is none."""
    if not X86_64 and (function == "alternate"
                       or (function, argument) == ("neighbour", 1)):
        pytest.skip("the kernel kills: sp is still on the full stack")
    for where in ("main", "thread", "256", "fork"):
        if where != "main" and (function == "neighbour" or where != "thread"
                                and "-O0" in flags):
            continue
        line, = said_of_overflow(flags, function, where, argument)
        assert re.search("^  (%swriting) address 0x" % (
            "" if function == "neighbour" else "reading|"), line)


def test_fault_long_ago():
    """What the processor said of an older fault is not told again."""
    compile_library("older")
    dies("""
        import struct
        from handlers import install, older
        install("jump")
        assert older.jump_out(ctypes.c_void_p(16)) == 1
        older.put_back(11)
        info = struct.pack("iiiiQ", 11, 0, 1, 0, 0x700000000000)
        info = ctypes.create_string_buffer(info, 128)
        me = os.getpid(), threading.get_native_id()
        # A fault would come again.
        libc.syscall(297 if %r else 240, *me, 11, info); os.kill(me[0], 11)
    """ % X86_64, SIGSEGV,
         "accessing address 0x0000700000000000" + NOWHERE)


@pytest.mark.parametrize("digits, cause", [
    ("48bc00000000007000005031c0c3", "writing address"),
    ("4881ec0000004050", "writing address"), ("31e450", "writing address"),
    ("4831ed31e450", "writing address"), ("4831ed0f0b", "illegal opcode"),
    ("48bcddddddddddddddddff342500000000", "reading address")])
def test_lost_stack_pointer(digits, cause):
    """A stack pointer that points nowhere is no overflow; the Python part is
    whole all the same, before the C stack."""
    child = python(block(START) + block("""
        import machine
        faulthandler.enable(details=True, c_stack=True)
        machine.run(%r)()
    """ % digits))
    assert child.status < 0
    assert child.err.splitlines()[1].startswith("  " + cause)
    assert '  File "<string>", line 11 in <module>\n' in child.err
    assert child.err.count("Fatal Python error") == 1
    assert child.seconds < LIMIT


@pytest.mark.parametrize("kib, files", [
    (1024, None), (2000, None), (16384, None), pytest.param(
        8192, 3, marks=pytest.mark.skipif(
            SANITIZED, reason="the sanitizer opens files"))])
def test_limit_of_the_main_thread(kib, files):
    """The size is the limit that the thread ran into, also where there is no
    descriptor to read /proc with."""
    library = compile_library("overflow", "-O2")
    with limits(resource.RLIMIT_STACK, kib * 1024):
        child = python(block(START) + block("""
            import resource
            small = ctypes.CDLL("./%s").small
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (%r or soft, hard))
            small(0)
        """ % (library, files)))
    assert re.search(
        r"\n  The stack of this thread overflowed \(%d KiB, .*"
        r"\n.*, up \d+\.\d s\n" % kib, child.err)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer needs /proc")
def test_without_proc():
    """Where there is no /proc, the lines are shorter."""
    if os.getuid() != 0:
        pytest.skip("only root may change the root folder")
    with tempfile.TemporaryDirectory() as folder:
        child = python(block(START) + block("""
            at = page(0)
            os.chroot(%r)
            ctypes.c_char.from_address(at).value
        """ % folder))
    expect(child, SIGSEGV, [
        "reading address 0x…: that is not allowed there (SEGV_ACCERR)"],
        'Stack (most recent call first):\n'
        '  File "<string>", line 11 in <module>\n',
        CONTEXT.replace(", up N s", ""))


def test_many_mappings():
    """A large map is read within the time that a report has."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = python(block(START) + block("""
        for number in range(30000):
            page(1 + number % 2 * 2)
        at = page(0)
        ctypes.c_char.from_address(at).value
    """))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ": that is inaccessible memory (SEGV_ACCERR)\n" in child.err
    assert child.seconds < LIMIT
    # Of the processor's time, which no other process adds to.
    assert (after.ru_utime + after.ru_stime
            - before.ru_utime - before.ru_stime) < LIMIT / 4


def test_main_thread_has_ended():
    """Another thread dies, when the process's first one is gone."""
    child = python(block(START) + block("""
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
        r"\n  reading address 0x\w+: that is inaccessible memory .*"
        r"\n  thread \d+ \[late\] of process \d+, .*, up (\d+\.\d) s\n",
        child.err)
    assert found is not None
    assert float(found.group(1)) < child.seconds + 0.1


# ---- what shows only where a guard is missing ------------------------------

@few_versions
@pytest.mark.skipif(SANITIZED, reason="the sanitizer's frames need more")
def test_forked_while_the_spare_stack_is_used():
    """The child has a spare stack again."""
    child = with_held_poll("""
        import altstack, threading
        __import__("warnings").simplefilter("ignore")
        def work():
            altstack.take(16384)
            # Without the GIL.
            getattr(ctypes.CDLL(None), "raise")(signal.SIGUSR1)
        faulthandler.register(signal.SIGUSR1, file=theirs)
        hold.value = 1
        threading.Thread(target=work).start()
        until(lambda: held.value)
        pid = os.fork()
        if pid == 0:
            altstack.take(16384)
            faulthandler.register(signal.SIGUSR1, 2, False)
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(0)
        print(os.waitpid(pid, 0)[1])
        os.read(ours, 1 << 20)
        hold.value = 0
    """)
    assert (child.status, child.out) == (0, "0\n")
    assert re.search(r'\AStack \(most recent call first\):\n'
                     r'  File "<string>", line \d+ in <module>\n\Z', child.err)


@few_versions
@pytest.mark.skipif(SANITIZED, reason="the sanitizer's frames need more")
def test_crash_while_the_spare_stack_is_used():
    """There is another one, for crashes."""
    child = with_held_poll("""
        import altstack, threading
        altstack.take(4096)
        def work():
            altstack.take(16384)
            # Without the GIL.
            getattr(ctypes.CDLL(None), "raise")(signal.SIGUSR1)
        faulthandler.register(signal.SIGUSR1, file=theirs)
        faulthandler.enable(all_threads=False, c_stack=False)
        hold.value = 1
        threading.Thread(target=work, daemon=True).start()
        until(lambda: held.value)
        altstack.crash = faulthandler.sigsegv
        altstack.g()
    """)
    assert status_name(child.status) == "-SIGSEGV"
    assert re.fullmatch(
        r"Fatal Python error: Segmentation fault\n\n"
        r"Stack \(most recent call first\):\n" + SMALL
        + r'  File "<string>", line \d+ in <module>\n', child.err)


def test_start_function_that_somebody_else_has_replaced():
    """Who came after us calls ours: it is not called by ours."""
    child = python("""
        import _thread, ctypes, faulthandler, sys
        # PyCFunctionObject.m_ml->ml_meth
        word = ctypes.c_void_p
        table = word.from_address(id(_thread.start_new_thread)
                                  + object.__basicsize__).value
        method = word.from_address(table + ctypes.sizeof(word))
        kind = ctypes.PYFUNCTYPE(*[ctypes.py_object] * 3)
        ours = kind(method.value)
        theirs = kind(lambda module, args: ours(module, args))
        method.value = ctypes.cast(theirs, word).value
        del sys.modules["faulthandler"]
        import faulthandler
        done = _thread.allocate_lock()
        done.acquire()
        _thread.start_new_thread(done.release, ())
        print(done.acquire(True, 20))
    """)
    assert (child.status, child.out, child.err) == (0, "True\n", "")
