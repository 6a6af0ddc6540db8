"""start() a thread that waits for ever: it returns once the thread does.
together() some threads call a function.  until() something is so; fill() a
pipe that nobody reads."""
import _thread
import os
import threading
import time

begun, never = _thread.allocate_lock(), _thread.allocate_lock()
begun.acquire(), never.acquire()


def wait(depth=0):
    if depth:
        wait(depth - 1)
    begun.release(); never.acquire()


def start(function=wait, *arguments, name=None):
    if name is None:
        _thread.start_new_thread(function, arguments)
    else:
        threading.Thread(target=function, args=arguments, daemon=True,
                         name=name).start()
    begun.acquire()


def together(function, count):
    threads = [threading.Thread(target=function) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def until(done):
    while not done():
        time.sleep(0.001)


def fill(pipe):
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(pipe, True)
