"""Compares faulthandler with the interpreter's builtin module.

    python bench/bench.py [--quick]

Run it with a Python that has the package installed.  Both modules are loaded
into this one process, the builtin through BuiltinImporter, and they take
turns: every time is the median of many calls, every ratio the median of the
rounds.  Times of reports and imports are processor time, so that other
processes count little; that of an empty call is subtracted.  The limit is
what one write of the report's bytes to the same file takes.  Rows about
starting, importing and threads are measured in other processes, in turns as
well.

Nothing is asserted.
"""

import argparse
import compileall
import contextlib
import functools
import gc
import importlib.machinery
import importlib.util
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import venv

import faulthandler as ours

# The environment makes a fresh process import the one or the other.
STDLIB = 'FAULTHANDLER_USE_STDLIB'
DROPPED = (STDLIB, 'PYTHONFAULTHANDLER', 'PYTHONDEVMODE')

# No child outlives this.
CHILD_SECONDS = 120

DEEPEST = 100000
STACK_SIZE = 512 << 20
FILENAME = 'application/package/module.py'


# ---- the modules ----

def load_builtin():
    """Return the interpreter's own module, which is not in sys.modules."""
    spec = importlib.machinery.BuiltinImporter.find_spec('faulthandler')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


builtin = load_builtin()


# The builtin shows at most 100 threads before 3.15.
CAN_SHOW_MORE = sys.version_info >= (3, 15)


def dumper(module, fd, **options):
    """Return dump_traceback with the options that the module knows."""
    if module is builtin and not CAN_SHOW_MORE:
        options.pop('max_threads', None)
    return functools.partial(module.dump_traceback, fd, **options)


# ---- stacks ----

RING = 98

# Functions that call each other in a ring, a line each: a stack of any depth
# in which no function calls itself.
RING_SOURCE = '\n'.join(
    'def function_%d(n, call): return function_%d(n - 1, call) if n else '
    'call()' % (i, (i + 1) % RING) for i in range(RING))

RECURSION_SOURCE = ('def function_0(n, call): return function_0(n - 1, call) '
                    'if n else call()')


# Cached, because the threads of a program share their code.
@functools.lru_cache(maxsize=None)
def define(source, name='function_0'):
    """Return the function of that name that the source defines."""
    namespace = {}
    exec(compile(source, FILENAME, 'exec'), namespace)
    return namespace[name]


def count_frames():
    """Return how many frames the caller's stack has, itself included."""
    frame, count = sys._getframe(1), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count


def at_depth(source, frames, call):
    """Return call(), made on a stack of this many frames."""
    return define(source)(frames - count_frames() - 1, call)


def in_deep_thread(function):
    """Return function(), run in a thread with a large C stack."""
    result = []
    threading.stack_size(STACK_SIZE)
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    threading.stack_size(0)
    thread.join()
    return result[0]


class Waiting:
    """Threads that wait in a stack of this depth, until the block ends."""

    def __init__(self, count, frames):
        self.count, self.frames = count, frames
        self.lock = threading.Lock()
        self.ready = threading.Semaphore(0)
        self.threads = []

    def run(self):
        def wait():
            self.ready.release()
            self.lock.acquire()
            self.lock.release()
        at_depth(RING_SOURCE, self.frames - 1, wait)

    def __enter__(self):
        self.lock.acquire()
        for _ in range(self.count):
            thread = threading.Thread(target=self.run)
            thread.start()
            self.threads.append(thread)
        for _ in range(self.count):
            self.ready.acquire()
        time.sleep(0.05)        # the last one is on its way to the lock

    def __exit__(self, *error):
        self.lock.release()
        for thread in self.threads:
            thread.join()


# ---- timing in one process ----

# What one module may take of one round.
BUDGET_NS = 50 * 1000 * 1000


def time_calls(call, count):
    """Return the median processor time of a call, in seconds."""
    clock, times = time.thread_time_ns, []
    while len(times) < count and (len(times) < 3 or sum(times) < BUDGET_NS):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times) / 1e9


def compare(calls, count, rounds, timer=time_calls):
    """Time the calls in turns; return a list of seconds for each name."""
    names, times = list(calls), {name: [] for name in calls}
    for _ in range(rounds):
        names.reverse()
        for name in names:
            times[name].append(timer(calls[name], count))
    return times


