"""Crash with everything switched on: README.rst shows what this prints."""

import ctypes
import threading

import faulthandler


def serve(served):
    """Another thread, which waits."""
    faulthandler.context.set("GET /orders/17")
    with served:
        served.notify()
        served.wait()


def read(address):
    """Read a C string where there is none."""
    try:
        return {}["cached"]
    except KeyError:
        return ctypes.string_at(address)


def main():
    """Start a thread and crash under a comparison that sort() calls."""
    faulthandler.enable(c_stack="mixed", details=True)
    faulthandler.context.set("nightly report")
    served = threading.Condition()
    with served:
        threading.Thread(target=serve, args=(served,),
                         name="worker-3", daemon=True).start()
        served.wait()       # it has the lock until it waits itself
    sorted([16], key=read)


if __name__ == "__main__":
    main()
