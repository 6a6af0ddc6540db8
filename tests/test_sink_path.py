"""file as a path: opened when there is something to write."""

import os
import re
import resource
import socket
import tempfile
import time

from signal import SIGSEGV

import pytest

from helpers import FOLDER, block, check, environment, limits, python, tidy


REPORT = """
    Fatal Python error: Segmentation fault

    Current thread 0x… (most recent call first):
      File "%s", line %d in <module>
"""


CALLS = ["enable(%s)", "dump_traceback(%s)", "dump_c_stack(%s)",
         "register(10, %s)", "dump_traceback_later(60, file=%s)"]


def unnamed(text):
    """A report without addresses and the main thread's name."""
    return re.sub(r"(thread 0x…) \[python[^\]]*\]", r"\1", tidy(text))


class Place:
    """A folder of a test, and what its children leave there."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name=""):
        """A path in the folder."""
        return os.path.join(self.folder, name)

    def files(self):
        """The files in the folder: {name: text}."""
        texts = {}
        for name in sorted(os.listdir(self.folder)):
            if not os.path.isfile(self.path(name)):
                continue
            with open(self.path(name), encoding="ascii") as file:
                texts[name] = unnamed(file.read())
        return texts

    def dies(self, code, *arguments, files, line=None, err="", **options):
        """Run code in the folder: what it leaves there is this."""
        code = "import os\nos.chdir(%r)\n" % self.folder + block(code)
        child = python(code, *arguments, **options)
        check(child, SIGSEGV, err)
        expected = REPORT % ("<string>", line) if line else ""
        assert self.files() == {
            name: text.replace("REPORT", block(expected))
            for name, text in files.items()}
        return child


@pytest.fixture
def place():
    """A folder of its own for each test."""
    folder = tempfile.mkdtemp(dir=FOLDER)
    os.chmod(folder, 0o755)
    return Place(folder)


@pytest.fixture
def open_folder():
    """Other users may look into the children's folder."""
    os.chmod(FOLDER, 0o755)
    yield
    os.chmod(FOLDER, 0o700)


def test_kinds(place):
    """str, bytes, os.PathLike; a number in quotes is a path."""
    for argument in ("'report'", "b'report'", "pathlib.Path('report')",
                     "os.path.abspath('report')", "'./report'",
                     "'../' + os.path.basename(os.getcwd()) + '/report'"):
        place.dies("""
            import faulthandler, pathlib
            faulthandler.enable(%s, c_stack=False)
            faulthandler.sigsegv()
        """ % argument, line=5, files={"report": "REPORT"})
        os.unlink(place.path("report"))
    place.dies("""
        import faulthandler
        faulthandler.enable("2", c_stack=False)
        faulthandler.sigsegv()
    """, line=5, files={"2": "REPORT"})


def test_codes(place):
    """%p is the process, %t the time, %% a percent sign."""
    before = int(time.time())
    child = python("""
        import faulthandler, os, sys
        faulthandler.enable(sys.argv[1], c_stack=False)
        print(os.getpid(), flush=True)
        faulthandler.sigsegv()
    """, place.path("a%%p-%p-%t-%%.txt"))
    check(child, SIGSEGV, "")
    (name, text), = place.files().items()
    assert text == block(REPORT % ("<string>", 4))
    found = re.fullmatch(r"a%p-(\d+)-(\d+)-%\.txt", name)
    assert found[1] == child.out.strip()
    assert before <= int(found[2]) <= time.time(), name


def test_folder_with_percent_sign(place):
    """A folder's percent sign is doubled too."""
    os.mkdir(place.path("100%"))
    place.dies("""
        import faulthandler, os
        faulthandler.enable("100%%/../report", c_stack=False)
        faulthandler.enable("100%%/report", c_stack=False)
        faulthandler.disable()
        os.rmdir("100%")
        faulthandler.enable("report", c_stack=False)
        faulthandler.sigsegv()
    """, line=9, files={"report": "REPORT"})