# The frames that compare_dumps() and compare_fatal() put on top of the stack
# that they are called in: their own, compare()'s and the timer's.
ABOVE = 3


@contextlib.contextmanager
def open_target(path):
    """Open a file that is appended to, as a log is; remove it at the end."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        yield fd
    finally:
        os.close(fd)
        if path != os.devnull:
            os.unlink(path)


def compare_dumps(path, count, rounds, **options):
    """Time both modules, one write of the report, and an empty call."""
    with tempfile.TemporaryFile() as file:
        compare({'ours': dumper(ours, file.fileno(), **options)}, 1, 1)
        file.seek(0)
        report = file.read()
    with open_target(path) as fd:
        times = compare({
            'builtin': dumper(builtin, fd, **options),
            'ours': dumper(ours, fd, **options),
            'limit': functools.partial(os.write, fd, report),
            'empty': ours.is_enabled,
        }, count, rounds)
    times['bytes'] = len(report)
    return times


# The report without the C stack, which is on by default from 3.14 on.
FATAL = {'c_stack': False} if sys.version_info >= (3, 14) else {}


def time_fatal(fd, module, count):
    """Return the median processor time of a fatal report, in seconds."""
    clock, times = time.thread_time_ns, []
    for _ in range(count):
        if module is not None:
            module.enable(fd, **FATAL)
        start = clock()
        signal.raise_signal(signal.SIGSEGV)
        times.append(clock() - start)
        if module is not None:
            module.disable()
    return statistics.median(times) / 1e9


def compare_fatal(path, count, rounds):
    """Time the fatal reports of both modules, and an ignored signal."""
    with open_target(path) as fd:
        times = compare({'builtin': builtin, 'ours': ours, 'empty': None},
                        count, rounds, functools.partial(time_fatal, fd))
    return times


@contextlib.contextmanager
def survival():
    """Ignore SIGSEGV after a module has reported it."""
    ours.disable()
    before = signal.signal(signal.SIGSEGV, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGSEGV, before)
        ours.enable()


def difference(times, name):
    """Return the times of a name less those of an empty call."""
    return [max(time - empty, 1e-9)
            for time, empty in zip(times[name], times['empty'])]


# ---- children ----

def environment(use_builtin=False):
    """Return an environment in which a child imports ours or the builtin."""
    result = {name: value for name, value in os.environ.items()
              if name not in DROPPED}
    if use_builtin:
        result[STDLIB] = '1'
    return result


# What every child does first: no core files, a time limit.
PRELUDE = '''
import resource, signal
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.alarm(%d)
''' % CHILD_SECONDS


def run(code, *arguments, use_builtin=False, python=sys.executable, **options):
    """Run code in a fresh process; return what it printed."""
    child = subprocess.run([python, '-c', code] + list(arguments),
                           env=environment(use_builtin), check=True,
                           stdout=subprocess.PIPE, timeout=CHILD_SECONDS,
                           **options)
    return child.stdout.decode()


def compare_children(measure, names, rounds):
    """Call measure(name) in turns; return a list of numbers for each."""
    names, results = list(names), {name: [] for name in names}
    for _ in range(rounds):
        names.reverse()
        for name in names:
            results[name].append(measure(name))
    return results


# ---- the table ----

COLUMNS = ('row', 'ours', 'builtin', 'ratio', 'limit', 'to reach')


def show(cells):
    """Print a table, its columns as wide as their widest cells."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        print('  '.join(cell.ljust(width)
                        for cell, width in zip(row, widths)).rstrip())
    print(flush=True)


def duration(seconds):
    """Return a time as text, with a unit that suits it."""
    for unit, factor in (('s', 1), ('ms', 1e3), ('us', 1e6)):
        if abs(seconds) * factor >= 1:
            return '%.3g %s' % (seconds * factor, unit)
    return '%.3g ns' % (seconds * 1e9)


def ratio(above, below):
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(above, below))


def speed(theirs, mine):
    """Return as text how much faster ours is."""
    factor = ratio(theirs, mine)
    return ('%.1f times faster' % factor if factor >= 1
            else '%.1f times slower' % (1 / factor))


