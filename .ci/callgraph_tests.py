#!/usr/bin/env python3
"""Check that callgraph.py goes red: each test breaks a small crash handler."""
import os
import sys
import sysconfig
import tempfile
import unittest
from unittest import mock

sys.dont_write_bytecode = True
import callgraph  # noqa: E402

# A handler that calls a table's function, a bounded recursion and write().
SAMPLE = r"""
#include <Python.h>
#include <string.h>
#include <unistd.h>

struct decoder { const char *name; int (*decode)(int); };

static int code_old(int n) { return n + 1; }
static const struct decoder code_decoders[] = { {"old", code_old} };

static int frame_walk(int depth)
{
    char line[64];

    memset(line, depth, sizeof(line));
    (void)!write(2, line, sizeof(line));
    return depth > 0 ? frame_walk(depth - 1) + line[0] : 0;
}

static void on_signal(int signum)
{
    (void)frame_walk(code_decoders[signum & 1].decode(signum) & 3);
}

void (*sample_handler)(int) = on_signal;
int sample_python_half(const char *text) { return puts(text); }
"""

CALLS = {
    "write": callgraph.call("the report"),
    "memset": callgraph.call("touches only its arguments"),
}
INDIRECT = {"on_signal": ["code_old"]}
RECURSION = {"frame_walk": 3}


class CallgraphTests(unittest.TestCase):
    """Each test changes the sample or a table, and reads the errors."""

    def check(self, source=SAMPLE, calls=(), indirect=None, recursion=None,
              **tables):
        """Return the errors for a source and tables that differ."""
        tables["CALLS"] = dict(CALLS, **dict(calls))
        tables["INDIRECT"] = INDIRECT if indirect is None else indirect
        tables["RECURSION"] = RECURSION if recursion is None else recursion
        tables.setdefault("NOT_CALLED", {})
        tables.setdefault("THREADS", [])
        tables.setdefault("ASSEMBLY", {})
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch.multiple(callgraph, **tables):
            path = os.path.join(folder, "sample.c")
            with open(path, "w", encoding="utf-8") as file:
                file.write(source)
            return callgraph.check(path, sysconfig.get_path("include"))

    def edited(self, old, new):
        """Return the sample with one piece of text replaced."""
        self.assertIn(old, SAMPLE)
        return SAMPLE.replace(old, new)

    def test_sample_is_clean(self):
        """The sample as it stands has no errors."""
        self.assertEqual(self.check(), [])

    def test_snprintf_in_a_handler(self):
        """A formatted print two calls below a handler is named with its path.
        """
        source = self.edited("    memset(", '    snprintf(line, 9, "x");\n'
                                            "    memset(")
        errors = self.check(source)
        self.assertEqual(len(errors), 1, errors)
        self.assertRegex(errors[0], r"^not in CALLS for Python 3\.\d+: "
                                    r"on_signal > frame_walk > snprintf$")

    def test_snprintf_behind_a_pointer(self):
        """A formatted print in a table's function is found."""
        source = self.edited("return n + 1;",
                             'char b[9]; return snprintf(b, 9, "%d", n);')
        self.assertRegex("\n".join(self.check(source)),
                         "on_signal > code_old > snprintf")

    def test_pointer_without_targets(self):
        """A call through a pointer needs its targets in INDIRECT."""
        errors = "\n".join(self.check(indirect={}))
        self.assertIn("the pointer called at sample.c:", errors)

    def test_second_function_in_a_table(self):
        """A function that joins a table of the crash half is named."""
        source = self.edited(
            "static const struct", "static int code_new(int n) { return n; }\n"
            "static const struct").replace('{"old", code_old}',
                                           '{"old", code_old}, '
                                           '{"new", code_new}')
        errors = self.check(source)
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("the address of code_new (in code_decoders)", errors[0])

    def test_outside_function_calls_back(self):
        """The targets of an outside function's callback are followed."""
        source = self.edited("    (void)frame_walk(",
                             "    qsort(0, 0, 0, 0);\n"
                             "    (void)frame_walk(")
        calls = {"qsort": callgraph.call("sample")}
        indirect = dict(INDIRECT, qsort=["sample_python_half"])
        errors = self.check(source, calls, indirect)
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("on_signal > qsort > sample_python_half > puts",
                      errors[0])

    def test_listed_but_unreachable(self):
        """An entry of CALLS that no handler reaches is an error."""
        errors = self.check(calls={"puts": callgraph.call("sample")})
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("CALLS lists puts", errors[0])

    def test_entry_for_another_python(self):
        """An entry for other versions is neither missed nor enough."""
        past = callgraph.call("sample", until=(3, 0))
        self.assertEqual(self.check(calls={"puts": past}), [])
        errors = self.check(calls={"write": past})
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("frame_walk > write", errors[0])

    def test_entry_for_another_handler(self):
        """An entry for one handler does not allow another."""
        only = callgraph.call("sample", only=["on_thread"])
        errors = self.check(calls={"write": only})
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("only on_thread may reach write", errors[0])

    def test_thread_function(self):
        """A function in THREADS is followed as a handler is."""
        errors = self.check(THREADS=["sample_python_half"])
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("sample_python_half > puts", errors[0])

    def test_called_by_assembly(self):
        """What ASSEMBLY names is followed."""
        errors = self.check(ASSEMBLY={"frame_walk": ["sample_python_half"]})
        self.assertEqual(len(errors), 1, errors)
        self.assertIn("sample_python_half > puts", errors[0])

    def test_stale_tables(self):
        """THREADS, ASSEMBLY and the others must name what the file has."""
        errors = self.check(indirect=dict(INDIRECT, frame_walk=["code_old"]),
                            NOT_CALLED={"frame_walk": "sample"},
                            THREADS=["on_thread"],
                            ASSEMBLY={"on_stack": ["frame_walk"]})
        self.assertEqual(len(errors), 4, errors)

    def test_recursion_without_a_bound(self):
        """A cycle that RECURSION does not name is an error."""
        errors = "\n".join(self.check(recursion={}))
        self.assertIn("recursion without a bound in RECURSION: frame_walk",
                      errors)

    def test_stack_block_of_unknown_size(self):
        """alloca and arrays of variable length are errors."""
        source = self.edited("char line[64];", "char line[depth + 64];")
        errors = "\n".join(self.check(source))
        self.assertIn("frame_walk takes a stack block of unknown size", errors)

    def test_stack_limit(self):
        """A large buffer below a handler is named with its path and size."""
        source = self.edited("char line[64];", "char line[8000];")
        errors = "\n".join(self.check(source))
        self.assertRegex(errors, r"on_signal needs \d{5} bytes of stack at "
                                 r"-O0, more than 16384: on_signal > ")

    def test_no_handler(self):
        """A file without handlers is not a passed check."""
        source = self.edited("on_signal", "handle_signal").replace(
            "= on_signal", "= handle_signal")
        self.assertEqual(self.check(source), ["no function is called on_*"])

    def test_file_that_does_not_compile(self):
        """What gcc rejects is not a passed check."""
        with self.assertRaises(callgraph.CannotCheck):
            self.check("int x = ;")


if __name__ == "__main__":
    unittest.main()
