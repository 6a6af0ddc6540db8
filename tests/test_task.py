"""context: a context variable that says what each thread or task is about."""

import re
import sys

import pytest

from helpers import block, died, python


ARM = "faulthandler.enable(2, c_stack=False, details=True)\n"


def contexts(text):
    """The contexts of a report: those before the first header, and of each
    block."""
    parts = re.split(r"(?m)^\n?.*hread 0x.* \(most recent call first\):\n",
                     text)
    return [re.findall(r"(?m)^  context: (.*)$", part) for part in parts]


def crash_with(code):
    """Run code that arms with details, and crashes; the contexts."""
    child = python("import faulthandler\n" + ARM + block(code))
    died(child)
    return contexts(child.err)


def test_variable():
    """It is a context variable, None where it was not set."""
    child = python("""
        import contextvars, faulthandler, importlib, sys
        context = faulthandler.context
        print(type(context) is contextvars.ContextVar, context.name,
              context.get())
        token = context.set("inner")
        print(context.get())
        context.reset(token)
        print(context.get())
        del sys.modules["faulthandler"]
        import faulthandler
        print(faulthandler.context is context)
    """)
    assert (child.status, child.err) == (0, "")
    assert child.out == ("True faulthandler.context None\n"
                         "inner\nNone\nTrue\n")


@pytest.mark.parametrize("value, shown", [
    ("'plain [text] \\'quoted\\''", "plain [text] 'quoted'"),
    ("'caf\\xe9\\x7f'", r"caf\xe9\x7f"),
    ("'\\u20ac\\ud800 \\xff'", r"\u20ac\ud800 \xff"),
    ("'\\U0001f600'", r"\U0001f600"),
    ("'a\\nThread 0x1\\0'", r"a\x0aThread 0x1\x00"),
    ("'x' * 200", "x" * 200),
    ("'x' * 201", "x" * 200 + "..."),
    ("'\\u1234' * 10000", r"\u1234" * 200 + "..."),
    ("'\\U0010ffff' * 200", r"\U0010ffff" * 200),
    ("Text('sub')", "sub"),
    ("17", "<int>"), ("True", "<bool>"), ("b'x'", "<bytes>"), ("[1]", "<list>"),
    ("Text", "<type>"),
    ("None", None), ("''", None),
])
def test_values(value, shown):
    """A str is shown, of anything else the type."""
    assert crash_with("""
        class Text(str):
            pass
        faulthandler.context.set(%s)
        faulthandler.sigsegv()
    """ % value) == [[] if shown is None else [shown], []]


# Several tasks in one thread, of which the second does something.
TASKS = """
        import asyncio
        async def handle(n):
            faulthandler.context.set("task %%d" %% n)
            for _ in range(5):
                await asyncio.sleep(0)
            if n == 1:
                %s
            await asyncio.sleep(10)
        async def main():
            await asyncio.gather(*map(handle, range(3)))
        faulthandler.context.set("main")
        asyncio.run(main())
"""
COPY = """
        import contextvars
        faulthandler.context.set("outer")
        copy = contextvars.copy_context()
        copy.run(faulthandler.context.set, "inner")
"""
# What runs, the first contexts of the report, and the Python that it needs.
WHERE = {
    "each thread's in its own block": ("""
        import waiting
        def run(n):
            if n != 1:
                faulthandler.context.set("first")
                faulthandler.context.set("thread %d" % n)
            waiting.wait()
        for n in range(3):
            waiting.start(run, n)
        faulthandler.context.set("main")
        faulthandler.sigsegv()
    """, [["main"], [], ["thread 2"], [], ["thread 0"]]),
    "the crashing thread's first": ("""
        import waiting
        def run():
            faulthandler.context.set("other")
            faulthandler.sigsegv()
        faulthandler.context.set("main")
        waiting.start(run)
    """, [["other"], [], ["main"]]),
    "the task's that runs": (
        TASKS % "faulthandler.sigsegv()", [["task 1"], []]),
    "the caller's of asyncio.to_thread()": (
        TASKS % "await asyncio.to_thread(faulthandler.sigsegv)",
        [["task 1"]], (3, 9)),
    "a copy's in Context.run()": (
        COPY + "        copy.run(faulthandler.sigsegv)", [["inner"], []]),
    "the old one after Context.run()": (
        COPY + "        faulthandler.sigsegv()", [["outer"], []]),
    "a token's in its with statement": ("""
        with faulthandler.context.set("inner"):
            faulthandler.sigsegv()
    """, [["inner"], []], (3, 14)),
    "the old one after the with statement": ("""
        faulthandler.context.set("outer")
        with faulthandler.context.set("inner"):
            pass
        faulthandler.sigsegv()
    """, [["outer"], []], (3, 14)),
    "a forked child's is that of the thread that forked": ("""
        import os, waiting, warnings
        warnings.simplefilter("ignore")
        def run():
            faulthandler.context.set("parent's")
            waiting.wait()
        waiting.start(run)
        faulthandler.context.set("forked")
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 11
            faulthandler.disable()
        faulthandler.sigsegv()
    """, [["forked"], []]),
    "the greenlet's that runs, of several in a thread": ("""
        import greenlet
        def first():
            faulthandler.context.set("first")
            second.switch()
            faulthandler.sigsegv()
        def other():
            faulthandler.context.set("second")
            one.switch()
        one, second = greenlet.greenlet(first), greenlet.greenlet(other)
        faulthandler.context.set("main")
        one.switch()
    """, [["first"], []]),
    "the subinterpreter's own": ("""
        import sub
        faulthandler.context.set("main")
        sub.run(sub.create(False), "import faulthandler\\n"
                "assert faulthandler.context.get() is None\\n"
                "faulthandler.context.set('sub')\\n"
                "faulthandler.sigsegv()")
    """, [["sub"]]),
}


