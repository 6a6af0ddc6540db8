"""What the processor refuses, and the registers."""

import os
import re
import shutil
import sysconfig

from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV

import pytest

from details import FREED, NOWHERE, NO_ADDRESS, ODD, REGISTERS, dies
from helpers import (
    CHILDREN, PATIENCE, PYTHON, X86_64, compiler, crash, python, report, run,
    what_is_missing, write_file)


CHECK_ALIGNMENT = "9c810c24000004009d"      # sets EFLAGS.AC

REFUSED = ("an address that is not canonical, or not aligned as the "
           "instruction needs, or an instruction that only the kernel may use "
           "(SI_KERNEL)")


def through(register, value=ODD, pattern=FREED):
    """The lines of an access through a register that holds no address."""
    return ("accessing memory through register %s, %s%s"
            % (register, value, NO_ADDRESS),
            "register %s is %s%s" % (register, value, pattern))


# What machine code of x86-64 dies of, and the lines that say so.  In them
# "0x…" stands for an address.
X86_64_CAUSES = [
    ("call through NULL", SIGSEGV, "31c0ffd0",
     "executing address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("push to NULL", SIGSEGV, "31e450",
     "writing address 0xfffffffffffffff8 (a NULL pointer minus 8)" + NOWHERE),
    ("call of freed memory", SIGSEGV, "48b8ddddddddddddddddffd0",
     *through("rax")),
    ("jump to freed memory", SIGSEGV, "48b8ddddddddddddddddffe0",
     *through("rax")),
    ("call through freed memory", SIGSEGV, "48b8ddddddddddddddddff5010",
     *through("rax")),
    ("return to freed memory", SIGSEGV, "48b8dddddddddddddddd50c3", REFUSED),
    ("call of what was in memory", SIGSEGV, "48b8dddddddddddddddd50ff1424",
     REFUSED),
    ("index and offset", SIGSEGV, "48b8d5ddddddddddddddb9080000008b448810",
     *through("rax", "0xddddddddddddddd5",
              FREED.replace(")", ") minus 8"))),
    ("write to freed memory", SIGSEGV, "48b8dddddddddddddddd48894018",
     *through("rax")),
    ("freed memory as an index", SIGSEGV, "48b9dddddddddddddddd31c0f6040801",
     *through("rcx")),
    ("register of REX", SIGSEGV, "49bddddddddddddddddd498b4500",
     *through("r13")),
    ("vector from freed memory", SIGSEGV, "48b8dddddddddddddddd0f1000",
     *through("rax")),
    ("absolute address", SIGSEGV, "48a1dddddddddddddddd", REFUSED),
    ("write to memory not written yet", SIGSEGV, "48bfcdcdcdcdcdcdcdcdc60701",
     *through("rdi", "0xcdcdcdcdcdcdcdcd", ", memory that was not "
              "written yet (CPython's debug allocator): likely a use too "
              "early, or after free")),
    ("write past the end of a block", SIGSEGV, "48bffdfdfdfdfdfdfdfdc60701",
     *through("rdi", "0xfdfdfdfdfdfdfdfd", ", the ends of a block "
              "(CPython's debug allocator): likely a use past its end, or "
              "after free")),
    ("copy from freed memory", SIGSEGV,
     "48beffffffffffffff7f4889e7b901000000f3a4", REFUSED),
    ("push to freed memory", SIGBUS, "48bcdddddddddddddddd50",
     "a non-canonical address, by the stack or frame pointer (SI_KERNEL)"),
    ("not canonical, no pattern", SIGSEGV, "48b8000000000000800050588b00",
     "accessing memory through register rax, 0x0080000000000000"
     + NO_ADDRESS),
    ("the last bytes are not canonical", SIGSEGV,
     "48b8fcffffffff7f0000488b00", REFUSED),
    ("another allocator's pattern", SIGSEGV, "48b85a5a5a5a5a5a5a5a488b00",
     "accessing memory through register rax, 0x5a5a5a5a5a5a5a5a"
     + NO_ADDRESS),
    ("not aligned for a vector", SIGSEGV, "4889e04883e0f00f284001", REFUSED),
    ("not aligned, alignment checked", SIGBUS,
     CHECK_ALIGNMENT + "4889e04883e0f08b4001",
     "an address that is not aligned (BUS_ADRALN)"),
    ("halt", SIGSEGV, "f4c3", REFUSED),
    ("interrupt without a handler", SIGSEGV, "cd81",
     "a segment or an interrupt that only the kernel may use (SI_KERNEL)"),
    ("interrupt of an overflow", SIGSEGV, "cd04",
     "sent by the kernel (SI_KERNEL)"),
    ("unreachable", SIGILL, "0f0b",
     "illegal opcode (ud2, by which compilers mark what must not be reached) "
     "at address 0x… (ILL_ILLOPN)"),
    ("illegal opcode", SIGILL, "0601",
     "illegal opcode at address 0x… (ILL_ILLOPN)"),
    ("division by zero", SIGFPE, "31c031d231c9f7f9",
     "integer division by zero or overflow (FPE_INTDIV)"),
    ("INT_MIN / -1", SIGFPE, "b80000008099b9fffffffff7f9",
     "integer division by zero or overflow (FPE_INTDIV)"),
    # ldmxcsr makes one exception of floating point numbers a trap.
    ("1.0 / 0.0", SIGFPE,
     "68801d00000fae1424b801000000f30f2ac00f57c9f30f5ec1",
     "floating point division by zero (FPE_FLTDIV)"),
]


