"""Run threads that change their stacks all the time, while they are dumped.

    race.py SECONDS USER_FILE LATER_FILE MORE

The files are names or descriptors. MORE names one more function to run, or is
-.
"""
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
import types


def keep_on(step):
    """Repeat a step until the time is over, but once at least."""
    step()
    while time.monotonic() < end:
        step()


def leaf(n):
    return n + 1


def spin():
    for n in range(200):
        leaf(leaf(n))


def recurse(n):
    return leaf(n) if n <= 0 else recurse(n - 1) + 1


def recursion():
    recurse(random.randrange(140))


SOURCE = """
def fresh_%(n)d(depth):%(pad)s
    name_%(n)d = [depth, %(n)d]
    if depth > 0:
        return fresh_%(n)d(depth - 1)
    class Fresh_%(n)d:
        def __init__(self):
            self.x = name_%(n)d
        def __eq__(self, other):
            return list(map(lambda y: y, self.x))
    return Fresh_%(n)d() == Fresh_%(n)d()
fresh_%(n)d(%(depth)d)
"""


def new_code():
    n = random.randrange(1000000)
    source = SOURCE % {"n": n, "pad": "\n" * random.randrange(300),
                       "depth": random.randrange(9)}
    exec(compile(source, "<fresh_%d>" % n, "exec"), {"__name__": "x"})


def short_lives():
    born = [threading.Thread(target=recurse, args=(n,)) for n in range(4)]
    for thread in born:
        thread.start()
    for thread in born:
        thread.join()


def chain(n):
    if n:
        yield from chain(n - 1)
    try:
        yield n
    except KeyError:
        yield leaf(n)


def generators():
    for g in [chain(30) for _ in range(5)]:
        next(g)
        next(g)
        g.throw(KeyError())
        g.close()
    sum(leaf(x) for x in range(50))


@types.coroutine
def pause():
    yield leaf(2)


async def awaits(n):
    await (awaits(n - 1) if n else pause())


def coroutines():
    c = awaits(20)
    c.send(None)
    next(c.__await__(), None)


class Node:
    def __init__(self):
        self.me = self

    def __del__(self):
        leaf(1)


def garbage():
    for _ in range(100):
        Node()
    gc.collect(random.randrange(3))


def deep(n):
    return leaf(n) if n <= 0 else max(map(deep, [n - 1]))


def callbacks():
    deep(40)
    sorted(range(30), key=lambda x: leaf(-x))


def raises(n):
    if n:
        raises(n - 1)
    raise ValueError(n)


def exceptions():
    try:
        raises(random.randrange(60))
    except ValueError as error:
        str(error)


def churn():
    """Arm, disarm, cancel or fork."""
    what = random.randrange(6)
    if what == 0:
        faulthandler.disable()
        faulthandler.enable()
    elif what == 1:
        faulthandler.enable(all_threads=False)
    elif what in (2, 3):
        if what == 2:
            faulthandler.unregister(signal.SIGUSR1)
        faulthandler.register(signal.SIGUSR1, file=user_file)
    elif what == 4:
        faulthandler.cancel_dump_traceback_later()
        faulthandler.dump_traceback_later(0.002, True, later_file)
    elif random.randrange(20) == 0:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            faulthandler.dump_traceback(null)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            os._exit(96)
    time.sleep(0.001)


INSIDE = """
def inside(n):
    return n and inside(n - 1)
for n in range(300):
    inside(50)
"""


def interpreters():
    """Make a subinterpreter that runs code and ends."""
    try:
        import _interpreters as module
    except ImportError:
        import _xxsubinterpreters as module
    one = module.create()
    module.run_string(one, INSIDE)
    module.destroy(one)


def crash():
    time.sleep(random.random() * 0.3)
    faulthandler._sigsegv(random.random() < 0.5)


def opened(name):
    return int(name) if name.isdigit() else open(name, "ab")


if __name__ == "__main__":
    end = time.monotonic() + float(sys.argv[1])
    null = open(os.devnull, "w")
    user_file, later_file = map(opened, sys.argv[2:4])
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, file=user_file, all_threads=True)
    faulthandler.dump_traceback_later(0.002, repeat=True, file=later_file)
    sys.setswitchinterval(0.00002)
    sys.setrecursionlimit(5000)
    os.write(1, b"ready\n")
    steps = [recursion, new_code, short_lives, short_lives, generators,
             coroutines, garbage, callbacks, exceptions]
    if sys.argv[4] != "-":
        steps.append(globals()[sys.argv[4]])
    threads = [threading.Thread(target=keep_on, args=(step,))
               for step in steps]
    for thread in threads:
        thread.start()
    keep_on(spin)
    for thread in threads:
        thread.join()
    signal.raise_signal(signal.SIGUSR1)     # one dump, however busy we were
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    faulthandler.cancel_dump_traceback_later()
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)       # its thread writes the last dump
