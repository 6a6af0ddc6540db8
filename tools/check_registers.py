"""Check every line of the registers in the reports of many real crashes.

    PYTHON tools/check_registers.py [--debug] [COUNT [FIRST_SEED]]

Runs COUNT scripts that release a random object once too often, until each has
crashed, and traces them: when the signal comes, the registers, the map and the
memory are read from outside.  The blocks that objects live in are known from
tools/ledger.c.  Then each line of the report is compared.  Needs gcc.  With
--debug the scripts run on CPython's debug allocator.
"""

import bisect
import collections
import ctypes
import functools
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FATAL = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE,
         signal.SIGABRT}
LIMIT = 20                      # seconds for a script
NEAR = 65536
STACK_GROWTH = 128 * 1024       # bytes, by one access
MARK = "  <- the address"

SCRIPT = """
import faulthandler, sys
faulthandler.enable(details=True, c_stack=False)
import ast, asyncio, collections, ctypes, decimal, gc, json, random, re
chance = random.Random({seed})

class Node:
    def __init__(self, *children):
        self.children = list(children)
        self.name = "node %d" % chance.randrange(10 ** 6)
        self.table = {{i: str(i) for i in range(chance.randrange(20))}}

class Slots:
    __slots__ = ("a", "b")
    def __init__(self):
        self.a, self.b = {{"x": 1.5 * chance.random()}}, (1, [2], "s" * 9)

def work():
    global kept
    text = json.dumps([[i, str(i), {{"k": i / 7}}] for i in range(50)])
    kept = [json.loads(text), [Node(Node(), Slots()) for i in range(20)],
            collections.OrderedDict((i, Slots()) for i in range(20)),
            [decimal.Decimal(i) / 7 for i in range(20)],
            ast.parse("def f(x):\\n    return [x + i for i in range(9)]\\n"),
            re.compile("(a|b)*c" * chance.randrange(1, 5)),
            [lambda x=i: x for i in range(20)],
            {{str(i): bytearray(i) for i in range(50)}},
            [(i, float(i), str(i) * 3) for i in range(20)],
            frozenset(range(1000, 1020)), [range(i) for i in range(20)]]
    async def wait(n):
        await asyncio.sleep(0)
        return n
    async def main():
        return await asyncio.gather(*[wait(i) for i in range(9)])
    asyncio.new_event_loop().run_until_complete(main())

def pick():
    x = chance.choice(kept if chance.random() < .8 else gc.get_objects())
    for i in range(chance.randrange(5)):
        inner = gc.get_referents(x)
        if inner:
            x = chance.choice(inner)
    return x

release = ctypes.pythonapi.Py_DecRef
release.argtypes = [ctypes.c_void_p]
work()
for i in range(40):
    at, times = id(pick()), chance.choice([1, 1, 1, 2, 3, 20])
    for j in range(times):
        release(at)
    work()
    if chance.random() < .3:
        gc.collect()
"""

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p,
                        ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
TRACEME, CONT, GETREGS, SETOPTIONS, GETSIGINFO = 0, 7, 12, 0x4200, 0x4202
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi "
             "orig_rax rip cs eflags rsp ss").split()
GENERAL = ("rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 "
           "rip").split()
PATTERNS = {0xdd: "freed memory (CPython's debug allocator)",
            0xdb: "freed memory (CPython's debug allocator)",
            0xcd: "memory that was not written yet (CPython's debug "
                  "allocator)",
            0xfd: "the ends of a block (CPython's debug allocator)"}
PATTERNS.update(dict.fromkeys([0xa5, 0x5a, 0xd0, 0xdf, 0xde, 0xbe],
                              "a fill pattern"))

Mapping = collections.namedtuple("Mapping", "start end access path")


def canonical(value):
    return value < 1 << 47 or value >= (1 << 64) - (1 << 47)