def dump_row(name, times, to_reach):
    """Return the row of a report whose times compare_dumps() took."""
    mine, theirs, limit = (difference(times, key)
                           for key in ('ours', 'builtin', 'limit'))
    return ('%s, %d bytes' % (name, times['bytes']),
            duration(statistics.median(mine)),
            duration(statistics.median(theirs)),
            speed(theirs, mine),
            '%.1f x %s' % (ratio(mine, limit),
                           duration(statistics.median(limit))),
            to_reach)


def more_row(name, with_it, without, to_reach):
    """Return the row of a time that is to grow by little."""
    more = statistics.median(a - b for a, b in zip(with_it, without))
    return (name, duration(statistics.median(with_it)),
            duration(statistics.median(without)),
            ('+' if more >= 0 else '') + duration(more), '', to_reach)


# ---- rows: reports ----

def rows_one_stack(folder, options):
    """Yield the rows of a stack of 98 frames."""
    path = os.path.join(folder, 'report')
    for name, source, target, to_reach in (
            ('98 frames to a file', RING_SOURCE, path,
             '20 times faster, under 6 writes'),
            ('98 frames of recursion to a file', RECURSION_SOURCE, path, ''),
            ('98 frames to /dev/null', RING_SOURCE, os.devnull,
             '8 times faster'),
            ('98 frames of recursion to /dev/null', RECURSION_SOURCE,
             os.devnull, '8 times faster')):
        times = at_depth(source, 98 - ABOVE, functools.partial(
            compare_dumps, target, options.count, options.rounds))
        yield dump_row(name, times, to_reach)


