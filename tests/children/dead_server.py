"""A file server in user space, which can die: dead_server.py FOLDER.

It serves one empty folder by the protocol of /dev/fuse, until SIGUSR1: then
it takes a request, and never answers.
"""
import ctypes
import os
import signal
import struct
import sys

LOOKUP, GETATTR, WRITE, STATFS, INIT, CREATE = 1, 3, 16, 17, 26, 35
OPEN, OPENDIR = 14, 27
DONE = (18, 25, 28, 29)             # flush, release and their like
FORGET = 2
NOTHING, NOT_KNOWN = 2, 38          # ENOENT, ENOSYS

files = {}                          # name: [inode, size]


def attributes(inode):
    """What stat() says of it."""
    size = sum(size for number, size in files.values() if number == inode)
    mode = 0o40755 if inode == 1 else 0o100600
    return struct.pack("<6Q10I", inode, size, 0, 0, 0, 0, 0, 0, 0, mode,
                       2 if inode == 1 else 1, 0, 0, 0, 4096, 0)


def entry(inode):
    return struct.pack("<4Q2I", inode, 0, 0, 0, 0, 0) + attributes(inode)


def answer(operation, inode, body):
    """The answer: an error number, or bytes."""
    if operation == INIT:
        return struct.pack("<4I2H2I2HI", 7, 31, 65536, 0, 10, 10, 65536,
                           1, 16, 0, 0) + bytes(28)
    if operation == GETATTR:
        return struct.pack("<Q2I", 0, 0, 0) + attributes(inode)
    if operation == LOOKUP:
        name = body.split(b"\0")[0]
        return entry(files[name][0]) if name in files else NOTHING
    if operation == CREATE:
        number = len(files) + 2
        files[body[16:].split(b"\0")[0]] = [number, 0]
        return entry(number) + struct.pack("<Q2I", 1, 0, 0)
    if operation == WRITE:
        offset, size = struct.unpack_from("<QI", body, 8)
        for file in files.values():
            if file[0] == inode:
                file[1] = offset + size
        return struct.pack("<2I", size, 0)
    if operation in (OPEN, OPENDIR):
        return struct.pack("<Q2I", 1, 0, 0)
    if operation == STATFS:
        return struct.pack("<5Q4I", 9, 9, 9, 9, 9, 4096, 255, 4096, 0) \
            + bytes(24)
    return b"" if operation in DONE else NOT_KNOWN


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
        _, operation, unique, inode = struct.unpack_from("<2I2Q", request)
        if operation == FORGET:
            continue
        text = answer(operation, inode, request[40:])
        error = text if isinstance(text, int) else 0
        text = b"" if error else text
        os.write(device, struct.pack("<IiQ", 16 + len(text), -error, unique)
                 + text)


main()
