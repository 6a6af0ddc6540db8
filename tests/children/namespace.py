"""as_process_1(): run a function in process 1 of a new namespace."""
import ctypes
import os
import sys


def as_process_1(function, outside=None):
    """Return the signal that it died of, 0 if it ended by itself.

    outside(pid) is called meanwhile, by a process outside the namespace.
    """
    if ctypes.CDLL(None).unshare(0x20000000) < 0:
        os._exit(77)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            sys.stdout.flush()
            os._exit(0)
    if outside is not None:
        outside(pid)
    return os.waitpid(pid, 0)[1] & 127