def rows_threads(folder, options):
    """Yield the row of 90 threads, and the main one, to a file."""
    with Waiting(90, 55):
        times = compare_dumps(os.path.join(folder, 'report'),
                              options.count // 10, options.rounds)
    yield dump_row('90 threads of 55 frames to a file', times,
                   '20 times faster')


# ---- rows: how many writes ----

DUMP_CODE = PRELUDE + RING_SOURCE + '''
import faulthandler, sys
function_0(95, lambda: faulthandler.dump_traceback(int(sys.argv[1])))
'''

CRASH_CODE = PRELUDE + RING_SOURCE + '''
import faulthandler, os, sys
os.dup2(int(sys.argv[1]), 2)
faulthandler.enable()
function_0(95, lambda: signal.raise_signal(signal.SIGSEGV))
'''


def count_with_strace(code, folder, use_builtin):
    """Return how many writes a child makes to a file, None if unknown."""
    target = os.path.realpath(os.path.join(folder, 'target'))
    log = os.path.join(folder, 'strace')
    open(log, 'w').close()
    with open(target, 'wb') as file:
        subprocess.run(
            ['strace', '-f', '-y', '-o', log,
             '-e', 'trace=write,writev,pwritev2',
             sys.executable, '-c', code, str(file.fileno())],
            env=environment(use_builtin), pass_fds=[file.fileno()],
            stderr=subprocess.DEVNULL, timeout=CHILD_SECONDS)
    with open(log) as file:
        return sum('<%s>' % target in line for line in file) or None


def count_with_socket(code, use_builtin):
    """Return how many records a child sends to a socket."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here:
        with there:
            child = subprocess.Popen(
                [sys.executable, '-c', code, str(there.fileno())],
                env=environment(use_builtin), pass_fds=[there.fileno()])
        count = 0
        while here.recv(1 << 20):
            count += 1
    child.wait()
    return count


def count_writes(code, folder, use_builtin):
    """Return how many writes the report of a child takes."""
    if shutil.which('strace'):
        count = count_with_strace(code, folder, use_builtin)
        if count is not None:
            return count
    return count_with_socket(code, use_builtin)


def rows_writes(folder, options):
    """Yield the rows of how many writes a report takes."""
    for name, code in (('writes of dump_traceback(), 98 frames', DUMP_CODE),
                       ('writes of a crash, 98 frames', CRASH_CODE)):
        mine, theirs = (count_writes(code, folder, use_builtin)
                        for use_builtin in (False, True))
        yield (name, str(mine), str(theirs), '%g times' % (theirs / mine),
               '1', '1')


# ---- rows: processes ----

def make_environments(folder):
    """Make two environments that differ only in our files."""
    pythons = []
    here = sysconfig.get_paths()['platlib']
    for name in ('with', 'without'):
        home = os.path.join(folder, name)
        venv.create(home, symlinks=True)
        python = os.path.join(home, 'bin', 'python')
        there = run('import sysconfig; '
                    'print(sysconfig.get_paths()["platlib"])',
                    python=python).strip()
        if name == 'with':
            for file in os.listdir(here):
                path = os.path.join(here, file)
                if 'faulthandler' in file and os.path.isfile(path):
                    shutil.copy(path, there)
        compileall.compile_dir(there, quiet=1)      # as pip does
        pythons.append(python)
    return pythons


def time_start(python):
    """Return wall and processor seconds of a Python that does nothing."""
    start = time.perf_counter()
    pid = os.posix_spawn(python, [python, '-c', 'pass'], environment())
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise RuntimeError('%s ended with status %d' % (python, status))
    return wall, usage.ru_utime + usage.ru_stime


def rows_start(folder, options):
    """Yield the rows of a Python that does not import the module."""
    pythons = make_environments(folder)
    times = compare_children(time_start, pythons, options.starts)
    mine, theirs = (times[python] for python in pythons)
    for i, kind in enumerate(('wall', 'processor')):
        yield more_row('a start without import, %s time' % kind,
                       [time[i] for time in mine],
                       [time[i] for time in theirs],
                       '0.3 ms more' if i == 0 else '')


IMPORT_CODE = '''
from time import process_time
start = process_time()
import faulthandler
print(process_time() - start)
'''

MEMORY_CODE = '''
def dirty():
    with open('/proc/self/smaps_rollup') as file:
        for line in file:
            if line.startswith('Private_Dirty:'):
                return int(line.split()[1])
dirty()
before = dirty()
import faulthandler
print(dirty() - before)
'''


def measure_child(code, name):
    """Return the number that a fresh process prints."""
    return float(run(code, use_builtin=name == 'builtin'))


def rows_import(folder, options):
    """Yield the rows of the time and the memory of an import."""
    times = compare_children(functools.partial(measure_child, IMPORT_CODE),
                             ('ours', 'builtin'), options.children)
    yield more_row('import faulthandler, processor time', times['ours'],
                   times['builtin'], '1 ms more')
    sizes = compare_children(functools.partial(measure_child, MEMORY_CODE),
                             ('ours', 'builtin'), options.children)
    mine, theirs = (statistics.median(sizes[name])
                    for name in ('ours', 'builtin'))
    yield ('memory touched by importing', '%g KiB' % mine,
           '%g KiB' % theirs, '+%g KiB' % (mine - theirs), '',
           'under 200 KiB')


# A process that starts and joins threads whenever it is asked to.
THREAD_CODE = '''
import statistics, sys, threading
from time import perf_counter
if sys.argv[1] != 'neither':
    import faulthandler
    faulthandler.enable()
for line in sys.stdin:
    times = []
    for i in range(int(line)):
        start = perf_counter()
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        times.append(perf_counter() - start)
    print(statistics.median(times), flush=True)
'''


def start_worker(name):
    """Start a process that times threads on demand."""
    return subprocess.Popen(
        [sys.executable, '-c', THREAD_CODE, name], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment(name == 'builtin'))


def ask_worker(workers, count, name):
    """Return the median seconds of a thread in one of the workers."""
    worker = workers[name]
    worker.stdin.write(b'%d\n' % count)
    worker.stdin.flush()
    return float(worker.stdout.readline())


def rows_thread_start(folder, options):
    """Yield the row of Thread.start() and join()."""
    workers = {name: start_worker(name)
               for name in ('ours', 'builtin', 'neither')}
    try:
        times = compare_children(
            functools.partial(ask_worker, workers, options.count), workers,
            options.rounds)
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait(CHILD_SECONDS)
            worker.stdout.close()
    yield ('Thread.start() + join()', duration(
               statistics.median(times['ours'])),
           duration(statistics.median(times['builtin'])),
           '%.2f times neither' % ratio(times['ours'], times['neither']),
           duration(statistics.median(times['neither'])) + ' (neither)',
           '1.15 times')


# ---- growth ----

GROWTH = ('row', 'ours', 'builtin', 'ratio', 'ours, per unit',
          'builtin, per unit')


def growth_row(name, times, units, unit):
    """Return a row that shows the time per unit."""
    mine, theirs = (difference(times, key) for key in ('ours', 'builtin'))
    return (name, duration(statistics.median(mine)),
            duration(statistics.median(theirs)),
            speed(theirs, mine),
            *('%s a %s' % (duration(statistics.median(times) / units), unit)
              for times in (mine, theirs)))


def rows_frames(folder, options):
    """Yield rows of deeper and deeper stacks, of which 100 are shown."""
    for frames in (10, 100, 1000, 10000, DEEPEST):
        times = in_deep_thread(lambda: at_depth(
            RING_SOURCE, frames - ABOVE, functools.partial(
                compare_dumps, os.path.join(folder, 'report'),
                options.count // 2, options.rounds, all_threads=False)))
        yield growth_row('dump, %d frames' % frames, times,
                         min(frames, 100), 'frame shown')


def rows_thread_growth(folder, options):
    """Yield rows of more and more threads."""
    for threads in (1, 10, 100, 1000):
        with Waiting(threads - 1, 8):
            times = compare_dumps(os.path.join(folder, 'report'),
                                  max(options.count // threads, 5),
                                  options.rounds, max_threads=2000)
        name = 'dump, %d threads' % threads
        if threads > 100 and not CAN_SHOW_MORE:
            name += ' (the builtin: 100)'
        yield growth_row(name, times, threads, 'thread')


def rows_lines(folder, options):
    """Yield rows of a function of many lines."""
    for lines, at_end in ((500, True), (5000, True), (50000, True),
                          (50000, False)):
        function = define(
            'def function(call, at_end):\n'
            '    if not at_end: return call()\n'
            + '    x = 1\n' * lines + '    return call()\n', 'function')
        times = function(functools.partial(
            compare_dumps, os.path.join(folder, 'report'),
            options.count // 4, options.rounds, all_threads=False), at_end)
        name = 'dump, at the %s of a function of %d lines' % (
            'end' if at_end else 'start', lines)
        yield growth_row(name, times, lines if at_end else 1, 'line')


def rows_fatal(folder, options):
    """Yield rows of fatal reports of deeper and deeper stacks."""
    # Ours walks the whole stack, for its oldest frames; the builtin does not.
    for frames in (10, 100, 1000, 10000, DEEPEST):
        with survival():
            times = in_deep_thread(lambda: at_depth(
                RING_SOURCE, frames - ABOVE, functools.partial(
                    compare_fatal, os.path.join(folder, 'report'),
                    options.count // 4, options.rounds)))
        yield growth_row('fatal report, %d frames' % frames, times, frames,
                         'frame')


# ---- the command ----

TABLES = (
    (COLUMNS, (rows_one_stack, rows_threads, rows_writes, rows_start,
               rows_import, rows_thread_start)),
    (GROWTH, (rows_frames, rows_thread_growth, rows_lines, rows_fatal)),
)


def parse_arguments():
    """Return how often to measure what."""
    parser = argparse.ArgumentParser(
        description='Compare faulthandler with the builtin module.')
    parser.add_argument('--quick', action='store_true',
                        help='few rounds: shows that it works')
    options = parser.parse_args()
    quick = options.quick
    options.rounds = 3 if quick else 9
    options.count = 40 if quick else 200
    options.starts = 5 if quick else 200
    options.children = 3 if quick else 41
    return options


def main():
    """Print the tables."""
    options = parse_arguments()
    if not hasattr(ours, 'version'):
        sys.exit('bench.py: "import faulthandler" gives the builtin module')
    gc.disable()
    sys.setrecursionlimit(10 * DEEPEST)
    print('CPython %s, %s %s, %d processors\n' % (
        platform.python_version(), platform.system(), platform.machine(),
        os.cpu_count()))
    with tempfile.TemporaryDirectory() as folder:
        for columns, makers in TABLES:
            show([columns] + [row for maker in makers
                              for row in maker(folder, options)])


if __name__ == '__main__':
    main()
