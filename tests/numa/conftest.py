"""Machines of two and four memory nodes, with a model on their disk."""
import contextlib

import pytest

import guest as guests
import machines
import numa_model


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """(initramfs, disk) of all machines."""
    reason = guests.why_no_guests()
    if reason:
        pytest.skip(reason)
    return machines.write_media(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="session")
def accelerator(media):
    reason = guests.why_no_kvm(media[0])
    print(f"\n      machines run on {'KVM' if not reason else f'translated code: {reason}'}")
    return "tcg" if reason else "kvm"


@pytest.fixture(scope="module")
def two_nodes(accelerator, media, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with machines.boot(machines.TWO_NODES, accelerator, media, folder) as guest:
        yield guest


@pytest.fixture(scope="module")
def four_nodes(accelerator, media, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    with machines.boot(machines.FOUR_NODES, accelerator, media, folder) as guest:
        yield guest


class GuestMount:
    """A model that is mounted in a machine."""

    def __init__(self, guest, path):
        self.guest = guest
        self.path = path

    def __truediv__(self, name):
        return f"{self.path}/{name}"

    def tensor(self, name, below="tensors"):
        return f"{self.path}/{below}/{name.replace('.', '/')}"

    def mountctl(self, command, *args):
        """The words behind the mount point; the output."""
        return self.guest.ok(self.guest.command_of("mountctl", command, self.path, *args))


@pytest.fixture
def mount_in():
    """mount_in(guest, options...) mounts the model in the machine; unmounted at the end."""
    with contextlib.ExitStack() as mounts:
        yield lambda guest, *options: mounts.enter_context(mounted(guest, options))


@contextlib.contextmanager
def mounted(guest, options):
    path = guest.ok("mktemp -d /mnt/XXXXXX").strip()
    words = ["weightfs", numa_model.PATH, path]
    guest.ok(guest.command_of(*words, *(["-o", ",".join(options)] if options else [])))
    yield GuestMount(guest, path)
    if guest.process.poll() is None:
        guest.ok(f"mountctl umount {path} && rmdir {path} && ! pidof weightfs")


@pytest.fixture(autouse=True)
def nothing_broke(request):
    """No test may leave a trace of a kernel's or a daemon's mistake."""
    yield
    for name in ("two_nodes", "four_nodes"):
        if name in request.fixturenames:
            console = request.getfixturevalue(name).console()
            assert not any(word in console for word in ("Oops", "BUG:", "Out of memory")), console
