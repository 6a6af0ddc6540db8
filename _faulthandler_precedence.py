"""Makes "import faulthandler" mean the extension beside this file.

The interpreter has a builtin module of that name, and a builtin wins over
every path.  So this module, which is a finder, goes first on sys.meta_path
when it is imported.  faulthandler-precedence.pth imports it at start-up, or
faulthandler-precedence.start (PEP 829), which has to name a function.

A program in whose Python no .pth file is run (zip applications, PyInstaller,
"pip install --target") can import it itself, before faulthandler.

FAULTHANDLER_USE_STDLIB in the environment, unless empty, leaves the builtin
in place, and so does "python -S".  "python -E" and "-I" do not: they ignore
PYTHON* variables, and this one is meant for every program.

Every start of Python runs this file.  So it is short, and imports only what
is loaded already.
"""

import sys
from posix import environ

# What PYTHONFAULTHANDLER asks for: the extension's enable() takes from here
# the arguments that a call does not give.
options = {}

# The words with a path, as they were written: {"file": b"file=report.txt"}.
places = {}

# What "python -m faulthandler" runs.
MAIN = """
import faulthandler as m
print('faulthandler %d.%d from %s; to arm it for a program: '
      'PYTHONFAULTHANDLER=details,c_stack=mixed python PROGRAM'
      % (m.version >> 8, m.version & 255, m.__file__))
"""


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

        def get_code(self, fullname):
            return compile(MAIN, '<faulthandler>', 'exec')

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
        if not hasattr(faulthandler, '__file__'):
            raise ImportError
    except Exception:
        sys.modules['faulthandler'] = builtin
        builtin.enable()
        return
    ignored = []
    value = environ.get(b'PYTHONFAULTHANDLER', b'')
    if value != b'1' and not sys.flags.ignore_environment:
        ignored = read_options(value)
    ignored += arm(faulthandler)
    if ignored and sys.stderr is not None:
        sys.stderr.write('PYTHONFAULTHANDLER: ignored %s\n' % ', '.join(
            '%s (%s)' % (repr(word)[1:], problem)
            for word, problem in ignored))
        sys.stderr.flush()


def read_options(value):
    """Put the words of PYTHONFAULTHANDLER into options.

    Returns a list of the wrong words, each with what is wrong.  They are
    left out: Python starts as if they were not there, also with "-W error".
    """
    problems = [(word, read_option(word.strip())) for word in value.split(b',')]
    return [(word, problem) for word, problem in problems if problem]


def arm(faulthandler):
    """Arm with the options, but without a file or copy that cannot be used.

    Returns a list of those that were left out, each with what is wrong.  An
    enable() that fails changes nothing, and importing has armed.
    """
    paths = {name: options.pop(name) for name in places}
    wrong = []
    try:
        # An argument: this is the report of the standard library's module.
        faulthandler.enable(**(options or {'all_threads': True}))
    except Exception:
        pass                    # no standard error: a file may be given
    for name in paths:
        options[name] = paths[name]
        try:
            faulthandler.enable(**options)
        except Exception as error:
            del options[name]
            wrong.append((places[name],
                          getattr(error, 'strerror', None) or error))
    return wrong


def read_option(word):
    """Put one word into options; return what is wrong with it, or None."""
    name, equals, text = word.partition(b'=')
    lower = text.lower() if equals else b'1'
    truth = (True if lower in (b'1', b'true', b'yes', b'on') else
             False if lower in (b'0', b'false', b'no', b'off') else None)
    if name in (b'details', b'all_threads', b'c_stack'):
        if truth is None and word != b'c_stack=mixed':
            return 'neither 1 nor 0' + ' nor mixed' * (name == b'c_stack')
        options[name.decode()] = 'mixed' if truth is None else truth
    elif name == b'max_threads':
        if not text.isdigit() or len(text) > 9:
            return 'not a number'
        options['max_threads'] = int(text)
    elif name in (b'file', b'copy'):
        if not text:
            return 'no path'
        if text[:1] != b'/':
            # The folder of now, also where enable() is called later.
            from posix import getcwdb
            try:
                text = getcwdb() + b'/' + text
            except OSError as error:
                return error.strerror
        options[name.decode()] = text
        places[name.decode()] = word
    elif equals or not (len(word) < 2 or word.isdigit() or word.lower() in (
            b'true', b'yes', b'on', b'enable', b'enabled', b'false', b'no',
            b'off')):
        return 'not known'


install()
