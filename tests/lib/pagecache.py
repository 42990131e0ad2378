"""What the kernel's page cache holds of a file."""
import ctypes
import mmap
import os
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                      ctypes.c_int64]
LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = mmap.PAGESIZE


def why_not(path):
    """The reason why pages of this file cannot leave the cache, or None."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True,
                          check=True).stdout.strip()
    return f"{path} is on {kind}, which has no other place for it" \
        if kind in ("tmpfs", "ramfs") else None


def pages(path):
    """A byte for each page of the file: 1 where the cache has it."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        address = LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    vector = ctypes.create_string_buffer((size + PAGE - 1) // PAGE)
    error = ctypes.get_errno() if LIBC.mincore(address, size, vector) else 0
    LIBC.munmap(address, size)
    assert error == 0, os.strerror(error)
    return bytes(page & 1 for page in vector.raw)


def share(path, begin=0, end=None):
    """The part of bytes [begin, end) that the cache has, 0 to 1."""
    found = pages(path)[begin // PAGE:None if end is None else (end + PAGE - 1) // PAGE]
    return sum(found) / len(found)


def fill(path):
    """Brings all of it into the cache, on the disk as well."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        while file.read(1 << 20):
            pass
    assert share(path) == 1


def empty(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert share(path) == 0
