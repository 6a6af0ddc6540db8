"""Builds and installs faulthandler; README.rst says how."""

# Python 2.7 and 3.6 must parse this file to be told that they are too old.

import os
import platform
import re
import sys
import sysconfig


PROCESSORS = ('x86_64', 'aarch64')
NEWEST = (3, 15)            # the newest CPython that the module was tested on
UNTESTED = os.environ.get('FAULTHANDLER_UNTESTED', '') not in ('', '0')


def check_python():
    """Exit with one sentence on an unsupported Python or system."""
    implementation = platform.python_implementation()
    version = platform.python_version()
    processor = sysconfig.get_platform().rsplit('-')[-1]
    if not sys.platform.startswith('linux'):
        needs, found = 'Linux', platform.system()
    elif processor not in PROCESSORS or sys.maxsize < 2 ** 32:
        needs = 'a Python of 64 bits on x86-64 or aarch64'
        found = '%s with %d bits' % (processor,
                                     64 if sys.maxsize > 2 ** 32 else 32)
    elif implementation != 'CPython':
        needs, found = 'CPython', implementation
    elif sys.version_info < (3, 8):
        needs, found = 'Python 3.8 or newer', 'Python ' + version
    elif sys.version_info < (3, 14) and sysconfig.get_config_var(
            'Py_GIL_DISABLED'):
        needs = 'a Python with the GIL, or free-threaded Python 3.14 or newer'
        found = 'free-threaded Python ' + version
    elif sys.version_info[:2] > NEWEST and not UNTESTED:
        sys.exit('faulthandler was never tested on Python %s, only up to '
                 '%d.%d: set FAULTHANDLER_UNTESTED=1 to build it nevertheless.'
                 % ((version,) + NEWEST))
    else:
        return
    sys.exit('faulthandler needs %s: this is %s.' % (needs, found))


check_python()

import csv
import glob
import shutil
import subprocess

try:
    import setuptools
    from setuptools.command.build_ext import build_ext as _build_ext
    from setuptools.command.install import install as _install
    from distutils.command.install_data import install_data as _install_data
except Exception as error:
    if getattr(error, 'name', None) == 'setuptools':
        sys.exit('setup.py needs setuptools: run "pip install setuptools", '
                 'or "pip install ." here, which brings its own.')
    sys.exit('setup.py needs a setuptools that works: importing the one of '
             'this Python fails with "%s: %s". Run "pip install -U '
             'setuptools", or "pip install ." here, which brings its own.'
             % (type(error).__name__, error))

HERE = os.path.dirname(os.path.abspath(__file__))
HEADERS = sorted(
    os.path.relpath(path, HERE) for path in glob.glob(
        os.path.join(glob.escape(HERE), 'src', '**', '*.h'), recursive=True))


def read(name):
    """Return the text of a file of this project, '' if it is not there."""
    try:
        with open(os.path.join(HERE, name), encoding='utf-8') as file:
            return file.read()
    except FileNotFoundError:
        return ''


def read_version():
    """Return the version as text, from the number in the C code."""
    match = re.search(r'^#define FAULTHANDLER_VERSION (0x[0-9A-Fa-f]+)',
                      ''.join(map(read, ['faulthandler.c'] + HEADERS)),
                      re.MULTILINE)
    number = int(match.group(1), 16)
    return '%d.%d' % (number >> 8, number & 255)


VERSION = read_version()
METADATA = 'faulthandler-%s.dist-info' % VERSION

# What puts the finder to work at start-up.  PEP 829 has .start files from
# 3.15 on, where both files exist the .start wins, and from 3.18 on "import"
# lines in .pth files are ignored.  Until then the .pth: to run a .start,
# site imports pkgutil and re, and every start of Python takes 8 ms more.
if sys.version_info >= (3, 18):
    STARTER = 'faulthandler-precedence.start'
else:
    STARTER = 'faulthandler-precedence.pth'


def uninstall(folder):
    """Remove what an earlier installation recorded in folder."""
    for record in glob.glob(os.path.join(glob.escape(folder),
                                         'faulthandler-*.dist-info',
                                         'RECORD')):
        with open(record, encoding='utf-8', newline='') as file:
            paths = [os.path.join(folder, row[0]) for row in csv.reader(file)]
        for path in filter(os.path.isfile, paths):
            os.remove(path)
        shutil.rmtree(os.path.dirname(record))


def write_editable(folder):
    """Write what starts an editable installation; return the paths.

    The .pth file starts Python silently also after this checkout is gone.
    """
    path = os.path.join(folder, 'faulthandler-precedence.pth')
    with open(path, 'w', encoding='utf-8') as file:
        file.write('%s\nimport sys; exec("try: import _faulthandler_precedence'
                   '\\nexcept ImportError: pass")\n' % HERE)
    if STARTER.endswith('.pth'):
        return [path]
    return [path, shutil.copy(os.path.join(HERE, STARTER), folder)]


