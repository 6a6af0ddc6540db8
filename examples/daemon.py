"""A classic daemon that crashes: docs/recipes.rst shows when to arm."""

import os
import sys

import faulthandler


def detach():
    """Fork twice: a new session, no terminal, standard files at /dev/null."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.closerange(3, 1024)


def main():
    """Arm with a path, become a daemon, crash."""
    folder = sys.argv[1]
    faulthandler.enable(os.path.join(folder, "daemon-crash-%p.txt"),
                        details=True)
    detach()
    faulthandler.sigsegv()


if __name__ == "__main__":
    main()
