"""C frames: function, file and line, and the objects that they are in.

In the reports a line with three dots stands for C frames of other
objects: which these are depends on the Python.
"""

import ctypes
import functools
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import textwrap

from signal import SIGSEGV

import pytest

from details import split_registers
from helpers import (
    FOLDER, FREE_THREADED, LIBRARY, PATIENCE, PYTHON, SANITIZED, X86_64, block,
    check, child_source, compile_library, compiler, copy_checkout, environment,
    patient, preload, python, run, special_build, write_file)


SYMBOLS = child_source("symbols.c")


def program(prepare="pass", name="symbols"):
    """A program that crashes in boom() of a library, after this code."""
    if prepare.startswith("\n"):
        prepare = "exec(%r)" % block(prepare)
    return block("""
        import faulthandler; faulthandler.enable(2, c_stack="mixed")
        import ctypes; boom = ctypes.CDLL("./%s.so").boom
        %s
        boom(None)
    """) % (name, prepare)


def run_program(code, *arguments, **options):
    """Run a program; lookups have all the time that they need."""
    options.setdefault("env", patient())
    return python(code, *arguments, **options)


MIXES = sys.version_info >= (3, 11)


REPORT = """
    Fatal Python error: Segmentation fault

    Current thread 0x… (most recent call first):
      File "<string>", line 4 in <module>

""" + ("""\
    C and Python stack (most recent call first):
    %s
      …
      File "<string>", line 4 in <module>
      …
""" if MIXES else """\
    Current thread's C stack trace (most recent call first):
    %s
      …
""")


LINES = """
      C File "…/symbols.c", line 12 in inner (%(name)s.so+0x…)
      C File "…/symbols.c", line 18 in outer (%(name)s.so+0x…)
      C File "…/symbols.c", line 24 in boom (%(name)s.so+0x…)
"""


# Without debug data.
NAMES = """
      C File ???, line ??? in outer (%(name)s.so+0x…)
      C File ???, line ??? in boom (%(name)s.so+0x…)
"""


# Without symbols.
EXPORTED = """
      C File ???, line ??? in ??? (%(name)s.so+0x…)
      C File ???, line ??? in boom (%(name)s.so+0x…)
"""


# What a module has that was built with libbacktrace.
MESSAGE = b"no debug info in ELF executable"


@functools.lru_cache(maxsize=None)
def complete():
    """Whether the module was built with libbacktrace."""
    child = python("import faulthandler; print(faulthandler.__file__)")
    with open(child.raw_out.strip(), "rb") as file:
        return MESSAGE in file.read()


@pytest.fixture(autouse=True)
def built():
    """The library that crashes is there."""
    build("symbols", SYMBOLS, "-g")


@functools.lru_cache(maxsize=None)
def build(name, source, *options, suffix=".c"):
    """Make a shared library in the children's folder, once."""
    if compiler() is None:
        pytest.skip("needs a C compiler")
    path = write_file(name + suffix, source)
    child = run(compiler(), "-O2", "-fPIC", "-shared", "-pthread",
                "-Wl,--build-id", *options, path, "-o", name + ".so",
                env=environment(LD_PRELOAD=""))
    if child.status:
        pytest.skip("the compiler fails: %s" % child)


def need_libbacktrace():
    if not complete():
        pytest.skip("the module was built without libbacktrace")


def tidy(text, *names):
    """The report with frames of other objects as three dots; these frames."""
    lines, others = [], []
    ours = tuple("(%s.so+0x" % name for name in names)
    # From 3.14 on a thread's name stands there.
    text = re.sub(r"(?m)^(Current thread 0x…) \[.*?\]", r"\1", text)
    for line in text.splitlines():
        match = re.match(r'  C File (?:".*"|\?\?\?), line (?:\d+|\?\?\?)'
                         r' in .+ (\((\S+)\+0x)[0-9a-f]+\)$', line)
        if match and match.group(1) in ours:
            line = re.sub(r"\+0x[0-9a-f]+\)$", "+0x…)", line)
            line = line.replace('"%s/' % FOLDER, '"…/')
        elif match:
            line = "  …"
            others.append(match.group(0))
        if line != "  …" or lines[-1] != line:
            lines.append(line)
    return "".join(line + "\n" for line in lines).replace(
        'C File "symbols.c"', 'C File "…/symbols.c"'), others


def expect(child, lines, name="symbols"):
    """The report of a crash in boom(), and the frames around it."""
    child.err, others = tidy(child.err, name)
    lines = textwrap.indent(block(lines % {"name": name}), "  ")
    check(child, SIGSEGV, block(REPORT).replace("%s\n", lines))
    if complete():
        check_others(others)


