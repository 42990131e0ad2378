"""File systems in a file, mounted through a loop device."""
import shutil
import subprocess


class Xfs:
    """One that can share blocks; a context manager. Raises Unavailable with the reason."""

    class Unavailable(Exception):
        pass

    def __init__(self, folder, size):
        self.image = folder / "xfs.img"
        self.path = folder / "xfs"
        self.size = size

    def __enter__(self):
        if not shutil.which("mkfs.xfs"):
            raise Xfs.Unavailable("no mkfs.xfs")
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(self.size)
        self.run("mkfs.xfs", "-q", "-m", "reflink=1", self.image)
        self.run("mount", "-t", "xfs", "-o", "loop", self.image, self.path)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)
        self.image.unlink()

    @staticmethod
    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Xfs.Unavailable(f"{command[0]}: {done.stderr.strip()}")
