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


MACHINES = {"two_nodes": machines.TWO_NODES, "four_nodes": machines.FOUR_NODES}


def machine_of(item):
    """Which machine a test wants."""
    params = getattr(item, "callspec", None)
    wanted = [*item.fixturenames, *(params.params.values() if params else [])]
    return next((name for name in MACHINES if name in wanted), "")


def pytest_collection_modifyitems(items):
    """One machine after the other, as only one runs at a time."""
    items.sort(key=lambda item: list(MACHINES).index(machine_of(item)) if machine_of(item) else -1)


class Fleet:
    """The machine that runs. One that was given up is booted anew for the next test."""

    def __init__(self, accelerator, media, make_folder):
        self.accelerator, self.media, self.make_folder = accelerator, media, make_folder
        self.name, self.guest, self.running = None, None, contextlib.ExitStack()

    def get(self, name):
        if name != self.name or not self.guest.is_running():
            self.stop()
            self.guest = self.running.enter_context(machines.boot(
                MACHINES[name], self.accelerator, self.media, self.make_folder(name)))
            self.name = name
            print(f"\n      {name}: booted in {self.guest.boot_s:.1f} s")
        return self.guest

    def stop(self):
        self.name = None
        self.running.close()


@pytest.fixture(scope="session")
def fleet(accelerator, media, tmp_path_factory):
    found = Fleet(accelerator, media, tmp_path_factory.mktemp)
    yield found
    found.stop()


@pytest.fixture
def two_nodes(fleet):
    return fleet.get("two_nodes")


@pytest.fixture
def four_nodes(fleet):
    return fleet.get("four_nodes")


@pytest.fixture(params=list(MACHINES))
def guest(request):
    """Each machine."""
    return request.getfixturevalue(request.param)


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
    """No test may leave a trace of a kernel's mistake, or of a process that it killed."""
    name = machine_of(request.node)
    guest = request.getfixturevalue(name) if name else None
    before = len(guest.console()) if guest else 0
    yield
    if guest:
        said = guest.console()[before:]
        assert not any(word in said for word in ("Oops", "BUG:", "Out of memory")), said
