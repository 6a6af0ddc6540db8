"""page: an address that blocks who reads there, for ever."""
import ctypes
import fcntl
import mmap
import os
import struct

from refuse import number

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_size_t
page = libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), 3, 0x22, -1, 0)
fault = libc.syscall(number("userfaultfd"), os.O_CLOEXEC | 1)
if fault < 0:
    raise SystemExit(77)
for call, words in ((0xc018aa3f, (0xaa, 0, 0)),
                    (0xc020aa00, (page, mmap.PAGESIZE, 1, 0))):
    fcntl.ioctl(fault, call, bytearray(struct.pack("%dQ" % len(words),
                                                   *words)))
