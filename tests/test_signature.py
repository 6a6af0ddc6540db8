"""Names, parameters, defaults, docstrings, attributes."""

import pytest

from helpers import SIGNALS, TAKES_FILE, block, python, raises


SIGNATURES = {
    "enable": "file, all_threads=True, c_stack=?, *, max_threads=100, "
              "details=False, copy=None",
    "disable": "",
    "is_enabled": "",
    "isenabled": "",
    "dump_traceback": "file, all_threads=True, *, max_threads=100, "
                      "details=False",
    "dump_traceback_later":
        "timeout, repeat=False, file, exit=False, *, max_threads=100, "
        "details=False",
    "cancel_dump_traceback_later": "",
    "register": "signum, file, all_threads=True, chain=False, "
                "*, max_threads=100, details=False",
    "unregister": "signum, /",
    "dump_c_stack": "file",
    "sigsegv": "release_gil=False",
    "sigfpe": "", "sigbus": "", "sigill": "",
    "_sigsegv": "release_gil=False, /",
    "_sigfpe": "", "_sigabrt": "", "_stack_overflow": "",
    "_read_null": "", "_fatal_error_c_thread": "",
}


def test_signatures():
    """inspect.signature() gives the newest release's parameters; every
    function says what it does and where it belongs, and so does the
    module."""
    child = python("""
        import inspect, faulthandler
        from faulthandler import version
        assert (version, version >> 8, version & 255) == (256, 1, 0)
        assert faulthandler.__doc__
        assert faulthandler.__name__ == faulthandler.__spec__.name
        for name in %r:
            shown, star = [], False
            function = getattr(faulthandler, name)
            assert function.__doc__ and function.__name__ == name, name
            assert function.__module__ == "faulthandler", name
            signature = inspect.signature(function)
            for p in signature.parameters.values():
                if p.kind is p.KEYWORD_ONLY and not star:
                    shown.append("*")
                    star = True
                default = "=%%r" %% (p.default,)
                if p.default is p.empty or p.name == "file":
                    default = ""
                if p.name == "c_stack":
                    default = "=?"
                shown.append(p.name + default)
                if p.name == "file":
                    assert p.default is not p.empty
                if p.kind is p.POSITIONAL_ONLY:
                    shown.append("/")
            print(name, "(%%s)" %% ", ".join(shown))
    """ % list(SIGNATURES))
    expected = ["%s (%s)" % pair for pair in SIGNATURES.items()]
    assert child.out.splitlines() == expected


def test_names_of_the_builtin():
    """Whatever the running Python's own module has is here."""
    child = python("""
        from both import builtin, ours
        missing = set(dir(builtin)) - set(dir(ours))
        print(missing - {"__builtins__", "_fatal_error"})
    """)
    assert child.out == "set()\n"


# ---- the newest release's exceptions and messages, and what is returned ----

