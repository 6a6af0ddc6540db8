#!/usr/bin/env python3
"""Check what the signal handlers can call, and how much stack they need.

    .ci/callgraph.py [SOURCE [INCLUDE_DIR]]

gcc writes the call graph of the C file.  From every function called on_*
(the signal handlers) and those in THREADS and CHILD the script follows the
calls:

* each function outside the file that can be reached must be listed in CALLS
  with the reason why it may be called there, and each one listed must be
  reachable;
* the deepest path of each handler, added up from gcc's stack use of each
  function, must stay below STACK_LIMIT; recursion and stack blocks of unknown
  size are errors, unless RECURSION bounds them.

With CALLGRAPH_LIBBACKTRACE=1 in the environment it checks the file as it is
built with libbacktrace.

The graph holds what the compiler sees.  It does not show the system calls of
inline assembly, nor a signal that interrupts the handler itself.  Exit status:
0 if all is well, 1 if not, 2 if it could not be checked.
"""
import collections
import os
import re
import subprocess
import sys
import sysconfig
import tempfile

# The deepest path of one handler, in bytes.  It must stay below the alternate
# stack by far: the kernel's signal frame (AT_MINSIGSTKSZ) comes on top, and
# both come twice when a read faults inside the handler.
STACK_LIMIT = 16 * 1024

# What a function outside the file is taken to need, unless CALLS says more.
# A system call's wrapper needs less than 200 bytes.
OUTSIDE_STACK = 512

Call = collections.namedtuple(
    "Call", "reason since until stack only optional")


def call(reason, since=(3, 0), until=(3, 99), stack=OUTSIDE_STACK, only=(),
         optional=False):
    """Describe an outside function that handlers may call.

    since, until: the first and the last Python it is called on; stack: bytes;
    only: the handlers that may reach it, all if empty; optional: not every
    C library or compiler calls it.
    """
    return Call(reason, since, until, stack, frozenset(only), optional)


# Is the file built with libbacktrace?
LIBBACKTRACE = os.environ.get("CALLGRAPH_LIBBACKTRACE") == "1"

# What the linker calls the function that lists the loaded objects.
LIST_OBJECTS = "__real_dl_iterate_phdr" if LIBBACKTRACE else "dl_iterate_phdr"

# Functions that run in a thread of our own, without the GIL.
THREADS = ["later_run"]

# Functions that run in a child process, on a stack of its own, which may end
# there without harm.
CHILD = ["native_take_lock", "on_child_fault"]
if LIBBACKTRACE:
    CHILD += ["__wrap_dl_iterate_phdr", "symbol_on_error", "symbol_on_line",
              "symbol_on_symbol", "symbol_search"]

