#!/usr/bin/env python3
"""shell.py 2|4: boots a machine with so many memory nodes and runs in it what is typed, a line
at a time, until the end of input. The model is /model/model.safetensors."""
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import machines  # noqa: E402


def main():
    if sys.argv[1:] not in (["2"], ["4"]):
        sys.exit(__doc__)
    reason = machines.guests.why_no_guests()
    if reason:
        sys.exit(reason)
    machine = {"2": machines.TWO_NODES, "4": machines.FOUR_NODES}[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        media = machines.write_media(folder)
        reason = machines.guests.why_no_kvm(media[0])
        print(f"translated: {reason}" if reason else "on KVM", file=sys.stderr)
        with machines.boot(machine, "tcg" if reason else "kvm", media, folder) as guest:
            print(f"booted in {guest.boot_s:.1f} s", file=sys.stderr)
            for line in sys.stdin:
                done = guest.run(line, timeout=600)
                print(done.stdout + done.stderr, end="", flush=True)


main()
