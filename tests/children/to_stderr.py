"""Crash, or dump and live on, with a small report or one of 300 000 bytes.

    to_stderr.py WHAT SIZE [CODE]

CODE runs first. Who lives on says so on standard output.
"""
import faulthandler
import os
import resource
import signal
import sys
import threading
import time

what, size = sys.argv[1:3]


def die():
    if what == "crash":
        faulthandler.sigsegv()
    elif what == "dump":
        faulthandler.dump_traceback(file=2)
    elif what == "user":
        faulthandler.register(signal.SIGUSR1, file=2)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)
    elif what == "later":
        path, nap = "/proc/self/task", time.sleep
        if os.path.exists(path):
            ls, arm = os.listdir, [faulthandler.dump_traceback_later]
            n = len(ls(path))
            # Until its thread has ended.  One line: all reports have it.
            while arm and arm.pop()(.05, file=2) or len(ls(path)) > n: nap(.01)
        else:
            faulthandler.dump_traceback_later(.05, file=2); time.sleep(3)
    os.write(1, b"alive")
    os._exit(0)


exec("".join(sys.argv[3:]))
if size == "small":
    die()
name = "f" * 480
exec(compile("""
def %s(n, last):
    return %s(n - 1, last) if n else last()
""" % (name, name), "<" + "g" * 480 + ">", "exec"))
deep = globals()[name]
ready = threading.Semaphore(0)


def wait():
    # One line: the report that others are compared with has it, too.
    ready.release(), time.sleep(100)


for _ in range(3):
    threading.Thread(target=deep, args=(80, wait), daemon=True).start()
for _ in range(3):
    ready.acquire()
time.sleep(0.1)
deep(80, die)
