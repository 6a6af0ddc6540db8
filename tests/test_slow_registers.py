"""Every line of the registers in the reports of many real crashes.

children/release.py releases a random object once too often, until it crashes.
It is traced: when the signal comes, the registers, the map and the memory are
read from outside.  children/ledger.c keeps a record of the blocks that objects
live in.  What these say of a value, the report must say.
"""

import bisect
import collections
import ctypes
import functools
import os
import re
import signal
import struct
import sys
import tempfile

import pytest

from helpers import (
    FOLDER, FREE_THREADED, PYTHON, SANITIZED, SECONDS, SIGNALS, SLOWER, X86_64,
    compile_library, environment, preload, start, what_is_missing)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    SANITIZED or FREE_THREADED or not X86_64 or bool(what_is_missing()),
    reason="reads the registers of x86-64, and needs a compiler and the GIL")]

FATAL = {row[0] for row in SIGNALS}
NEAR = 65536
STACK_GROWTH = 128 * 1024       # bytes, by one access
HEADS = 0, 16, 24, 32, 40, 48   # bytes between a block and its object
LEDGER = os.path.join(FOLDER, "ledger")

TRACEME, CONT, GETREGS, SETOPTIONS = 0, 7, 12, 0x4200
EXITKILL = 0x100000
ADDR_NO_RANDOMIZE = 0x40000
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi "
             "orig_rax rip cs eflags rsp ss").split()
GENERAL = ("rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 "
           "rip").split()
ALLOCATOR = " (CPython's debug allocator)"
PATTERNS = {0xdd: "freed memory" + ALLOCATOR, 0xdb: "freed memory" + ALLOCATOR,
            0xcd: "memory that was not written yet" + ALLOCATOR,
            0xfd: "the ends of a block" + ALLOCATOR}
PATTERNS.update(dict.fromkeys([0xa5, 0x5a, 0xd0, 0xdf, 0xde, 0xbe],
                              "a fill pattern"))

# base, file: of the object file that was loaded there, or None.
Mapping = collections.namedtuple("Mapping", "start end access path base file")


def ptrace(*arguments):
    """Call ptrace()."""
    ctypes.CDLL(None).ptrace(*map(ctypes.c_void_p, arguments))


def begin():
    """Ask to be traced, in the child, with the same addresses each time.  An
    event loop may wait for ever."""
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
    signal.alarm(20 * SLOWER)
    ptrace(TRACEME, 0, 0, 0)


@functools.lru_cache(maxsize=None)
def is_movable(path):
    """Whether a file may be loaded at any address: not ET_EXEC."""
    with open(path, "rb") as file:
        return file.read(18)[16] != 2


def read_maps(pid):
    """The mappings of a process.  What has no name right behind a file that
    was loaded is that file's .bss."""
    maps, end, base, file = [], 0, 0, None
    with open("/proc/%d/maps" % pid) as lines:
        for line in lines:
            ends, access, _, _, _, *path = line.rstrip("\n").split(None, 5)
            path = "".join(path)
            start, stop = (int(x, 16) for x in ends.split("-"))
            if path != file if path else start != end:
                file = path if re.match(r"/.*(\.so|/bin/)", path) else None
                base = start if file and is_movable(file) else 0
            end = stop if path else end
            maps.append(Mapping(start, stop, access, path, base, file))
    return maps


class Stopped:
    """A traced process that a fatal signal has stopped."""

    def __init__(self, pid):
        raw = ctypes.create_string_buffer(27 * 8)
        ptrace(GETREGS, pid, 0, ctypes.addressof(raw))
        self.registers = dict(zip(REGISTERS, struct.unpack("27Q", raw)))
        self.maps = read_maps(pid)
        with open(LEDGER, "rb") as file:
            table = [entry for entry in struct.iter_unpack("QQ", file.read())
                     if entry[0]]
        # The sizes are one too large: 0 means freed.
        self.blocks = sorted((at, size - 1) for at, size in table if size)
        self.freed = {at for at, size in table if not size}
        self.memory = os.open("/proc/%d/mem" % pid, os.O_RDONLY)
        self.bytes = self.read(self.registers["rip"], 15)
        self.words = {name: self.true_words(self.registers[name])
                      for name in GENERAL}
        os.close(self.memory)

    def read(self, at, n):
        try:
            return os.pread(self.memory, n, at)
        except (OSError, OverflowError):
            return b""

    def word(self, at):
        raw = self.read(at, 8)
        return struct.unpack("Q", raw)[0] if len(raw) == 8 else None

    def is_live(self, at, mapping):
        """Whether an object that begins here is in a block that is in use, or
        is static: then in a file."""
        i = bisect.bisect_right(self.blocks, (at + 1,)) - 1
        start, size = self.blocks[i] if i >= 0 else (0, 0)
        if start <= at < start + max(size, 1):
            return at - start in HEADS
        return mapping is not None and mapping.file is not None

    def object_words(self, at, mapping):
        """What may be said of an object here: {the words: their kind}."""
        count, kind = self.word(at), self.word(at + 8)
        if count is not None and sys.version_info >= (3, 14):
            count &= 0xffffffff         # flags are above
        name = kind and self.word(kind + 24)
        name = self.read(name, 64).split(b"\0")[0] if name else b""
        name = name.decode("latin-1") + " object, "
        if name == " object, ":
            return {}
        if sys.version_info >= (3, 12) and count >> 31 & 1:
            return {name + "immortal": "immortal object"}
        live = self.is_live(at, mapping)
        # A freed object is counted up again by those who do not know.
        freed = any(at - head in self.freed for head in HEADS)
        if not live and not freed and count != 0:
            return {}
        return {name + "reference count %d" % count:
                ("object" if count else "object, count 0")
                + ("" if live else ", freed")}

    def true_words(self, value):
        """What may be said of a value: {the words: their kind}."""
        signed = value - (1 << 64) if value >> 63 else value
        if -NEAR <= signed < NEAR:
            return {str(signed) if value else "": "number"}
        for byte, text in PATTERNS.items():
            offset = value - byte * 0x0101010101010101
            if -NEAR <= offset <= NEAR:
                sign = " plus %d" if offset > 0 else " minus %d"
                return {text + (sign % abs(offset) if offset else ""):
                        "pattern"}
        if not -1 << 47 <= signed < 1 << 47:
            return {"not canonical": "not canonical"}
        m = next((m for m in self.maps if m.start <= value < m.end), None)
        if m is None:
            words = {"nothing mapped": "nothing"}
            # The kernel may have made the stack larger since.
            if any(m.start - STACK_GROWTH <= value < m.end
                   for m in self.maps if m.path == "[stack]"):
                words["this thread's stack"] = "stack"
            return words
        if m.path == "[stack]":
            return {"this thread's stack": "stack"}
        words = self.object_words(value, m)
        if m.path == "[vdso]":
            words["linux-vdso.so.1+%#x" % (value - m.start)] = "file"
        if m.file:
            words["%s+%#x" % (os.path.basename(m.file),
                              value - m.base)] = "file"
        # Right behind a file there may be other memory than its .bss.
        if not (m.file and m.path):
            words[memory_words(m)] = "memory"
        return words


