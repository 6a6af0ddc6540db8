"""Every way to install and uninstall, each in a throw-away environment.

After each installation `import faulthandler` is this checkout's module, also
where the builtin was armed first; after each removal every file is as before,
and Python starts silently with its builtin back.
"""

import functools
import glob
import os
import re
import shutil
import sys
import time

import pytest

from helpers import FOLDER, copy_checkout, environment, run, status_name

pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    bool(os.environ.get("CI")) and sys.version_info[:2] == (3, 11),
    reason="setuptools differs little from that of 3.13")]

LIMIT = 600                 # seconds for one command
CRASH = """
import faulthandler
print(faulthandler.__file__, hex(faulthandler.version), faulthandler.__spec__
      is not None, faulthandler.is_enabled(), flush=True)
faulthandler.sigsegv()
"""
BUILTIN = """
import faulthandler, sys
print(faulthandler.__spec__.origin)
sys.exit(any("precedence" in str(finder) for finder in sys.meta_path))
"""


class Python:
    """The interpreter of an environment, and what is installed into it."""

    def __init__(self, folder):
        self.folder = folder
        self.here = os.path.join(folder, "checkout")
        self.wheels = os.path.join(folder, "wheels")
        self.offline = {}
        self.command(sys.executable, "-m", "venv",
                     os.path.join(folder, "environment"))
        self.path = os.path.join(folder, "environment", "bin", "python")
        self.site = self("-c", "import sysconfig; "
                         "print(sysconfig.get_path('platlib'))").out.strip()

    def command(self, *words, cwd="/", status="exit 0", **changes):
        """Run a command in a folder; it ends so."""
        child = run("sh", "-c", 'cd "$0" && exec "$@"', cwd, *words,
                    limit=LIMIT, env=environment(
                        CFLAGS="-O0", PIP_DISABLE_PIP_VERSION_CHECK="1",
                        PIP_ROOT_USER_ACTION="ignore", PIP_NO_INPUT="1",
                        **dict(self.offline, **changes)))
        assert status_name(child.status) == status, child
        return child

    def __call__(self, *words, **options):
        return self.command(self.path, *words, **options)

    def pip(self, *words):
        """Run pip."""
        return self("-m", "pip", *words)

    def setup(self, *words):
        """Run setup.py in the checkout."""
        return self("setup.py", *words, cwd=self.here)

    def download(self):
        """Fetch what pip is to install: an index is asked three times."""
        for pause in 10, 60, None:
            try:
                self.pip("download", "-q", "-d", self.wheels, "pip",
                         "setuptools>=64", "wheel")
                break
            except AssertionError:
                if pause is None:
                    raise
                time.sleep(pause)
        self.offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels}

    def files(self):
        """Its files, with the text of those that decide what a start does;
        of pyc files only ours."""
        found = {}
        for folder, _, names in os.walk(self.site):
            for name in names:
                path = os.path.join(folder, name)
                if path.endswith((".pth", ".start")):
                    with open(path, encoding="utf-8") as file:
                        found[path] = file.read()
                elif "__pycache__" not in path or "faulthandler" in name:
                    found[path] = None
        return found


@functools.lru_cache(maxsize=None)
def make(state):
    """An environment, with the setuptools that came with it or the newest;
    None where none came.  Isolated builds bring their own."""
    found = Python(os.path.join(FOLDER, "install", state))
    if state == "bundled" and run(found.path, "-c",
                                  "import setuptools").status != 0:
        return None
    found.download()
    if state == "newest":
        found.pip("install", "-q", "--upgrade", "pip", "setuptools", "wheel")
    return found


def with_checkout(state):
    """This environment, with a fresh copy of the checkout."""
    python = make(state)
    if python is None:
        pytest.skip("no setuptools comes with this Python")
    shutil.rmtree(python.here, ignore_errors=True)
    copy_checkout(python.here)
    return python


# ---- What must hold --------------------------------------------------------

