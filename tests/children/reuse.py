"""Give a file to the module, then use its number again.

    reuse.py WHAT HOW

WHAT makes the report.  HOW takes the number away: from the file "meant"
before it is written to ("reuse", "replace", "all"), or from a full pipe that
the report waits for ("close", "disarm").  The file "other" must get nothing.
"""
import faulthandler
import os
import signal
import sys
import threading
import time

from waiting import fill

what, how = sys.argv[1:]
waits = how in ("close", "disarm")


def opened(name):
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


def full_pipe():
    ours, theirs = os.pipe()
    os.dup2(ours, 300)
    fill(theirs)
    return theirs


def report():
    started.set()
    if what == "crash":
        faulthandler._sigsegv(True)
    elif what == "dump":
        faulthandler.dump_traceback(file=file)
    time.sleep(20)


started = threading.Event()
file = full_pipe() if waits else opened("meant")
if what == "crash":
    faulthandler.enable(file=file)
elif what == "user":
    faulthandler.register(signal.SIGUSR1, file=file)
elif what == "later":
    faulthandler.dump_traceback_later(0.3 if waits else 3, file=file)
if waits:
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    started.wait()
    if what == "user":
        signal.pthread_kill(thread.ident, signal.SIGUSR1)
    time.sleep(0.6)
if how == "reuse":
    os.close(file)
    assert opened("other") == file
elif how == "replace":
    os.dup2(opened("other"), file)
elif how in ("all", "close"):
    os.closerange(3, 200)
elif what == "crash":
    faulthandler.disable()
elif what == "user":
    faulthandler.unregister(signal.SIGUSR1)
elif what == "later":
    faulthandler.cancel_dump_traceback_later()
for _ in range(0 if how in ("reuse", "replace") else 40):
    opened("other")
if waits:
    time.sleep(25 if what == "crash" else 3)    # a crash ends it before
elif what == "crash":
    faulthandler.sigsegv()
elif what == "user":
    os.kill(os.getpid(), signal.SIGUSR1)
else:
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.01)