def check_others(others):
    """The frames of other objects are looked up all the same."""
    named = [line for line in others if " in ??? (" not in line]
    assert len(named) > 5, others


def crash_in(lines, prepare="pass", name="symbols", otherwise=EXPORTED,
             **options):
    """boom() of a library crashes, after this code, with these lines in the
    report: with the other ones where the module has no libbacktrace."""
    child = run_program(program(prepare, name), **options)
    expect(child, lines if complete() else otherwise, name)
    return child


# ---- what is shown ----

def test_function_file_line():
    """Static functions, inlined ones, in a library opened later.  The offset
    is that of the file's symbols; lines of one call share theirs."""
    child = crash_in(LINES)
    found = re.findall(r" in (\w+|\?\?\?) \(symbols\.so\+0x(\w+)\)",
                       child.raw_err)
    nm = run("nm", "symbols.so")
    if nm.status:
        pytest.skip("needs nm")
    start = {name: int(at, 16) for at, kind, name in
             (line.split() for line in nm.out.splitlines()
              if len(line.split()) == 3)}
    at = [int(number, 16) for name, number in found]
    assert [name for name, number in found] == ([
        "inner", "outer", "boom"] if complete() else ["???", "boom"])
    assert start["outer"] <= at[0] < start["outer"] + 32
    assert start["boom"] < at[-1] < start["boom"] + 32
    if complete():
        assert at[0] == at[1]


def test_last_instruction():
    """A call is the last instruction of its function."""
    child = run_program(program().replace("boom", "ends_with_call"))
    expect(child, """
          C File "…/symbols.c", line 30 in never_returns (symbols.so+0x…)
          C File "…/symbols.c", line 37 in ends_with_call (symbols.so+0x…)
    """ if complete() else """
          C File ???, line ??? in never_returns (symbols.so+0x…)
          C File ???, line ??? in ends_with_call (symbols.so+0x…)
    """)


@pytest.mark.parametrize("name, options, lines", [
    ("names", [], NAMES), ("stripped", ["-s"], EXPORTED)])
def test_no_debug_data(name, options, lines):
    """The names of the symbol table, also those of static functions; else
    those that the library exports."""
    build(name, SYMBOLS, *options)
    crash_in(lines, name=name)


# A function with the name that C++ gives to shop::add(int volatile&).
CXX = """
    int add(volatile int *p) __asm__("_ZN4shop3addERVi");
    int add(volatile int *p) { return *p + 1; }
    int boom(volatile int *p) { return add(p) + 2; }
"""


# From then on nobody can allocate.
STICK = 'ctypes.c_int.in_dll(ctypes.CDLL(None), "heap_is_stuck").value = 1'


@pytest.mark.parametrize("name, function, prepare", [
    ("cxx", "shop::add(int volatile&)", "%s"),
    ("plain_cxx", "_ZN4shop3addERVi", "pass"),
    ("stuck_cxx", "_ZN4shop3addERVi", "%s; " + STICK)])
def test_cxx_name(name, function, prepare):
    """A C++ function is named in words where the C++ library is loaded.  Its
    demangler may wait for ever: that costs 2 s, and the name."""
    if SANITIZED and name != "cxx":
        pytest.skip("the sanitizer loads the library, and has its own heap")
    if "%s" in prepare:
        need_libbacktrace()
        prepare %= 'ctypes.CDLL("libstdc++.so.6")'
        if python("import ctypes; " + prepare.split(";")[0]).status:
            pytest.skip("needs the C++ library")
    build(name, block(CXX), "-fno-optimize-sibling-calls", "-fno-inline")
    lines = """
          C File ???, line ??? in %s (%%(name)s.so+0x…)
          C File ???, line ??? in boom (%%(name)s.so+0x…)
    """ % function
    compile_library("forbid")
    options = {"env": preload("forbid")} if STICK in prepare else {}
    crash_in(lines, prepare, name, otherwise=lines, **options)


@pytest.mark.skipif(not shutil.which("proot"), reason="needs proot")
@pytest.mark.skipif(FREE_THREADED, reason="proot tells the end of the thread"
                                          " that tests us at import")
@pytest.mark.parametrize("c_stack", ["False", '"mixed"'])
def test_proot(c_stack):
    """proot's exit status is the same with a child as without."""
    child = run("proot", PYTHON, "-c", program().replace('"mixed"', c_stack))
    assert (child.status, child.err.count("Fatal")) == (255, 1)