# libbacktrace gives C frames their function, file and line.  It is a static
# library that comes with gcc.  The module must not export its functions: a
# version script hides them (not --exclude-libs, which zig's linker does not
# know).  --wrap: the module tells it where the loaded objects are, without
# the loader's lock.
LIBBACKTRACE_EXPORTS = '{ global: PyInit_faulthandler; local: *; };\n'
LIBBACKTRACE_PROBE = """
#include <backtrace.h>
#include <backtrace-supported.h>
#if !BACKTRACE_SUPPORTED || BACKTRACE_USES_MALLOC
#error "of no use in a signal handler"
#endif
#include <link.h>
int
__wrap_dl_iterate_phdr(int (*callback)(struct dl_phdr_info *, size_t, void *),
                       void *data)
{
    return callback(0, 0, data);
}
int
PyInit_faulthandler(void)
{
    struct backtrace_state *state = backtrace_create_state("", 0, 0, 0);
    return backtrace_pcinfo(state, 0, 0, 0, 0)
           + backtrace_syminfo(state, 0, 0, 0, 0);
}
"""

# What every build needs.  libc6-dev and musl-dev have assert.h, which is in
# no compiler's own folder.
HEADERS_PROBE = '#include <assert.h>\nint probe;\n'


class build_ext(_build_ext):
    """Uses libbacktrace where it is, and says which package to install where
    one is missing.

    FAULTHANDLER_LIBBACKTRACE=0 in the environment builds without it, 1 builds
    with it and without looking for it.
    """

    def run(self):
        super().run()
        if getattr(self, 'editable_mode', False):
            write_editable(self.get_finalized_command('install').install_lib)

    def build_extension(self, ext):
        os.makedirs(self.build_temp, exist_ok=True)
        ext.extra_compile_args += self.hide_paths()
        exports = self.write('exports.map', LIBBACKTRACE_EXPORTS)
        link_args = ['-Wl,--version-script=' + exports,
                     '-Wl,--wrap=dl_iterate_phdr']
        wanted = os.environ.get('FAULTHANDLER_LIBBACKTRACE', '')
        if wanted == '1' or (wanted != '0'
                             and self.has_libbacktrace(link_args)):
            ext.define_macros.append(('FAULTHANDLER_LIBBACKTRACE', '1'))
            ext.libraries.append('backtrace')
            ext.extra_link_args += link_args
        try:
            super().build_extension(ext)
        except Exception:
            self.check_tools()
            raise
        self.check_unwinder()

    def write(self, name, text):
        """Write a file in the folder for temporary files; return its path."""
        path = os.path.join(self.build_temp, name)
        with open(path, 'w', encoding='ascii') as file:
            file.write(text)
        return path

    def hide_paths(self):
        """Return the options that keep this machine's folders out of the
        debug information, and so out of every report.
        """
        include = sysconfig.get_path('include')
        return ['-ffile-prefix-map=%s=%s' % pair for pair in [
            (HERE, '.'), (include, os.path.basename(include))]]

    def compiles(self, source, options):
        """Return whether the compiler takes this source file."""
        command = self.compiler.compiler_so + ['-D_GNU_SOURCE', '-fPIC']
        command += ['-I' + folder for folder in self.include_dirs]
        command += [source] + options + ['-o', source[:-1] + 'out']
        try:
            return subprocess.call(command, timeout=60,
                                   stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL) == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def has_libbacktrace(self, link_args):
        """Return whether a shared object can be made with libbacktrace."""
        # Both commands begin with the compiler, which may be several words.
        compiler, linker = self.compiler.compiler_so, self.compiler.linker_so
        shared = len(os.path.commonprefix([compiler, linker]))
        options = [word for word in linker[shared:] if word[0] == '-']
        options += ['-L' + folder for folder in self.library_dirs]
        options += ['-shared', '-Wl,-z,defs'] + link_args + ['-lbacktrace']
        return self.compiles(
            self.write('libbacktrace_probe.c', LIBBACKTRACE_PROBE), options)

    def check_tools(self):
        """Exit with one line if a compiler or a header is missing."""
        compiler = self.compiler.compiler_so[0]
        if not shutil.which(compiler):
            sys.exit('faulthandler needs a C compiler, and there is no %s. '
                     'Debian, Ubuntu: apt-get install gcc libc6-dev; '
                     'Alpine: apk add gcc musl-dev' % compiler)
        if not self.compiles(self.write('headers_probe.c', HEADERS_PROBE),
                             ['-c']):
            sys.exit('faulthandler needs the headers of the C library, and '
                     '%s finds no assert.h. Debian, Ubuntu: apt-get install '
                     'libc6-dev; Alpine: apk add musl-dev' % compiler)
        if not any(os.path.exists(os.path.join(folder, 'Python.h'))
                   for folder in self.include_dirs):
            sys.exit('faulthandler needs Python.h, which is in none of %s. '
                     'Debian, Ubuntu: apt-get install python%d.%d-dev; '
                     'Alpine: apk add python3-dev'
                     % ((', '.join(self.include_dirs),)
                        + sys.version_info[:2]))

    def check_unwinder(self):
        """Say so if the library that walks C stacks is not here.

        Every glibc system has it.  On musl it is a package of its own.
        """
        try:
            import ctypes
            ctypes.CDLL('libgcc_s.so.1')
        except ImportError:
            pass                # a Python without ctypes: not known
        except OSError:
            print('faulthandler: there is no libgcc_s.so.1 here, so reports '
                  'will have no C stack. Alpine: apk add libgcc')