ALIGNED = ": the address is not aligned (BUS_ADRALN)"

# The same for aarch64.  Any number is an address there; the kernel tells it.
# Not here, because the emulator does not check them: a misaligned stack
# pointer, and the maintenance of a cache.
AARCH64_CAUSES = [
    ("call through NULL", SIGSEGV, "000080d200003fd6",
     "executing address 0x0000000000000000 (a NULL pointer)" + NOWHERE),
    ("write to NULL plus 8", SIGSEGV, "000180d2000000f9",
     "writing address 0x0000000000000008 (a NULL pointer plus 8)" + NOWHERE),
    ("push to NULL", SIGSEGV, "000080d21f000091e00f1ff8",
     "writing address 0xfffffffffffffff0 (a NULL pointer minus 16)"
     + NOWHERE),
    ("read of freed memory", SIGSEGV,
     "a0bb9bd2a0bbbbf2a0bbdbf2a0bbfbf2000840f9",
     "reading address 0xdddddddddddddded" + NOWHERE,
     "register x0 is " + ODD + FREED),
    ("write to freed memory", SIGSEGV,
     "a0bb9bd2a0bbbbf2a0bbdbf2a0bbfbf2000c00f9",
     "writing address 0xddddddddddddddf5" + NOWHERE,
     "register x0 is " + ODD + FREED),
    ("call of freed memory", SIGSEGV,
     "80bb9bd2a0bbbbf2a0bbdbf2a0bbfbf200003fd6",
     "executing address 0xdddddddddddddddc" + NOWHERE,
     "register pc is 0xdddddddddddddddc"
     + FREED.replace(")", ") minus 1")),
    ("misaligned jump", SIGBUS, "0000005000001fd6",
     "executing address 0x…" + ALIGNED),
    ("misaligned exclusive read", SIGBUS, "e007009101fc5fc8",
     "reading address 0x…" + ALIGNED),
    ("undefined", SIGILL, "00000000",
     "illegal opcode (udf, by which compilers mark what must not be reached) "
     "at address 0x… (ILL_ILLOPC)"),
    ("only the kernel's", SIGILL, "001038d5",
     "illegal opcode at address 0x… (ILL_ILLOPC)"),
]
CAUSES = X86_64_CAUSES if X86_64 else AARCH64_CAUSES


@pytest.mark.parametrize("signum, digits, lines", [
    (*row[1:3], row[3:]) for row in CAUSES], ids=[row[0] for row in CAUSES])
