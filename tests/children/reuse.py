"""Give the file "meant" to the module, then use its number again.

    reuse.py WHAT HOW

Both files are in the current folder. "other" must get nothing.
"""
import faulthandler
import os
import signal
import sys
import time

what, how = sys.argv[1:]


def opened(name):
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


meant = opened("meant")
if what == "crash":
    faulthandler.enable(file=meant)
elif what == "user":
    faulthandler.register(signal.SIGUSR1, file=meant)
else:
    faulthandler.dump_traceback_later(0.3, file=meant)
if how == "reuse":
    os.close(meant)
    assert opened("other") == meant
elif how == "replace":
    os.dup2(opened("other"), meant)
else:
    os.closerange(3, 4096)
    for _ in range(40):
        opened("other")
if what == "crash":
    faulthandler.sigsegv()
elif what == "user":
    os.kill(os.getpid(), signal.SIGUSR1)
else:
    time.sleep(0.8)
