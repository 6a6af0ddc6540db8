"""One test for each bug; the docstring says what broke."""

from signal import SIGABRT, SIGSEGV

from helpers import check_library, crash, died, library_report, python, report


def test_watchdogs_armed_at_once():
    """One of two watchdogs was lost, and could not be cancelled."""
    child = python("""
        import faulthandler, os, time, waiting
        def arm():
            for _ in range(100):
                faulthandler.dump_traceback_later(60)
        waiting.together(arm, 4)
        faulthandler.cancel_dump_traceback_later()
        end = time.monotonic() + 20     # join() may return before the
        while (len(os.listdir("/proc/self/task")) > 1   # task is gone
               and time.monotonic() < end):
            time.sleep(0.01)
        print(len(os.listdir("/proc/self/task")))
    """)
    assert (child.status, child.out, child.err) == (0, "1\n", "")


def test_longest_timeout():
    """The longest timeout came at once: its end was no number."""
    child = python("""
        import faulthandler, threading, time
        faulthandler.dump_traceback_later(threading.TIMEOUT_MAX, exit=True)
        time.sleep(0.2)
        faulthandler.cancel_dump_traceback_later()
    """)
    assert (child.status, child.out, child.err) == (0, "", "")


def test_import_while_collecting():
    """3.8's collector met a module that had no state yet."""
    crash("""
        import gc
        gc.set_threshold(1)
        import faulthandler
        faulthandler.sigsegv()
    """, report('  File "<string>", line 4 in <module>\n'))


def test_enable_after_default_action():
    """enable() said it was armed where SIG_DFL had replaced it."""
    child = python("""
        import faulthandler, signal
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        faulthandler.enable(c_stack=False)
        faulthandler.sigsegv()
    """)
    check_library(child, SIGSEGV, library_report(
        '  File "<string>", line 4 in <module>\n'))


def test_fatal_error():
    """Py_FatalError() gave its own traceback, and ours as well."""
    child = python("""
        import ctypes, faulthandler
        ctypes.pythonapi.Py_FatalError(b"message")
    """)
    died(child, SIGABRT)
    assert child.err.count('File "<string>", line 2') == 1


def test_threads_that_start():
    """Threads that start were listed twice, or with the number 0."""
    child = python("""
        import faulthandler, os, re, signal, tempfile, threading, time
        import busy
        file = tempfile.TemporaryFile("w+")
        faulthandler.register(signal.SIGUSR1, file)
        threads = busy.begin()
        creators = {threading.get_ident(), *(t.ident for t in threads)}
        end = time.monotonic() + 0.7
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
    assert (child.status, child.out) == (0, "True 0 0\n")
