"""Nothing can be changed, and reading has no odd corners."""
import ctypes
import errno
import mmap
import os
import random
import resource
import signal
import socket
import stat
import subprocess
import sys

import pytest

import mounting
import writers

DATA = random.Random(7).randbytes(200_001)
LIBC = mounting.LIBC
AT_FDCWD = -100


@pytest.fixture
def mounted(mount):
    return mount(writers.safetensors([("a.w", "U8", [len(DATA)], DATA),
                                      ("a.e", "F32", [0], b"")], pad=3))


@pytest.fixture
def path(mounted):
    return mounted / "tensors/a/w"


def errno_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError as error:
        return error.errno
    return 0


def libc(name, *args):
    """The errno of a system call that Python does not wrap."""
    return ctypes.get_errno() if getattr(LIBC, name)(*args) < 0 else 0


def c_path(path):
    return os.fsencode(str(path))


# ---- every system call that changes something ----


@pytest.mark.parametrize("flags", [
    os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND,
    os.O_RDWR | os.O_CREAT])
def test_opening_to_write_is_erofs(path, flags):
    assert errno_of(os.open, path, flags) == errno.EROFS


@pytest.mark.parametrize("folder", ["", "tensors", "tensors/a", "flat/npy", "files", ".weightfs"])
def test_creating_in_any_directory_is_erofs(mounted, folder):
    new = mounted / folder / "new"
    assert errno_of(os.open, new, os.O_CREAT | os.O_WRONLY) == errno.EROFS
    assert errno_of(os.mkdir, new) == errno.EROFS
    assert errno_of(os.symlink, "x", new) == errno.EROFS
    assert errno_of(os.mkfifo, new) == errno.EROFS
    assert errno_of(os.mknod, new, stat.S_IFREG | 0o600) == errno.EROFS
    assert errno_of(os.link, mounted / "model.json", new) == errno.EROFS
    server = socket.socket(socket.AF_UNIX)
    link = os.open(mounted / folder, os.O_PATH)
    assert errno_of(server.bind, f"/proc/self/fd/{link}/new") == errno.EROFS
    server.close()
    os.close(link)


@pytest.mark.parametrize("target", ["tensors/a/w", "npy/a/w.npy", "files/model.safetensors",
                                    "model.json", "tensors/a", ".weightfs/stats.json"])
def test_changing_what_is_there_is_erofs(mounted, target):
    path = mounted / target
    assert errno_of(os.chmod, path, 0o644) == errno.EROFS
    assert errno_of(os.chown, path, 0, 0) == errno.EROFS
    assert errno_of(os.utime, path) == errno.EROFS
    assert errno_of(os.utime, path, ns=(1, 1)) == errno.EROFS
    assert errno_of(os.rename, path, mounted / "new") == errno.EROFS
    assert errno_of(os.setxattr, path, "user.new", b"1") == errno.EROFS
    assert errno_of(os.setxattr, path, "user.weightfs.dtype", b"1") == errno.EROFS
    assert errno_of(os.removexattr, path, "user.weightfs.dtype") == errno.EROFS
    if path.is_dir():
        assert errno_of(os.rmdir, path) == errno.EROFS
    else:
        assert errno_of(os.truncate, path, 0) == errno.EROFS
        assert errno_of(os.unlink, path) == errno.EROFS


def test_an_open_file_cannot_be_written(path):
    fd = os.open(path, os.O_RDONLY)
    assert errno_of(os.write, fd, b"x") == errno.EBADF
    assert errno_of(os.ftruncate, fd, 0) == errno.EINVAL
    assert errno_of(os.posix_fallocate, fd, 0, 10) == errno.EBADF
    assert errno_of(os.fchmod, fd, 0o600) == errno.EROFS
    assert errno_of(os.fchown, fd, 0, 0) == errno.EROFS
    assert libc("futimens", fd, None) == errno.EROFS
    with pytest.raises(PermissionError):
        mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(fd)


def test_a_shared_mapping_cannot_be_made_writable(path):
    fd = os.open(path, os.O_RDONLY)
    mapping = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    address = ctypes.c_void_p(map_address(fd))
    assert libc("mprotect", address, 4096, 3) == errno.EACCES
    LIBC.munmap(address, ctypes.c_size_t(4096))
    mapping.close()
    os.close(fd)


def map_address(fd):
    LIBC.mmap.restype = ctypes.c_void_p
    return LIBC.mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_SHARED, fd,
                     ctypes.c_long(0))


def test_a_private_mapping_may_be_written_and_changes_nothing(path):
    with open(path, "rb") as file:
        private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        private[0:4] = b"####"
        assert file.read(4) == DATA[:4]
        private.close()


