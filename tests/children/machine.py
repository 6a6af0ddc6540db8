"""code() is the address of machine code, run() a function of it; load() is
code that gives a register a value.

Tests give the code of x86-64.  On aarch64 it stands for what does the same.
"""
import ctypes
import mmap
import os

AARCH64 = {
    "0f0b": "00000000",                             # udf
    "50ebfd": "e00f1ff8ffffff17",                   # push for ever
    "31c08a00": "000080d200004039",                 # read NULL
    "31c0ffd0": "000080d200003fd6",                 # call NULL
    "31e450": "000080d21f000091e00f1ff8",           # sp = NULL, push
    "4831ed31e450": "000080d21d0080d21f000091e00f1ff8",     # fp, too
    "4831ed0f0b": "000080d2fd0300aa00000000",       # fp = NULL, udf
    "48bc00000000007000005031c0c3":                 # sp to nowhere, push
        "0000cad21f000091e00300f9c0035fd6",
    "4881ec0000004050": "0000a8d2ff6320cbe00300f9",     # sp -= 1 GiB, push
    "48bcddddddddddddddddff342500000000":           # sp not canonical, read
        "00ba9bd2a0bbbbf2a0bbdbf2a0bbfbf21f000091e00340f9",
    "48bcddddddddddddddddff3425000000000f0b":       # the same
        "00ba9bd2a0bbbbf2a0bbdbf2a0bbfbf21f000091e00340f9",
    "48b8ddddddddddddddddffd0":                     # call freed memory
        "80bb9bd2a0bbbbf2a0bbdbf2a0bbfbf200003fd6",
}

LOAD = dict(rbx="48bb", rcx="48b9", rdx="48ba", rsi="48be", rdi="48bf",
            rbp="48bd", r8="49b8", r9="49b9", r10="49ba", r11="49bb",
            r12="49bc", r13="49bd", r14="49be", r15="49bf")

pages = []


def code(digits):
    if os.uname().machine == "aarch64":
        digits = AARCH64.get(digits, digits)
    page = mmap.mmap(-1, 4096)
    page.write(bytes.fromhex(digits))
    pages.append(page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    # Executable only now: then the kernel makes processors forget what they
    # had fetched from there.
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), 4096, 5) == 0
    return address


def load(name, value):
    value %= 2 ** 64
    if name in LOAD:
        return LOAD[name] + value.to_bytes(8, "little").hex()
    number = int(name[1:])
    # movz, movk: 16 bits each.
    return "".join(
        (first | (value >> shift & 0xffff) << 5 | number)
        .to_bytes(4, "little").hex()
        for first, shift in ((0xd2800000, 0), (0xf2a00000, 16),
                             (0xf2c00000, 32), (0xf2e00000, 48)))


def run(digits, kind=ctypes.CFUNCTYPE):
    return kind(ctypes.c_long)(code(digits))
