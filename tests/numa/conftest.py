"""Machines of two and four memory nodes, with a model on their disk."""
import contextlib
import json
import shlex

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

    def tensor(self, name, below="tensors"):
        return f"{self.path}/{below}/{name.replace('.', '/')}"

    def mountctl(self, command, *args, timeout=60):
        """The words behind the mount point; the output."""
        return self.guest.ok(shlex.join(["mountctl", command, self.path, *args]), timeout)

    def status(self):
        return json.loads(self.guest.ok(f"mountctl --json status {self.path}"))


@contextlib.contextmanager
def mounted(guest, options, node, source):
    path = guest.ok("mktemp -d /mnt/XXXXXX").strip()
    where = "" if node is None else f"taskset -c {node} "
    with_options = f" -o {','.join(options)}" if options else ""
    guest.ok(f"{where}weightfs {source} {path}{with_options}")
    yield GuestMount(guest, path)
    if guest.is_running():
        guest.ok(f"mountctl umount {path} && rmdir {path}")


@pytest.fixture
def mount_in():
    """mount_in(guest, options..., node=N, source=PATH) mounts the model in the machine, by a
    daemon that may run on that node only; all are unmounted at the end."""
    with contextlib.ExitStack() as mounts:
        yield lambda guest, *options, node=None, source=numa_model.PATH: mounts.enter_context(
            mounted(guest, options, node, source))


@pytest.fixture(autouse=True)
def nothing_broke(request):
    """No test may leave a trace of a kernel's or a daemon's mistake."""
    yield
    for name in ("two_nodes", "four_nodes"):
        if name in request.fixturenames:
            console = request.getfixturevalue(name).console()
            assert not any(word in console for word in ("Oops", "BUG:", "Out of memory")), console
