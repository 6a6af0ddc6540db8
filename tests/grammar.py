"""The grammar of reports and dumps.

Each line has a kind, one letter; a report is a string of such letters, which
a regular expression describes.
"""

import re

LINES = [
    ("h", r"Thread 0x[0-9a-f]{16}(?: \[[ -~]*\])? \(most recent call "
          r"first\):"),
    ("c", r"Current thread 0x[0-9a-f]{16}(?: \[[ -~]*\])? \(most recent call "
          r"first\):"),
    ("f", r'  File (?:"[ -~]*"|\?\?\?), line (?:\d+|\?\?\?) in [ -~]*'),
    ("n", r"  <no Python frame>"),
    ("d", r"  \.\.\.(?: \d+ frames not shown \.\.\.)?"),
    ("x", r"  <the rest of the stack cannot be read>"),
    ("y", r"  <the rest of the threads cannot be read>"),
    ("z", r"  <(?:fault|out of time) in the [A-Za-z ]+>"),
    ("g", r"  Garbage-collecting"),
    ("t", r"Timeout \(\d+:\d\d:\d\d(?:\.\d{6})?\)!"),
    ("s", r"<traceback skipped: another report is being written>"),
    ("e", r"\.\.\."),
    ("i", r"Interpreter (?:\d+|\?\?\?):"),
    ("T", r"Fatal Python error: [A-Z][ -~]+"),
    ("b", r"Traceback \(most recent call first\):"),
    ("S", r"Stack \(most recent call first\):"),
    ("m", r"Extension modules: .*"),
    ("C", r"Current thread's C stack trace \(most recent call first\):"),
    ("B", r"  Binary file .*"),
    ("k", r"  <the rest of the C stack cannot be read>"),
    ("l", r"  <no more of the C stack: another thread holds the loader's "
          r"lock>"),
    ("0", r""),
]
LINE = re.compile("|".join("(%s)" % pattern for _, pattern in LINES))

# A thread's frames, all threads, a whole report, a dump of one of its own.
STACK = "g?(?:f+d?f*x?|n|x)z*"
THREADS = "%s(?:0(?:i0?)?h%s)*(?:0e)?y?" % (STACK, STACK)
FATAL = re.compile("T0(?:b|c|S)%s(?:0m)?(?:0C[Bdnz]*[kl]?)?z*" % THREADS)
DUMP = re.compile(
    "t?(?:i0?)?[hc]%s(?:0(?:i0?)?[hc]%s)*(?:0e)?y?z*|t?y|t?s|t"
    % (STACK, STACK))


def kind_of(line):
    """Return the letter of a line, or None."""
    match = LINE.fullmatch(line)
    return LINES[match.lastindex - 1][0] if match else None


def fault_in(text):
    """Return what is wrong with one fatal report, or None."""
    if not text.endswith("\n"):
        return "the last line has no end: %r" % text[-80:]
    kinds = ""
    for line in text.split("\n")[:-1]:
        kind = kind_of(line)
        if kind is None:
            return "a line of no report: %r" % line
        kinds += kind
    return None if FATAL.fullmatch(kinds) else "no report: " + kinds
