"""The questions asked of CPython: interpreters, thread states."""

import os
import re
import sys
import sysconfig

from signal import SIGSEGV

import pytest

from helpers import (
    C_FILE, HERE, MINORS, NEWEST, block, c_sources, check, compiler, crash,
    python, report, run, what_is_missing, write_file)


# What a subinterpreter calls the code that it is given.
FILE = "<script>" if sys.version_info >= (3, 14) else "<string>"


@pytest.mark.parametrize("own_gil", [False, True])
@pytest.mark.parametrize("imported", ["faulthandler, sub", "sub"])
def test_crash_in_subinterpreter(own_gil, imported):
    """A subinterpreter can arm the process; a crash shows its frames."""
    child = python("""
        import %s
        sub.run(sub.create(%r), \'\'\'if True:
            import faulthandler
            def inner():
                faulthandler.sigsegv()
            inner()
        \'\'\')
    """ % (imported, own_gil))
    check(child, SIGSEGV, block("""
        Fatal Python error: Segmentation fault

        Traceback (most recent call first):
          File "FILE", line 4 in inner
          File "FILE", line 5 in <module>

        Interpreter 0:

        Thread 0x… (most recent call first):
          File "sub.py", line 22 in run
          File "<string>", line 2 in <module>
    """).replace("FILE", FILE))


@pytest.mark.parametrize("own_gil", [False, True])
@pytest.mark.parametrize("end", ["pass", "sub.module.destroy(other)"])
def test_crash_beside_subinterpreter(own_gil, end):
    """An idle subinterpreter leaves the report as it is, and an ended one."""
    crash("""
        import faulthandler, sub
        other = sub.create(%r)
        sub.run(other, "import faulthandler")
        %s
        faulthandler.sigsegv()
    """ % (own_gil, end), report(
        '  File "<string>", line 5 in <module>\n'))


@pytest.mark.skipif(sys.version_info < (3, 12),
                    reason="Python does not tell whose state this is")
def test_subinterpreter_of_another_thread():
    """The frames that run are shown where another thread made the state."""
    child = python("""
        import sub, threading
        other = sub.create(False)
        threading.Thread(target=sub.run, args=(other, \'\'\'if True:
            import faulthandler
            def inner():
                faulthandler.dump_traceback(2, all_threads=False)
            inner()
        \'\'\')).start()
    """)
    assert child.status == 0, child
    assert child.err.startswith(block("""
        Stack (most recent call first):
          File "FILE", line 4 in inner
          File "FILE", line 5 in <module>
    """).replace("FILE", FILE)), child


# ---- A file for each version -----------------------------------------------

def version_files():
    """{name: text} of the files of src/cpython/."""
    return {os.path.basename(path): text for path, text in c_sources().items()
            if os.path.dirname(path) == "src/cpython"}


def questions(name):
    """The names that a version's file and those that it includes define."""
    text = version_files()[name]
    names = set(re.findall(r"(?m)^# *define (CPYTHON_\w+)", text))
    for other in re.findall(r'(?m)^#include "(\w+_.*)"', text):
        assert names.isdisjoint(questions(other)), (name, other)
        names |= questions(other)
    return names


@pytest.mark.skipif(not os.path.exists(C_FILE), reason="needs the C file")
def test_versions_answer_the_same_questions():
    """Each version's file answers the questions that cpython.h explains."""
    names = {name: questions(name) for name in version_files()
             if name.startswith("3.")}
    assert names == dict.fromkeys(
        ["3.%d.h" % n for n in MINORS], names["3.%d.h" % NEWEST])
    words = re.findall(r"\w+", c_sources()["src/cpython.h"].partition("*/")[0])
    assert names["3.8.h"].difference(["CPYTHON_" + w for w in words]) == set()


@pytest.mark.skipif(not os.path.exists(C_FILE), reason="needs the C file")
def test_one_ladder():
    """Each version's file is included in one place, the newest first."""
    rows = re.findall(
        r'if PY_VERSION_HEX >= 0x03(..)0000\n# *include "(cpython/.*)"',
        "".join(c_sources().values()))
    assert rows == [("%02X" % n, "cpython/3.%d.h" % n)
                    for n in reversed(MINORS)]


