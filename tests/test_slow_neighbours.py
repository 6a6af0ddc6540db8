"""The builtin beside ours; Py_FatalError(); a JVM.

Handlers of every other kind are in tests/test_chain.py.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from helpers import (
    FOLDER, LIMIT, SANITIZED, block, compile_library, python, status_name,
    write_file)

pytestmark = pytest.mark.slow

START = """
    import ctypes, importlib.machinery, importlib.util, os, signal, sys
    import threading
    from handlers import older
    def builtin():
        finder = importlib.machinery.BuiltinImporter
        spec = finder.find_spec("faulthandler")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
"""


def ends(code, status, counts):
    """It ends so, and leaves one of these numbers of reports."""
    compile_library("older")
    child = python(block(START) + block(code))
    assert (status_name(child.status), child.out) == (status, "")
    assert child.err.count("Fatal Python error") in counts
    return child


@pytest.mark.parametrize("code", [
    "builtin().enable(); import faulthandler",
    "import faulthandler; builtin().enable()",
    "b = builtin(); b.enable(); import faulthandler; b.disable(); b.enable()",
    "import faulthandler; builtin().enable(); faulthandler.disable()",
    "import faulthandler; builtin().enable(); faulthandler.disable(); "
    "faulthandler.enable()",
    "import faulthandler; builtin().enable(); faulthandler.enable()"])
@pytest.mark.parametrize("crash, status", [
    ("older.crash()", "-SIGSEGV"), ("os.abort()", "-SIGABRT"),
    ("t = threading.Thread(target=older.crash); t.start(); t.join()",
     "-SIGSEGV")])
def test_builtin(code, crash, status):
    """The builtin armed before or after ours: one report, or each its own."""
    ends(code + "\n" + crash, status, [1, 2])


@pytest.mark.skipif(SANITIZED, reason="the sanitizer has its own abort()")
@pytest.mark.parametrize("before, call", [
    (before, "ctypes.pythonapi.Py_FatalError(b'the message')")
    for before in ("", "faulthandler.enable(all_threads=True)",
                   "faulthandler.enable(c_stack=True)",
                   "builtin().enable()")] + [
    ("", "ctypes.CDLL(None).Py_FatalError(b'the message')"),
    ("", "t = threading.Thread(target=ctypes.pythonapi.Py_FatalError,"
     " args=(b'the message',)); t.start(); t.join()")])
def test_fatal_error(before, call):
    """Py_FatalError() gives a traceback: there is no second one."""
    child = ends("import faulthandler\n%s\n%s" % (before, call), "-SIGABRT",
                 [0, 1])
    assert "the message" in child.err
    assert len(re.findall(r"(?m)^(?:Current thread 0x|Traceback|Stack)",
                          child.err)) == 1


# ---- A JVM, which uses SIGSEGV for null checks and safepoints --------------

JAVA = """
public class Faults {
    static int length(String s) {
        return s.length();
    }

    public static int run(int n) {
        int caught = 0;
        Object[] kept = new Object[1000];
        for (int i = 0; i < n; i++) {
            try {
                length(i % 1000 == 999 ? null : "abc");
            } catch (NullPointerException e) {
                caught++;
            }
            kept[i % 1000] = new byte[1000];
        }
        return caught;
    }
}
"""
JVM = """
    sys.path.append(%r)
    import jpype
    def start():
        jpype.startJVM("-Xmx64m", classpath=[os.getcwd()])
    def work():
        print(jpype.JClass("Faults").run(3000000), flush=True)
    def work_with_dumps():
        with open(os.devnull, "w") as null:
            faulthandler.dump_traceback_later(0.002, True, null)
            work()
            faulthandler.cancel_dump_traceback_later()
"""


@pytest.fixture(scope="module")
def jvm():
    """The folder of JPype, and a class to run."""
    if shutil.which("javac") is None:
        pytest.skip("needs javac")
    folder = os.path.join(FOLDER, "jpype")
    if subprocess.call([sys.executable, "-m", "pip", "install", "-q",
                        "--target", folder, "jpype1"]):
        pytest.skip("needs JPype")
    write_file("Faults.java", JAVA)
    subprocess.check_call(["javac", "Faults.java"], cwd=FOLDER)
    return folder


@pytest.mark.parametrize("order, after, status, counts", [
    # Started before it, the module hears of what the JVM leaves to it.
    ("import faulthandler; start()", "", "exit 0", [0]),
    ("import faulthandler; start()", "older.crash()", "-SIGSEGV", [1]),
    ("import faulthandler; start()", "os.abort()", "-SIGABRT", [1]),
    ("import faulthandler; start()", "work_with_dumps()", "exit 0", [0]),
    # Started after it, the JVM's first fault makes one report.
    ("start(); import faulthandler", "", "exit 0", [0, 1]),
    # It is asked first; then its abort() is reported.
    ("start(); import faulthandler", "older.crash()", "-SIGABRT", [2]),
    ("start(); import faulthandler", "os.abort()", "-SIGABRT", [2]),
    ("start(); import faulthandler", "work_with_dumps()", "exit 0", [0, 1])])
def test_jvm(jvm, order, after, status, counts):
    """A JVM works, whoever came first; crashes are reported."""
    compile_library("older")
    child = python(block(START) + block(JVM) % jvm + "%s\nwork()\n%s" % (
        order, after))
    assert status_name(child.status) == status
    assert child.out.startswith("3000\n")
    assert child.err.count("Fatal Python error") in counts
    assert child.seconds < 5 * LIMIT