# Every outside function that a handler may reach, and why that is safe.
# "On the list": POSIX has it among the async-signal-safe functions.
CALLS = {
    "PyGILState_GetThisThreadState": call("a thread-local load"),
    "PyInterpreterState_Head": call("loads a word of the runtime"),
    "PyInterpreterState_Main": call("loads a word of the runtime"),
    "PyThreadState_GetUnchecked": call("a thread-local load",
                                       since=(3, 13)),
    "Py_IsFinalizing": call("loads a word of the runtime", since=(3, 13)),
    "Py_IsInitialized": call("loads a word of the runtime"),
    "_PyThreadState_UncheckedGet": call("loads a word of the runtime, from"
                                        " 3.12 on of the thread",
                                        until=(3, 12)),
    "_Py_IsFinalizing": call("loads a word of the runtime",
                             until=(3, 12)),
    "_Unwind_Backtrace": call("its library was opened when arming; finds its"
                              " tables with _dl_find_object; 1.7 KiB"
                              " measured", stack=8 * 1024, optional=True),
    "_Unwind_FindEnclosingFunction": call(
        "finds the tables as _Unwind_Backtrace does", stack=4 * 1024,
        optional=True),
    "_Unwind_GetCFA": call("loads a word of its argument", optional=True),
    "_Unwind_GetIPInfo": call("loads a word of its argument", optional=True),
    "__errno_location": call("errno: an address in the thread's own block"),
    "__libc_current_sigrtmax": call("SIGRTMAX: returns a number"),
    "__sigsetjmp": call("stores registers; the mask is not asked for"),
    "_dl_find_object": call("made for unwinders: takes no lock",
                            optional=True),
    "_exit": call("on the list; in children, and for exit=True"),
    "clock_gettime": call("on the list"),
    "close": call("on the list"),
    "fcntl": call("on the list"),
    "fstat": call("on the list"),
    "getauxval": call("searches what the kernel left on the first stack"),
    "geteuid": call("on the list"),
    "getpid": call("on the list"),
    "getrlimit": call("a bare system call"),
    "gnu_dev_major": call("shifts the bits of its argument"),
    "gnu_dev_minor": call("shifts the bits of its argument"),
    "memcmp": call("on the list"),
    "memcpy": call("on the list"),
    "memmove": call("on the list"),
    "memset": call("on the list"),
    "mmap": call("a bare system call"),
    "mremap": call("a bare system call"),
    "munmap": call("a bare system call"),
    "nanosleep": call("on the list"),
    "open": call("on the list"),
    "openat": call("on the list"),
    "pipe2": call("a bare system call"),
    "poll": call("on the list"),
    "prctl": call("a bare system call"),
    "process_vm_readv": call("a bare system call"),
    "pthread_cond_broadcast": call("in a thread, which interrupts nobody",
                                   only=THREADS),
    "pthread_cond_destroy": call("in a thread, which interrupts nobody",
                                 only=THREADS),
    "pthread_cond_timedwait": call("in a thread, which interrupts nobody",
                                   only=THREADS),
    "pthread_mutex_destroy": call("in a thread, which interrupts nobody",
                                  only=THREADS),
    "pthread_mutex_lock": call("in a thread, which interrupts nobody",
                               only=THREADS),
    "pthread_mutex_unlock": call("in a thread, which interrupts nobody",
                                 only=THREADS),
    "pthread_getspecific": call("loads a word of the thread's own block"),
    "pthread_self": call("on the list"),
    "pthread_sigmask": call("on the list"),
    "read": call("on the list"),
    "send": call("on the list"),
    "setrlimit": call("a bare system call"),
    "sigaction": call("on the list"),
    "sigaddset": call("on the list"),
    "sigaltstack": call("a bare system call"),
    "sigdelset": call("on the list"),
    "sigemptyset": call("on the list"),
    "sigfillset": call("on the list"),
    "sigismember": call("on the list"),
    "siglongjmp": call("restores registers; leaves no lock behind, because"
                       " nothing that is interrupted holds one"),
    "sigpending": call("on the list"),
    "sigtimedwait": call("a bare system call"),
    "strcmp": call("on the list; only on our own text"),
    "strcspn": call("on the list; only on our own text", since=(3, 15)),
    "strncmp": call("on the list; only on our own text"),
    "strlen": call("on the list; only on literals and our own text"),
    "syscall": call("a bare system call"),
    "the older handler": call("the user asked for it, or the kernel would"
                              " have called it", stack=0,
                              only=["on_user_signal", "on_user_chain",
                                    "on_fatal_signal"]),
    "waitpid": call("on the list"),
    "write": call("on the list"),
}
CALLS.update({
    "clone": call("a bare system call"),
    "getppid": call("on the list", only=CHILD),
    "getrusage": call("a bare system call"),
    "kill": call("on the list"),
    "waitpid": call("on the list"),
    LIST_OBJECTS: call("in the child", only=CHILD),
})
if LIBBACKTRACE:
    CALLS.update({
        "__cxa_demangle": call("in the child", only=CHILD),
        "a callback of libbacktrace": call("in the child", only=CHILD),
        "backtrace_create_state": call("in the child", only=CHILD),
        "backtrace_pcinfo": call("in the child", only=CHILD),
        "backtrace_syminfo": call("in the child", only=CHILD),
        "pread": call("a bare system call", only=CHILD),
        "strnlen": call("on the list; only on libbacktrace's text",
                        only=CHILD),
    })

