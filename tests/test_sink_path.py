"""file as a path: opened when there is something to write."""

import glob
import os
import re
import resource
import socket
import tempfile
import time

from signal import SIGSEGV

import pytest

from helpers import (
    FOLDER, TAKES_FILE, check, environment, library_report, limits, python,
    raises, tidy, unnamed)


def report(line):
    """The report of a program that crashed in this line."""
    return library_report('  File "<string>", line %d in <module>\n' % line)


class Place:
    """A folder of a test, in which its children run."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, name=""):
        """A path in the folder."""
        return os.path.join(self.folder, name)

    def files(self):
        """The files in the folder and those below: {name: text}."""
        texts = {}
        for name in filter(os.path.isfile, glob.glob(
                self.path("**"), recursive=True)):
            with open(name, encoding="ascii") as file:
                texts[os.path.relpath(name, self.folder)] = unnamed(
                    tidy(file.read()))
        return texts

    def python(self, code, *arguments, **options):
        """Run code in the folder."""
        return python(code, *arguments, cwd=self.folder, **options)

    def dies(self, code, files, **options):
        """Run code in the folder: it crashes, and leaves these files."""
        child = self.python(code, **options)
        check(child, SIGSEGV, "")
        assert self.files() == files
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


@pytest.mark.parametrize("argument", [
    "'report'", "b'report'", "pathlib.Path('report')",
    "os.path.abspath('report')", "'./report'",
    "'../' + os.path.basename(os.getcwd()) + '/report'", "'2'",
    "'/dev/null'", "'/dev/full'"])
def test_kinds(place, argument):
    """str, bytes, os.PathLike; a number in quotes; a device, which may be
    full."""
    place.dies("""
        import faulthandler, os, pathlib
        faulthandler.enable(%s, c_stack=False)
        faulthandler.sigsegv()
    """ % argument, {} if "dev" in argument else {
        "2" if "2" in argument else "report": report(3)})


REPORTED = {
    "a folder's percent sign stands for itself": ("""
        import faulthandler, os
        os.mkdir("100%p")
        faulthandler.enable("100%p/../report", c_stack=False)
        os.rmdir("100%p")
        faulthandler.sigsegv()
    """, 5),
    "a relative path means the current folder of the call": ("""
        import faulthandler, os
        faulthandler.enable("report", c_stack=False)
        os.chdir("/")
        faulthandler.sigsegv()
    """, 4),
    "the folder was removed and made again": ("""
        import faulthandler, os
        folder = os.getcwd()
        faulthandler.enable("report", c_stack=False)
        os.rmdir(folder)
        os.mkdir(folder)
        os.closerange(3, 100)
        faulthandler.sigsegv()
    """, 7),
    "a call that raises changes nothing": ("""
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
    """, 10),
    "an object with fileno() and a path is a file": ("""
        import faulthandler
        class File:
            def fileno(self):
                return file.fileno()
            def __fspath__(self):
                return "path"
        file = open("report", "w")
        faulthandler.enable(File(), c_stack=False)
        faulthandler.sigsegv()
    """, 9),
    "the folder is reached through a symbolic link": ("""
        import faulthandler, os
        os.symlink(".", "link")
        faulthandler.enable(os.path.abspath("link/report"), c_stack=False)
        os.unlink("link")
        faulthandler.sigsegv()
    """, 5),
    "no descriptor is left": ("""
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
        assert limit == (20, hard)
        assert os.path.getsize("report") > 80
        os.unlink("report")
        faulthandler.sigsegv()
    """, 16),
    "all descriptors are closed": ("""
        import faulthandler, os
        faulthandler.enable("report", c_stack=False)
        os.closerange(0, 100)
        faulthandler.sigsegv()
    """, 4),
    "calls with paths and descriptors replace one another": ("""
        import faulthandler, os
        before = os.listdir("/proc/self/fd")
        faulthandler.enable("one", c_stack=False)
        faulthandler.enable(2, c_stack=False)
        faulthandler.enable("two", c_stack=False)
        faulthandler.disable()
        faulthandler.enable("report", c_stack=False)
        assert os.listdir("/proc/self/fd") == before
        faulthandler.sigsegv()
    """, 9),
    "a link in the place of the folder is not followed": ("""
        import faulthandler, os
        os.mkdir("folder")
        faulthandler.enable("folder/report", c_stack=False)
        os.rename("folder", "elsewhere")
        os.symlink("elsewhere", "folder")
        faulthandler.sigsegv()
    """, None),
}


@pytest.mark.parametrize("code, line", REPORTED.values(), ids=REPORTED)
def test_reported(place, code, line):
    """The report is in the file, and nothing is anywhere else."""
    child = place.dies(code, {"report": report(line)} if line else {})
    assert child.out == ""


def test_codes(place):
    """%p is the process, %t the time, %% a percent sign."""
    before = int(time.time())
    child = place.python("""
        import faulthandler, os
        faulthandler.enable("a%%p-%p-%t-%%.txt", c_stack=False)
        print(os.getpid(), flush=True)
        faulthandler.sigsegv()
    """)
    check(child, SIGSEGV, "")
    (name, text), = place.files().items()
    assert text == report(4)
    found = re.fullmatch(r"a%p-(\d+)-(\d+)-%\.txt", name)
    assert found[1] == child.out.strip()
    assert before <= int(found[2]) <= time.time(), name


def test_every_function(place):
    """Each function that has a file takes a path.  Arming makes no file and
    keeps no descriptor open."""
    child = place.python("""
        import faulthandler, os, signal, time
        before = os.listdir("/proc/self/fd")
        faulthandler.enable("a-%p", c_stack=False)
        faulthandler.register(signal.SIGUSR1, "user")
        faulthandler.dump_traceback_later(60, file="c-%p")
        faulthandler.cancel_dump_traceback_later()
        assert (os.listdir("."), os.listdir("/proc/self/fd")) == ([], before)
        faulthandler.dump_traceback("dump")
        faulthandler.dump_c_stack("c_stack")
        signal.raise_signal(signal.SIGUSR1)
        faulthandler.dump_traceback_later(0.1, file="later")
        while len(os.listdir("/proc/self/task")) > 1:
            time.sleep(0.01)
        faulthandler.cancel_dump_traceback_later()
        print(len(os.listdir("/proc/self/fd")))
        signal.raise_signal(signal.SIGUSR1)
        print(len(os.listdir("/proc/self/fd")))
    """)
    assert (child.status, child.err) == (0, "")
    assert len(set(child.out.split())) == 1
    files = place.files()
    assert sorted(files) == ["c_stack", "dump", "later", "user"]
    head = "Current thread 0x… (most recent call first):\n"
    frame = '  File "<string>", line %d in <module>\n'
    assert files["dump"] == head + frame % 8
    assert files["user"] == head + frame % 10 + head + frame % 16
    assert re.search(
        r"^Timeout \(0:00:00\.100000\)!\n"
        r"Thread 0x… .*:\n  File \"<string>\", line \d+ in ",
        files["later"])
    assert files["c_stack"].startswith(
        "Current thread's C stack trace (most recent call first):\n")


def test_cancelled(place):
    """A watchdog that is cancelled in time leaves no empty file."""
    child = place.python("""
        import faulthandler, os, time
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
    """)
    assert (child.status, child.err) == (0, "")


CRASH_20 = """
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
"""


@pytest.mark.parametrize("path, each", [("worker-%p.txt", 1), ("all.txt", 20)])
def test_20_workers(place, path, each):
    """Processes that crash at once leave whole reports, in a file each or in
    one."""
    child = place.python(CRASH_20, path)
    assert (child.status, child.err) == (0, "")
    assert len(child.out.split()) == 20
    names = child.out.split() if each == 1 else [path]
    assert place.files() == dict.fromkeys(names, each * report(10))


@pytest.mark.parametrize("umask, before, mode", [
    (0, "", 0o600), (0o22, "", 0o600), (0o77, "", 0o600),
    (0, "before\n", 0o644)])
def test_mode(place, umask, before, mode):
    """The file is its owner's alone, whatever the umask.  One that is there
    keeps its mode, and what is in it."""
    if before:
        with open(place.path("report"), "w") as file:
            file.write(before)
        os.chmod(place.path("report"), mode)
    place.dies("""
        import faulthandler, os
        os.umask(%d)
        faulthandler.enable("report", c_stack=False)
        faulthandler.sigsegv()
    """ % umask, {"report": before + report(4)})
    assert os.stat(place.path("report")).st_mode & 0o777 == mode


def test_errors(place):
    """What cannot be written is told at once, with its name."""
    os.mkdir(place.path("folder"))
    os.symlink("target", place.path("link"))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(place.path("socket"))
    missing = "FileNotFoundError [Errno 2] No such file or directory: "
    folder = "IsADirectoryError [Errno 21] Is a directory: "
    long = "OSError [Errno 36] File name too long: "
    percent = "ValueError file: after % must come p, t or %"
    errors = {
        "''": missing + "''",
        "'missing/x'": missing + "'missing/x'",
        "b'missing/x'": missing + "b'missing/x'",
        "'/proc/version/x'": "NotADirectoryError [Errno 20] Not a "
                             "directory: '/proc/version/x'",
        "'folder'": folder + "'folder'",
        "'.'": folder + "'.'",
        "'link'": "OSError [Errno 40] Too many levels of symbolic links: "
                  "'link'",
        "'socket'": "PermissionError [Errno 1] Operation not permitted: "
                    "'socket'",
        "256 * 'x'": long + repr(256 * "x"),
        "246 * 'x' + '%p'": long + repr(246 * "x" + "%p"),
        "5000 * 'x/'": folder + repr(5000 * "x/"),
        "5000 * 'x/' + 'x'": long + repr(5000 * "x/" + "x"),
        "'a\\0b'": "ValueError embedded null byte",
        "'%'": percent,
        "'a%P.txt'": percent,
        "'%p/x'": missing + "'%p/x'",
        "'\\ud800'": "UnicodeEncodeError 'utf-8' codec can't encode "
                    "character '\\ud800' in position 0: surrogates not "
                    "allowed",
        "Path(OSError('no'))": "OSError no",
        "Path(3)": "TypeError expected Path.__fspath__() to return str or "
                   "bytes, not int",
        "bytearray(b'x')": "AttributeError 'bytearray' object has no "
                           "attribute 'fileno'",
        "255 * 'x'": "None",
        "'é%p'": "None",
    }
    raises({call % argument: error for argument, error in errors.items()
            for call in TAKES_FILE}, """
        class Path:
            def __init__(self, path):
                self.path = path
            def __fspath__(self):
                if isinstance(self.path, Exception):
                    raise self.path
                return self.path
    """, cwd=place.folder, env=environment(PYTHONUTF8="1"))


LINKED = "[Errno 40] Too many levels of symbolic links: 'folder/report'\n"
REFUSED = "[Errno 1] Operation not permitted: 'folder/report'\n"
SECOND_NAME = "os.link('victim', 'folder/report')"
THEIRS = """
        open("folder/report", "w").close()
        os.chmod("folder/report", 0o666)
        os.chown("folder/report", 65534, 65534)
