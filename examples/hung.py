"""A server that hangs: send it SIGUSR1, as docs/recipes.rst says."""

import signal
import threading

import faulthandler


def serve(lock):
    """Wait for a lock that is never given back."""
    faulthandler.context.set("GET /orders/17")
    lock.acquire()


def main():
    """Arm, start a thread, and wait with it."""
    faulthandler.register(signal.SIGUSR1, details=True)
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=serve, args=(lock,), daemon=True)
    thread.start()
    print("ready", flush=True)
    thread.join()


if __name__ == "__main__":
    main()