# Who a call through a pointer can reach: {"caller": ["target", ...]}.  The
# caller is one of our functions, or an outside one that calls us back.
INDIRECT = {
    "_Unwind_Backtrace": ["unwind_on_frame"],
    "unwind_on_frame": ["_Unwind_GetCFA", "_Unwind_GetIPInfo"],
    "platform_find_object": ["_dl_find_object"],
    "platform_open_lifted": ["out_open_both", "platform_open_to_read"],
    LIST_OBJECTS: ["native_on_object"],
    "unwind_is_first": ["_Unwind_FindEnclosingFunction"],
    "unwind_stack": ["_Unwind_Backtrace"],
    "report_step": [
        "report_activities", "report_c_stack", "report_cause",
        "report_context", "report_current", "report_exceptions",
        "report_find_current", "report_flush", "report_hurry",
        "report_list_threads",
        "report_mixed_stack", "report_modules",
        "report_objects", "report_origin", "report_registers",
        "report_thread_marks", "report_threads", "report_title"],
    "stack_on_spare": ["fatal_report_once", "on_user_report"],
    "chain_call_older": ["the older handler"],
    "on_user_chain": ["the older handler"],
}
if LIBBACKTRACE:
    INDIRECT["__wrap_dl_iterate_phdr"] = ["a callback of libbacktrace"]
    INDIRECT["symbol_demangle"] = ["__cxa_demangle"]

# The same for what is called in inline assembly.
ASSEMBLY = {
    "cpu_call_on": ["stack_on_spare"],
}

# Functions whose address crash code handles without calling them, and why.
NOT_CALLED = {
}

# How many activations of a function can be on the stack at once.
RECURSION = {
}

# The C library's names for large files, as the source calls them.
ALIASES = {
    "fcntl64": "fcntl",
    "fstat64": "fstat",
    "getrlimit64": "getrlimit",
    "mmap64": "mmap",
    "open64": "open",
    "openat64": "openat",
    "pread64": "pread",
    "setrlimit64": "setrlimit",
}

# Names and edges as they are written: no inlining, no clones, no call that
# the optimiser removes, adds or turns into another (printf into puts), and no
# pointer that it sees through.  A distribution's hardening adds calls of its
# own, which are not ours to list.
AS_WRITTEN = ["-O0", "-fno-builtin", "-U_FORTIFY_SOURCE",
              "-fno-stack-protector"]

# Stack use depends on the optimiser: these are what Pythons are built with,
# and extensions with them.  The graph as written gives that of -O0, and -Og
# of debug builds lies between.
BUILDS = ["-O2", "-O3"]

Node = collections.namedtuple("Node", "name place size dynamic")


class CannotCheck(Exception):
    """gcc is missing, too old, or rejects the file."""


class Graph:
    """The call graph of one build of the file.

    nodes: our functions, by gcc's title; calls: title -> set of titles and
    of outside names; pointers: title -> places of calls through a pointer.
    """

    def __init__(self):
        self.nodes = {}
        self.calls = collections.defaultdict(set)
        self.pointers = collections.defaultdict(set)

    def handlers(self):
        """Return the titles of the functions to start from, sorted."""
        return sorted(title for title, node in self.nodes.items()
                      if node.name.startswith("on_")
                      or node.name in THREADS + CHILD)

    def named(self, name):
        """Return the titles of a function and its clones."""
        return [title for title, node in self.nodes.items()
                if node.name == name]


def plain_name(title):
    """Return a function's name in the source: clones have suffixes."""
    if " " in title:
        return title
    return title.rsplit(":", 1)[-1].split(".", 1)[0]


def outside_name(title):
    """Return the name of an outside function as the source calls it."""
    title = title.lstrip("*")
    return ALIASES.get(title, title)


