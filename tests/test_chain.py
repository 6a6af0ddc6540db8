"""Older handlers come last and hear the truth; disable() is polite."""

import functools
import importlib.util
import os
import re
import shutil
import sys
import sysconfig

from signal import SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGRTMAX, SIGSEGV

import pytest

from helpers import (
    CHILDREN, FOLDER, LIMIT, PATIENCE, PYTHON, SANITIZED, SIGNALS, X86_64,
    block, check, compile_c, compile_library, environment, few_versions,
    permitted, python, report, run, stack_report, status_name, with_full_pipe,
    write_file)
import grammar


def needs(program, also=True):
    """Skip where a program is missing that runs the interpreter."""
    return pytest.mark.skipif(
        not shutil.which(program) or not also or SANITIZED,
        reason="needs " + program)


needs_gdb, needs_valgrind = needs("gdb"), needs("valgrind")
needs_qemu = needs("qemu-x86_64-static", X86_64)
NODEFER, ONSTACK, RESETHAND = 0x40000000, 0x08000000, 0x80000000 - (1 << 32)


def gdb(code, *commands):
    """Run code in gdb, with these commands after the first stop."""
    options = ["-ex", "set startup-with-shell off"]
    for command in commands:
        options += ["-ex", command]
    child = run("gdb", "-nx", "-batch", *options, "--args", PYTHON,
                write_file("debugged.py", block(code)))
    if "received signal" not in child.out:
        pytest.skip("gdb cannot run the interpreter here")
    return child


def with_older(code, *arguments, **options):
    """Run code with handlers that it can install()."""
    compile_library("older")
    return python("import ctypes; from handlers import install, older; "
                  + block(code), *arguments, **options)


def older(call, signum, title, said, digits="0f0b", offset=0, thread=False):
    """An older handler of C comes after the report, and hears this, in the
    thread that crashed.  f() is code that faults at WHERE."""
    child = with_older("""
        import _thread, machine, os, signal, threading, waiting
        install('exit', %d)
        import faulthandler
        f = machine.run(%r)
        where = ctypes.cast(f, ctypes.c_void_p).value + %d
        def work():
            print(threading.get_native_id(), hex(where), flush=True)
            %s
        %s
    """ % (signum, digits, offset, call,
           "_thread.start_new_thread(work, ()); waiting.never.acquire()"
           if thread else "work()"))
    assert child.status == 42
    assert child.err == report(
        '  File "<string>", line 8 in work\n'
        + "\nThread 0x… (most recent call first):\n" * thread
        + '  File "<string>", line 9 in <module>\n', title)
    first, heard = child.out.split("\n", 1)
    number, where = first.split()
    assert heard == "%s in thread %s\n" % (
        said.replace("WHERE", where), number)


def test_older_handler_of_real_faults():
    """The siginfo and the context of a real fault: cause and address."""
    for thread in False, True:
        older("faulthandler.sigsegv()", SIGSEGV, "Segmentation fault",
              "signal 11 code 1 at (nil)", thread=thread)
    older("ctypes.c_char.from_address(0x1230).value", SIGSEGV,
          "Segmentation fault", "signal 11 code 1 at 0x1230")
    # A newer handler that calls ours, with SA_NODEFER, changes nothing.
    for call in "f()", "install('newer', 4, %d); f()" % NODEFER:
        older(call, SIGILL, "Illegal instruction",
              "signal 4 code %d at WHERE which is the pc"
              % (2 if X86_64 else 1))
    if X86_64:      # elsewhere any number is an address, and 1 / 0 is 0
        older("ctypes.c_char.from_address(2**63).value", SIGSEGV,
              "Segmentation fault", "signal 11 code 128 at (nil)")
        older("f()", SIGFPE, "Floating point exception",
              "signal 8 code 1 at WHERE which is the pc",
              "31c031d231c9f7f9", 6)


