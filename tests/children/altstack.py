"""take() an alternate stack; g() calls crash, which the program sets."""
import ctypes
import mmap
import sys

import damage
from damage import libc

libc.getauxval.restype = ctypes.c_ulong
Stack = ctypes.c_size_t * 3             # start, flags, size
kept = []


def now():
    stack = Stack()
    libc.sigaltstack(None, stack)
    return list(stack)


def put(*words):
    assert libc.sigaltstack(Stack(*words), None) == 0


def take(size):
    """Of so many bytes, with a forbidden page below."""
    # No less than the kernel needs for itself, and 1 KiB.
    size = max(size, libc.getauxval(51) + 1024)
    kept.append(mmap.mmap(-1, mmap.PAGESIZE + size))
    start = ctypes.addressof(ctypes.c_char.from_buffer(kept[-1]))
    assert libc.mprotect(ctypes.c_void_p(start), mmap.PAGESIZE, 0) == 0
    put(start + mmap.PAGESIZE, 0, size)
    return now()


def f():
    damage.damage(sys._getframe(), "name", damage.forbidden)
    crash()


def g():
    f()
