"""start() a thread that waits for ever: it returns once the thread does."""
import _thread
import threading

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
