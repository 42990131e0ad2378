"""The machines that the tests boot, and what they boot from."""
import guest as guests
import numa_model

# Nodes 0 and 1 of the larger machine are near to each other, as are 2 and 3. The disk is not at
# node 0, where everything is that nobody has placed.
TWO_NODES = guests.Machine([768, 768], 1, [[10, 20], [20, 10]])
FOUR_NODES = guests.Machine([480] * 4, 2, [[10, 12, 24, 24], [12, 10, 24, 24],
                                           [24, 24, 10, 12], [24, 24, 12, 10]])


def write_media(folder):
    """(initramfs, disk) of all machines."""
    files = folder / "files"
    files.mkdir()
    numa_model.write(files / numa_model.NAME)
    guests.write_initramfs(folder / "initramfs")
    guests.write_disk(folder / "disk", files, 256 * guests.MIB)
    return folder / "initramfs", folder / "disk"


def boot(machine, accelerator, media, folder):
    initramfs, disk = media
    return guests.Guest(machine, accelerator, initramfs, disk, folder / "console")