def memory_words(mapping):
    """What may be done with a mapping, and its name."""
    can = [word for letter, word in zip(mapping.access, (
        "readable", "writable", "executable")) if letter != "-"]
    text = " and ".join(filter(None, [", ".join(can[:-1]), *can[-1:]]))
    return "%s memory%s%s" % (
        text or "inaccessible", mapping.path and (
            ", " if mapping.path[0] == "[" else " of "), mapping.path)


def judge(stopped, report):
    """Yield the kind of each line of the block, None if it is wrong, and the
    line."""
    if "\nRegisters:\n" not in report:      # Py_FatalError()'s
        return
    *lines, flags, code = report.split("\nRegisters:\n")[1].splitlines()
    assert len(lines) == len(GENERAL)
    for name, line in zip(GENERAL, lines):
        start = "  %-6s  0x%016x" % (name, stopped.registers[name])
        words = line[len(start):].replace("  <- the address", "").strip()
        # A symbol is not checked.
        words = re.sub(r"(\+0x[0-9a-f]+) \(\S+\)$", r"\1", words)
        kind = stopped.words[name].get(words)
        if not line.startswith(start) or kind is None:
            line += "; not " + str(stopped.words[name])
            kind = None
        yield kind, line
    good = "  eflags  0x%016x" % stopped.registers["eflags"]
    yield "flags" if flags.startswith(good) else None, flags
    good = " ".join("%02x" % byte for byte in stopped.bytes) or "???"
    yield "code" if code == "  code    " + good else None, code


def crash(seed, debug):
    """Run the script once: what there is to say of the lines of its report."""
    with open(LEDGER, "wb") as file:
        file.truncate(16 << 20)
    kept = environment(PYTHONHASHSEED="0",
                       LD_PRELOAD=preload("ledger")["LD_PRELOAD"])
    if debug:
        kept["LEDGER_DEBUG"] = "1"
    stopped = None
    with tempfile.TemporaryFile("w+", encoding="ascii",
                                errors="backslashreplace") as output:
        process = start(PYTHON, "release.py", str(seed), env=kept,
                        stdout=output, stderr=output, preexec_fn=begin)
        _, status = os.waitpid(process.pid, 0)
        ptrace(SETOPTIONS, process.pid, 0, EXITKILL)
        while os.WIFSTOPPED(status):
            signum = os.WSTOPSIG(status)
            if stopped is None and signum in FATAL:
                stopped = Stopped(process.pid)
            ptrace(CONT, process.pid, 0,
                   0 if signum == signal.SIGTRAP else signum)
            _, status = os.waitpid(process.pid, 0)
        process.returncode = status
        output.seek(0)
        return list(judge(stopped, output.read())) if stopped else []


@pytest.mark.parametrize("debug", [False, True])
def test_every_line(debug):
    """Of 10 crashes for each of SLOW_SECONDS, with either allocator of CPython,
    no line is wrong."""
    compile_library("ledger")
    crashes = seed = 0
    kinds, wrong = collections.Counter(), []
    while crashes < 10 * SECONDS:
        seed += 1
        lines = crash(seed, debug)
        assert seed < 50 * SECONDS
        crashes += bool(lines)
        kinds.update(kind for kind, _ in lines)
        wrong += [(seed, line) for kind, line in lines if kind is None]
    print(crashes, "of", seed, "crashed with a block:", kinds.most_common())
    assert wrong == []