def compile_file(source, include_dir, flags, folder):
    """Compile the file in a folder of its own; return the text of gcc's graph.

    The dump of symbols and references is left in the folder as symbols.txt.
    """
    compiler = os.environ.get("CALLGRAPH_GCC", "gcc")
    if LIBBACKTRACE:
        flags = flags + ["-DFAULTHANDLER_LIBBACKTRACE=1"]
    command = [compiler, "-std=gnu11", "-fPIC", "-w", "-S", *flags,
               "-fcallgraph-info=su,da", "-fdump-ipa-cgraph=symbols.txt",
               "-I", os.path.abspath(include_dir),
               "-I", os.path.dirname(os.path.abspath(source)),
               os.path.abspath(source), "-o", "out.s"]
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              encoding="utf-8", errors="replace")
    except OSError as error:
        raise CannotCheck("cannot run %s: %s" % (compiler, error))
    if done.returncode != 0:
        raise CannotCheck("%s: %s" % (" ".join(command), done.stdout.strip()))
    with open(os.path.join(folder, "out.ci"), encoding="utf-8") as file:
        return file.read()


def parse_graph(text):
    """Read gcc's graph, which is in the VCG format, one item a line."""
    graph = Graph()
    for line in text.splitlines():
        quoted = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
        if line.startswith("node:"):
            title, label = quoted[:2]
            parts = label.split("\\n")
            size = re.match(r"(\d+) bytes \(([a-z,]+)\)",
                            parts[2] if len(parts) > 2 else "")
            if size is not None:
                graph.nodes[title] = Node(
                    plain_name(title), parts[1], int(size.group(1)),
                    size.group(2) == "dynamic")
        elif line.startswith("edge:"):
            caller, callee = quoted[0], outside_name(quoted[1])
            if callee == "__indirect_call":
                graph.pointers[caller].add(quoted[2] if quoted[2:] else "?")
            else:
                graph.calls[caller].add(callee)
    return graph


def load_graph(source, include_dir, flags):
    """Compile the file and return its graph and the dump of references."""
    with tempfile.TemporaryDirectory(prefix="callgraph-") as folder:
        graph = parse_graph(compile_file(source, include_dir, flags, folder))
        with open(os.path.join(folder, "symbols.txt"),
                  encoding="utf-8") as file:
            return graph, file.read()


def python_version(include_dir):
    """Return the (major, minor) version of the headers."""
    path = os.path.join(include_dir, "patchlevel.h")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise CannotCheck("no Python headers: %s" % error)
    return tuple(int(re.search(r"#define\s+PY_%s_VERSION\s+(\d+)" % part,
                               text).group(1)) for part in ("MAJOR", "MINOR"))


def function_at(written, place):
    """Return the name of the function in whose lines a place lies."""
    file, line = place.split(":")[:2]
    best = ("", 0)
    for node in written.nodes.values():
        start = node.place.split(":")
        if (os.path.basename(start[0]) == os.path.basename(file)
                and best[1] < int(start[1]) <= int(line)):
            best = (node.name, int(start[1]))
    return best[0]


def resolve_pointers(graph, written):
    """Add the edges that INDIRECT names.

    A call through a pointer that it does not name leads to a made-up function
    outside, which is in no list.
    """
    for title, places in graph.pointers.items():
        for place in places:
            # An inlined call belongs to the function that it was written in.
            name = graph.nodes[title].name
            if name not in INDIRECT:
                name = function_at(written, place)
            for target in INDIRECT.get(name, ()):
                graph.calls[title].update(graph.named(target) or [target])
            if name not in INDIRECT:
                graph.calls[title].add("the pointer called at %s:%s" % (
                    os.path.basename(place.split(":")[0]),
                    place.split(":")[1]))
    outside = {callee for callees in graph.calls.values()
               for callee in callees if callee not in graph.nodes}
    for caller, targets in INDIRECT.items():
        if caller in outside:
            for target in targets:
                graph.calls[caller].update(graph.named(target) or [target])
    for caller, targets in ASSEMBLY.items():
        for title in graph.named(caller):
            for target in targets:
                graph.calls[title].update(graph.named(target) or [target])


def stale_names(written):
    """Yield what the tables above say that the file no longer does."""
    for name in [*THREADS, *CHILD, *ASSEMBLY]:
        if not written.named(name):
            yield "no function in the file is called %s" % name
    calling = {written.nodes[title].name for title in written.pointers}
    outside = {callee for callees in written.calls.values()
               for callee in callees if callee not in written.nodes}
    for caller in sorted(set(INDIRECT) - calling - outside):
        yield ("INDIRECT names %s, which makes no call through a pointer"
               % caller)


