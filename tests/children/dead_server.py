"""A file server in user space, which can die: dead_server.py FOLDER.

It serves one empty folder by the protocol of /dev/fuse, until SIGUSR1: then
it takes a request, and never answers.
"""
import ctypes
import os
import signal
import struct
import sys

LOOKUP, GETATTR, STATFS, INIT = 1, 3, 17, 26
FORGET = 2
NOTHING, NOT_KNOWN = 2, 38          # ENOENT, ENOSYS


def answer(operation):
    """The answer: an error number, or bytes."""
    if operation == INIT:
        return struct.pack("<4I2H2I2HI", 7, 31, 65536, 0, 10, 10, 65536,
                           1, 16, 0, 0) + bytes(28)
    if operation == GETATTR:        # of the folder
        return struct.pack("<Q2I6Q10I", 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
                           0o40755, 2, 0, 0, 0, 4096, 0)
    if operation == STATFS:
        return struct.pack("<5Q4I", 9, 9, 9, 9, 9, 4096, 255, 4096, 0) \
            + bytes(24)
    return NOTHING if operation == LOOKUP else NOT_KNOWN


def main():
    dead = []
    device = os.open("/dev/fuse", os.O_RDWR)
    signal.signal(signal.SIGUSR1, lambda *_: dead.append(True))
    libc = ctypes.CDLL(None)
    if libc.mount(b"fuse", sys.argv[1].encode(), b"fuse", 0,
                  b"fd=%d,rootmode=40000,user_id=0,group_id=0" % device):
        sys.exit(77)
    print("ready", flush=True)
    while True:
        request = os.read(device, 1 << 20)
        while dead:
            signal.pause()
        _, operation, unique = struct.unpack_from("<2IQ", request)
        if operation == FORGET:
            continue
        text = answer(operation)
        error = text if isinstance(text, int) else 0
        text = b"" if error else text
        os.write(device, struct.pack("<IiQ", 16 + len(text), -error, unique)
                 + text)


main()
