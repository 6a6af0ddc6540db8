"""A report waits for a full pipe; meanwhile the pipe's number is used again.

    wait_for_pipe.py WHAT HOW

WHAT makes the report; HOW takes the descriptor away: "close" or "disarm".
The file "other" must get nothing.
"""
import faulthandler
import os
import signal
import sys
import threading
import time

what, how = sys.argv[1:]
ours, theirs = os.pipe()
os.dup2(ours, 300)
os.set_blocking(theirs, False)
try:
    while True:
        os.write(theirs, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(theirs, True)
started = threading.Event()


def victim():
    started.set()
    if what == "crash":
        time.sleep(0.3)
        faulthandler._sigsegv(True)
    elif what == "dump":
        time.sleep(0.3)
        faulthandler.dump_traceback(file=theirs)
    time.sleep(20)


if what == "crash":
    faulthandler.enable(file=theirs)
elif what == "user":
    faulthandler.register(signal.SIGUSR1, file=theirs)
elif what == "later":
    faulthandler.dump_traceback_later(0.3, file=theirs)
thread = threading.Thread(target=victim, daemon=True)
thread.start()
started.wait()
if what == "user":
    signal.pthread_kill(thread.ident, signal.SIGUSR1)
time.sleep(0.6)
if how == "close":
    os.closerange(3, 200)
elif what == "crash":
    faulthandler.disable()
elif what == "user":
    faulthandler.unregister(signal.SIGUSR1)
elif what == "later":
    faulthandler.cancel_dump_traceback_later()
for n in range(20):
    os.open("other", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
time.sleep(25 if what == "crash" else 3)    # a crash ends it before