def test_older_handler_after_faults_in_the_report():
    """Faults inside the report change nothing of what it hears."""
    child = with_older("""
        import ctypes, damage, machine, sys
        install('exit', 11)
        install('exit', 4)
        import faulthandler
        def crash():
            damage.damage(sys._getframe(1), "name", damage.forbidden)
            machine.run(%r)()
        def outer():
            crash()
        outer()
    """ % "0f0b")
    assert re.search("^signal 4 code [12] at 0x[0-9a-f]+ "
                     "which is the pc in thread [0-9]+\n$", child.out)
    assert child.status == 42
    assert child.err == report(
        '  File "<string>", line 7 in crash\n'
        '  File "<string>", line 9 in ???\n'
        '  File "<string>", line 10 in <module>\n', "Illegal instruction")


@pytest.mark.parametrize("signum, title, _", SIGNALS[:-1])
def test_older_handler_of_sent_signals(signum, title, _):
    """The siginfo of signals that were sent: by whom, and how."""
    older("os.kill(os.getpid(), %d)" % signum, signum, title,
          "signal %d code 0 from itself" % signum)
    older("signal.pthread_kill(threading.get_ident(), %d)"
          % signum, signum, title,
          "signal %d code -6 from itself" % signum)
    older("ctypes.CDLL(None).sigqueue(os.getpid(), %d, None)"
          % signum, signum, title,
          "signal %d code -1 from itself" % signum)


def test_older_handler_that_repairs_in_threads():
    """What threads repair at once is not reported again."""
    child = with_older("""
        import waiting
        install('repair')
        import faulthandler
        from damage import forbidden, libc
        def work():
            for n in range(2000):
                libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
                libc.mprotect(ctypes.c_void_p(forbidden), 4096, 0)
        libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
        waiting.together(work, 4)
        print("alive", flush=True)
        faulthandler.disable()
        print(older.is_installed(11), flush=True)
        faulthandler.sigsegv()
    """)
    check(child, SIGSEGV, report(
        '  File "<string>", line 9 in <module>\n'))
    assert child.out == "alive\n1\n"


# What is done; how many faults were repaired, how often a handler heard a lie,
# whether we are armed; how many reports there are.
STEPS = [
    # An older one hears the truth; what it does not repair is reported.
    ("install('repair') enable() fault(3) crash()", "3 0 True", 2),
    # disable() puts it back, but leaves a newer one, which answers alone.
    ("install('repair') enable() enable() disable() fault()", "1 0 False", 0),
    ("enable() install('repair') fault() disable() fault()", "2 0 False", 0),
    ("enable() install('plain') fault() disable() fault()", "2 0 False", 0),
    # What an older handler repairs kills nobody, whoever comes and goes.
    ("install('repair') enable() fault() install('newer') fault() fault()",
     "3 0 True", 1),
    ("install('repair') enable() fault() install('newer') enable(2) fault() "
     "fault()", "3 0 True", 1),
    ("install('repair') enable() install('newer') disable() "
     "older.put_back(11) enable() fault() fault()", "2 0 True", 1),
    ("install('retire') enable() fault() fault()", "2 0 True", 1),
    # One that chains to ours, then stands under it: nothing turns in a circle.
    ("enable() install('newer') disable() enable() crash()", "0 0 True", 1),
    ("enable() install('newer') disable() enable() kill()", "0 0 True", 1),
    ("enable() install('newer') disable() enable() disable() crash()",
     "0 0 False", 0),
    ("enable() install('chain') disable() enable() crash()", "0 0 True", 1),
    ("enable() install('chain') disable() enable() fault() fault() crash()",
     "2 0 True", 2),
    ("enable() install('chain') disable() enable() fault() fault() kill()",
     "2 0 True", 2)]