def reachable(graph, start):
    """Return {title: the caller that leads to it} from start."""
    paths = {start: None}
    todo = [start]
    for title in todo:
        for callee in sorted(graph.calls.get(title, ())):
            if callee not in paths:
                paths[callee] = title
                todo.append(callee)
    return paths


def path_to(paths, title):
    """Return the calls that lead to a title, as text."""
    names = []
    while title is not None:
        names.append(plain_name(title))
        title = paths[title]
    return " > ".join(reversed(names))


def expected_calls(version):
    """Return the part of CALLS that this Python's build can reach."""
    return {name: entry for name, entry in CALLS.items()
            if entry.since <= version <= entry.until}


def check_calls(graph, version):
    """Compare what the handlers reach with CALLS; yield the differences."""
    expected = expected_calls(version)
    reached = set()
    for handler in graph.handlers():
        paths = reachable(graph, handler)
        for title in sorted(set(paths) - set(graph.nodes)):
            entry = expected.get(title)
            if entry is None:
                if title not in reached:
                    yield ("not in CALLS for Python %d.%d: %s"
                           % (version + (path_to(paths, title),)))
            elif entry.only and graph.nodes[handler].name not in entry.only:
                yield ("only %s may reach %s: %s"
                       % (", ".join(sorted(entry.only)), title,
                          path_to(paths, title)))
            reached.add(title)
    for name, entry in sorted(expected.items()):
        if name not in reached and not entry.optional:
            yield ("CALLS lists %s for Python %d.%d, but no handler reaches it"
                   % ((name,) + version))


def parse_symbols(text):
    """Return ({symbol: symbols it refers to}, functions) of gcc's dump.

    The dump holds several tables; the first one has all the references.
    """
    references = collections.defaultdict(set)
    functions = set()
    symbol = None
    for line in text.splitlines():
        start = re.match(r"(\S+)/\d+ \((\S+)\)", line)
        if start is not None:
            symbol = start.group(1)
        elif symbol is None:
            continue
        elif line.startswith("  Type: function"):
            functions.add(symbol)
        elif line.startswith("  References:"):
            found = re.findall(r"(\S+)/\d+ \((\w+)\)", line)
            references[symbol].update(name for name, how in found
                                      if how != "write")
    return references, functions


def check_addresses(graph, dump):
    """Yield functions whose address crash code holds but no table names."""
    references, functions = parse_symbols(dump)
    named = {name for table in (INDIRECT, ASSEMBLY)
             for targets in table.values() for name in targets}
    handlers = {graph.nodes[title].name for title in graph.handlers()}
    seen = {plain_name(title) for handler in graph.handlers()
            for title in reachable(graph, handler) if title in graph.nodes}
    todo = sorted(seen)
    held = {}
    for symbol in todo:
        for name in sorted(references.get(symbol, ())):
            if name in functions:
                held.setdefault(name, symbol)
            elif name not in seen:
                seen.add(name)
                todo.append(name)
    for name in sorted(set(held) - named - handlers - set(NOT_CALLED)):
        yield ("crash code holds the address of %s (in %s): name it in"
               " INDIRECT or NOT_CALLED" % (name, held[name]))
    for name in sorted(set(NOT_CALLED) - set(held)):
        yield "NOT_CALLED names %s, whose address no crash code holds" % name


def components(graph, start):
    """Return the cycles and single functions from start, callees first."""
    # Tarjan's algorithm, without recursion: graphs are deeper than Python's
    # stack allows.
    order, low, found, stack = {}, {}, [], []
    work = [(start, iter(sorted(graph.calls.get(start, ()))))]
    order[start] = low[start] = 0
    stack.append(start)
    while work:
        title, callees = work[-1]
        for callee in callees:
            if callee not in order:
                order[callee] = low[callee] = len(order)
                stack.append(callee)
                work.append(
                    (callee, iter(sorted(graph.calls.get(callee, ())))))
                break
            if callee in stack:
                low[title] = min(low[title], order[callee])
        else:
            work.pop()
            if work:
                above = work[-1][0]
                low[above] = min(low[above], low[title])
            if low[title] == order[title]:
                at = stack.index(title)
                found.append(stack[at:])
                del stack[at:]
    return found


