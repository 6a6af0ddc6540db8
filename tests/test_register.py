"""The block of registers at the end of a fatal report with details."""

import os
import re
import sys
import tempfile

import pytest

from details import START, split_registers
from helpers import X86_64, block, died, patient, python

pytestmark = pytest.mark.skipif(
    not X86_64 and os.uname().machine != "aarch64",
    reason="has no machine code of this processor")

# Zero in the first register; the address 16 from there is read; those between.
ZERO, READ, NAMES = (
    ("31c0", "8a4010c3",
     "rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15") if X86_64 else
    ("000080d2", "001040b9", " ".join("x%d" % n for n in range(1, 31))))
NAMES = NAMES.split()
SP, FLAGS = ("rsp", "eflags") if X86_64 else ("sp", "pstate")

# Gives registers the values in `give`, and reads NULL.
CRASH = """
    import machine
    machine.run(%r + "".join(machine.load(name, give.get(name, 0))
                             for name in %r) + %r)()
""" % (ZERO, NAMES, READ)


def crash(code, **options):
    """Run code that fills the dict `give`: its report."""
    child = python(block(START) + "import gc; gc.disable()\ngive = {}\n"
                   + block(code) + block(CRASH), **options)
    died(child)
    return child.err


def held(value, before=""):
    """Give a register a value: what the report says of it."""
    name = NAMES[0]
    err = crash(block(before) + "\ngive[%r] = %s\n" % (name, value))
    return split_registers(err)[1][name]


LITERAL = """
    Registers:
      rax     0x0000000000000000  <- the address
      rbx     0x0000000000000018  24
      rcx     0xffffffffffffffff  -1
      rdx     0x…  list object, reference count 1
      rsi     0xdddddddddddddddd  freed memory (CPython's debug allocator)
      rdi     0xcdcdcdcdcdcdcdd5  memory that was not written yet (CPython's debug allocator) plus 8
      rbp     0xfdfdfdfdfdfdfdf9  the ends of a block (CPython's debug allocator) minus 4
      rsp     0x…  this thread's stack
      r8      0x5a5a5a5a5a5a5a5a  a fill pattern
      r9      0x0080000000000000  not canonical
      r10     0x…  nothing mapped
      r11     0x…  readable and writable memory
      r12     0x…  inaccessible memory
      r13     0x…  LIBRARY+0x… (PyErr_SetString+0x4)
      r14     0x0000000000000000
      r15     0x0000000000000000
      rip     0x…  readable and executable memory of /dev/zero (deleted)
      eflags  0x…  trap 14, error 4
      code    8a 40 10 c3 00 00 00 00 00 00 00 00 00 00 00
""" if X86_64 else """
    Registers:
      x0      0x0000000000000000  <- the address
      x1      0x0000000000000018  24
      x2      0xffffffffffffffff  -1
      x3      0x…  list object, reference count 1
      x4      0xdddddddddddddddd  freed memory (CPython's debug allocator)
      x5      0xcdcdcdcdcdcdcdd5  memory that was not written yet (CPython's debug allocator) plus 8
      x6      0xfdfdfdfdfdfdfdf9  the ends of a block (CPython's debug allocator) minus 4
      x7      0x5a5a5a5a5a5a5a5a  a fill pattern
      x8      0x0080000000000000  not canonical
      x9      0x…  nothing mapped
      x10     0x…  readable and writable memory
      x11     0x…  inaccessible memory
      x12     0x…  LIBRARY+0x… (PyErr_SetString+0x4)
      …
      sp      0x…  this thread's stack
      pc      0x…  readable and executable memory of /dev/zero (deleted)
      pstate  0x…
      code    00 10 40 b9
"""


def test_literal():
    """A register a line, with what it holds; the flags, with the number that
    x86-64 gives the exception; the instruction."""
    err = crash("""
        kept = [[] for i in range(3)]
        give.update(zip(%r, (
            24, -1, id(kept), 0xdddddddddddddddd, 0xcdcdcdcdcdcdcdd5,
            0xfdfdfdfdfdfdfdf9, 0x5a5a5a5a5a5a5a5a, 0x0080000000000000,
            0x700000000000, page(3), page(0), ctypes.cast(
                ctypes.pythonapi.PyErr_SetString, ctypes.c_void_p).value + 4)))
    """ % NAMES)
    err = err[err.index("\nReg") + 1:]
    for pattern, to in [
            # A program that is not position-independent is at a low address.
            (r"0x[0-9a-f]{16}  \S+\+0x[0-9a-f]+ \(", "0x…  LIBRARY+0x… ("),
            (r"0x0000(?!0{5})[0-9a-f]{12}|0x0000[0-9a-f]{12}(?=  list)",
             "0x…"),
            (r"0x00000000000[0-9a-f]{5}  trap", "0x…  trap"),
            (r"(?m)(^  x\d\d     0x0000000000000000\n){18}", "  …\n"),
            (r"(pstate +)0x[0-9a-f]{16}", r"\g<1>0x…")]:
        err = re.sub(pattern, to, err)
    assert err == block(LITERAL)


@pytest.mark.parametrize("value, words", [
    ("65535", "65535"),
    ("-65536", "-65536"),
    ("65536", "nothing mapped"),
    ("2**64 - 65537", "nothing mapped"),
    ("0xdddddddddddddddd + 65536",
     "freed memory (CPython's debug allocator) plus 65536"),
    ("0xdddddddddddddddd + 65537", "not canonical"),
    ("0xffff888000000000", "nothing mapped"),
])
def test_number(value, words):
    """What the number alone tells, up to its limits."""
    assert held(value) == words