@pytest.mark.parametrize("case", WHERE.values(), ids=WHERE)
def test_where(case):
    """Of all contexts, the report has this thread's, or task's."""
    code, expected, *needs = case
    if needs and sys.version_info < needs[0]:
        pytest.skip("needs Python %d.%d" % needs[0])
    if "import greenlet" in code:
        pytest.importorskip("greenlet")
    assert crash_with(code)[:len(expected)] == expected


@pytest.mark.parametrize("count", [1, 5, 40, 1000])
def test_among_other_variables(count):
    """However many variables there are, ours is found."""
    assert crash_with("""
        import contextvars
        for n in range(%d):
            contextvars.ContextVar("v%%d" %% n).set(n)
        faulthandler.context.set("found")
        for n in range(%d):
            contextvars.ContextVar("w%%d" %% n).set(n)
        faulthandler.sigsegv()
    """ % (count, count)) == [["found"], []]


@pytest.mark.parametrize("sets", [
    "b.set(2)", "b.set(2); c.set(3)", "[v.set(4) for v in many]"])
def test_equal_hashes(sets):
    """Where another variable has the same hash, the context is ???."""
    assert crash_with("""
        import contextvars, damage
        def made(name):
            variable = contextvars.ContextVar(name)
            cells = damage.words(id(variable), 10)
            wrong = hash(variable) %% 2**64
            cells[[*cells].index(wrong)] = hash(faulthandler.context) %% 2**64
            return variable
        b, c = made("b"), made("c")
        many = [contextvars.ContextVar("v%%d" %% n) for n in range(50)]
        many[5:5] = map(made, "defgh")
        %s
        faulthandler.context.set("ours")
        %s
        faulthandler.sigsegv()
    """ % (sets, sets)) == [["???"], []]


@pytest.mark.parametrize("where", [
    "state[[*state].index(id(context))]", "words(id(context))[HEAD + 1]",
    "words(trie)[HEAD]", "words(root)[HEAD - 1]",
    "root_cells[[*root_cells].index(id(value))]"])
@pytest.mark.parametrize("what", ["damage.forbidden", "damage.beyond", "5",
                                  "id(object)", "id(object())"])
def test_damage(where, what):
    """What cannot be read is ???, in other reports too."""
    assert crash_with("""
        import contextvars, ctypes, damage
        from damage import words
        HEAD = object.__basicsize__ // damage.WORD
        def crash():
            get = ctypes.pythonapi.PyThreadState_Get
            get.restype = ctypes.c_size_t
            state = words(get(), 100)
            trie = words(id(context))[HEAD + 1]
            root = words(trie)[HEAD]
            root_cells = words(root, 20)
            bad = %s
            %s = bad
            faulthandler.sigsegv()
        value = "x" * 100
        faulthandler.context.set(value)
        context = contextvars.copy_context()
        context.run(crash)
    """ % (what, where)) in ([["???"], []], [["<type>"], []],
                             [["<object>"], []])


def test_busy_thread():
    """A context that changes all the time is whole, or ???."""
    child = python("""
        import faulthandler, itertools, os, tempfile, threading, time
        def run():
            for text in itertools.cycle(["a" * 200, "\\U0001f600" * 200]):
                faulthandler.context.set(text + "")
        threading.Thread(target=run, daemon=True).start()
        file = tempfile.TemporaryFile("w+")
        faulthandler.dump_traceback_later(0.001, True, file, details=True)
        while os.fstat(file.fileno()).st_size < 200000:
            time.sleep(0.001)
        faulthandler.cancel_dump_traceback_later()
        file.seek(0)
        print(file.read())
    """)
    assert (child.status, child.err) == (0, "")
    found = {text for block in contexts(child.out) for text in block}
    assert found and found <= {"a" * 200, r"\U0001f600" * 200, "???"}
