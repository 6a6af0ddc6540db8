"""install() a handler of older.c, which is the library `older`."""
import ctypes

ONSTACK = 0x08000000
older = ctypes.CDLL("./older.so")


def install(kind, signum=11, flags=None):
    if flags is None:
        flags = ONSTACK if kind in ("newer", "chain", "jump") else 0
    older.install(kind.encode(), signum, flags)
