"""damage(): overwrite one pointer inside an object of the interpreter."""
import ctypes
import sys
import tempfile

WORD = ctypes.sizeof(ctypes.c_void_p)
HEAD = object.__basicsize__ // WORD         # words; the last is the type
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_size_t
forbidden = libc.mmap(None, ctypes.c_size_t(4096), 0, 0x22, -1, 0)
with tempfile.TemporaryFile() as file:      # read there: SIGBUS
    beyond = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, file.fileno(), 0)


def words(address, count=40):
    return (ctypes.c_size_t * count).from_address(address)


def replace(cells, target, value):
    """Overwrite the first cell that points to target (tags or not)."""
    index = [cell & ~3 for cell in cells].index(target)
    cells[index] = value


def place(frame):
    """Where the interpreter keeps this frame."""
    if sys.version_info >= (3, 11):
        # Behind the head and the link to the frame object before.
        return words(id(frame))[HEAD + 1]
    return id(frame)


def damage(frame, what, value):
    """Overwrite the frame's code object, or its name, file or lines."""
    code = frame.f_code
    if what == "code":
        replace(words(place(frame), 16), id(code), value)
    elif what == "link":
        replace(words(place(frame), 16), place(frame.f_back), value)
    elif what == "lines" and sys.version_info < (3, 10):
        replace(words(id(code)), id(code.co_lnotab), value)
    elif what == "lines":
        replace(words(id(code)), id(code.co_linetable), value)
    else:
        replace(words(id(code)), id(getattr(code, "co_" + what)), value)