SLOW_STEPS = [
    # An older one hears the truth; what it does not repair is reported.
    ("install('%s',11,%d) enable() fault() %s crash()" % (kind, flags, again),
     "1 0 True", 2) for kind in ("plain", "repair")
    for flags in (0, NODEFER, ONSTACK, RESETHAND)
    for again in ("enable()", "")] + [
    # It repairs in a thread, a thousand times, with enable() between.
    ("install('%s') enable() in_thread(fault) fault(999) crash()" % kind,
     "1000 0 True", 2) for kind in ("plain", "repair")] + [
    ("install('%s') enable() %s disable() fault()" % (
        kind, 30 * "fault() enable() "), "31 0 False", 1)
    for kind in ("plain", "repair")] + [
    # A newer one calls us, or puts us back, for what it cannot repair.
    ("%s enable() install('%s',11,%d) fault() crash()" % (
        older, kind, flags), "1 0 True", 1) for kind in ("chain", "restore")
    for older, flags in [("", 0), ("", NODEFER), ("", ONSTACK),
                         ("install('repair')", 0)]]


@pytest.mark.parametrize("steps, said, count", STEPS + [
    pytest.param(*steps, marks=pytest.mark.slow) for steps in SLOW_STEPS])
def test_handlers_that_repair(steps, said, count):
    """Handlers before and after ours: no fault is lost, or told twice."""
    child = with_older("""
        import faulthandler, os, sys, threading
        enable, disable = faulthandler.enable, faulthandler.disable
        disable()
        def fault(times=1):
            for n in range(times):
                older.seal()
                assert older.touch() == 77
        def in_thread(function):
            thread = threading.Thread(target=function)
            thread.start()
            thread.join()
        def say():
            print(older.called(), older.lied(), faulthandler.is_enabled(),
                  flush=True)
        def crash():
            say()
            older.crash()
        def kill():
            say()
            os.kill(os.getpid(), 11)
        for step in sys.argv[1].split():
            eval(step)
        say()
    """, steps)
    assert (status_name(child.status), child.out) == (
        "exit 0" if steps.endswith("fault()") else "-SIGSEGV", said + "\n")
    reports = re.split("(?m)^(?=Fatal Python error)", child.raw_err)[1:]
    assert list(map(grammar.fault_in, reports)) == count * [None]


def test_chain_in_a_circle():
    """A handler above ours that chains, and stands under it since the
    signal was registered again with chain=True: one dump a signal."""
    child = with_older("""
        import faulthandler, os
        faulthandler.register(10)
        install('newer', 10)
        faulthandler.unregister(10)
        faulthandler.register(10, all_threads=False, chain=True)
        for n in range(2):
            os.kill(os.getpid(), 10)
    """)
    assert (child.status, child.err) == (0, 2 * block('''
        Stack (most recent call first):
          File "<string>", line 7 in <module>
    '''))


@pytest.mark.parametrize("before, status, said, reports", [
    ("signal.signal(7, signal.SIG_IGN)", 0, "alive\n", 2),
    ("install('repair', 7)", -SIGBUS, "", 2),   # it cannot, and gives up
    ("install('note', 7)", 42, "alive\nsignal 7 code ", 3)])
def test_told_afterwards(before, status, said, reports):
    """The kernel tells of broken memory that nobody has used: no fault that
    comes again.  It is told twice; then there is a real one."""
    child = with_older("""
        import os, signal, struct, threading
        %s
        import faulthandler
        info = ctypes.create_string_buffer(
            struct.pack("iiiiQ", 7, 0, 5, 0, 0x700000000000), 128)
        for n in range(2):
            ctypes.CDLL(None).syscall(297 if %r else 240, os.getpid(),
                                      threading.get_native_id(), 7, info)
        print("alive", flush=True)
        if %r:
            faulthandler.sigbus()
    """ % (before, X86_64, "note" in before))
    assert (child.status, child.out[:len(said)]) == (status, said)
    assert child.err.count("Fatal Python error: Bus error\n") == reports


@pytest.mark.parametrize("off", [False, True])
def test_older_handler_that_jumps(off):
    """One that leaves by a jump is asked first from then on, and is not
    taken for one that still runs: with an alternate stack and without."""
    child = with_older("""
        import altstack, faulthandler, sys
        faulthandler.disable()
        install('jump')
        faulthandler.enable(all_threads=False, c_stack=False)
        if sys.argv[1] == "True":
            altstack.put(0, 2, 0)
        for n in range(3):
            assert older.jump_out(ctypes.c_void_p(16)) == 1
        older.abort_deep()
    """, str(off))
    assert status_name(child.status) == "-SIGABRT"
    assert child.err == (
        stack_report(8) + stack_report(9, "Aborted"))