class Stopped:
    """A traced process that a fatal signal has stopped."""

    def __init__(self, pid, ledger):
        self.pid = pid
        raw = ctypes.create_string_buffer(27 * 8)
        libc.ptrace(GETREGS, pid, None, raw)
        self.registers = dict(zip(REGISTERS, struct.unpack("27Q", raw)))
        info = ctypes.create_string_buffer(128)
        libc.ptrace(GETSIGINFO, pid, None, info)
        self.code, = struct.unpack_from("i", info, 8)
        self.maps = []
        with open("/proc/%d/maps" % pid) as file:
            for line in file:
                ends, access, _, _, _, *path = line.rstrip("\n").split(None, 5)
                start, end = (int(x, 16) for x in ends.split("-"))
                self.maps.append(Mapping(start, end, access,
                                         path[0] if path else ""))
        with open(ledger, "rb") as file:
            self.blocks = {at: size for at, size in struct.iter_unpack(
                "QQ", file.read()) if at}
        self.memory = os.open("/proc/%d/mem" % pid, os.O_RDONLY)
        self.starts = sorted(at for at, size in self.blocks.items() if size)
        self.bytes = self.read(self.registers["rip"], 15)
        self.heads = {name: self.head(self.registers[name])
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

    def head(self, at):
        """The count and the type's name of what may be an object."""
        count, kind = self.word(at), self.word(at + 8)
        if count is not None and sys.version_info >= (3, 14):
            count &= 0xffffffff         # flags are above
        name = kind and self.word(kind + 24)
        text = self.read(name, 64).split(b"\0")[0] if name else None
        return count, text and text.decode("latin-1")

    def mapping(self, at):
        for m in self.maps:
            if m.start <= at < m.end:
                return m
        return None

    def is_live(self, at):
        """Whether an object that begins here is in a block that is in use, or
        is static: then in a file, or right behind one, which is its .bss."""
        start = self.find_block(at)
        if start is not None:
            return at - start in (0, 16, 24, 32, 40, 48)
        return self.file(at) is not None

    def find_block(self, at):
        """The start of the block in use that an address is in, or None."""
        i = bisect.bisect_right(self.starts, at) - 1
        # The table has sizes that are one too large: 0 means freed.
        if i >= 0 and at <= self.starts[i] + max(
                0, self.blocks[self.starts[i]] - 2):
            return self.starts[i]
        return None

    def file(self, at):
        """The object file that was loaded at an address: its base and path.
        The base of a program that cannot be moved is 0."""
        last = None
        for m in self.maps:
            if re.match(r"/.*(\.so|/bin/)", m.path):
                if last is None or last[1] != m.path:
                    last = (m.start, m.path, m.end)
                last = (last[0], last[1], m.end)
                if m.start <= at < m.end:
                    return last[0] * is_movable(last[1]), last[1]
            elif last and not m.path and m.start == last[2]:
                if m.start <= at < m.end:
                    return last[0] * is_movable(last[1]), last[1]
            else:
                last = None
        return None


@functools.lru_cache(None)
def is_movable(path):
    """Whether a file may be loaded at any address: not ET_EXEC."""
    with open(path, "rb") as file:
        return file.read(18)[16] != 2


def check_words(stopped, name, words):
    """Return what is wrong with the words for one register, and their
    kind."""
    value = stopped.registers[name]
    signed = value - (1 << 64) if value >> 63 else value
    mapping = stopped.mapping(value)
    count, kind = stopped.heads[name]
    if value == 0:
        return "0", None if words == "" else "not empty"
    if -NEAR <= signed < NEAR:
        return "number", None if words == str(signed) else "wrong number"
    for byte, text in PATTERNS.items():
        offset = value - int.from_bytes(bytes([byte]) * 8, "big")
        if -NEAR <= offset <= NEAR:
            sign = " plus %d" if offset > 0 else " minus %d"
            text += sign % abs(offset) if offset else ""
            return "pattern", None if words == text else "not " + text
    if not canonical(value):
        return "not canonical", None if words == "not canonical" else "is not"
    match = re.fullmatch(r"(.*) object, (?:reference count (\d+)|(immortal))",
                         words)
    if match:
        if match.group(1) != kind:
            return "object", "its type is %s" % kind
        if match.group(2) is None:
            good = sys.version_info >= (3, 12) and count >> 31 & 1
            return "immortal object", None if good else "not immortal"
        if count != int(match.group(2)):
            return "object", "its count is %s" % count
        if count == 0:
            return ("object, count 0, live" if stopped.is_live(value)
                    else "object, count 0, freed"), None
        return "object", None if stopped.is_live(value) else "it was freed"
    if words == "this thread's stack":
        # The kernel may have made it larger since.
        good = any(m.start - STACK_GROWTH <= value < m.end
                   for m in stopped.maps if m.path == "[stack]")
        return "stack", None if good else "it is not"
    match = re.fullmatch(r"(\S+)\+0x([0-9a-f]+)(?: \(\S+\))?", words)
    if match:
        return "file", check_file(stopped, value, *match.groups())
    if words == "nothing mapped":
        return words, "something is" if mapping else None
    match = re.fullmatch(r"(\w.*) memory(?:(?:,| of) (.*))?", words)
    if match and mapping:
        access = "".join(letter for letter, word in zip("rwx", (
            "readable", "writable", "executable")) if word in words)
        good = (access == mapping.access[:3].replace("-", "")
                and (match.group(2) or "") == mapping.path)
        return "memory", None if good else "it is %s" % (mapping,)
    return "?", "not understood"


def check_file(stopped, value, base_name, offset):
    """Return what is wrong with a file and the offset in it."""
    found = stopped.file(value)
    if base_name == "linux-vdso.so.1":
        return None
    if found is None or os.path.basename(found[1]) != base_name:
        return "it is in %s" % (found,)
    return (None if value - found[0] == int(offset, 16)
            else "the offset is %x" % (value - found[0]))


def check_report(stopped, report):
    """Yield (kind, line, what is wrong or None) for each line."""
    if "\nRegisters:\n" not in report:
        return
    lines = report.split("\nRegisters:\n")[1].splitlines()
    if len(lines) != len(GENERAL) + 2:
        yield "block", "%d lines" % len(lines), "not %d" % (len(GENERAL) + 2)
    for name, line in zip(GENERAL, lines):
        words = line.split(MARK)[0]
        start = "  %-6s  0x%016x" % (name, stopped.registers[name])
        if not words.startswith(start):
            yield "value", line, "the value is %x" % stopped.registers[name]
            continue
        kind, wrong = check_words(stopped, name, words[len(start):].lstrip())
        yield kind, line, wrong
    good = lines[-2].startswith("  eflags  0x%016x"
                                % stopped.registers["eflags"])
    yield "flags", lines[-2], None if good else "wrong"
    expected = " ".join("%02x" % byte for byte in stopped.bytes) or "???"
    yield "code", lines[-1], (None if lines[-1] == "  code    " + expected
                              else "wrong: " + expected)


def run(seed, debug, folder):
    """Run one script to its end: what it was at its fatal signal, or None, and
    its report."""
    ledger, output = (os.path.join(folder, x) for x in ("ledger", "output"))
    with open(ledger, "wb") as file:
        file.truncate(16 << 20)
    script = os.path.join(folder, "script.py")
    with open(script, "w") as file:
        file.write(SCRIPT.format(seed=seed))
    environment = dict(os.environ, PYTHONHASHSEED="0",
                       FAULTHANDLER_LEDGER=ledger,
                       LD_PRELOAD=os.path.join(folder, "ledger.so"))
    if debug:
        environment["FAULTHANDLER_LEDGER_DEBUG"] = "1"
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(LIMIT)         # an event loop may wait for ever
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            libc.ptrace(TRACEME, 0, None, None)
            os.execve(sys.executable, [sys.executable, script], environment)
        finally:
            os._exit(127)
    stopped = None
    os.waitpid(pid, 0)
    libc.ptrace(SETOPTIONS, pid, None, 0x100000)        # dies with us
    libc.ptrace(CONT, pid, None, None)
    while True:
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            break
        signum = os.WSTOPSIG(status)
        if stopped is None and signum in FATAL:
            stopped = Stopped(pid, ledger)
        libc.ptrace(CONT, pid, None, signum)
    with open(output, encoding="ascii", errors="backslashreplace") as file:
        return stopped, file.read(), status


def main(arguments):
    debug = "--debug" in arguments
    numbers = [int(x) for x in arguments if x.isdigit()] + [300, 1][
        sum(x.isdigit() for x in arguments):]
    kinds, signals = collections.Counter(), collections.Counter()
    crashes, silent, wrong, seed = 0, 0, 0, numbers[1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-I",
                        sysconfig.get_path("include"), "-o",
                        os.path.join(folder, "ledger.so"),
                        os.path.join(HERE, "ledger.c")], check=True)
        while crashes < numbers[0]:
            stopped, report, status = run(seed, debug, folder)
            lines = list(check_report(stopped, report)) if stopped else []
            if lines:
                crashes += 1
                signals[status & 127] += 1
                signals["si_code %d" % stopped.code] += 1
            elif stopped:
                silent += 1
            for kind, line, problem in lines:
                kinds[kind] += 1
                if problem:
                    wrong += 1
                    print("seed %d: %s: %s" % (seed, line, problem))
            seed += 1
    print("%s: %d crashes with a block, %d without (Py_FatalError), of %d "
          "scripts; %d lines, %d wrong" % (
              sys.version.split()[0] + (" debug" if debug else ""), crashes,
              silent, seed - numbers[1], sum(kinds.values()), wrong))
    print(", ".join("%s: %d" % pair for pair in kinds.most_common()))
    print(", ".join("%s: %d" % pair for pair in signals.most_common()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