"""
OTHERS = [(65534, 0o755), (65534, 0o700), (0, 0o775), (0, 0o777), (0, 0o1777)]


def plant(place, owner, mode):
    """A folder of this owner and mode; a file that is to be spared."""
    if os.getuid() not in (0, owner):
        pytest.skip("needs root")
    os.mkdir(place.path("folder"))
    os.chown(place.path("folder"), owner, -1)
    os.chmod(place.path("folder"), mode)
    with open(place.path("victim"), "w"):
        pass


@pytest.mark.parametrize("owner, mode, change, files, message", [
    (os.getuid(), 0o755, "os.symlink('missing', 'folder/report')",
     {"victim": ""}, LINKED),
    (os.getuid(), 0o755, "os.symlink('../victim', 'folder/report')",
     dict.fromkeys(["victim", "folder/report"], ""), LINKED),
    (os.getuid(), 0o755, SECOND_NAME,
     dict.fromkeys(["victim", "folder/report"], report(8)), ""),
    (os.getuid(), 0o1777, SECOND_NAME,
     dict.fromkeys(["victim", "folder/report"], ""), REFUSED),
    *[(*other, change, dict.fromkeys(["victim", "folder/report"], ""), REFUSED)
      for other in OTHERS for change in (SECOND_NAME, THEIRS)]])
def test_planted(place, owner, mode, change, files, message):
    """A link that comes later is not followed; where others can put files, by
    any right, only one's own are used."""
    plant(place, owner, mode)
    child = place.dies("""
        import faulthandler, os
        faulthandler.enable("folder/report", c_stack=False)
        %s
        try:
            faulthandler.register(10, "folder/report")
        except OSError as error:
            print(error, flush=True)
        faulthandler.sigsegv()
    """ % change, files)
    assert child.out == message


