"""create() a subinterpreter of either kind, run() code in it."""
import atexit
import sys
try:
    import _interpreters as module
except ImportError:
    import _xxsubinterpreters as module


def create(own_gil):
    if sys.version_info >= (3, 13):
        created = module.create("isolated" if own_gil else "legacy")
    elif sys.version_info >= (3, 10):
        created = module.create(isolated=own_gil)
    else:
        created = module.create()
    atexit.register(module.destroy, created)
    return created


def run(interpreter, code):
    error = module.run_string(interpreter, code)
    if error is not None:
        sys.exit(str(error))