class install_data(_install_data):
    """Installs the starter beside the modules."""

    def finalize_options(self):
        self.set_undefined_options('install', ('install_lib', 'install_dir'))
        super().finalize_options()


class install(_install):
    """Installs no egg, whose .pth file nobody would read, and what pip needs
    to uninstall it."""

    def finalize_options(self):
        super().finalize_options()
        self.old_and_unmanageable = True

    def get_sub_commands(self):
        if self.root is not None:
            return super().get_sub_commands()
        return ['install_lib', 'install_data']

    def run(self):
        # With a root this is a step on the way to a package (a wheel, a
        # .deb), which makes metadata of its own.
        if self.root is None:
            uninstall(self.install_lib)
            super().run()
            self.write_metadata(self.get_outputs())
        else:
            super().run()

    def write_metadata(self, outputs):
        """Write the .dist-info folder for a distribution of these files."""
        folder = os.path.join(self.install_lib, METADATA)
        os.makedirs(folder)
        files = {name: os.path.join(folder, name)
                 for name in ('METADATA', 'RECORD')}
        with open(files['METADATA'], 'w', encoding='utf-8') as file:
            self.distribution.metadata.write_pkg_file(file)
        with open(files['RECORD'], 'w', encoding='utf-8', newline='') as file:
            rows = csv.writer(file, lineterminator='\n')
            for path in outputs + list(files.values()):
                rows.writerow([os.path.relpath(path, self.install_lib),
                               '', ''])


class develop(install):
    """Installs a path to this folder in place of copies of its modules."""

    user_options = install.user_options + [
        ('no-deps', 'N', 'accepted for pip: there are none'),
        ('uninstall', 'u', 'undo an earlier develop or install'),
    ]
    boolean_options = install.boolean_options + ['no-deps', 'uninstall']

    def initialize_options(self):
        super().initialize_options()
        self.no_deps = self.uninstall = None

    def run(self):
        uninstall(self.install_lib)
        if self.uninstall:
            return
        self.reinitialize_command('build_ext').inplace = True
        self.run_command('build_ext')
        self.write_metadata(write_editable(self.install_lib))


LICENSE_FIELD = 'license'
if int(setuptools.__version__.partition('.')[0]) >= 77:
    LICENSE_FIELD = 'license_expression'        # PEP 639

setuptools.setup(
    name='faulthandler',
    version=VERSION,
    description='Prints the Python traceback when a process crashes',
    long_description=read('README.rst'),
    long_description_content_type='text/x-rst',
    platforms=['Linux'],
    python_requires='>=3.8',
    classifiers=[
        'Development Status :: 5 - Production/Stable',
        'Intended Audience :: Developers',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: C',
        'Programming Language :: Python :: 3',
    ] + [
        'Programming Language :: Python :: 3.%d' % minor
        for minor in range(8, NEWEST[1] + 1)
    ] + [
        'Programming Language :: Python :: Implementation :: CPython',
        'Topic :: Software Development :: Debuggers',
    ],
    ext_modules=[
        setuptools.Extension(
            'faulthandler',
            ['faulthandler.c'],
            depends=HEADERS,
            define_macros=[('FAULTHANDLER_UNTESTED', '1')] * UNTESTED,
            extra_compile_args=['-std=gnu11', '-fvisibility=hidden'],
            extra_link_args=['-Wl,-z,now'],
        ),
    ],
    # Named, so that an editable installation is a plain path in a .pth file.
    package_dir={'': '.'},
    py_modules=['_faulthandler_precedence'],
    data_files=[('', [STARTER])],
    cmdclass={
        'build_ext': build_ext,
        'develop': develop,
        'install': install,
        'install_data': install_data,
    },
    **{LICENSE_FIELD: 'BSD-2-Clause'}
)