@pytest.mark.parametrize("owner, mode", [OTHERS[0], OTHERS[-1]])
def test_new_in_a_folder_of_others(place, owner, mode):
    """There a new file is made, and this user's own is appended to."""
    plant(place, owner, mode)
    for count in 1, 2:
        place.dies("""
            import faulthandler
            faulthandler.enable("folder/report", c_stack=False)
            faulthandler.sigsegv()
        """, {"victim": "", "folder/report": count * report(3)})
    assert os.stat(place.path("folder/report")).st_mode & 0o777 == 0o600


def test_pipe(place):
    """A named pipe is written to if it is read, and never waited for."""
    os.mkfifo(place.path("pipe"))
    # No timer would break a wait.
    code = """
        import faulthandler, sys
        faulthandler.enable("pipe", c_stack=False)
        sys.path.append("..")
        __import__("refuse").refuse("timer_create")
        faulthandler.sigsegv()
    """
    check(place.python(code), SIGSEGV, "")
    reader = os.open(place.path("pipe"), os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb", buffering=0) as file:
        check(place.python(code), SIGSEGV, "")
        text = file.read(10000).decode("ascii")
    assert unnamed(tidy(text)) == report(5)


def test_file_size_limit(place):
    """Where the file may not grow, the process dies all the same."""
    with limits(resource.RLIMIT_FSIZE, 20):
        place.dies("""
            import faulthandler
            faulthandler.enable("report", c_stack=False)
            faulthandler.sigsegv()
        """, {"report": "Fatal Python error: "})


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
    child = place.dies(code, {})
    assert child.out == ("[Errno 13] Permission denied: "
                         "'report-%p'\nuid 65534\n")
    os.chmod(place.folder, 0o777)
    child = place.dies(code, {"report": report(9)})
    assert child.out == "uid 65534\n"
    assert os.stat(place.path("report")).st_uid == 65534


def test_standard_descriptors(place):
    """The file never becomes a closed standard descriptor."""
    child = place.python("""
        import faulthandler, os, signal, threading
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
    """)
    assert child.status == 0
    assert place.files()["report"].count("Current thread") == 300
    assert "stray" not in place.files()["report"]


def test_a_file_a_report(place):
    """With %t a later report has a file of its own."""
    child = place.python("""
        import faulthandler, os, signal, time
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
    """)
    assert (child.status, child.err) == (0, "")
    texts = {"signal": [], "later": []}
    for name, text in place.files().items():
        texts[re.fullmatch(r"(\w+)-\d+", name)[1]].append(text)
    assert texts["signal"] == 2 * [
        "Current thread 0x… (most recent call first):\n"
        '  File "<string>", line 4 in <module>\n']
    assert len(texts["later"]) >= 2
    for text in texts["later"]:
        assert re.search(r"\A(Timeout .*\nThread .*\n(  .*\n)+)+\Z", text)