def check_ours(python, folders):
    """It imports our module from one of these folders, armed, once."""
    for options, changes in [
            ([], {}), (["-X", "faulthandler"], {}), (["-X", "dev"], {}),
            ([], {"PYTHONFAULTHANDLER": "1"}), (["-I"], {}),
            (["-W", "error"], {})]:
        child = python(*options, "-c", CRASH, status="-SIGSEGV", **changes)
        file, *rest = child.raw_out.split()
        assert os.path.dirname(file) in folders
        assert rest == ["0x100", "True", "True"]
        assert child.err.count("Fatal Python error") == 1
    for options, changes in [
            (["-S"], {}), ([], {"FAULTHANDLER_USE_STDLIB": "1"}),
            (["-I"], {"FAULTHANDLER_USE_STDLIB": "1"})]:
        child = python(*options, "-c", BUILTIN, **changes)
        assert (child.out, child.err) == ("built-in\n", "")
    child = python("-W", "error", "-c", "pass")
    assert (child.out, child.err) == ("", "")
    shown = python.pip("show", "--files", "faulthandler").out
    assert re.findall(r"(?m)^(?:Name|Version): (.*)", shown) == [
        "faulthandler", "1.0"]


def check_builtin(python):
    """It starts silently and has the builtin back."""
    for options in [], ["-X", "dev"], ["-W", "error"]:
        child = python(*options, "-c", BUILTIN)
        assert (child.out, child.err) == ("built-in\n", "")


def check_checkout_gone(python):
    """An editable installation whose checkout is gone starts silently."""
    os.rename(python.here, python.here + ".gone")
    try:
        child = python("-c", BUILTIN.replace("sys.exit", "repr"))
    finally:
        os.rename(python.here + ".gone", python.here)
    # 3.15 itself says so of any such path.
    error = re.sub(r".*: .* does not exist; skipping sys.path append\n", "",
                   child.err)
    assert (child.out, error) == ("built-in\n", "")


# ---- The ways: words of pip, or of setup.py --------------------------------

ISOLATED = [
    ["pip install {here}"],
    ["pip wheel -q --no-deps -w {dist} {here}", "pip install {dist}/*.whl"],
    ["pip install -e {here}"],
    ["pip install -e {here} --config-settings editable_mode=strict"],
]
INSTALLED = [
    ["setup install"],
    ["setup develop"],
    ["setup install", "setup install"],
    # Old setuptools needs the package wheel for these.
    ["pip install --no-build-isolation {here}"],
    ["setup -q bdist_wheel", "pip install {dist}/*.whl"],
    ["setup -q sdist", "pip install {dist}/*.tar.gz"],
    ["pip install --no-build-isolation -e {here}"],
    ["pip install --no-build-isolation -e {here}", "setup install"],
    ["setup develop", "pip install --no-build-isolation {here}"],
]


@pytest.mark.parametrize("state, way", [
    (state, way) for state, ways in (
        ("isolated", ISOLATED), ("bundled", INSTALLED), ("newest", INSTALLED))
    for way in ways], ids=str)
def test_way(state, way):
    """Install, check, uninstall, check."""
    python = with_checkout(state)
    if way in INSTALLED[3:]:
        python.pip("install", "-q", "wheel")
    before = python.files()
    dist = os.path.join(python.here, "dist")
    try:
        for command in way:
            words = command.format(here=python.here, dist=dist).split()
            words = [path for word in words[1:]
                     for path in (glob.glob(word) or [word])]
            (python.pip if command.startswith("pip") else python.setup)(
                *words)
        editable = "-e" in way[-1] or "develop" in way[-1]
        check_ours(python, [python.site] if not editable else [
            python.here] + glob.glob(os.path.join(
                python.here, "build", "__editable__*")))
        if editable:
            check_checkout_gone(python)
    finally:
        python.pip("uninstall", "-y", "faulthandler")
    assert python.files() == before
    check_builtin(python)


def test_sdist_is_whole():
    """It holds every file of the checkout that is no dot file."""
    python = with_checkout("newest")
    names = [os.path.relpath(os.path.join(folder, name), python.here)
             for folder, _, files in os.walk(python.here) for name in files]
    python.setup("-q", "sdist")
    path, = glob.glob(os.path.join(python.here, "dist", "*.tar.gz"))
    unpacked = os.path.join(python.folder, "unpacked")
    shutil.unpack_archive(path, unpacked)
    top = os.path.join(unpacked, os.listdir(unpacked)[0])
    assert [name for name in names
            if not os.path.exists(os.path.join(top, name))] == []
