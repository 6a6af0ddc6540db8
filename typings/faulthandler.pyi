"""Types of the module that this project installs.

Type checkers take the name faulthandler from typeshed, which describes the
standard library's module.  pyright reads a folder named "typings" in the
root of a project by itself; for mypy set mypy_path, or MYPYPATH.
"""

from _typeshed import FileDescriptorLike, StrOrBytesPath
from contextvars import ContextVar
from typing import Literal
from typing_extensions import TypeAlias

# An object with fileno(), a descriptor, a path, or None for sys.stderr.
_File: TypeAlias = FileDescriptorLike | StrOrBytesPath | None

version: int
context: ContextVar[str | None]

def enable(
    file: _File = ...,
    all_threads: bool = True,
    c_stack: bool | Literal["mixed"] = ...,
    *,
    max_threads: int = 100,
    details: bool = False,
    copy: _File = None,
) -> None: ...
def disable() -> bool: ...
def isenabled() -> bool: ...
def is_enabled() -> bool: ...
def dump_traceback(
    file: _File = ...,
    all_threads: bool = True,
    *,
    max_threads: int = 100,
    details: bool = False,
) -> None: ...
def dump_traceback_later(
    timeout: float,
    repeat: bool = False,
    file: _File = ...,
    exit: bool = False,
    *,
    max_threads: int = 100,
    details: bool = False,
) -> None: ...
def cancel_dump_traceback_later() -> None: ...
def register(
    signum: int,
    file: _File = ...,
    all_threads: bool = True,
    chain: bool = False,
    *,
    max_threads: int = 100,
    details: bool = False,
) -> None: ...
def unregister(signum: int, /) -> bool: ...
def dump_c_stack(file: _File = ...) -> None: ...

# Each of these ends the process.  They do not return, but a checker is not
# told so: what stands behind them in a test would not be checked.
def sigsegv(release_gil: bool = False) -> None: ...
def sigfpe() -> None: ...
def sigbus() -> None: ...
def sigill() -> None: ...
def _sigsegv(release_gil: bool = False, /) -> None: ...
def _sigfpe() -> None: ...
def _sigabrt() -> None: ...
def _read_null() -> None: ...
def _stack_overflow() -> None: ...
def _fatal_error_c_thread() -> None: ...