def test_debug_file():
    """The debug data are in a file of their own."""
    for options in (["--only-keep-debug", "symbols.so", "split.debug"],
                    ["--strip-all", "--add-gnu-debuglink=split.debug",
                     "symbols.so", "split.so"]):
        if not shutil.which("objcopy") or run("objcopy", *options).status:
            pytest.skip("needs objcopy")
    crash_in(LINES, name="split")


def test_long_names():
    """A name is cut after 500 characters, and escaped."""
    long = "long_" * 110
    build("long", SYMBOLS.replace("outer", long), "-g")
    child = run_program(program(name="long"))
    assert child.status == -SIGSEGV
    if complete():
        assert long not in child.err
        assert " in %s... (long.so+0x" % long[:500] in child.err
    build("strange", '#line 8 "st\\303\\244\\nnge.c"\n'
          "int boom(volatile int *p)\n{ return *p; }\n", "-g")
    crash_in(NAME.replace(
        "???, line ???", '"st\\xc3\\xa4\\x0ange.c", line 9'),
        name="strange", otherwise=NAME)


@pytest.mark.parametrize("name, c_stack", [
    ("symbols", "'mixed'"), ("symbols", "True"), ("anonymous", "True")])
def test_objects(name, c_stack):
    """With details: path, address and build-id of the frames' objects."""
    build("anonymous", SYMBOLS, "-Wl,--build-id=none")
    child = run_program(program(name=name).replace(
        '"mixed"', c_stack + ", details=True"))
    assert child.status == -SIGSEGV
    report, _ = split_registers(child.raw_err)
    text = report.split("\n\nShared objects:\n")
    assert len(text) == 2
    lines = text[1].splitlines()
    for line in lines:
        assert re.search(r'^  "\S+" at 0x[0-9a-f]{16}, '
                         r"build-id ([0-9a-f]{40}|\?\?\?)$", line)
    note = run("readelf", "-n", name + ".so").out
    build_id = re.search("Build ID: (.*)|$", note).group(1)
    assert re.search(r'^  "\./%s\.so" at 0x\w+000, '
                     "build-id %s$" % (
                         name, build_id or r"\?\?\?"), lines[0])
    frames = re.findall(r"\((\S+)\+0x\w+\)$" if "mixed" in c_stack
                        else r'Binary file "(?:.*/)?(.*?)"',
                        text[0], re.MULTILINE)
    # The program's path is the real one, whatever it is called.
    frames = [os.path.basename(os.path.realpath(PYTHON))
              if frame == os.path.basename(PYTHON) else frame
              for frame in frames]
    listed = [os.path.basename(line.split('"')[1])
              for line in lines]
    assert listed == list(dict.fromkeys(frames))


def test_no_objects():
    """Without a C stack no objects are listed."""
    child = run_program(program().replace(
        'c_stack="mixed"', "c_stack=False, details=True"))
    assert "Shared objects" not in child.err


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", ", details=True"])
def test_old_loader(options):
    """A C library whose loader has only a list of the objects."""
    code = program().replace("import", "import injected,", 1)
    child = run_program(code.replace('"mixed"', '"mixed"' + options),
                   special_build("FAULTHANDLER_TEST_OLD_LOADER"))
    report = split_registers(child.err)[0] if options else child.err
    frames, _, objects = report.partition("\n\nShared objects:\n")
    listed = [os.path.basename(line.split('"')[1])
              for line in objects.splitlines()]
    assert ("symbols.so" in listed) == bool(options)
    if not options:
        expect(child, EXPORTED)
    assert "(0x" not in frames


def test_old_loader_lock():
    """Before glibc 2.35 the unwinder needs a lock, which a thread may hold."""
    child = python("""
        import injected, faulthandler; faulthandler.enable(2, False, "mixed")
        import ctypes; library = ctypes.CDLL("./symbols.so")
        assert library.hold_loader() == 0
        library.boom(None)
    """, special_build("FAULTHANDLER_TEST_OLD_LOADER"))
    child.err, _ = tidy(child.err, "symbols")
    check(child, SIGSEGV, block("""
        Fatal Python error: Segmentation fault

        Stack (most recent call first):
          File "<string>", line 4 in <module>

        %s (most recent call first):
          C File ???, line ??? in ??? (symbols.so+0x…)
          <no more of the C stack: another thread holds the loader's lock>
    """) % ("C and Python stack" if MIXES else
            "Current thread's C stack trace")
          + MIXES * '  File "<string>", line 4 in <module>\n')