# What the mirrors of internal structs say, and what the headers say of them:
# from which version on, to which, the macro, the struct, the field.  99 is no
# end: a new version is compared, too.
MIRRORS = [
    (8, 12, "CPYTHON_INTERP_NEXT", "_is", "next"),
    (8, 12, "CPYTHON_INTERP_ID", "_is", "id"),
    (8, 10, "CPYTHON_INTERP_THREADS", "_is", "tstate_head"),
    (11, 12, "CPYTHON_INTERP_THREADS", "_is", "threads.head"),
    (9, 12, "CPYTHON_COLLECTING(0)", "_is", "gc.collecting"),
    (11, 11, "CPYTHON_FRAME_CODE", "_PyInterpreterFrame", "f_code"),
    (12, 12, "CPYTHON_FRAME_CODE", "_PyInterpreterFrame", "f_code"),
    (11, 12, "CPYTHON_FRAME_PREVIOUS", "_PyInterpreterFrame", "previous"),
    (11, 12, "CPYTHON_FRAME_INSTR", "_PyInterpreterFrame", "prev_instr"),
    (11, 11, "CPYTHON_FRAME_ENTRY", "_PyInterpreterFrame", "is_entry"),
    (11, 12, "CPYTHON_FRAME_OWNER", "_PyInterpreterFrame", "owner"),
    (11, 99, "CPYTHON_FRAME_SIZE", "_PyInterpreterFrame", "localsplus"),
    (11, 99, "offsetof(struct cpython_keys, dk_log2_index_bytes)",
     "_dictkeysobject", "dk_log2_index_bytes"),
    (11, 99, "offsetof(struct cpython_keys, dk_kind)", "_dictkeysobject",
     "dk_kind"),
    (11, 99, "offsetof(struct cpython_keys, dk_nentries)", "_dictkeysobject",
     "dk_nentries"),
    (11, 99, "sizeof(struct cpython_keys)", "_dictkeysobject", "dk_indices"),
    (11, 14, "CPYTHON_MODULE_DEF", "PyModuleObject", "md_def"),
    (15, 99, "CPYTHON_MODULE_DEF", "PyModuleObject", "md_token"),
    (15, 99, "CPYTHON_MODULE_DEF_FLAG", "PyModuleObject", "md_token_is_def"),
]


def claims(minor):
    """The claims of the version's file about internal structs, in C."""
    structs = {"PyModuleObject": "PyModuleObject"}
    for first, last, ours, struct, field in MIRRORS:
        if first <= minor <= last:
            yield ours, "offsetof(%s, %s)" % (
                structs.get(struct, "struct " + struct), field)
    published = version_files()["3.%d.h" % minor].partition(
        "struct cpython_published {")[2].partition("\n};")[0]
    for fields, name in re.findall(r"struct \{([^}]*)\} (\w+);", published):
        for field in re.findall(r"\w+(?=[,;])", fields):
            path = "%s.%s" % (name, field)
            yield ("offsetof(struct cpython_published, %s)" % path,
                   "offsetof(_Py_DebugOffsets, %s)" % path)


@pytest.mark.parametrize("free_threaded", [False, True])
def test_mirrors_agree_with_internal_headers(free_threaded):
    """What the version's file says of internal structs is what they are."""
    minor = sys.version_info[1]
    include = sysconfig.get_path("include")
    headers = ["pycore_interp.h" if minor > 8 else "pycore_pystate.h"]
    if minor >= 11:
        headers += ["pycore_frame.h" if minor < 14 else
                    "pycore_interpframe_structs.h", "pycore_dict.h",
                    "pycore_moduleobject.h"]
    if minor >= 13:
        headers.append("pycore_runtime.h" if minor < 14
                       else "pycore_debug_offsets.h")
    if what_is_missing() or not os.path.exists(C_FILE):
        pytest.skip(what_is_missing() or "needs the C file")
    if free_threaded and minor < 14:
        pytest.skip("supported from 3.14 on")
    if not os.path.exists(os.path.join(include, "internal", headers[0])):
        pytest.skip("needs CPython's internal headers")
    code = ["#define Py_BUILD_CORE 1", "#include <Python.h>"]
    code += ["#include <internal/%s>" % name for name in headers]
    code += ["#define _PyRuntime ours"]     # declared otherwise
    code += ['#include "%s"' % os.path.join(HERE, "src", "cpython.h")]
    code += ['_Static_assert(%s == %s, "%s");' % (ours, theirs, ours)
             for ours, theirs in claims(minor)]
    child = run(compiler(), "-fsyntax-only", "-std=gnu11", "-I", include,
                *["-DPy_GIL_DISABLED=1"] * free_threaded,
                write_file("mirrors.c", "\n".join(code) + "\n"))
    assert child.status == 0
