"""die(): print the caller's stack as traceback sees it, then crash.

die() has no Python frame of its own, so the crash report begins with the
frame that calls it.
"""
import functools
import operator
import os
import sys
import traceback

import faulthandler


def text(string):
    """What a report makes of a name."""
    shown = "".join(
        c if " " <= c <= "~" else
        "\\x%02x" % ord(c) if c < "\u0100" else
        "\\u%04x" % ord(c) if c < "\U00010000" else
        "\\U%08x" % ord(c)
        for c in string[:500])
    return shown + "..." * (len(string) > 500)


def lines(frame):
    """The frames from this one on, as a report writes them."""
    return ['  File "%s", line %s in %s' % (
                text(frame.f_code.co_filename),
                "???" if line is None else line,
                text(frame.f_code.co_name))
            for frame, line in traceback.walk_stack(frame)]


def show(depth=1):
    """Print the caller's stack, cut as a report cuts it."""
    found = lines(sys._getframe(depth))
    if len(found) > 100:
        gap = "  ... %d frames not shown ..." % (len(found) - 100)
        found[90:-10] = [gap]
    os.write(1, ("\n".join(found) + "\n").encode())
    return True


die = functools.partial(all, map(
    operator.methodcaller("__call__"), [show, faulthandler.sigsegv]))