TOO_SMALL = "ValueError timeout must be greater than 0"
TOO_LARGE = "OverflowError timestamp out of range for C PyTime_t"
CALLS = {
    "what is no time, or no number": {
        "dump_traceback_later(-1)": TOO_SMALL,
        "dump_traceback_later(0)": TOO_SMALL,
        "dump_traceback_later(1e300)": TOO_LARGE,
        "dump_traceback_later(-1e300)": TOO_LARGE,
        "dump_traceback_later(float('-inf'))": TOO_LARGE,
        "dump_traceback_later(9223372036.9)": TOO_LARGE,
        "dump_traceback_later(9223372036.8)": "None",
        "dump_traceback_later(float('nan'))":
            "ValueError Invalid value NaN (not a number)",
        "dump_traceback_later('x')":
            "TypeError must be real number, not str",
        "dump_traceback_later(60)": "None",
        "dump_traceback_later(1e9)": "None",
        "cancel_dump_traceback_later()": "None",
        "cancel_dump_traceback_later() ": "None",
    },
    "max_threads is a number": {
        "enable(max_threads='x')":
            "TypeError 'str' object cannot be interpreted as an integer",
        "enable(1, max_threads=0)": "None",
        "enable(1, max_threads=-1)": "None",
        "enable(1, max_threads=10**6)": "None",
    },
    "switches take anything that has a truth": {
        "enable(1, 'x', [])": "None",
        "enable(1, all_threads=None, c_stack=1)": "None",
        "enable(1, details='x')": "None",
        "register(10, 1, 2, 3)": "None",
        "dump_traceback_later(60, 'x', 1, [])": "None",
    },
    "what each function returns, in any order and number": {
        "isenabled()": "True", "enable()": "None", "isenabled() ": "True",
        "is_enabled()": "True", "disable()": "True",
        "isenabled()  ": "False", "is_enabled() ": "False",
        "disable() ": "False", "isenabled()   ": "False",
        "enable(1)": "None", "enable(1) ": "None", "enable() ": "None",
        "is_enabled()  ": "True", "disable()  ": "True",
        "disable()   ": "False", "isenabled()    ": "False",
        "dump_traceback(os.open(os.devnull, os.O_WRONLY))": "None",
        "dump_c_stack(os.open(os.devnull, os.O_WRONLY))": "None",
        "cancel_dump_traceback_later()": "None",
    },
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_calls(calls):
    """What calls raise or return."""
    raises(calls)


def test_signal_numbers():
    """What is no signal, or one that is refused."""
    refused = ("RuntimeError signal %d cannot be registered, "
               "use enable() instead")
    calls = {}
    for function in ("register", "unregister"):
        for signum, title, call in SIGNALS:
            calls["%s(%d)" % (function, signum)] = refused % signum
        for number in (0, -1, 65, 99999):
            calls["%s(%d)" % (function, number)] = \
                "ValueError signal number out of range"
        calls[function + "(2**40)"] = \
            "OverflowError Python int too large to convert to C int"
        calls[function + "('x')"] = "TypeError 'str' object cannot be " \
            "interpreted as an integer"
    calls["register(9)"] = "OSError [Errno 22] Invalid argument"
    calls["register(10)"] = "None"
    calls["unregister(10)"] = "True"
    calls["unregister(10) "] = "False"
    calls["unregister(64)"] = "False"
    raises(calls)


BIG = "OverflowError Python int too large to convert to C int"
BAD = "ValueError file is not a valid file descriptor"
WRONG = "RuntimeError file.fileno() is not a valid file descriptor"
NO_FILE = "AttributeError '%s' object has no attribute 'fileno'"
FILE = """
    class File:
        def __init__(self, number):
            self.number = number
        def fileno(self):
            return self.number
        def flush(self):
            raise ZeroDivisionError
"""


@pytest.mark.parametrize("argument, message", [
    ("-1", BAD), ("-2", BAD), ("2**31", BIG), ("2**40", BIG),
    ("12.5", NO_FILE % "float"), ("[]", NO_FILE % "list"),
    ("io.StringIO()", "UnsupportedOperation fileno"),
    ("File('x')", WRONG), ("File(None)", WRONG), ("File(-1)", WRONG),
    ("File(1.5)", WRONG), ("File(2**40)", WRONG)])
def test_no_file(argument, message):
    """Numbers that are no descriptors, objects that are no files, files whose
    fileno() is no descriptor."""
    raises({call % argument: message for call in TAKES_FILE}, FILE)


def test_flush_that_raises():
    """A file whose flush() raises is a file."""
    raises({"enable(File(1))": "None"}, FILE)


@pytest.mark.parametrize("change, message", [
    ("sys.stderr = None", "RuntimeError sys.stderr is None"),
    ("del sys.stderr", "RuntimeError lost sys.stderr"),
    ("sys.stderr = []", NO_FILE % "list"),
    ("sys.stderr = File(-1)", WRONG),
    ("sys.stderr = io.StringIO()", "UnsupportedOperation fileno")])
def test_no_stderr(change, message):
    """sys.stderr is None, or deleted, or no file."""
    raises({call: message for call in (
        "enable()", "enable(None)", "enable(all_threads=True)",
        "dump_traceback()", "register(10)", "dump_traceback_later(60)",
        "dump_c_stack()")}, block(FILE) + change)


def test_wrong_calls():
    """Too many, too few or unknown arguments name the function."""
    calls = ["enable(1, 1, 1, 1)", "enable(foo=1)", "disable(1)",
             "disable(x=1)", "is_enabled(1)", "isenabled(1)",
             "isenabled(x=1)", "sigsegv(1, 2)", "sigsegv(x=1)",
             "sigsegv(1, release_gil=1)", "sigfpe(1)", "sigfpe(x=1)",
             "sigbus(1)", "sigbus(x=1)", "sigill(1)", "sigill(x=1)",
             "dump_traceback(1, 1, 1)",
             "dump_traceback(foo=1)", "dump_traceback_later()",
             "dump_traceback_later(1, 1, 1, 1, 1)", "register()",
             "register(10, 1, 1, 1, 1)", "unregister()",
             "unregister(10, 11)", "unregister(signum=10)",
             "cancel_dump_traceback_later(1)", "dump_c_stack(1, 1)",
             "dump_c_stack(max_threads=1)", "_sigsegv(1, 2)",
             "_sigfpe(1)", "_sigabrt(1)", "_stack_overflow(1)",
             "_read_null(1)", "_fatal_error_c_thread(1)"]
    child = python("""
        import faulthandler
        for call in %r:
            try:
                eval("faulthandler." + call)
            except TypeError as error:
                print(call, call.split("(")[0] + "()" in str(error))
            else:
                print(call, "was accepted")
    """ % calls)
    assert child.out.splitlines() == [call + " True" for call in calls]