@functools.lru_cache(maxsize=None)
def host():
    """Compile a program that embeds this Python; its path."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        pytest.skip("needs a shared libpython")
    folder = sysconfig.get_config_var("LIBDIR")
    compile_c("host", os.path.join(CHILDREN, "host.c"), "-L", folder,
              "-Wl,-rpath," + folder,
              "-lpython" + sysconfig.get_config_var("LDVERSION"))
    return os.path.join(FOLDER, "host")


def embedded(*arguments, **changes):
    """Run the host with our module and these arguments."""
    where = os.path.dirname(importlib.util.find_spec("faulthandler").origin)
    return run(host(), *arguments, env=environment(
        PYTHONHOME=sys.base_prefix, WHERE=where, **changes))


@pytest.mark.skipif(SANITIZED, reason="the sanitizer is not in the host")
@pytest.mark.parametrize("option", ["", "1"])
def test_host_gets_its_own_back(option):
    """A host's handler and alternate stack are there after Py_FinalizeEx();
    the next interpreter arms again."""
    child = embedded("own", PYTHONFAULTHANDLER=option)
    assert child.status == 42, child
    lines = child.out.splitlines()
    assert lines[0] == lines[3] == "True 256"
    assert lines[1][:21] == lines[4][:21] == "inside: its handler 0"
    assert lines[2] == lines[5] == "after: its handler 1, its stack 1", child


@pytest.mark.skipif(SANITIZED, reason="the sanitizer is not in the host")
def test_host_without_handlers():
    """There the module stays, for crashes in what ends after Python."""
    check(embedded(), SIGSEGV, report("  <no Python frame>\n"))


# ---- Signals that do not kill ----------------------------------------------

# The oldest frames of a thread of threading.
THREAD_FRAMES = '''\
  File "…/threading.py", line … in run
  File "…/threading.py", line … in _bootstrap_inner
  File "…/threading.py", line … in _bootstrap
'''


def test_process_1_survives():
    """Default actions of what is sent do not kill it, also from outside, as by
    docker kill --signal=ABRT: each is reported."""
    child = permitted("""
        import faulthandler, os, signal, threading
        from namespace import as_process_1
        faulthandler.enable(all_threads=False, c_stack=False)
        (ours, inside), (reader, outside) = os.pipe(), os.pipe()
        def send(signum):
            signal.pthread_kill(threading.get_ident(), signum)
        def work():
            send(6), send(6), send(6)
            thread = threading.Thread(target=send, args=(7,))
            thread.start()
            thread.join()
            os.write(inside, b"x"), os.read(reader, 1)
            faulthandler.disable()
            faulthandler.enable(all_threads=False, c_stack=False)
            faulthandler.sigsegv()
        def send_from_outside(pid):
            os.read(ours, 1), os.kill(pid, 6), os.write(outside, b"x")
        print(as_process_1(work, send_from_outside))
    """)
    assert (child.status, child.out) == (0, "11\n"), child
    assert child.seconds < LIMIT
    callers = ('  File "namespace.py", line 18 in as_process_1\n'
               '  File "<string>", line 18 in <module>\n')
    stack = block("""
        Fatal Python error: %s

        Stack (most recent call first):
          File "<string>", line %d in %s
    """)
    inside = '  File "<string>", line 8 in work\n' + callers
    assert child.err == (
        3 * (stack % ("Aborted", 6, "send") + inside)
        + stack % ("Bus error", 6, "send") + THREAD_FRAMES
        + stack % ("Aborted", 12, "work") + callers
        + stack % ("Segmentation fault", 15, "work") + callers)


def test_process_1_aborts():
    """abort() ends it by a fault: one report, the same death as without."""
    code = """
        import faulthandler, os
        from namespace import as_process_1
        print(as_process_1(os.abort))
    """
    child = permitted(code)
    plain = permitted(code, env=environment(FAULTHANDLER_USE_STDLIB="1"))
    assert child.err.count("Fatal Python error: ") == 1
    assert child.err.startswith("Fatal Python error: Aborted\n\n"), child
    assert child.out == plain.out == ("11\n" if X86_64 else plain.out)


@pytest.mark.parametrize("older, count", [
    ("signal.SIG_IGN", 0), ("lambda *a: print('handler', flush=True)", 3)])
def test_signals_that_do_not_kill(older, count):
    """Three of them, three reports, also of another thread; armed still.  A
    handler of signal.signal() runs after the report."""
    child = python("""
        import faulthandler, os, signal, threading
        faulthandler.disable()
        signal.signal(signal.SIGBUS, %s)
        faulthandler.enable(all_threads=False, c_stack=False)
        def send():
            signal.pthread_kill(threading.get_ident(), signal.SIGBUS)
        for n in range(2):
            send()
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
        faulthandler.sigsegv()
    """ % older)
    assert status_name(child.status) == "-SIGSEGV", child
    assert child.out == count * "handler\n"
    assert child.seconds < LIMIT
    sent = block("""
        Fatal Python error: Bus error

        Stack (most recent call first):
          File "<string>", line 6 in send
    """)
    assert child.err == (
        2 * (sent + '  File "<string>", line 8 in <module>\n')
        + sent + THREAD_FRAMES + block("""
            Fatal Python error: Segmentation fault

            Stack (most recent call first):
              File "<string>", line 12 in <module>
        """))


@needs_gdb
def test_signals_that_a_debugger_discards():
    """Each is reported, and the next one is, of any signal."""
    discard = ["continue", "signal 0"]
    child = gdb("""
        import faulthandler, os, signal
        faulthandler.enable(all_threads=False, c_stack=False)
        for signum in 7, 7, 4:
            os.kill(os.getpid(), signum)
    """, "handle SIG%d nostop noprint pass" % SIGRTMAX, "run", *discard,
        *discard, "continue", "continue")
    titles = re.findall("Fatal Python error: (.*)", child.out + child.err)
    assert titles == ["Bus error", "Bus error",
                      "Illegal instruction"], child
    assert "terminated with signal SIGILL" in child.out, child


@pytest.mark.parametrize("who", ["same thread", "other thread"])
def test_fault_that_another_thread_repairs(who):
    """It does not come again when it was reported: the process survives, and
    the next crash of any thread is reported."""
    child = with_full_pipe("""
        import ctypes, mmap, threading
        from damage import forbidden, libc
        faulthandler.enable(theirs, all_threads=False, c_stack=False)
        def started(function):
            thread = threading.Thread(target=function)
            thread.start()
            return thread
        def repair():
            until(lambda: reports(parent))
            libc.mprotect(ctypes.c_void_p(forbidden), 4096, 1)
            repaired[0] = 1
        def send():
            signal.raise_signal(signal.SIGFPE)
            time.sleep(60)
        repaired = mmap.mmap(-1, 1)
        empty(lambda: until(lambda: repaired[0]))
        started(repair)
        libc.memchr(ctypes.c_void_p(forbidden), 1, 1)
        started(send) if sys.argv[1] == "other thread" else send()
    """, who, WITH_SLEEPS="1")
    assert status_name(child.status) == "-SIGFPE", child
    assert child.seconds < LIMIT
    titles = re.findall("Fatal Python error: (.*)", child.out)
    assert [title.replace("-", " ") for title in titles] == [
        "Segmentation fault", "Floating point exception"]


def test_ignored_signals():
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
    assert child.out == "[7, 8] [] [7, 8]\n"


def test_newer_handler_of_python():
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
    assert child.out == "handler 7\nhandler 7\n"
    check(child, SIGSEGV, "")


@pytest.mark.parametrize("signum, _, call", SIGNALS)
def test_disabled(signum, _, call):
    """After disable() a crash is what it is without us."""
    check(python("""
        import faulthandler
        faulthandler.disable()
        %s
    """ % call), signum, "")


@needs_gdb
@pytest.mark.parametrize("call, start, name, truth", [
    ("ctypes.c_char.from_address(0x1230).value",
     "waiting.start(work)", "SIGSEGV", ["11", "1", "(void *) 0x1230"]),
    ("os.kill(os.getpid(), 7)", "work()", "SIGBUS", ["7", "0"])])
def test_debugger_sees_the_truth(call, start, name, truth):
    """At the second stop, ours is gone; the fault is where it was, what was
    sent has its own siginfo."""
    show = ["x/i $pc", "p $_siginfo.si_signo", "p $_siginfo.si_code",
            "p $_siginfo._sifields._sigfault.si_addr", "p $_thread",
            "continue"]
    child = gdb("""
        import ctypes, faulthandler, os, waiting
        def work():
            %s
        %s
    """ % (call, start), "run", *show, *show)
    stops = child.out.split("received signal " + name)
    assert len(stops) == 3
    seen = [re.findall(r"(?m)^(?:=> .*|\$\d+ = (.*))$", stop)[-5:]
            for stop in stops[1:]]
    assert seen[0][1:] == seen[1][1:]
    assert seen[1][1:1 + len(truth)] == truth
    code = [re.findall(r"(?m)^=> (\w+)", stop)[0] for stop in stops[1:]]
    assert code[0] == code[1] or name == "SIGBUS"
    assert "terminated with signal " + name in stops[2]
    assert (child.out + child.err).count("Fatal Python error") == 1


# ---- what shows only where a guard is missing ------------------------------

@few_versions
def test_disable_during_a_dump():
    """disable() leaves handlers that a dump relies on where they are."""
    child = with_full_pipe("""
        import ctypes, damage, waiting
        def last():
            damage.damage(sys._getframe(), "name", damage.forbidden)
            waiting.wait()
        # The oldest thread is listed last, and the rest do not fit the
        # buffer: the watchdog reads it once the pipe is read.
        waiting.start(last)
        for n in range(30):
            waiting.start(waiting.wait, 90)
        before = set(os.listdir("/proc/self/task"))
        faulthandler.dump_traceback_later(0.1, file=theirs)
        watchdog, = set(os.listdir("/proc/self/task")) - before
        def sleeps(thread):
            return int(status(thread, "voluntary_ctxt_switches"))
        def until_disabling():
            end = time.monotonic() + 1
            while time.monotonic() < end:
                before = sleeps(parent)
                time.sleep(0.01)
                if sleeps(parent) - before >= 10:
                    break       # it waits, in many short sleeps
        polls = ctypes.c_int.in_dll(ctypes.CDLL("./patient.so"), "polls")
        until(lambda: polls.value)      # it waits at the pipe
        empty(until_disabling)
        faulthandler.disable()
        until(lambda: not os.path.exists("/proc/self/task/" + watchdog))
        os._exit(7)
    """)
    assert child.status == 7
    assert re.search(r' in \?\?\?\n', child.out)


@few_versions
def test_older_handler_of_a_call_through_null():
    """The C stack of a bad call is no change to what it hears."""
    child = with_older("""
        install('exit', 11)
        import faulthandler
        faulthandler.enable(c_stack=True)
        ctypes.CFUNCTYPE(None)(16)()
    """)
    assert child.status == 42
    assert re.search(r"^signal 11 code 1 at 0x10"
                     " which is the pc", child.out)


@few_versions
@pytest.mark.parametrize("flags", [
    0, 0x10000000, 0x18000000])     # SA_RESTART, SA_ONSTACK
def test_abort_inside_an_older_handler(flags):
    """An older handler that aborts makes no second report."""
    child = with_older("""
        install(%r, 11, %d)
        import faulthandler
        faulthandler.sigsegv()
    """ % ("unblock" if flags else "abort", flags))
    check(child, SIGABRT, report('  File "<string>", line 3 in <module>\n'))


def test_last_of_the_chain():
    """An older handler that calls ours is called once a fault."""
    child = with_older("""
        import faulthandler
        ctypes.c_int.in_dll(older, "loud").value = 1
        install('newer')
        faulthandler.disable()
        faulthandler.enable(all_threads=False, c_stack=False)
        faulthandler.sigsegv()
    """)
    check(child, SIGSEGV, stack_report(6))
    assert child.out == "newer\n"


def test_older_handler_after_a_crash_of_a_vfork_child():
    """Who comes before us is known again after that."""
    compile_library("places")
    child = with_older("""
        import faulthandler
        assert ctypes.CDLL("./places.so").crash_in_vfork() == 11
        faulthandler.disable()
        install('exit')
        faulthandler.enable(all_threads=False, c_stack=False)
        faulthandler.sigsegv()
    """)
    assert child.out.startswith("signal 11 code 1 at (nil) in thread ")
    assert child.status == 42
    assert child.err.endswith(stack_report(6))


def test_older_handler_that_jumped_from_a_stack_that_is_gone():
    """The call that it left on there is not looked at."""
    child = with_older("""
        import altstack, faulthandler
        faulthandler.disable()
        install('jump')
        faulthandler.enable(all_threads=False, c_stack=False)
        for n in range(2):
            start, _, size = altstack.take(1 << 18)
            older.jump_out(ctypes.c_void_p(16))
        altstack.put(0, 2, 0)
        altstack.libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(size))
        faulthandler.sigfpe()
    """)
    assert status_name(child.status) == "-SIGFPE"
    assert re.sub("Floating.point e", "Floating point e", child.err) == (
        stack_report(7) + stack_report(10, "Floating point exception"))


# ---- Other supervisors -----------------------------------------------------

FRAME = '  File "<string>", line %d in <module>\n'


@pytest.mark.parametrize("words", [
    pytest.param(["qemu-x86_64-static"], marks=needs_qemu),
    pytest.param(["valgrind", "-q"], marks=[needs_valgrind,
                                            pytest.mark.slow])], ids=" ".join)
@pytest.mark.parametrize("signum, title, call", SIGNALS[:-1])
def test_crash_under_others(words, signum, title, call):
    """qemu 7.2 enters handlers with a stack that is not aligned, which killed
    healthy processes in register(); valgrind takes a fault that is queued
    again for one of its own."""
    child = run(*words, PYTHON, "-c", block("""
        import faulthandler, signal
        faulthandler.register(10, all_threads=False)
        signal.raise_signal(10)
        %s
    """) % call, limit=4 * PATIENCE)
    assert status_name(child.status) == status_name(-signum), child
    # valgrind has words of its own between them.
    for text in ("Stack (most recent call first):\n" + FRAME % 3,
                 report(FRAME % 4, title)):
        assert child.err.count(text) == 1, child
    assert "INTERNAL ERROR" not in child.err


@pytest.mark.slow
@needs_valgrind
@pytest.mark.skipif(sys.version_info[:2] == (3, 11),
                    reason="memcheck finds something in int.from_bytes()")
@pytest.mark.parametrize("options", [["-X", "faulthandler"], []])
def test_memcheck(options):
    """A healthy program: memcheck finds nothing in us."""
    # Python's own allocator looks at the memory of others.
    child = run("valgrind", "-q", "--error-exitcode=77", PYTHON, *options,
                "-c", block("""
        import faulthandler, os, time, waiting
        file = open(os.devnull, "w")
        faulthandler.enable(file, c_stack=True, details=True)
        faulthandler.enable(file, c_stack="mixed")
        faulthandler.disable()
        faulthandler.enable(file)
        waiting.together(lambda: faulthandler.dump_traceback(file), 20)
        faulthandler.register(10, file)
        os.kill(os.getpid(), 10)
        faulthandler.unregister(10)
        faulthandler.dump_traceback_later(0.05, file=file)
        time.sleep(0.5)
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_c_stack(file)
    """), env=environment(PYTHONMALLOC="malloc"), limit=4 * PATIENCE)
    assert child.status == 0, child
