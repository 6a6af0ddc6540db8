"""How the tests begin and end."""

import glob
import os
import resource
import shutil

import pytest

pytest.register_assert_rewrite("helpers", "details")

import helpers

CORE = resource.getrlimit(resource.RLIMIT_CORE)


def pytest_configure(config):
    """Refuse to test another module than ours; fill the children's folder."""
    if not helpers.runner.is_ours(helpers.PYTHON):
        shutil.rmtree(helpers.FOLDER)
        pytest.exit("this Python imports another faulthandler: install "
                    "this checkout first, or run python tests.py", 4)
    resource.setrlimit(resource.RLIMIT_CORE, (0, CORE[1]))
    for path in glob.glob(os.path.join(
            glob.escape(helpers.CHILDREN), "*.py")):
        shutil.copy(path, helpers.FOLDER)


def pytest_unconfigure(config):
    """Leave nothing behind."""
    resource.setrlimit(resource.RLIMIT_CORE, CORE)
    shutil.rmtree(helpers.FOLDER, ignore_errors=True)


def pytest_make_parametrize_id(config, val, argname):
    """Keep the names of tests short."""
    if isinstance(val, str) and len(val) > 40:
        return val[:40]
    return None


def pytest_runtest_setup(item):
    """Forget the children of the test before."""
    helpers.run_children.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the child that ran last where a test fails."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and helpers.run_children:
        report.sections.append(
            ("the last child", repr(helpers.run_children[-1])))
