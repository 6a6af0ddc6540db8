"""Process 1 of a container: a signal that is sent does not kill it."""

import os
import signal

import faulthandler


def main():
    """Send a signal, which is reported; then crash."""
    faulthandler.enable()
    os.kill(os.getpid(), signal.SIGABRT)
    print("process", os.getpid(), "is still there", flush=True)
    faulthandler.sigsegv()


if __name__ == "__main__":
    main()
