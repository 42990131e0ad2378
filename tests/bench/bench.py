#!/usr/bin/env python3
"""Measures what weightfs promises, each figure beside its baseline in the same run.

    bench.py FOLDER [--short] [--size GIB] [--rounds N] [--only WORD]

The full form takes a model of 4 GiB and five rounds; --short takes 1 GiB, three rounds and fewer rows,
for the runs of every day. A row's rounds alternate between baseline and candidate, so that a busy
moment hits both. Writes the table to FOLDER as bench.json, bench.md and bench.xml. The status is 1 if a
row misses its target by more than its noise margin, or reads wrong bytes; a row that cannot be measured
says why.
"""
import argparse
import os
import platform
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("lib", "scale", "bench")]

import rows  # noqa: E402
import setting  # noqa: E402
import table  # noqa: E402

# The share of a target that is taken for noise, in the full and in the short form. Ratios of two
# figures on one machine repeat to some percent when it is quiet, to much less when others use it.
FULL_MARGIN, SHORT_MARGIN = 0.10, 0.40


class Rounds:
    """Runs and reports rounds."""

    def __init__(self, count, short):
        self.count = count
        self.short = short
        self.margin = SHORT_MARGIN if short else FULL_MARGIN
        self.rows = []
        self.extras = []

    def target(self, limit, at_least=True, margin=None):
        return table.Target(limit, at_least, self.margin if margin is None else margin)

    def compare(self, row, baseline, candidate):
        """Fills in a row: `baseline()` and `candidate()` each give a figure."""
        print(f"  {row.name}:", end="", flush=True)
        for i in range(self.count):
            print(f" {i + 1}", end="", flush=True)
            row.baseline.append(baseline())
            row.candidate.append(candidate())
        print(f": {row.result()}", flush=True)
        self.rows.append(row)
        return row

    def compare_all(self, title, baseline, candidates):
        """The same for several [(row, candidate)] with one baseline. What one of them lacks does
        not keep the others from being measured."""
        print(f"  {title}:", end="", flush=True)
        for i in range(self.count):
            print(f" {i + 1}", end="", flush=True)
            figure = baseline()
            for row, candidate in candidates:
                row.baseline.append(figure)
                if not row.reason:
                    try:
                        row.candidate.append(candidate())
                    except setting.NotPossible as error:
                        row.reason = str(error)
        print(flush=True)
        for row, _ in candidates:
            self.add(row)

    def add(self, row):
        print(f"  {row.name}: {row.reason or row.result()}", flush=True)
        self.rows.append(row)
        return row


def measure(scenes, bench, rounds):
    for i, (title, scene, names) in enumerate(scenes):
        print(f"[{i + 1}/{len(scenes)}] {title}", flush=True)
        start = time.monotonic()
        done = len(rounds.rows)
        try:
            scene(bench, rounds)
        except (setting.NotPossible, setting.Failed) as error:
            print()
            measured = {row.name for row in rounds.rows[done:]}
            failed = isinstance(error, setting.Failed)
            for name in names:
                if failed or name not in measured:
                    rounds.add(table.Row(name, "", reason=str(error), failed=failed))
        print(f"  took {time.monotonic() - start:.0f} s", flush=True)


def conditions(size, rounds):
    text = Path("/proc/cpuinfo").read_text()
    cpu = next((line.split(":")[1].strip() for line in text.splitlines()
                if line.startswith("model name")), platform.machine())
    return (f"{size / setting.GIB:g} GiB, {rounds} rounds, {os.cpu_count()} cores ({cpu}), "
            f"{setting.meminfo('MemTotal') / setting.GIB:.0f} GiB, Linux {platform.release()}; "
            "median (least to most)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=lambda text: Path(text).resolve())
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--size", type=int, help="GiB of the model")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", help="scenes whose title has this word")
    args = parser.parse_args()
    size = (args.size or (1 if args.short else 4)) * setting.GIB
    rounds = Rounds(args.rounds or (3 if args.short else 5), args.short)
    scenes = [scene for scene in (rows.SHORT if args.short else rows.FULL)
              if not args.only or args.only in scene[0]]
    about = conditions(size, rounds.count)
    print(about, flush=True)
    bench = setting.Setting(args.folder, size)
    try:
        measure(scenes, bench, rounds)
    finally:
        bench.remove()
    table.write(rounds.rows, rounds.extras, about, args.folder)
    print("\n" + table.as_text(rounds.rows))
    for extra in rounds.extras:
        print(f"\n{extra.title}\n\n{extra.as_text()}")
    return any(row.is_bad() for row in rounds.rows)


if __name__ == "__main__":
    sys.exit(main())
