"""Loaders that compute between what they load, and how long they wait: whether a mount knows what they
want next.

The model is as its writers leave it: sorted by name, so that layer 10 stands in front of layer 2. The
loader takes the layers by their numbers, and in a layer the tensors as the model computes with them. It
maps each file, scans it (8 bytes of every 64-byte line), and after each layer keeps one processor busy
for as long as one thread with O_DIRECT takes to read a layer. It waits whenever it does not compute, so
the scan is waiting as well. All is cold at the start: the mount is new, and nothing of the model is in
the page cache.
"""
import json
import math
import os
import random
import socket
import statistics
import subprocess
import time
from collections import Counter

import llama
from setting import GIB, MIB, Failed
from table import Extra, Row

# The largest shape that has so many layers is taken: they get numbers of two digits.
LEAST_LAYERS = 12
SHAPES = (llama.LLAMA_3B, llama.QWEN_HALF_B)

TOUCH_SIZE = 1 * GIB
OFF = ("prediction=off",)


def shape_for(size):
    return next(shape for shape in SHAPES if shape.layers(size) >= LEAST_LAYERS)


def pace(bench, ranges):
    """Seconds that one thread takes to read a layer from the disk."""
    return statistics.median(bench.bench("pace", ranges)["parts"])


def waiting(result):
    return sum(result["waits"])


def predicted(mounted):
    sums = mounted.stats()["prediction"]
    return f"{sums['predicted']} predicted, {sums['hits']} of them used"


class Walk:
    """Walks of one model in one run, all with the same computing time in a round."""

    def __init__(self, bench):
        self.bench = bench
        self.original = bench.list_of_walk()
        self.paces = []

    def begin_round(self):
        self.bench.drop()
        self.paces.append(pace(self.bench, self.original))

    def walk(self, ranges, *how):
        return waiting(self.bench.scan("walk", ranges, self.paces[-1], *how))

    def plain(self, *how):
        self.bench.make_cold(copies=1)
        return self.walk(self.original, *how)

    def mounted(self, row, options=()):
        """The list is made from names alone: a loader does not look around first. How long the
        daemon had before the loader came is in the note; with a profile it makes use of that."""
        self.bench.make_cold()
        with self.bench.mount("auto", options=options) as mounted:
            ranges = self.bench.list_of_walk(mounted)
            if not any(option.startswith("profile=") for option in options):
                self.bench.check_cold(mounted)
            start = time.monotonic()
            wait = self.walk(ranges)
            passed = time.monotonic() - start
            begun = mounted.stats()["uptime_s"] - passed
            row.note = f"{predicted(mounted)}; begun {1000 * begun:.0f} ms after the mount"
        return wait


def record_profile(bench):
    """What `mountctl profile record` sees of the same loader, in a mount of its own."""
    path = bench.folder / "walk.profile"
    bench.make_cold()
    with bench.mount("auto") as mounted:
        bench.mountctl("profile", "record", mounted.path)
        bench.scan("walk", bench.list_of_walk(mounted), 0)
        bench.mountctl("profile", "stop", mounted.path, path)
    return path


def profile_walk(walk, row, profiles):
    if not profiles:
        profiles.append(record_profile(walk.bench))
    return walk.mounted(row, (f"profile={profiles[0]}",))


def walk_target(rounds, limit):
    """Of a small model a larger part is embedding, which the layers do not foretell: the short form
    has twice its margin."""
    return rounds.target(limit, at_least=False, margin=rounds.margin * (2 if rounds.short else 1))


def layer_walks(bench, rounds):
    with bench.other_model(bench.size, shape_for(bench.size)) as model:
        walk = Walk(model)
        profiles = []

        def plain():
            walk.begin_round()
            return walk.plain()

        def row(name, target=None):
            return Row(name, "s", target and walk_target(rounds, target), PLAIN)
        with_profile = row(WALK_PROFILE, 0.3)
        by_layers = row(WALK_LAYERS, 0.4)
        without = row(WALK_OFF)
        rounds.compare_all(WALKS, plain, [
            (without, lambda: walk.mounted(without, OFF)),
            (by_layers, lambda: walk.mounted(by_layers)),
            (with_profile, lambda: profile_walk(walk, with_profile, profiles)),
            (row(WALK_WILLNEED), lambda: walk.plain("willneed")),
        ])
        layer = model.shape.layer_bytes()
        rounds.add(Row(WALK_PACE, "s", candidate=walk.paces,
                       note=f"{model.shape.layers(model.size)} layers of {layer / MIB:.0f} MiB, "
                            f"{layer / statistics.median(walk.paces) / 1e9:.2g} GB/s"))


