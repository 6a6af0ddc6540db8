"""both(): what each of the two modules dumps, ours and the builtin."""
import sys
import tempfile
import importlib.util
from importlib.machinery import BuiltinImporter

import faulthandler as ours

builtin = importlib.util.module_from_spec(
    BuiltinImporter.find_spec("faulthandler"))
sys.modules["faulthandler"] = ours      # 3.8 puts the builtin there
modules = [ours, builtin]


def both(*arguments, **keywords):
    """Two texts, dumped from the same place."""
    texts = []
    for module in modules:
        with tempfile.TemporaryFile() as file:
            module.dump_traceback(file, *arguments, **keywords)
            file.seek(0)
            texts.append(file.read().decode("utf-8"))
    return texts


def same(*arguments, **keywords):
    """Say where the two differ, and what they are."""
    first, second = both(*arguments, **keywords)
    if first != second:
        print("ours:\n%s\nbuiltin:\n%s" % (first, second), flush=True)
        sys.exit(1)
    return first