def test_remounting_writable_is_refused_or_still_read_only(mounted):
    subprocess.run(["mount", "-o", "remount,rw", str(mounted.path)], capture_output=True)
    assert errno_of(os.open, mounted / "new", os.O_CREAT | os.O_WRONLY) != 0
    assert errno_of(os.open, mounted / "tensors/a/w", os.O_RDWR) != 0


# ---- reading ----


def test_reads_at_and_after_the_end(path):
    fd = os.open(path, os.O_RDONLY)
    size = len(DATA)
    assert os.pread(fd, 10, size - 3) == DATA[-3:]
    assert os.pread(fd, 10, size) == b""
    assert os.pread(fd, 10, size + 1) == b""
    assert os.pread(fd, 10, 1 << 40) == b""
    assert os.pread(fd, 10, (1 << 63) - 11) == b""
    assert os.pread(fd, 0, 0) == b""
    assert errno_of(os.pread, fd, 1, -1) == errno.EINVAL
    os.close(fd)


def test_random_reads_of_every_kind_agree(path):
    rng = random.Random(1)
    fd = os.open(path, os.O_RDONLY)
    with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapping:
        for _ in range(500):
            at = rng.randrange(len(DATA))
            size = rng.choice([1, 2, 511, 4096, 5000, 70_000])
            expected = DATA[at:at + size]
            assert os.pread(fd, size, at) == expected
            assert mapping[at:at + size] == expected
            parts = [bytearray(size // 2), bytearray(size - size // 2)]
            assert os.preadv(fd, parts, at) == len(expected)
            assert b"".join(parts)[:len(expected)] == expected
    os.close(fd)


def test_direct_reads_work(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 18)
    assert os.readv(fd, [buffer]) == len(DATA)
    assert buffer[:len(DATA)] == DATA
    os.close(fd)


def test_seeking(path):
    fd = os.open(path, os.O_RDONLY)
    size = len(DATA)
    assert os.lseek(fd, 0, os.SEEK_END) == size
    assert os.lseek(fd, 10, os.SEEK_SET) == 10
    assert os.lseek(fd, 5, os.SEEK_CUR) == 15
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 100, os.SEEK_DATA) == 100
    assert os.lseek(fd, 0, os.SEEK_HOLE) == size
    assert os.lseek(fd, 100, os.SEEK_HOLE) == size
    assert errno_of(os.lseek, fd, size, os.SEEK_DATA) == errno.ENXIO
    assert errno_of(os.lseek, fd, size, os.SEEK_HOLE) == errno.ENXIO
    assert errno_of(os.lseek, fd, -1, os.SEEK_SET) == errno.EINVAL
    os.close(fd)


def test_sendfile_splice_and_copy_out(path, tmp_path):
    fd = os.open(path, os.O_RDONLY)
    out = os.open(tmp_path / "sent", os.O_RDWR | os.O_CREAT)
    sent = 0
    while sent < len(DATA):
        sent += os.sendfile(out, fd, sent, len(DATA) - sent)
    assert (tmp_path / "sent").read_bytes() == DATA
    reader, writer = os.pipe()
    assert os.splice(fd, writer, 4096, offset_src=1000) == 4096
    assert os.read(reader, 5000) == DATA[1000:5096]
    os.close(reader)
    os.close(writer)
    copied = 0
    other = os.open(tmp_path / "copied", os.O_RDWR | os.O_CREAT)
    while copied < len(DATA):
        try:
            copied += os.copy_file_range(fd, other, len(DATA) - copied, copied, copied)
        except OSError as error:
            # Between file systems the kernel may leave it to the caller, as cp does.
            assert error.errno == errno.EXDEV
            copied += os.pwrite(other, os.pread(fd, len(DATA), 0), 0)
    assert (tmp_path / "copied").read_bytes() == DATA
    for each in (fd, out, other):
        os.close(each)


def test_copying_into_the_mount_is_erofs(mounted, tmp_path):
    done = subprocess.run(["cp", "/etc/hostname", str(mounted / "tensors/a/new")],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "Read-only file system" in done.stderr


@pytest.mark.parametrize("tool", [["cat"], ["dd", "bs=333", "status=none", "if="],
                                  ["tail", "-c", "+1"]])
def test_shell_tools_read_the_bytes(path, tool):
    command = [*tool[:-1], tool[-1] + str(path)] if tool[-1].endswith("=") else [*tool, str(path)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == DATA


def test_touching_a_mapping_behind_the_end_is_sigbus(path):
    code = ("import mmap,os,sys\n"
            "fd=os.open(sys.argv[1],os.O_RDONLY)\n"
            "size=os.fstat(fd).st_size\n"
            "import ctypes\n"
            "libc=ctypes.CDLL(None); libc.mmap.restype=ctypes.c_void_p\n"
            "length=(size//4096+2)*4096\n"
            "p=libc.mmap(None,ctypes.c_size_t(length),1,2,fd,ctypes.c_long(0))\n"
            "tail=ctypes.string_at(p+size,(-size)%4096)\n"
            "assert tail==bytes(len(tail))\n"
            "ctypes.string_at(p+length-4096,1)\n")
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True)
    assert done.returncode == -signal.SIGBUS, done.stderr


def test_an_empty_tensor_reads_as_empty(mounted):
    path = mounted / "tensors/a/e"
    assert path.read_bytes() == b"" and path.stat().st_size == 0


def test_a_directory_cannot_be_read_as_a_file(mounted):
    fd = os.open(mounted / "tensors", os.O_RDONLY)
    assert errno_of(os.read, fd, 10) == errno.EISDIR
    os.close(fd)


def test_statfs_says_read_only(mounted):
    info = os.statvfs(mounted.path)
    assert info.f_flag & os.ST_RDONLY
    assert info.f_bfree == info.f_bavail == 0
    assert info.f_blocks * info.f_frsize >= len(DATA)
    assert info.f_namemax == 255
    assert info.f_files >= 2


def test_access(path):
    assert os.access(path, os.R_OK)
    assert not os.access(path, os.W_OK)


def test_advice_and_fsync_are_harmless(path):
    fd = os.open(path, os.O_RDONLY)
    for advice in (os.POSIX_FADV_WILLNEED, os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM,
                   os.POSIX_FADV_DONTNEED):
        os.posix_fadvise(fd, 0, 0, advice)
    assert os.pread(fd, len(DATA), 0) == DATA
    os.close(fd)


# ---- extended attributes ----


def test_attributes_tell_everything(mounted, path):
    source = os.path.realpath(mounted.source)
    entry = mounted.tensors()["a.w"]
    expected = {
        "user.weightfs.name": "a.w", "user.weightfs.dtype": "U8",
        "user.weightfs.shape": str(len(DATA)), "user.weightfs.format": "safetensors",
        "user.weightfs.file": source, "user.weightfs.offset": str(entry["offset"]),
        "user.weightfs.nbytes": str(len(DATA)), "user.weightfs.backing": "stream",
    }
    for view in ("tensors", "npy", "safetensors"):
        file = mounted.tensor("a.w", view)
        assert set(os.listxattr(file)) == set(expected)
        for name, value in expected.items():
            assert os.getxattr(file, name).decode() == value, (view, name)
    with open(source, "rb") as file:
        file.seek(entry["offset"])
        assert file.read(entry["nbytes"]) == DATA


def test_getfattr_dumps_them(path):
    out = subprocess.run(["getfattr", "-d", "--absolute-names", str(path)], capture_output=True,
                         text=True, check=True).stdout
    assert 'user.weightfs.dtype="U8"' in out
    assert f'user.weightfs.shape="{len(DATA)}"' in out


def test_a_missing_attribute_is_enodata(mounted, path):
    for name in ("user.other", "user.weightfs.other", "user.weightfs.", "security.selinux",
                 "user.weightfs.dtypes"):
        assert errno_of(os.getxattr, path, name) in (errno.ENODATA, errno.EOPNOTSUPP), name
    assert errno_of(os.getxattr, path, "user.weightfs.nothing") == errno.ENODATA
    for other in ("tensors/a", "model.json", "files/model.safetensors"):
        assert errno_of(os.getxattr, mounted / other, "user.weightfs.dtype") == errno.ENODATA


def test_a_short_buffer_is_erange(path):
    name = b"user.weightfs.dtype"
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t
    assert LIBC.getxattr(c_path(path), name, None, size(0)) == 2
    assert libc("getxattr", c_path(path), name, buffer, size(1)) == errno.ERANGE
    assert LIBC.getxattr(c_path(path), name, buffer, size(2)) == 2
    needed = LIBC.listxattr(c_path(path), None, size(0))
    assert needed > 64
    assert libc("listxattr", c_path(path), buffer, size(64)) == errno.ERANGE


def test_an_attribute_longer_than_a_page_is_whole(mount):
    name = "n" * 9000
    mounted = mount(writers.safetensors([(name, "U8", [1], b"x")]))
    assert os.getxattr(mounted.tensor(name), "user.weightfs.name").decode() == name