@pytest.mark.slow
def test_build():
    """setup.py looks for libbacktrace, unless it is told."""
    code = "import setuptools; print(setuptools.__file__)"
    if run(sys.executable, "-c", code).status:
        pytest.skip("needs setuptools")
    sources = os.path.join(FOLDER, "sources")
    copy_checkout(sources)
    without = write_file("without", """#!/bin/sh
        case "$*" in *backtrace*) exit 1 ;; esac
        exec %s "$@"
    """ % compiler())
    os.chmod(without, 0o755)
    found = run(compiler(), "-include", "backtrace.h", "-fPIC", "-shared",
                "-x", "c", os.devnull, "-lbacktrace", "-o", "found.so")
    for wanted, cc, expected in (
            ("", compiler(), found.status == 0), ("", without, False),
            ("0", compiler(), False)):
        folder = tempfile.mkdtemp(dir=FOLDER)
        child = run(sys.executable, "setup.py", "-q", "build_ext",
                    "--build-lib", folder, "--build-temp", folder,
                    limit=4 * PATIENCE, preexec_fn=lambda: os.chdir(sources),
                    env=environment(CC=cc, CFLAGS="-O0",
                                    FAULTHANDLER_LIBBACKTRACE=wanted))
        assert child.status == 0
        assert "backtrace" not in child.out + child.err
        name, = [name for name in os.listdir(folder)
                 if name.startswith("faulthandler.")
                 and name.endswith(".so")]
        with open(os.path.join(folder, name), "rb") as file:
            assert (MESSAGE in file.read()) is expected


def test_kernel_code():
    """A fault in the code that the kernel maps, which has no file."""
    child = python("""
        import ctypes, faulthandler
        faulthandler.enable(2, c_stack="mixed")
        ctypes.CDLL(None).clock_gettime(1, ctypes.c_void_p(8))
    """)
    if child.status == 0:
        pytest.skip("the kernel's code makes a system call here")
    assert child.status == -SIGSEGV
    line = next(line for line in child.err.splitlines()
                if line.startswith("  C File "))
    assert re.search(r"^  C File \?\?\?, line \?\?\? in "
                     r"(__(vdso|kernel)_)?clock_gettime "
                     r"\(linux-\S+\+0x\w+\)$", line)


# ---- what is not there, or wrong ----

@pytest.mark.parametrize("how", [
    "replace('other.so', 'replaced.so')",
    "remove('replaced.so')",
    "remove('replaced.so'), os.mkfifo('replaced.so')",
    "remove('replaced.so'), os.mkdir('replaced.so')"])
def test_replaced_file(how):
    """The file of a library is another one by now, or none."""
    build("other", SYMBOLS.replace("#define", "\n\n\n#define", 1), "-g")
    path = shutil.copy(os.path.join(FOLDER, "symbols.so"),
                       os.path.join(FOLDER, "replaced.so"))
    crash_in(EXPORTED, "import os; os." + how, "replaced")
    if os.path.isdir(path):
        os.rmdir(path)
    elif os.path.lexists(path):
        os.remove(path)


def test_deleted_program():
    """The program's own file is gone."""
    copied = os.path.join(FOLDER, "deleted-python")
    shutil.copy(os.path.realpath(PYTHON), copied)
    code = program("import os; os.remove(%r)" % copied)
    # PYTHONPATH is no place where .pth files work.
    code = code.replace("import", "import _faulthandler_precedence,", 1)
    paths = run(PYTHON, "-c", "import sys; print(sys.prefix); "
                "print(*sys.path[1:], sep=':')").raw_out.splitlines()
    child = run(copied, "-c", code, env=environment(
        PYTHONHOME=os.path.dirname(os.path.dirname(LIBRARY)),
        PYTHONPATH=paths[1]))
    expect(child, LINES if complete() else EXPORTED)


