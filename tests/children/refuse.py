"""refuse(name): from now on a system call is not permitted."""
import ctypes
import os
import struct

NUMBERS = {                     # on x86-64, on aarch64
    "clone": (56, 220),
    "process_vm_readv": (310, 270),
    "userfaultfd": (323, 282),
}
libc = ctypes.CDLL(None, use_errno=True)


def number(name):
    return NUMBERS[name][os.uname().machine == "aarch64"]


def refuse(name):
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number(name)),
            (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000)]
    code = b"".join(struct.pack("HBBI", *line) for line in code)
    code = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", 4, ctypes.addressof(code))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
