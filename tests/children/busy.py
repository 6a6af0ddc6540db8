"""Threads that run, recurse, start, end and run fresh code, for ever."""
import sys
import threading

stop = False


def recurse(n):
    if n:
        return recurse(n - 1) + 1
    return 0


def run():
    while not stop:
        recurse(40)
        space = {}
        exec("def f(x):\n return [g for g in (y for y in x)]", space)
        space["f"](range(5))


def start():
    while not stop:
        thread = threading.Thread(target=recurse, args=(20,))
        thread.start()
        thread.join()


def begin():
    sys.setswitchinterval(0.0001)
    threads = [threading.Thread(target=f) for f in (run, run, start, start)]
    for thread in threads:
        thread.start()
    return threads


def end(threads):
    global stop
    stop = True
    for thread in threads:
        thread.join()