def damage(seed):
    """The library with damage to what is read by lookups only."""
    numbers = random.Random(seed)
    with open(os.path.join(FOLDER, "symbols.so"), "rb") as file:
        data = bytearray(file.read())
    table, = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    parts = [(table, size * count)]
    end = 0
    for i in range(count):
        kind, flags, _, at, n = struct.unpack_from(
            "<IQQQQ", data, table + i * size + 4)
        if flags & 2:
            end = max(end, at + (0 if kind == 8 else n))
        elif n > 0:
            parts.append((at, n))
    at, n = numbers.choice(parts)
    how = seed % 5
    if how == 0:
        for _ in range(1 + n // 20):
            data[at + numbers.randrange(n)] = numbers.randrange(256)
    elif how == 1:
        data[at:at + n] = bytes(numbers.randrange(256)
                                for _ in range(n))
    elif how == 2:
        data[at + numbers.randrange(n)] = numbers.choice([0, 127, 255])
    elif how == 3:
        data[at:at + n] = numbers.choice([b"\xff", b"\0", b"\x80"]) * n
    else:
        del data[numbers.randrange(end, len(data)):]
    return bytes(data)


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="reads 64-bit files")
@pytest.mark.parametrize("seed", range(20))
def test_damaged_debug_data(seed):
    """Symbols, debug data, section headers: any part may be nonsense."""
    with open(os.path.join(FOLDER, "damaged.so"), "wb") as file:
        file.write(damage(seed))
    child = run_program(program(name="damaged"))
    text = re.sub(r"(?m)^  C File .* in .* \(damaged\.so\+0x\w+\)"
                  r"\n", "", child.err)
    assert "(damaged.so+0x" in child.err
    child.err, others = tidy(text)
    check(child, SIGSEGV, block(REPORT % "").replace(
        "first):\n\n  …", "first):\n  …"))
    check_others(others)


def unusual(name, **counts):
    counts = dict({"units": 0, "ranges": 0, "entry": 3, "entries": 0},
                  read="movl (%rdi), %eax" if X86_64 else "ldr w0, [x0]",
                  **counts)
    build(name, child_source("unusual.s") % counts, suffix=".s")


UNUSUAL_LINE = """
      C File "boom.c", line 7 in boom (%(name)s.so+0x…)
"""


NAME = """
      C File ???, line ??? in boom (%(name)s.so+0x…)
"""


def test_deep_debug_data():
    """Entries are nested deeper than any stack."""
    need_libbacktrace()
    unusual("plain", entries=1000)
    crash_in(UNUSUAL_LINE, name="plain")
    unusual("deep", entry=2, entries=1000000)
    crash_in(NAME, name="deep")


@pytest.mark.slow
def test_slow_debug_data():
    """Debug data that take minutes cost 5 s, and all that is behind them."""
    need_libbacktrace()
    unusual("slow", units=10000, ranges=1000000)
    crash_in(NAME, name="slow", env=environment())


# ---- the worst moment ----

@pytest.mark.skipif(SANITIZED, reason="the sanitizer has its own heap")
def test_heap_lock():
    """Nobody can allocate."""
    compile_library("forbid"), patient()
    crash_in(LINES, STICK, env=preload("forbid", "patient"))


# There is this much more address space.
LIMIT_MEMORY = """
    import resource
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0])
    size *= resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size + %d, hard))
"""


@pytest.mark.parametrize("lines, prepare", [
    (LINES, """
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                os.dup(2)
        except OSError:
            pass
    """),
    (LINES, LIMIT_MEMORY % 16000000),
    (EXPORTED, "import refuse; refuse.refuse('clone')"),
    pytest.param(
        LINES, "assert ctypes.CDLL('./symbols.so').hold_loader() == 0",
        marks=pytest.mark.skipif(
            not hasattr(ctypes.CDLL(None), "_dl_find_object"),
            reason="before glibc 2.35 the unwinder needs the lock")),
], ids=["all descriptors in use", "little memory", "no child",
        "the loader's lock is held"])
def test_short_of(lines, prepare):
    """What a lookup needs: a child, and little else."""
    crash_in(lines, prepare)


def test_no_memory():
    """There is no more address space."""
    child = run_program(program(LIMIT_MEMORY % 0))
    child.err, _ = tidy(child.err)
    check(child, SIGSEGV, block(REPORT).replace("  …\n", "").replace(
        "%s", "  <the rest of the C stack cannot be read>"))


def test_no_trace():
    """A process that lives on has no child and no mapping more."""
    if SANITIZED:
        pytest.skip("the sanitizer has a handler of its own")
    compile_library("older")
    child = python("""
        import ctypes, os
        from handlers import install
        install("repair")
        import faulthandler
        from damage import forbidden, libc
        boom = ctypes.CDLL("./symbols.so").boom
        null, at = os.open("/dev/null", 1), ctypes.c_void_p(forbidden)
        def crash():
            faulthandler.enable(null, c_stack="mixed")
            libc.mprotect(at, 4096, 0)
            boom(at)
            try:
                print("a child:", os.waitpid(-1, 0x40000000))
            except ChildProcessError:
                pass
            with open("/proc/self/maps") as file:
                return len(file.readlines())
        crash()
        print(crash() == crash())
    """)
    assert (child.status, child.out) == (0, "True\n")