def is_cycle(graph, members):
    """Tell whether a component calls itself."""
    return len(members) > 1 or members[0] in graph.calls.get(members[0], ())


def times(graph, members):
    """Return how often a component can be on the stack, None if unbounded."""
    if not is_cycle(graph, members):
        return 1
    bounded = [title for title in members if plain_name(title) in RECURSION]
    rest = Graph()
    for title in set(members) - set(bounded):
        rest.calls[title] = graph.calls[title] & set(members) - set(bounded)
    for title in list(rest.calls):
        if any(is_cycle(rest, part) for part in components(rest, title)):
            return None
    return 1 + sum(RECURSION[plain_name(title)] for title in bounded)


def deepest(graph, start, version):
    """Return (bytes, titles on the path, errors) of the deepest path."""
    expected = expected_calls(version)
    depth, path, errors = {}, {}, []
    for members in components(graph, start):
        own = 0
        for title in members:
            node = graph.nodes.get(title)
            if node is None:
                entry = expected.get(title)
                own += entry.stack if entry else OUTSIDE_STACK
            else:
                own += node.size
                if node.dynamic:
                    errors.append("%s takes a stack block of unknown size"
                                  % node.name)
        count = times(graph, members)
        if count is None:
            errors.append("recursion without a bound in RECURSION: "
                          + ", ".join(sorted(map(plain_name, members))))
            count = 1
        below = max((callee for title in members
                     for callee in graph.calls.get(title, ())
                     if callee not in members),
                    key=depth.get, default=None)
        total = own * count + (depth[below] if below else 0)
        for title in members:
            depth[title] = total
            path[title] = members + (path[below] if below else [])
    return depth[start], path[start], errors


def check_stack(graph, version, build, say):
    """Bound the stack of each handler; yield what is wrong."""
    for handler in graph.handlers():
        name = graph.nodes[handler].name
        size, path, errors = deepest(graph, handler, version)
        route = " > ".join(map(plain_name, path))
        say("stack of %s at %s: %d bytes: %s" % (name, build, size, route))
        for error in errors:
            yield "%s: %s" % (name, error)
        if size > STACK_LIMIT:
            yield ("%s needs %d bytes of stack at %s, more than %d: %s"
                   % (name, size, build, STACK_LIMIT, route))


def check(source, python_include_dir, say=lambda line: None):
    """Return what is wrong with the crash half of source, a list of lines.

    say is called with the lines of the report.  Raises CannotCheck.
    """
    version = python_version(python_include_dir)
    written, dump = load_graph(source, python_include_dir, AS_WRITTEN)
    if not any(node.name.startswith("on_") for node in written.nodes.values()):
        return ["no function is called on_*"]
    resolve_pointers(written, written)
    errors = list(stale_names(written))
    errors += check_calls(written, version)
    errors += check_addresses(written, dump)
    outside = {title for handler in written.handlers()
               for title in reachable(written, handler)
               if title not in written.nodes}
    say("%d handlers: %s" % (
        len(written.handlers()),
        ", ".join(written.nodes[title].name for title in written.handlers())))
    say("%d outside functions: %s" % (
        len(outside), ", ".join(sorted(outside))))
    errors += check_stack(written, version, "-O0", say)
    for build in BUILDS:
        graph = load_graph(source, python_include_dir, build.split())[0]
        resolve_pointers(graph, written)
        errors += check_stack(graph, version, build, say)
    # Most builds find the same; in order, each error once.
    return list(dict.fromkeys(errors))


def main(arguments):
    """Check one file and print the report; return the exit status."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    source = os.path.join(top, "faulthandler.c")
    include_dir = sysconfig.get_path("include")
    if len(arguments) > 2 or any(word.startswith("-") for word in arguments):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    if arguments:
        source = arguments[0]
    if len(arguments) > 1:
        include_dir = arguments[1]
    try:
        errors = check(source, include_dir, print)
    except CannotCheck as error:
        print("callgraph: %s" % error, file=sys.stderr)
        return 2
    for error in errors:
        print("ERROR: %s" % error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
