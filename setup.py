"""Builds and installs faulthandler; README.rst says how."""

# Python 2.7 and 3.6 must parse this file to be told that they are too old.

import os
import platform
import re
import sys
import sysconfig


def check_python():
    """Exit with one sentence on a Python or a system that is unsupported."""
    implementation = platform.python_implementation()
    if not sys.platform.startswith('linux'):
        needs, found = 'Linux', platform.system()
    elif implementation != 'CPython':
        needs, found = 'CPython', implementation
    elif sys.version_info < (3, 8):
        needs = 'Python 3.8 or newer'
        found = 'Python ' + platform.python_version()
    elif sysconfig.get_config_var('Py_GIL_DISABLED'):
        needs, found = 'a Python with the GIL', 'a free-threaded build'
    else:
        return
    sys.exit('faulthandler needs %s: this is %s.' % (needs, found))


check_python()

import csv
import glob
import shutil
import subprocess

try:
    from setuptools import Extension, setup
except ImportError:
    sys.exit('setup.py needs setuptools: run "pip install setuptools", '
             'or "pip install ." here, which brings its own.')
from setuptools.command.build_ext import build_ext as _build_ext
from setuptools.command.install import install as _install
from distutils.command.install_data import install_data as _install_data

HERE = os.path.dirname(os.path.abspath(__file__))


def read(name):
    """Return the text of a file of this project, '' if it is not there."""
    try:
        with open(os.path.join(HERE, name), encoding='utf-8') as file:
            return file.read()
    except FileNotFoundError:
        return ''


def read_version():
    """Return the version, "1.0", from the number in src/report.h, 0x100."""
    match = re.search(r'^#define FAULTHANDLER_VERSION (0x[0-9A-Fa-f]+)',
                      read('src/report.h'), re.MULTILINE)
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


# C frames get function, file and line from libbacktrace, which comes with gcc.
# It is a static library: its names are not to be ours, and where the loaded
# objects are we tell it, without the loader's lock.
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
probe(void)
{
    struct backtrace_state *state = backtrace_create_state("", 0, 0, 0);
    return backtrace_pcinfo(state, 0, 0, 0, 0)
           + backtrace_syminfo(state, 0, 0, 0, 0);
}
"""
LIBBACKTRACE_LINK_ARGS = ['-Wl,--exclude-libs,ALL',
                          '-Wl,--wrap=dl_iterate_phdr']


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
        wanted = os.environ.get('FAULTHANDLER_LIBBACKTRACE', '')
        if wanted == '1' or (wanted != '0' and self.has_libbacktrace()):
            ext.define_macros.append(('FAULTHANDLER_LIBBACKTRACE', '1'))
            ext.libraries.append('backtrace')
            ext.extra_link_args += LIBBACKTRACE_LINK_ARGS
        try:
            super().build_extension(ext)
        except Exception:
            self.check_tools()
            raise

    def has_libbacktrace(self):
        """Return whether a shared object can be made with libbacktrace."""
        os.makedirs(self.build_temp, exist_ok=True)
        source = os.path.join(self.build_temp, 'libbacktrace_probe.c')
        with open(source, 'w', encoding='ascii') as file:
            file.write(LIBBACKTRACE_PROBE)
        # The compiler may be two words: of the linker only its options.
        command = self.compiler.compiler_so + [
            word for word in self.compiler.linker_so if word[0] == '-']
        command += ['-I' + folder for folder in self.include_dirs]
        command += ['-L' + folder for folder in self.library_dirs]
        command += ['-D_GNU_SOURCE', '-fPIC', '-shared', '-Wl,-z,defs']
        command += LIBBACKTRACE_LINK_ARGS
        command += [source, '-lbacktrace', '-o', source[:-1] + 'so']
        try:
            return subprocess.call(command, timeout=60,
                                   stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL) == 0
        except (OSError, subprocess.TimeoutExpired):
            return False

    def check_tools(self):
        """Exit with one line if there is no compiler or no Python.h."""
        compiler = self.compiler.compiler_so[0]
        if not shutil.which(compiler):
            sys.exit('faulthandler needs a C compiler, and there is no %s. '
                     'Debian, Ubuntu: apt-get install gcc libc6-dev'
                     % compiler)
        if not any(os.path.exists(os.path.join(folder, 'Python.h'))
                   for folder in self.include_dirs):
            sys.exit('faulthandler needs Python.h, which is in none of %s. '
                     'Debian, Ubuntu: apt-get install python%d.%d-dev'
                     % ((', '.join(self.include_dirs),)
                        + sys.version_info[:2]))


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


setup(
    name='faulthandler',
    version=VERSION,
    description='Prints the Python traceback when a process crashes',
    long_description=read('README.rst'),
    long_description_content_type='text/x-rst',
    license='BSD-2-Clause',
    platforms=['Linux'],
    python_requires='>=3.8',
    classifiers=[
        'Development Status :: 5 - Production/Stable',
        'Intended Audience :: Developers',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: C',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: Implementation :: CPython',
        'Topic :: Software Development :: Debuggers',
    ],
    ext_modules=[
        Extension(
            'faulthandler',
            ['faulthandler.c'],
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
)
