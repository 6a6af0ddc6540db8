"""Makes "import faulthandler" mean the extension beside this file.

The interpreter has a builtin module of that name, and a builtin wins over
every path.  So this module, which is a finder, goes first on sys.meta_path
when it is imported.  faulthandler-precedence.pth imports it at start-up, or
faulthandler-precedence.start (PEP 829), which has to name a function.

FAULTHANDLER_USE_STDLIB in the environment, unless empty, leaves the builtin
in place, and so does "python -S".  "python -E" and "-I" change nothing: they
ignore PYTHON* variables, and who sets this one wants the builtin in every
program, also in those that are started that way.

Every start of Python runs this file, so it is short, and imports only what
is loaded already.
"""

import sys
from posix import environ


def find_spec(name, path=None, target=None):
    """Return a spec for "faulthandler", None for any other name."""
    if name != 'faulthandler':
        return None
    # Not the path finder: a faulthandler.py in the current folder has never
    # replaced the builtin, and does not replace this module.
    from os.path import dirname, isfile, join
    from _frozen_importlib_external import spec_from_file_location
    from _imp import extension_suffixes
    for suffix in extension_suffixes():
        file = join(dirname(__file__), name + suffix)
        if isfile(file):
            return spec_from_file_location(name, file,
                                           loader=make_loader(name, file))
    return None


def make_loader(name, file):
    """Return a loader for the extension, or the builtin if that is broken."""
    from _frozen_importlib import BuiltinImporter
    from _frozen_importlib_external import ExtensionFileLoader

    class Loader(ExtensionFileLoader):
        def create_module(self, spec):
            try:
                return super().create_module(spec)
            except ImportError:
                # The import system reads the spec again after this call.
                spec.__dict__.update(BuiltinImporter.find_spec(name).__dict__)
                return BuiltinImporter.create_module(spec)

    return Loader(name, file)


def install():
    """Put the finder first; take over from a builtin imported already."""
    this = sys.modules[__name__]
    if environ.get(b'FAULTHANDLER_USE_STDLIB') or this in sys.meta_path:
        return
    sys.meta_path.insert(0, this)
    if 'faulthandler' in sys.modules:
        builtin = sys.modules.pop('faulthandler')
        if builtin.is_enabled():
            take_over(builtin)


def take_over(builtin):
    """Arm the extension in place of the builtin that the user armed."""
    # First disarm the builtin: it would be the extension's previous handler,
    # and one crash would give two reports.
    builtin.disable()
    try:
        import faulthandler
        if hasattr(faulthandler, '__file__'):
            return
    except Exception:
        pass
    sys.modules['faulthandler'] = builtin
    builtin.enable()


install()
