#!/usr/bin/env python3
"""Run the tests of faulthandler:

    python tests.py [pytest arguments]

The tests are in tests/, one file for each file of src/ and one for each
other subject. They test the faulthandler that this Python imports. Where
that is still the interpreter's own, this installs the checkout and pytest
into a throw-away environment first. They run on all processors unless -n
says otherwise; -m slow runs the slow ones.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv

HERE = os.path.dirname(os.path.abspath(__file__))
# What a copy of the checkout does not need.
IGNORED = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "*.so", "__pycache__")


def environment(**changes):
    """This process's environment without what alters a child's Python."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "PYTEST", "FAULTHANDLER"))}
    kept.update(changes)
    return kept


def run(*command, **changes):
    """Run a command; (its status, its standard output and error)."""
    child = subprocess.run(
        command, env=environment(**changes), cwd=os.sep,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, universal_newlines=True)
    return child.returncode, child.stdout


def is_ours(python):
    """Whether `import faulthandler` gives this interpreter our module."""
    code = "import faulthandler as f; print(f.version == 0x100, f.__file__)"
    status, text = run(python, "-c", code)
    return status == 0 and text.startswith("True ")


def what_is_missing():
    """One line that says what to install first, or None."""
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return "Python.h is missing: install the package python3-dev"
    if compiler() is None:
        return "a C compiler is missing: install the package gcc"
    return None


def compiler():
    """The C compiler's path, or None."""
    return shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def pip_command(python):
    """The command that runs pip in an environment without one."""
    pip = importlib.util.find_spec("pip")
    if pip is not None:
        return [python, os.path.dirname(pip.origin)]
    if run(python, "-m", "ensurepip")[0] == 0:
        return [python, "-m", "pip"]
    raise SystemExit("tests.py: pip is missing: "
                     "install the package python3-pip")


def install(python, folder):
    """Install this checkout for python: what pip said last."""
    sources = os.path.join(folder, "checkout")
    shutil.copytree(HERE, sources, ignore=IGNORED)
    command = pip_command(python) + ["install", "--no-deps", sources]
    status, text = run(*command)
    setuptools = importlib.util.find_spec("setuptools")
    if status and setuptools is not None:
        # No network, perhaps: build with the setuptools that is here.
        path = os.path.dirname(os.path.dirname(setuptools.origin))
        _, text = run(*command, "--no-build-isolation", PYTHONPATH=path)
    return text


def build(folder):
    """Make an environment with this checkout in the folder; its Python."""
    missing = what_is_missing()
    if missing:
        raise SystemExit("tests.py: " + missing)
    home = os.path.join(folder, "environment")
    venv.create(home, symlinks=True)
    python = os.path.join(home, "bin", "python")
    text = install(python, folder)
    if not is_ours(python):
        raise SystemExit("tests.py: cannot install the module: " + text)
    return python


def find_pytest(python, folder):
    """Have pytest installed unless it is: the folder to import it from."""
    if run(python, "-c", "import pytest, xdist")[0] == 0:
        return ""
    path = os.path.join(folder, "pytest")
    status, text = run(*pip_command(python), "install", "--target", path,
                       "pytest", "pytest-xdist")
    if status == 0:
        return path
    # No network, perhaps: take the pytest that is here.
    here = importlib.util.find_spec("pytest")
    if here is None:
        raise SystemExit("tests.py: cannot install pytest: " + text)
    return os.path.dirname(os.path.dirname(here.origin))


def main(arguments):
    """Run pytest where our module is imported; its status."""
    with tempfile.TemporaryDirectory(prefix="faulthandler-") as folder:
        python = sys.executable
        if not is_ours(python):
            python = build(folder)
        path = find_pytest(python, folder)
        parallel = []
        if run(python, "-c", "import xdist", PYTHONPATH=path)[0] == 0:
            # Most tests wait.
            workers = str((os.cpu_count() or 2) + 2)
            parallel = ["-n", workers, "--dist", "worksteal"]
        return subprocess.call(
            [python, "-m", "pytest", *parallel, *arguments], cwd=HERE,
            env=environment(PYTHONPATH=path))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