def test_causes(signum, digits, lines):
    """What the processor refuses, each way."""
    dies("""
        import machine
        machine.run(%r)()
    """ % digits, signum, *lines)


def seen_by_objdump(text):
    """The base and the index of an instruction's operand, "-" for none."""
    if not X86_64:
        text = text.split("//")[0]
        found = re.findall(r"\[(x\d+|sp)(?:, ([wx]\d+))?", text)
        if len(found) != 1 or re.search(r"\b([pz]\d+|za)\b|\]!, x", text):
            return "-", "-"     # vectors of any size; memory is copied
        return found[0][0], found[0][1].replace("w", "x") or "-"
    text = re.sub(r"\b(rex\S*|repn?z|rep|lock|bnd|notrack|data16|[c-gs]s) ",
                  "", text.split("#")[0].split("<")[0])
    found = re.findall(r"\((?:%(\w+))?(?:,%(\w+))?(?:,\d)?\)", text)
    through = re.match(r"(?:call|jmp)q?\s+\*%(\w+)", text)
    if (len(found) > 1 or "%e" in "".join(re.findall(r"\(.*?\)", text))
            or re.match("stos|scas|lods|xlat|v?p?(gather|scatter)", text)):
        return "-", "-"
    base, index = found[0] if found else (through and through[1], None)
    return tuple(name if name in REGISTERS and name != "rip" else "-"
                 for name in (base, index))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("objdump") or what_is_missing(),
                    reason="needs objdump and a compiler")
def test_operands_of_a_library():
    """The registers of all operands in a large library, as objdump has
    them."""
    child = run(compiler(), "-shared", "-fPIC", "-w", "-D_GNU_SOURCE", "-I",
                sysconfig.get_path("include"), "-o", "operand.so",
                os.path.join(CHILDREN, "operand.c"))
    assert child.status == 0, child
    with open("/proc/self/maps") as file:
        paths = [line.split()[-1] for line in file if "libpython" in line]
    text = run("objdump", "-d", "-w", "-j", ".text", "--no-addresses",
               paths[0] if paths else os.path.realpath(PYTHON),
               limit=10 * PATIENCE).raw_out
    lines = [line.split("\t") for line in text.splitlines()]
    lines = [(line[1].strip(), "\t".join(line[2:])) for line in lines
             if len(line) > 2 and "(bad)" not in line[2]]
    if not X86_64:              # there it shows words
        lines = [(bytes.fromhex(word)[::-1].hex(" "), text)
                 for word, text in lines]
    write_file("code.txt", "".join(code + "\n" for code, _ in lines))
    found = python("""
        import ctypes
        ctypes.CDLL("./operand.so").operands(b"code.txt")
    """).out.splitlines()
    assert len(found) == len(lines) > 100000
    wrong = [(line, names) for line, names in zip(lines, found)
             if names.split() != list(seen_by_objdump(line[1]))]
    assert wrong == []


@pytest.mark.parametrize("digits", [
    "0f0b", "31c031d231c9f7f9", "31c0ffd0", "48b8ddddddddddddddddffd0",
    "31e450", "48bcddddddddddddddddff3425000000000f0b"])
@pytest.mark.parametrize("kind", ["CFUNCTYPE", "PYFUNCTYPE"])
def test_plain_report(digits, kind):
    """What machine code made at run time dies of, with the GIL and without."""
    signum, title = {
        "0f0b": (SIGILL, "Illegal instruction"),
        "31c031d231c9f7f9": (SIGFPE, "Floating point exception"),
    }.get(digits, (SIGSEGV, "Segmentation fault"))
    if signum == SIGFPE and not X86_64:
        pytest.skip("needs machine code of x86-64")
    crash("""
        import ctypes, faulthandler, machine
        machine.run("%s", ctypes.%s)()
    """ % (digits, kind), report(
        '  File "<string>", line 2 in <module>\n', title), signum)