def test_every_function(place):
    """Each function that has a file takes a path."""
    child = python("""
        import faulthandler, os, signal, sys, time
        os.chdir(sys.argv[1])
        faulthandler.dump_traceback("dump")
        faulthandler.dump_c_stack("c_stack")
        faulthandler.register(signal.SIGUSR1, "user")
        signal.raise_signal(signal.SIGUSR1)
        faulthandler.dump_traceback_later(0.1, file="later")
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.01)
        faulthandler.cancel_dump_traceback_later()
        print(len(os.listdir("/proc/self/fd")))
        signal.raise_signal(signal.SIGUSR1)
        print(len(os.listdir("/proc/self/fd")))
    """, place.folder)
    assert (child.status, child.err) == (0, "")
    assert len(set(child.out.split())) == 1
    files = place.files()
    assert sorted(files) == ["c_stack", "dump", "later", "user"]
    head = "Current thread 0x… (most recent call first):\n"
    frame = '  File "<string>", line %d in <module>\n'
    assert files["dump"] == head + frame % 3
    assert files["user"] == head + frame % 6 + head + frame % 12
    assert re.search(
        r"^Timeout \(0:00:00\.100000\)!\n"
                     r"Thread 0x… .*:\n  File \"<string>\", line \d+ in ",
        files["later"])
    assert files["c_stack"].startswith(
        "Current thread's C stack trace (most recent call first):\n")


def test_nothing_where_nothing_crashes(place):
    """Arming makes no file and keeps no descriptor open."""
    child = python("""
        import faulthandler, os, sys
        os.chdir(sys.argv[1])
        before = os.listdir("/proc/self/fd")
        faulthandler.enable("a-%p", c_stack=False)
        faulthandler.register(10, "b-%p")
        faulthandler.dump_traceback_later(60, file="c-%p")
        faulthandler.cancel_dump_traceback_later()
        print(os.listdir("/proc/self/fd") == before)
    """, place.folder)
    assert (child.status, child.out, child.err) == (0, "True\n", "")
    assert place.files() == {}


def test_cancelled(place):
    """A watchdog that is cancelled in time leaves no empty file."""
    child = python("""
        import faulthandler, os, sys, time
        os.chdir(sys.argv[1])
        for n in range(1000):
            faulthandler.dump_traceback_later(0.0005, file=str(n))
            end = time.perf_counter() + 0.0004 + n % 100 * 3e-6
            while time.perf_counter() < end:
                pass
            faulthandler.cancel_dump_traceback_later()
        # One that was writing may still be at it.
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.01)
        for name in os.listdir("."):
            assert os.path.getsize(name), name
    """, place.folder)
    assert (child.status, child.err) == (0, "")


def crash_20(path):
    """Crash 20 processes at once that have this path as their file."""
    return python("""
        import faulthandler, os, sys
        faulthandler.enable(sys.argv[1], c_stack=False)
        read, write = os.pipe()
        children = []
        for n in range(20):
            child = os.fork()
            if child == 0:
                os.close(write)
                os.read(read, 1)
                faulthandler.sigsegv()
            children.append(child)
        os.close(write)
        for child in children:
            assert os.waitpid(child, 0)[1] & 127 == 11
            print("worker-%d.txt" % child)
    """, path)


def test_20_workers(place):
    """20 processes that crash at once leave 20 whole files."""
    child = crash_20(place.path("worker-%p.txt"))
    assert (child.status, child.err) == (0, "")
    report = block(REPORT % ("<string>", 10))
    assert place.files() == dict.fromkeys(child.out.split(),
                                          report)
    assert len(place.files()) == 20


def test_workers_in_one_file(place):
    """20 reports in one file do not mix."""
    child = crash_20(place.path("all.txt"))
    assert (child.status, child.err) == (0, "")
    report = block(REPORT % ("<string>", 10))
    assert place.files() == {"all.txt": 20 * report}


@pytest.mark.parametrize("umask", [0, 0o22, 0o77])
def test_mode(place, umask):
    """The file is its owner's alone, whatever the umask."""
    place.dies("""
        import faulthandler, os
        os.umask(%d)
        faulthandler.enable("report", c_stack=False)
        faulthandler.sigsegv()
    """ % umask, line=6, files={"report": "REPORT"})
    assert os.stat(place.path("report")).st_mode & 0o777 == 0o600
    os.unlink(place.path("report"))


def test_appended(place):
    """What is in the file already stays, and so does its mode."""
    with open(place.path("report"), "w") as file:
        file.write("before\n")
    os.chmod(place.path("report"), 0o644)
    place.dies("""
        import faulthandler
        faulthandler.enable("report", c_stack=False)
        faulthandler.sigsegv()
    """, line=5, files={"report": "before\nREPORT"})
    assert os.stat(place.path("report")).st_mode & 0o777 == 0o644


