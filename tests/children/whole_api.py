"""Eight threads call everything at once: whole_api.py SECONDS FOLDER.

Each thread's calls follow from its number.  Files are made for one call each,
so that threads replace and release each other's.
"""
import faulthandler
import os
import random
import signal
import sys
import sysconfig
import threading
import time

SECONDS, FOLDER = float(sys.argv[1]), sys.argv[2]
NULL = open(os.devnull, "w")


def new_file(name):
    return open(os.path.join(FOLDER, name), "ab", buffering=0)


CALLS = [
    lambda: faulthandler.enable(),
    lambda: faulthandler.enable(new_file("fatal"), details=True),
    lambda: faulthandler.enable(NULL, copy=os.path.join(FOLDER, "copy")),
    lambda: faulthandler.enable(NULL, c_stack="mixed", max_threads=3),
    lambda: faulthandler.disable(),
    lambda: faulthandler.is_enabled(),
    lambda: faulthandler.dump_traceback(new_file("dump"), details=True),
    lambda: faulthandler.dump_traceback(NULL, all_threads=False),
    lambda: faulthandler.dump_c_stack(new_file("dump")),
    lambda: faulthandler.dump_traceback_later(
        0.001, repeat=True, file=new_file("later")),
    lambda: faulthandler.dump_traceback_later(0.001, file=NULL, details=True),
    lambda: faulthandler.cancel_dump_traceback_later(),
    lambda: faulthandler.register(
        signal.SIGUSR1, new_file("user"), details=True),
    lambda: faulthandler.register(signal.SIGUSR2, NULL, False, chain=True),
    lambda: faulthandler.unregister(signal.SIGRTMIN),
    lambda: faulthandler.register(signal.SIGRTMIN, NULL),
    lambda: os.kill(os.getpid(), signal.SIGUSR1),
    lambda: os.kill(os.getpid(), signal.SIGUSR2),
    lambda: faulthandler.context.set("call %d" % next(count)),
    lambda: threading.Thread(target=faulthandler.is_enabled).start(),
    lambda: setattr(sys, "stderr", open(os.devnull, "w")),
]


def work(number):
    choose = random.Random(number).choice
    made = 0
    while time.monotonic() < until or made < 100:
        choose(CALLS)()
        made += 1


count = iter(range(10 ** 9))
until = time.monotonic() + SECONDS
standard_error = sys.stderr
for signum in (signal.SIGUSR1, signal.SIGUSR2):     # default: the end
    signal.signal(signum, signal.SIG_IGN)
    faulthandler.register(signum, NULL)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
faulthandler.cancel_dump_traceback_later()
sys.stderr = standard_error
free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED") == 1
print(not (free_threaded and sys._is_gil_enabled()))