# ---- at random ----

def random_list(bench, mounted, piece, seed):
    """All tensors, whole or cut into pieces, in random order."""
    lines = [(at, min(piece, nbytes - at), mounted / "tensors" / name.replace(".", "/"))
             for name, _, nbytes in bench.tensors for at in range(0, nbytes, piece)]
    random.Random(seed).shuffle(lines)
    return bench.write_list("random", lines)


def ask_prediction(control):
    """The member `prediction` of the status, without starting a program for it."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(control)
        s.sendall(b'{"command": "status"}\n')
        with s.makefile("rb") as reply:
            return json.loads(reply.read())["status"]["prediction"]


def watch_loader(bench, mounted, ranges):
    """(seconds of the loader, [(seconds since its start, what the status says of prediction)])."""
    control = os.readlink(mounted / ".weightfs/socket")
    samples = []
    start = time.monotonic()
    output = bench.folder / "loader.json"
    with output.open("w") as file, \
            subprocess.Popen([bench.tool, "walk", ranges, "0"], stdout=file) as process:
        while process.poll() is None:
            samples.append((time.monotonic() - start, ask_prediction(control)))
            time.sleep(0.02)
    if process.returncode != 0:
        raise Failed("the loader ended with an error")
    result = json.loads(output.read_text())
    bench.check_sum(result)
    return result["seconds"], samples


def random_walk(bench, piece, seed, options, row=None):
    bench.make_cold()
    with bench.mount("auto", options=options) as mounted:
        seconds, samples = watch_loader(bench, mounted, random_list(bench, mounted, piece, seed))
        if row is not None:
            row.note = predicted(mounted)
    return seconds, samples


def first(samples, holds):
    return next((at for at, prediction in samples if holds(prediction)), None)


def random_rows(bench, rounds, names, piece):
    """The same order on both sides of a round, another one in each. Backing off counts from the
    first prediction, up to the end of the loader if it does not come."""
    row = Row(names[0], "s", rounds.target(1.03, at_least=False), "without prediction")
    off_row = Row(names[1], "s", rounds.target(BACK_OFF_S, at_least=False))
    times = []
    ends = []

    def without():
        times.append(random_walk(bench, piece, len(times), OFF)[0])
        return times[-1]

    def with_prediction():
        seconds, samples = random_walk(bench, piece, len(times) - 1, (), row)
        begun = first(samples, lambda prediction: prediction["predicted"] > 0)
        if begun is not None:
            ends.append(first(samples, lambda prediction: prediction["backing_off"]) or seconds)
        off_row.candidate.append(ends[-1] - begun if begun is not None else 0)
        return seconds
    rounds.compare(row, without, with_prediction)
    off_row.note = f"of {len(times)} loaders {len(ends)} had something predicted"
    if ends:
        off_row.note += f", and it ended {statistics.median(ends):.1f} s after they began"
    if max(times) < BACK_OFF_S:
        off_row.reason = f"the loader took {max(times):.1f} s only"
    rounds.add(off_row)


def random_walks(bench, rounds):
    with bench.other_model(bench.size, shape_for(bench.size)) as model:
        random_rows(model, rounds, RANDOM_TENSORS, model.bytes)
        random_rows(model, rounds, RANDOM_PIECES, MIB)


# ---- first touches ----

class Touches:
    """Microseconds of the first touch of a page of each tensor, all rounds together."""

    def __init__(self, bench):
        self.bench = bench
        self.large = [nbytes >= MIB for _, nbytes in bench.walked()]
        self.touches = []
        self.opens = []

    def run(self, ranges, compute, seed):
        result = self.bench.scan("walk", ranges, compute, "touch", seed)
        touches = [1e6 * t for t, large in zip(result["touches"], self.large) if large]
        opens = [1e6 * t for t, large in zip(result["opens"], self.large) if large]
        self.touches += touches
        self.opens.append(statistics.median(map(sum, zip(opens, touches))))
        return statistics.median(touches)


def first_touches(bench, rounds):
    """The loader computes for twice as long as the disk needs, so that there is time to predict."""
    with bench.other_model(min(bench.size, TOUCH_SIZE), llama.QWEN_HALF_B) as model:
        original = model.list_of_walk()
        sides = {name: Touches(model) for name in (TOUCH_ON, TOUCH_OFF, TOUCH_PLAIN)}
        row = Row(FIRST_TOUCH, "us", rounds.target(0.25, at_least=False), TOUCH_OFF)
        opening = Row(FIRST_OPEN, "us", None, TOUCH_OFF)
        paces = []

        def touch(name, options):
            model.make_cold()
            with model.mount("auto", options=options) as mounted:
                ranges = model.list_of_walk(mounted)
                median = sides[name].run(ranges, 2 * paces[-1], len(paces))
                row.note = predicted(mounted)
            return median

        def without():
            model.make_cold(copies=1)
            paces.append(pace(model, original))
            sides[TOUCH_PLAIN].run(original, 2 * paces[-1], len(paces))
            return touch(TOUCH_OFF, OFF)
        rounds.compare(row, without, lambda: touch(TOUCH_ON, ()))
        opening.baseline, opening.candidate = sides[TOUCH_OFF].opens, sides[TOUCH_ON].opens
        rounds.add(opening)
        rounds.extras.append(histogram({name: side.touches for name, side in sides.items()}))


def histogram(sides):
    """By powers of two."""
    counts = {name: Counter(max(0, math.ceil(math.log2(max(t, 1e-3)))) for t in touches)
              for name, touches in sides.items()}
    buckets = range(1 + max(max(count) for count in counts.values()))
    most = max(max(count.values()) for count in counts.values())
    lines = [(f"{2 ** (i - 1) if i else 0} to {2 ** i}",
              *(f"{count[i]:5} {'#' * math.ceil(BAR * count[i] / most)}"
                for count in counts.values()))
             for i in buckets]
    medians = {name: statistics.median(touches) for name, touches in sides.items()}
    lines.append(("median", *(f"{median:.3g} us" for median in medians.values())))
    return Extra(HISTOGRAM, ("us", *sides), lines,
                 {"unit": "us", "below": [2 ** i for i in buckets],
                  "counts": {name: [count[i] for i in buckets] for name, count in counts.items()},
                  "median": medians})


# ---- pushing ----

def pushed_scan(bench, cold, readahead, push):
    """The rate of the first scan of a streamed model. Without prediction: nothing else is ahead."""
    if cold:
        bench.make_cold()
    else:
        bench.cache_model()
        bench.warm_memory(1.2 * bench.size)
    options = (f"readahead={readahead}", f"push={push}", *OFF)
    with bench.mount("stream", options=options) as mounted:
        return bench.rate("mmap", bench.list_of_mount(mounted))


def pushing(bench, rounds):
    """With the read-ahead that root gets, and with that of everybody else."""
    with bench.other_model(min(bench.size, TOUCH_SIZE), llama.LLAMA_8B) as model:
        for name, cold, readahead in PUSHED:
            rounds.compare(Row(name, "GB/s", None, "push=off"),
                           lambda: pushed_scan(model, cold, readahead, "off"),
                           lambda: pushed_scan(model, cold, readahead, "on"))


PLAIN = "original, mapped plainly"
WALKS = "layer by layer, computing in between: the loader's waiting time"
WALK_OFF = "layer walk, without prediction: waiting"
WALK_LAYERS = "layer walk, prediction: waiting"
WALK_PROFILE = "layer walk, recorded profile: waiting"
WALK_WILLNEED = "layer walk, original with MADV_WILLNEED over all: waiting"
WALK_PACE = "layer walk, time of computing a layer, in which the disk can read one"
RANDOM_TENSORS = ("tensors in random order, with prediction",
                  "the same: from the first prediction to backing off")
RANDOM_PIECES = ("pieces of 1 MiB in random order, with prediction",
                 "those pieces: from the first prediction to backing off")
BACK_OFF_S = 2.0
TOUCH_ON, TOUCH_OFF, TOUCH_PLAIN = "predicted", "without prediction", "original, mapped plainly"
FIRST_TOUCH = "first touch of a page, cold, of predicted tensors"
FIRST_OPEN = "the same with opening and mapping"
HISTOGRAM = ("First touch of a page of a tensor of 1 MiB or more, cold: how many took so long, "
             "all rounds together")
BAR = 30
PUSHED = [(f"stream, mmap scan, {'cold' if cold else 'warm'}, read-ahead {readahead}, push=on",
           cold, readahead) for readahead in ("4M", "128K") for cold in (True, False)]

LAYER_WALKS = ("layer walk", layer_walks,
               [WALK_OFF, WALK_LAYERS, WALK_PROFILE, WALK_WILLNEED, WALK_PACE])
RANDOM_WALKS = ("random order", random_walks, [*RANDOM_TENSORS, *RANDOM_PIECES])
FIRST_TOUCHES = ("first touch", first_touches, [FIRST_TOUCH, FIRST_OPEN])
PUSHING = ("pushing", pushing, [name for name, _, _ in PUSHED])