def test_changed_folder(place):
    """A relative path means the current folder of the call."""
    place.dies("""
        import faulthandler, os
        faulthandler.enable("report", c_stack=False)
        os.chdir("/")
        faulthandler.sigsegv()
    """, line=6, files={"report": "REPORT"})


def test_folder_made_again(place):
    """A folder that was removed and made again is the one."""
    place.dies("""
        import faulthandler, os
        folder = os.getcwd()
        faulthandler.enable("report", c_stack=False)
        os.rmdir(folder)
        os.mkdir(folder)
        os.closerange(3, 100)
        faulthandler.sigsegv()
    """, line=9, files={"report": "REPORT"})


def test_current_folder_removed(place):
    """In a folder that is gone a relative path is an error."""
    os.mkdir(place.path("gone"))
    place.dies("""
        import faulthandler, os
        os.chdir("gone")
        os.rmdir("../gone")
        try:
            faulthandler.enable("report", c_stack=False)
        except FileNotFoundError as error:
            print(error.filename)
        faulthandler.enable(2, c_stack=False)
        faulthandler.disable()
        faulthandler.sigsegv()
    """, files={})


def test_errors(place):
    """What cannot be written is told at once, with its name."""
    os.mkdir(place.path("folder"))
    os.symlink("target", place.path("link"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(place.path("socket"))
    longest = 255 * "x"
    errors = {
        "''": "FileNotFoundError [Errno 2] No such file or directory: ''",
        "'missing/x'": "FileNotFoundError [Errno 2] No such file or "
                       "directory: 'missing/x'",
        "b'missing/x'": "FileNotFoundError [Errno 2] No such file or "
                        "directory: b'missing/x'",
        "'/proc/version/x'": "NotADirectoryError [Errno 20] Not a "
                             "directory: '/proc/version/x'",
        "'folder'": "IsADirectoryError [Errno 21] Is a directory: "
                    "'folder'",
        "'folder/'": "IsADirectoryError [Errno 21] Is a directory: "
                     "'folder/'",
        "'.'": "IsADirectoryError [Errno 21] Is a directory: '.'",
        "'..'": "IsADirectoryError [Errno 21] Is a directory: '..'",
        "'/'": "IsADirectoryError [Errno 21] Is a directory: '/'",
        "'link'": "OSError [Errno 40] Too many levels of symbolic links: "
                  "'link'",
        "'socket'": "PermissionError [Errno 1] Operation not permitted: "
                    "'socket'",
        "256 * 'x'": "OSError [Errno 36] File name too long: '%s'"
                     % (256 * "x"),
        "246 * 'x' + '%p'": "OSError [Errno 36] File name too long: '%s'"
                            % (246 * "x" + "%p"),
        "5000 * 'x/'": "IsADirectoryError [Errno 21] Is a directory: "
                       "'%s'" % (5000 * "x/"),
        "5000 * 'x/' + 'x'": "OSError [Errno 36] File name too long: "
                             "'%s'" % (5000 * "x/" + "x"),
        "'a\\0b'": "ValueError file: embedded null byte",
        "'%'": "ValueError file: after % must come p, t or %",
        "'%x'": "ValueError file: after % must come p, t or %",
        "'a%P.txt'": "ValueError file: after % must come p, t or %",
        "'%p/x'": "ValueError file: the folder's name can have no % but "
                  "%%",
        "'%/x'": "ValueError file: the folder's name can have no % but "
                 "%%",
        "'\\ud800'": "UnicodeEncodeError 'utf-8' codec can't encode "
                    "character '\\ud800' in position 0: surrogates not "
                    "allowed",
        "Path(OSError('no'))": "OSError no",
        "Path(3)": "TypeError expected Path.__fspath__() to return str or "
                   "bytes, not int",
        "bytearray(b'x')": "AttributeError 'bytearray' object has no "
                           "attribute 'fileno'",
        repr(longest): "None",
        "'é%p'": "None",
    }
    child = python("""
        import faulthandler, os, sys
        class Path:
            def __init__(self, path):
                self.path = path
            def __fspath__(self):
                if isinstance(self.path, Exception):
                    raise self.path
                return self.path
        os.chdir(sys.argv[1])
        for argument in %r:
            for call in %r:
                try:
                    print(eval("faulthandler." + call %% argument))
                except Exception as error:
                    print(type(error).__name__, error)
        faulthandler.cancel_dump_traceback_later()
    """ % (list(errors), CALLS), place.folder,
        env=environment(PYTHONUTF8="1"))
    assert child.status == 0
    assert child.out.splitlines() == [
        error for error in errors.values() for _ in CALLS]


def test_failed_call(place):
    """A call that raises changes nothing."""
    place.dies("""
        import faulthandler
        faulthandler.enable("report", c_stack=False)
        for name in ("missing/x", "%x", "a\\0b", ".", "/dev/null/x"):
            try:
                faulthandler.enable(name, all_threads=False)
            except (OSError, ValueError):
                pass
            else:
                print(name)
        faulthandler.sigsegv()
    """, line=12, files={"report": "REPORT"})


def test_object_with_both(place):
    """An object with fileno() and a path is a file."""
    place.dies("""
        import faulthandler
        class File:
            def fileno(self):
                return file.fileno()
            def __fspath__(self):
                return "path"
        file = open("file", "w")
        faulthandler.enable(File(), c_stack=False)
        faulthandler.sigsegv()
    """, line=11, files={"file": "REPORT"})


def test_linked_folder(place):
    """The folder may be reached through a symbolic link."""
    os.symlink(".", place.path("link"))
    child = python("""
        import faulthandler, os, sys
        faulthandler.enable(sys.argv[1] + "/link/report", c_stack=False)
        os.unlink(sys.argv[1] + "/link")
        faulthandler.sigsegv()
    """, place.folder)
    check(child, SIGSEGV, "")
    assert place.files() == {
        "report": block(REPORT % ("<string>", 4))}


@pytest.mark.parametrize("target, files", [
    ("missing", {}),
    ("victim", {"victim": "", "report": ""})])
def test_planted_link(place, target, files):
    """A link that comes later is not followed: no report."""
    child = place.dies("""
        import faulthandler, os
        faulthandler.enable("report", c_stack=False)
        if %r == "victim":
            open("victim", "w").close()
        os.symlink(%r, "report")
        try:
            faulthandler.dump_traceback("report")
        except OSError as error:
            print(error, flush=True)
        faulthandler.sigsegv()
    """ % (target, target), files=files)
    assert child.out == ("[Errno 40] Too many levels of "
                     "symbolic links: 'report'\n")
    os.unlink(place.path("report"))


def test_planted_file(place):
    """Where everybody writes, only one's own files are appended to."""
    changes = ["os.link('report', 'victim')"]
    if os.getuid() == 0:
        changes.append("os.chown('report', 1, 1)")
    for change in changes:
        for mode in (0o755, 0o1777):
            os.chmod(place.folder, mode)
            child = python("""
                import faulthandler, os, sys
                os.chdir(sys.argv[1])
                faulthandler.enable("report", c_stack=False)
                open("report", "w").close()
                %s
                try:
                    faulthandler.register(10, "report")
                except PermissionError as error:
                    print(error, flush=True)
                faulthandler.sigsegv()
            """ % change, place.folder)
            check(child, SIGSEGV, "")
            text, message = block(REPORT % ("<string>", 10)), ""
            if mode == 0o1777:
                message = ("[Errno 1] Operation not permitted: "
                           "'report'\n")
                text = ""
            assert child.out == message
            assert set(place.files().values()) == {text}
            for name in place.files():
                os.unlink(place.path(name))


def test_planted_folder(place):
    """A link in the place of the folder is not followed: no report."""
    os.mkdir(place.path("folder"))
    child = python("""
        import faulthandler, os, sys
        os.chdir(sys.argv[1])
        faulthandler.enable("folder/report", c_stack=False)
        os.rename("folder", "elsewhere")
        os.symlink("elsewhere", "folder")
        faulthandler.sigsegv()
    """, place.folder)
    check(child, SIGSEGV, "")
    assert os.listdir(place.path("elsewhere")) == []


def test_pipe(place):
    """A named pipe is written to if it is read, and never waited for."""
    # A wait would last 6.5 s: then the timer breaks it.
    os.mkfifo(place.path("pipe"))
    code = """
        import faulthandler, sys
        faulthandler.enable(sys.argv[1], c_stack=False)
        faulthandler.sigsegv()
    """
    child = python(code, place.path("pipe"))
    check(child, SIGSEGV, "", limit=6)
    reader = os.open(place.path("pipe"), os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb", buffering=0) as file:
        child = python(code, place.path("pipe"))
        check(child, SIGSEGV, "", limit=6)
        text = file.read(10000).decode("ascii")
    assert unnamed(text) == block(REPORT % ("<string>", 3))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full"])
def test_device(path):
    """A full device takes nothing, and changes nothing."""
    child = python("""
        import faulthandler
        faulthandler.enable(%r, c_stack=False)
        faulthandler.sigsegv()
    """ % path)
    check(child, SIGSEGV, "")


def test_file_size_limit(place):
    """Where the file may not grow, the process dies all the same."""
    with limits(resource.RLIMIT_FSIZE, 20):
        place.dies("""
            import faulthandler
            faulthandler.enable("report", c_stack=False)
            faulthandler.sigsegv()
        """, files={"report": "Fatal Python error: "})


def test_removed_folder(place):
    """Without the folder there is no report, not even elsewhere."""
    os.mkdir(place.path("folder"))
    place.dies("""
        import faulthandler, os
        faulthandler.enable("folder/report", c_stack=False)
        os.rmdir("folder")
        faulthandler.sigsegv()
    """, files={})


@pytest.mark.skipif(os.getuid(), reason="needs root")
def test_lost_permission(place, open_folder):
    """Another user writes what that user may write."""
    code = """
        import faulthandler, os
        faulthandler.enable("report", c_stack=False)
        os.setuid(65534)
        try:
            faulthandler.register(10, "report-%p")
        except PermissionError as error:
            print(error)
        print("uid", os.getuid(), flush=True)
        faulthandler.sigsegv()
    """
    child = place.dies(code, files={})
    assert child.out == ("[Errno 13] Permission denied: "
                     "'report-%p'\nuid 65534\n")
    os.chmod(place.folder, 0o777)
    child = place.dies(code, line=11, files={"report": "REPORT"})
    assert child.out == "uid 65534\n"
    assert os.stat(place.path("report")).st_uid == 65534


def test_no_descriptors_left(place):
    """A program that ran out of descriptors leaves its report."""
    place.dies("""
        import faulthandler, os, resource, signal
        faulthandler.enable("report", c_stack=False)
        faulthandler.register(signal.SIGUSR1, "report")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, hard))
        try:
            while True:
                os.dup(1)
        except OSError as error:
            assert error.errno == 24
        signal.raise_signal(signal.SIGUSR1)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.unlink("report")
        assert limit == (20, hard)
        faulthandler.sigsegv()
    """, line=17, files={"report": "REPORT"})


def test_standard_descriptors(place):
    """The file never becomes a closed standard descriptor."""
    child = python("""
        import faulthandler, os, signal, sys, threading
        os.chdir(sys.argv[1])
        faulthandler.register(signal.SIGUSR1, "report")
        os.close(0)
        os.close(2)
        done = False
        def write():
            while not done:
                for number in (0, 2):
                    try:
                        os.write(number, b"stray")
                    except OSError:
                        pass
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for n in range(300):
            signal.raise_signal(signal.SIGUSR1)
        done = True
    """, place.folder)
    assert child.status == 0
    assert place.files()["report"].count("Current thread") == 300
    assert not ("stray" in place.files()["report"])


def test_descriptors_closed(place):
    """A program that closes all descriptors keeps its report."""
    place.dies("""
        import faulthandler, os
        faulthandler.enable("report", c_stack=False)
        os.closerange(0, 100)
        faulthandler.sigsegv()
    """, line=6, files={"report": "REPORT"})


def test_long_report(place):
    """A report of many pieces is in one file, whatever the time is."""
    child = python("""
        import faulthandler, sys, threading
        faulthandler.enable(sys.argv[1], c_stack=False)
        names = {}
        def call(n):
            if n:
                return call(n - 1)
            ready.release()
            never.acquire()
        ready, never = threading.Semaphore(0), threading.Semaphore(0)
        for n in range(60):
            threading.Thread(target=call, args=(60,), daemon=True).start()
            ready.acquire()
        faulthandler.sigsegv()
    """, place.path("report-%t"))
    check(child, SIGSEGV, "")
    (name, text), = place.files().items()
    assert len(text) > 100000
    assert text.count("(most recent call first):") == 61
    assert text.count("Fatal Python error") == 1


def test_a_file_a_report(place):
    """With %t a later report has a file of its own."""
    child = python("""
        import faulthandler, os, signal, sys, time
        os.chdir(sys.argv[1])
        faulthandler.register(signal.SIGUSR1, "signal-%t")
        for n in range(2):
            signal.raise_signal(signal.SIGUSR1)
            second = int(time.time())
            while int(time.time()) == second:
                time.sleep(0.01)
        faulthandler.unregister(signal.SIGUSR1)
        # One that is late may come in the same second as the next.
        faulthandler.dump_traceback_later(1.1, True, "later-%t")
        while len(os.listdir(".")) < 4:
            time.sleep(0.01)
        faulthandler.cancel_dump_traceback_later()
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.01)
    """, place.folder)
    assert (child.status, child.err) == (0, "")
    texts = {"signal": [], "later": []}
    for name, text in place.files().items():
        texts[re.fullmatch(r"(\w+)-\d+", name)[1]].append(text)
    assert texts["signal"] == (2 * [
        "Current thread 0x… (most recent call first):\n"
        '  File "<string>", line 5 in <module>\n'])
    assert len(texts["later"]) >= 2
    for text in texts["later"]:
        assert re.search(r"\A(Timeout .*\nThread .*\n(  .*\n)+)+\Z", text)


def test_replaced_while_armed(place):
    """Calls with paths and descriptors replace one another."""
    place.dies("""
        import faulthandler, os
        before = os.listdir("/proc/self/fd")
        faulthandler.enable("one", c_stack=False)
        faulthandler.enable(2, c_stack=False)
        faulthandler.enable("two", c_stack=False)
        faulthandler.disable()
        faulthandler.enable("three", c_stack=False)
        assert os.listdir("/proc/self/fd") == before
        faulthandler.sigsegv()
    """, line=11, files={"three": "REPORT"})


def plant(place, owner, mode):
    """A folder of this owner and mode; root's file that is to be spared."""
    os.mkdir(place.path("folder"))
    os.chown(place.path("folder"), owner, owner)
    os.chmod(place.path("folder"), mode)
    with open(place.path("victim"), "w"):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("owner, mode", [
    (65534, 0o755), (65534, 0o700), (0, 0o775), (0, 0o777), (0, 0o1777)])
@pytest.mark.parametrize("change", [
    "os.link('victim', 'folder/report')",
    "open('folder/report', 'w'); os.chmod('folder/report', 0o666); "
    "os.chown('folder/report', 65534, 65534)"])
def test_planted_in_a_folder_of_others(place, owner, mode, change):
    """Where others can put files, by any right, only one's own are used."""
    plant(place, owner, mode)
    child = python("""
        import faulthandler, os, sys
        os.chdir(sys.argv[1])
        faulthandler.enable("folder/report", c_stack=False)
        %s
        try:
            faulthandler.register(10, "folder/report")
        except PermissionError as error:
            print(error, flush=True)
        faulthandler.sigsegv()
    """ % change, place.folder)
    check(child, SIGSEGV, "")
    assert child.out == ("[Errno 1] Operation not permitted: "
                         "'folder/report'\n")
    assert os.path.getsize(place.path("folder/report")) == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("owner, mode", [(65534, 0o755), (0, 0o1777)])
def test_new_in_a_folder_of_others(place, owner, mode):
    """There a new file is made, and this user's own is appended to."""
    plant(place, owner, mode)
    for _ in range(2):
        child = python("""
            import faulthandler, os, sys
            os.chdir(sys.argv[1])
            faulthandler.enable("folder/report", c_stack=False)
            faulthandler.sigsegv()
        """, place.folder)
        check(child, SIGSEGV, "")
    with open(place.path("folder/report"), encoding="ascii") as file:
        assert unnamed(file.read()) == 2 * block(REPORT % ("<string>", 4))
    assert os.stat(place.path("folder/report")).st_mode & 0o777 == 0o600
