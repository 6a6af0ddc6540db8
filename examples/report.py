"""Crash with everything switched on: README.rst shows what this prints."""

import ctypes
import threading

import faulthandler


def serve(ready, never):
    """Another thread, which waits."""
    faulthandler.context("GET /orders/17")
    ready.set()
    never.wait()


def read(address):
    """Read a C string where there is none."""
    try:
        return {}["cached"]
    except KeyError:
        return ctypes.string_at(address)


def main():
    """Start a thread and crash under a comparison that sort() calls."""
    faulthandler.enable(c_stack="mixed", details=True)
    faulthandler.context("nightly report")
    ready = threading.Event()
    threading.Thread(target=serve, args=(ready, threading.Event()),
                     name="worker-3", daemon=True).start()
    ready.wait()
    sorted([16], key=read)


if __name__ == "__main__":
    main()