@pytest.mark.parametrize("value, words", [
    ("[1]", "list object, reference count 1"),
    ("type('Odd\\u00e9', (), {})()", r"Odd\xe9 object, reference count 1"),
    ("type('x' * 99, (), {})()", 99 * "x" + " object, reference count 1"),
    ("type('x' * 101, (), {})()", 100 * "x" + "... object, reference count 1"),
    ("type('Meta', (type,), {})('Class', (), {})",
     "Meta object, reference count …"),
    ("1.5 * len(os.environ)", "float object, reference count 1"),
    ("None", "NoneType object, " + (
        "immortal" if sys.version_info >= (3, 12)
        else "reference count …")),
])
def test_object(value, words):
    """The type and the reference count of objects of all kinds."""
    pattern = re.escape(words).replace("…", r"\d+")
    assert re.fullmatch(pattern, held("id(x)", "x = %s" % value))


@pytest.mark.parametrize("damage", [
    "at[COUNT] = 2**42", "at[COUNT] = 2**47",
    "at[TYPE] = 0", "at[TYPE] = 1", "at[TYPE] = forbidden",
    "at[TYPE] = address", "at[TYPE] = 2**63", "at[TYPE] = address + 8",
    "at[TYPE] += 1",
    "kind[TYPE] = 0", "kind[TYPE] = forbidden",
    "kind[NAME] = 0", "kind[NAME] = 1", "kind[NAME] = forbidden",
    "kind[NAME] = 2**63", "kind[SIZE] = 0", "kind[SIZE] = 15",
    "kind[SIZE] = 2**63", "kind[SIZE] = 2**20 + 1", "kind[FLAGS] = 0",
])
def test_damaged_object(damage):
    """What is no object any more, or has no type, is called memory."""
    assert held("address", """
        from damage import HEAD, forbidden, words
        x = type("Type", (), {})()
        address = id(x)
        at, kind = words(address), words(id(type(x)))
        COUNT, TYPE, NAME = HEAD - 2, HEAD - 1, HEAD + 1
        SIZE, FLAGS = HEAD + 2, HEAD + 19
        %s
    """ % damage) == "readable and writable memory"


def test_count_of_zero():
    """A count of 0 is told, and no more is said."""
    assert held("address", """
        from damage import HEAD, words
        x = [1]
        address = id(x)
        words(address)[HEAD - 2] = 0
        if HEAD == 4:           # the owner's count, in a free-threaded build
            words(address)[1] &= 2**32 - 1
    """) == "list object, reference count 0"


def test_without_proc():
    """Where there is no /proc, what the map would tell is marked."""
    if os.getuid() != 0:
        pytest.skip("only root may change the root folder")
    with tempfile.TemporaryDirectory() as folder:
        err = crash("""
            import machine
            x = [1]
            give.update(zip(%r, (id(x), page(3), 24)))
            os.chroot(%r)
        """ % (NAMES, folder))
    _, holds = split_registers(err)
    assert [holds[name] for name in [*NAMES[:3], SP]] == [
        "list object, reference count 1", "???", "24", "???"]


def test_many_mappings():
    """The map of 60,000 mappings is read to its end."""
    err = crash("""
        with open("/proc/sys/vm/max_map_count") as file:
            most = int(file.read())
        for number in range(min(60000, most - 1000)):
            page(1 + number %% 2 * 2)
        give.update(zip(%r, (page(0), 0x700000000000)))
    """ % NAMES, env=patient())
    _, holds = split_registers(err)
    assert (holds[NAMES[0]], holds[SP], holds[NAMES[1]]) == (
        "inaccessible memory", "this thread's stack", "nothing mapped")


ADDRESSES = [
    ("31c0ffd0", "???", ""),                            # no code at 0
    ("31e450", "50 00", ""),                            # it pushes
    ("31c931d28b0411", "8b 04 11 00", "rcx rdx"),
    ("31dbff5310", "ff 53 10 00", "rbx"),
    ("48a10000000000700000", "48 a1 00 00", ""),        # no register
    ("0f0b", "0f 0b 00", ""),
] if X86_64 else [
    ("000080d200003fd6", "???", ""),                    # no code at 0
    ("000080d21f000091e00f1ff8", "e0 0f 1f f8", "sp"),  # str x0, [sp, -16]!
    ("010080d2220180d2206862f8", "20 68 62 f8", "x1 x2"),   # ldr x0, [x1, x2]
    ("020080d2400441a9", "40 04 41 a9", "x2"),          # ldp x0, x1, [x2, 16]
    ("010080d22070c24c", "20 70 c2 4c", "x1"),  # ld1 {v0.16b}, [x1], x2
    ("010080d2207c5fc8", "20 7c 5f c8", "x1"),  # ldxr x0, [x1]
    ("010080d2e0e3982520a040a5", "20 a0 40 a5", ""),    # a load of SVE
    ("00000000", "00 00 00 00", ""),
]


@pytest.mark.parametrize("digits, code, marked", ADDRESSES)
def test_address(digits, code, marked):
    """The registers that the address was made of are marked."""
    child = python(block(START) + "import machine\n"
                   "machine.run('%s')()\n" % digits)
    _, holds = split_registers(child.err)
    assert holds["code"].startswith(code)
    assert " ".join(name for name in holds if holds[name].endswith(
        "<- the address")) == marked


def test_signal_that_was_sent():
    """What the processor said of an older fault is not told."""
    child = python(block(START) + "os.kill(os.getpid(), 11)\n")
    _, holds = split_registers(child.err)
    assert holds[FLAGS] == ""
    assert "<-" not in child.err
