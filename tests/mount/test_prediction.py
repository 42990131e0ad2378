"""What is used next is brought in ahead, in the order of the loader."""
import random
import time

import pytest

import mounting
import pagecache
import volumes
import writers
from mounting import status

MIB = 1 << 20
LAYERS = 14
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj", "mlp.down_proj")
SIZE = 5 * MIB + 8

BACKINGS = ("auto", "stream", "resident")


def name_of(layer, part):
    return f"model.layers.{layer}.{part}.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Sorted by name as libraries write it: layers 0, 1, 10, 11, ..."""
    names = sorted(name_of(layer, part) for layer in range(LAYERS) for part in PARTS)
    path = tmp_path_factory.mktemp("prediction") / "model.safetensors"
    path.write_bytes(writers.safetensors([(name, "U8", [SIZE], random.Random(name).randbytes(SIZE))
                                          for name in names]))
    return path


@pytest.fixture
def cold(source):
    """The same, and nothing of it is cached: where it is, there is nothing to be read ahead."""
    reason = pagecache.why_not(source)
    if reason:
        pytest.skip(reason)
    pagecache.empty(source)
    return source


def use(mounted, name):
    assert mounted.tensor(name).read_bytes() == random.Random(name).randbytes(SIZE), name


def prediction(mounted):
    return status(mounted)["prediction"]


def use_layers(mounted, layers, parts=PARTS):
    for layer in layers:
        for part in parts:
            use(mounted, name_of(layer, part))


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_loader_that_walks_by_layer_is_followed_by_layers(mount, cold, backing):
    mounted = mount(cold, f"backing={backing}")
    use_layers(mounted, range(LAYERS))
    found = prediction(mounted)
    assert found["order"] == "layers" and not found["backing_off"]
    # Of those behind the first layer some may be used before they can be asked for.
    assert found["hits"] >= (LAYERS - 1) * len(PARTS) // 2, found
    assert found["hit_rate"] >= 0.8, found


@pytest.mark.parametrize("backing", BACKINGS)
def test_a_loader_that_walks_the_file_is_followed_in_its_order(mount, cold, backing):
    mounted = mount(cold, f"backing={backing}")
    use_layers(mounted, sorted(range(LAYERS), key=str), sorted(PARTS))
    found = prediction(mounted)
    assert found["order"] == "file" and not found["backing_off"]
    assert found["hits"] >= (LAYERS - 2) * len(PARTS) // 2, found


def test_the_next_layer_is_resident_before_it_is_opened(mount, source):
    mounted = mount(source)
    if not status(mounted)["passthrough"]["available"]:
        pytest.skip("no passthrough: " + status(mounted)["passthrough"]["reason"])
    use_layers(mounted, range(2))
    for part in PARTS:
        path = mounted.tensor(name_of(2, part))
        assert mounting.wait_for(lambda: mounting.backing(path) == "resident"), part


def test_a_loader_that_jumps_makes_prediction_back_off(mount, cold):
    # At most five tensors ahead: else all of so small a model is predicted, and not in vain.
    mounted = mount(cold, "backing=stream", "resident_limit=100M")
    use_layers(mounted, range(4))
    assert not prediction(mounted)["backing_off"]
    names = [name_of(layer, part) for layer in range(4, LAYERS) for part in PARTS]
    random.Random(5).shuffle(names)
    for name in names[:20]:
        use(mounted, name)
    assert mounting.wait_for(lambda: prediction(mounted)["backing_off"]), prediction(mounted)
    predicted = prediction(mounted)["predicted"]
    for name in names[20:]:
        use(mounted, name)
    assert prediction(mounted)["predicted"] <= predicted + 2


def test_nothing_is_predicted_where_it_is_turned_off(mount, source):
    mounted = mount(source, "prediction=off")
    use_layers(mounted, range(3))
    assert prediction(mounted) == {"available": False, "predicted": 0, "hits": 0,
                                   "backing_off": False, "recording": False}
    assert status(mounted)["options"]["prediction"] == "off"
    assert status(mounted)["resident"]["made"] == 0


# ---- Clones ----

def open_npy(mounted, name, nbytes):
    with open(mounted / "npy" / (name.replace(".", "/") + ".npy"), "rb", buffering=0) as file:
        return len(file.read(nbytes))


@pytest.mark.parametrize("nbytes, follows", [(2 * SIZE, True), (4096, False)],
                         ids=["reads all of each", "looks into each"])
def test_a_loader_of_clones_is_followed_if_it_reads_them(mount, source, tmp_path, nbytes, follows):
    """The kernel reads clones without a word to the daemon."""
    try:
        with volumes.Xfs(tmp_path, 640 * MIB) as xfs:
            model = xfs.path / "model.safetensors"
            model.write_bytes(source.read_bytes())
            mounted = mount(model)
            try:
                if not status(mounted)["clone"]["available"]:
                    pytest.skip("no clones: " + status(mounted)["clone"]["reason"])
                for name in (name_of(layer, part) for layer in range(LAYERS) for part in PARTS):
                    assert open_npy(mounted, name, nbytes) >= min(nbytes, SIZE)
                    time.sleep(0.002)
                sums = status(mounted)
            finally:
                mounted.stop()
    except volumes.Xfs.Unavailable as error:
        pytest.skip(str(error))
    assert sums["clone"]["made"] > 0
    if follows:
        assert sums["prediction"]["hits"] > LAYERS * len(PARTS) / 2
        assert sums["resident"]["made"] > LAYERS * len(PARTS) / 2
    else:
        assert sums["prediction"]["predicted"] == 0
