"""refuse(name): from now on a system call fails, as one that is not permitted
or with another error."""
import ctypes
import errno
import os
import struct

NUMBERS = {                     # on x86-64, on aarch64
    "clone": (56, 220),
    "fcntl": (72, 25),
    "openat": (257, 56),
    "pipe2": (293, 59),
    "process_vm_readv": (310, 270),
    "rt_tgsigqueueinfo": (297, 240),
    "sigaltstack": (131, 132),
    "tgkill": (234, 131),
    "timer_create": (222, 107),
    "userfaultfd": (323, 282),
}
libc = ctypes.CDLL(None, use_errno=True)


def number(name):
    return NUMBERS[name][os.uname().machine == "aarch64"]


def refuse(name, error=errno.EPERM):
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number(name)),
            (0x06, 0, 0, 0x50000 | error), (0x06, 0, 0, 0x7fff0000)]
    code = b"".join(struct.pack("HBBI", *line) for line in code)
    code = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
