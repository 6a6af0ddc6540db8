"""What the processor refuses, and the registers."""

import re

from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV

import pytest

from details import FILL, FREED, NOWHERE, NO_ADDRESS, ODD, dies
from helpers import PROCESSOR, X86_64, crash


UNALIGNED = ": this instruction needs an aligned address "


CHECK_ALIGNMENT = "9c810c24000004009d"      # sets EFLAGS.AC


# What machine code of x86-64 dies of, and the lines that say so.  In them
# "0x…" stands for an address, and "…" for anything.
MACHINE_CAUSES = [
    ("call through NULL", SIGSEGV, "31c0ffd0",
     "executing address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("push to NULL", SIGSEGV, "31e450",
     "writing address 0xfffffffffffffff8 (a NULL pointer minus 8)" + NOWHERE),
    ("call of freed memory", SIGSEGV, "48b8ddddddddddddddddffd0",
     "executing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("jump to freed memory", SIGSEGV, "48b8ddddddddddddddddffe0",
     "executing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("call through freed memory", SIGSEGV, "48b8ddddddddddddddddff5010",
     "reading address 0xdddddddddddddded" + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("return to freed memory", SIGSEGV, "48b8dddddddddddddddd50c3",
     "executing address " + ODD + NO_ADDRESS,
     "the address is " + ODD + FREED),
    ("call of what was in memory", SIGSEGV, "48b8dddddddddddddddd50ff1424",
     "executing address " + ODD + NO_ADDRESS,
     "the address is " + ODD + FREED),
    ("index and offset", SIGSEGV, "48b8d5ddddddddddddddb9080000008b448810",
     "reading address 0xddddddddddddde05" + NO_ADDRESS,
     "register rax is 0xddddddddddddddd5, near that with which CPython fills "
     "freed memory: likely a use after free"),
    ("write to freed memory", SIGSEGV, "48b8dddddddddddddddd48894018",
     "writing address 0xddddddddddddddf5" + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("add to freed memory", SIGSEGV, "48b8dddddddddddddddd480118",
     "writing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("compare with freed memory", SIGSEGV, "48b8dddddddddddddddd483b18",
     "reading address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("freed memory as an index", SIGSEGV, "48b9dddddddddddddddd31c0f6040801",
     "reading address " + ODD + NO_ADDRESS,
     "register rcx is " + ODD + FREED),
    ("register of REX", SIGSEGV, "49bddddddddddddddddd498b4500",
     "reading address " + ODD + NO_ADDRESS,
     "register r13 is " + ODD + FREED),
    ("vector from freed memory", SIGSEGV, "48b8dddddddddddddddd0f1000",
     "reading address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("vector to freed memory", SIGSEGV, "48b8dddddddddddddddd0f1100",
     "writing address " + ODD + NO_ADDRESS,
     "register rax is " + ODD + FREED),
    ("absolute address", SIGSEGV, "48a1dddddddddddddddd",
     "reading address " + ODD + NO_ADDRESS,
     "the address is " + ODD + FREED),
    ("copy to memory not written yet", SIGSEGV,
     "48bfcdcdcdcdcdcdcdcd4889e6b910000000f3a4",
     "writing address 0xcdcdcdcdcdcdcdcd" + NO_ADDRESS,
     "register rdi is 0xcdcdcdcdcdcdcdcd" + FILL + "memory that was not "
     "written yet: likely a use too early, or after free"),
    ("copy from old freed memory", SIGSEGV,
     "48bedbdbdbdbdbdbdbdb4889e7b901000000f3a4",
     "reading address 0xdbdbdbdbdbdbdbdb" + NO_ADDRESS,
     "register rsi is 0xdbdbdbdbdbdbdbdb" + FREED),
    ("fill past the end of a block", SIGSEGV,
     "48bffdfdfdfdfdfdfdfdb910000000f3aa",
     "writing address 0xfdfdfdfdfdfdfdfd" + NO_ADDRESS,
     "register rdi is 0xfdfdfdfdfdfdfdfd" + FILL + "the ends of a block: "
     "likely a use past its end, or after free"),
    ("push to freed memory", SIGBUS, "48bcdddddddddddddddd50",
     "writing address 0xddddddddddddddd5" + NO_ADDRESS,
     "register rsp is " + ODD + FREED),
    ("not canonical, no pattern", SIGSEGV, "48b8000000000000800050588b00",
     "reading address 0x0080000000000000" + NO_ADDRESS),
    ("the last bytes are not canonical", SIGSEGV,
     "48b8fcffffffff7f0000488b00",
     "reading address 0x00007ffffffffffc" + NO_ADDRESS),
    ("not aligned for a vector", SIGSEGV, "4889e04883e0f00f284001",
     "reading address 0x…" + UNALIGNED + "(SI_KERNEL)"),
    ("not aligned, alignment checked", SIGBUS,
     CHECK_ALIGNMENT + "4889e04883e0f08b4001",
     "reading address 0x…" + UNALIGNED + "(BUS_ADRALN)"),
    # At 9 of its page, and counted from its end, with the constant.
    ("not aligned, behind it a byte", SIGBUS,
     CHECK_ALIGNMENT + "833d4100000001",
     "reading address …051" + UNALIGNED + "(BUS_ADRALN)"),
    ("not aligned, behind it two bytes", SIGBUS,
     CHECK_ALIGNMENT + "66813d410000000100",
     "reading address …053" + UNALIGNED + "(BUS_ADRALN)"),
    ("not aligned, behind it four bytes", SIGBUS,
     CHECK_ALIGNMENT + "813d4000000001000000",
     "reading address …053" + UNALIGNED + "(BUS_ADRALN)"),
    ("not aligned, a test of four bytes", SIGBUS,
     CHECK_ALIGNMENT + "f7054000000001000000",
     "reading address …053" + UNALIGNED + "(BUS_ADRALN)"),
    ("halt", SIGSEGV, "f4c3",
     "an instruction that only the kernel may use: f4 c3" + 13 * " 00"
     + " at address 0x… (SI_KERNEL)"),
    ("interrupt without a handler", SIGSEGV, "cd81",
     "an instruction that only the kernel may use: cd 81" + 13 * " 00"
     + " at address 0x… (SI_KERNEL)"),
    ("interrupt of an overflow", SIGSEGV, "cd04",
     "sent by the kernel (SI_KERNEL)"),
    ("unreachable", SIGILL, "0f0b",
     "illegal opcode: 0f 0b" + 13 * " 00" + " (ud2, by which compilers mark "
     "what must not be reached) at address 0x… (ILL_ILLOPN)"),
    ("illegal opcode", SIGILL, "0601",
     "illegal opcode: 06 01" + 13 * " 00" + " at address 0x… (ILL_ILLOPN)"),
    ("division by zero", SIGFPE, "31c031d231c9f7f9",
     "integer division by zero (FPE_INTDIV)"),
    ("division by zero in ah", SIGFPE, "31c0f6f4",
     "integer division by zero (FPE_INTDIV)"),
    ("division by zero in memory", SIGFPE, "31c031d26a00f73c24",
     "integer division by zero (FPE_INTDIV)"),
    ("INT_MIN / -1", SIGFPE, "b80000008099b9fffffffff7f9",
     "integer division overflow, the quotient does not fit (FPE_INTDIV)"),
    ("quotient of 65 bits", SIGFPE, "48c7c2ffffffff48c7c10100000048f7f1",
     "integer division overflow, the quotient does not fit (FPE_INTDIV)"),
    # ldmxcsr makes one exception of floating point numbers a trap.
    ("1.0 / 0.0", SIGFPE,
     "68801d00000fae1424b801000000f30f2ac00f57c9f30f5ec1",
     "floating point division by zero (FPE_FLTDIV)"),
    ("0.0 / 0.0", SIGFPE, "68001f00000fae14240f57c00f57c9f30f5ec1",
     "invalid floating point operation (FPE_FLTINV)"),
    ("too large a float", SIGFPE,
     "68801b00000fae1424b80000007f660f6ec0f30f59c0",
     "floating point overflow (FPE_FLTOVF)"),
    ("too small a float", SIGFPE,
     "68801700000fae1424b800008000660f6ec0f30f59c0",
     "floating point underflow (FPE_FLTUND)"),
    ("1.0 / 3.0", SIGFPE,
     "68800f00000fae1424b801000000b903000000f30f2ac0f30f2ac9f30f5ec1",
     "inexact floating point result (FPE_FLTRES)"),
]


@pytest.mark.skipif(not X86_64, reason="needs machine code of x86-64")
@pytest.mark.parametrize(
    "signum, digits, lines",
    [(*row[1:3], row[3:]) for row in MACHINE_CAUSES],
    ids=[row[0] for row in MACHINE_CAUSES])
def test_causes_of_machine_code(signum, digits, lines):
    """What the processor refuses, each way."""
    dies("""
        import machine
        machine.run(%r)()
    """ % digits, signum, *lines)


@pytest.mark.skipif("avx512f" not in PROCESSOR, reason="needs AVX-512")
@pytest.mark.parametrize("digits", ["62f17c48284801", "6462f17c48284801"])
def test_scaled_displacement(digits):
    """What is not decoded is shown as bytes, also behind a prefix."""
    dies("""
        import machine
        machine.run("b801000000" + %r)()
    """ % digits, SIGSEGV, "a non-canonical address, or an "
         "instruction that is not allowed: %s… "
         "at address 0x… (SI_KERNEL)"
         % " ".join(re.findall("..", digits)))


@pytest.mark.skipif(not X86_64, reason="needs machine code of x86-64")
@pytest.mark.parametrize("kind", ["CFUNCTYPE", "PYFUNCTYPE"])
def test_illegal_opcode(kind):
    """An illegal opcode in machine code made at run time."""
    crash("""
        import ctypes, faulthandler, machine
        machine.run("0f0b", ctypes.%s)()
    """ % kind, """
        Fatal Python error: Illegal instruction

        Traceback (most recent call first):
          File "<string>", line 2 in <module>
    """, SIGILL)


@pytest.mark.skipif(not X86_64, reason="needs machine code of x86-64")
@pytest.mark.parametrize("kind", ["CFUNCTYPE", "PYFUNCTYPE"])
def test_integer_division(kind):
    """A division by zero in machine code made at run time."""
    crash("""
        import ctypes, faulthandler, machine
        machine.run("31c031d231c9f7f9", ctypes.%s)()
    """ % kind, """
        Fatal Python error: Floating point exception

        Traceback (most recent call first):
          File "<string>", line 2 in <module>
    """, SIGFPE)


@pytest.mark.skipif(not X86_64, reason="needs machine code of x86-64")
@pytest.mark.parametrize("code", ["31c0ffd0", "48b8ddddddddddddddddffd0"])
def test_call_through_null(code):
    """A jump to address 0, and to an address that is none."""
    crash("""
        import faulthandler, machine
        machine.run("%s")()
    """ % code, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 2 in <module>
    """)


@pytest.mark.skipif(not X86_64, reason="needs machine code of x86-64")
@pytest.mark.parametrize(
    "code", ["31e450", "48bcddddddddddddddddff3425000000000f0b"])
def test_lost_stack_pointer(code):
    """A crash with a stack pointer that points nowhere."""
    crash("""
        import faulthandler, machine
        machine.run("%s")()
    """ % code, """
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "<string>", line 2 in <module>
    """)
