"""A card gives the CPU's labels, also where parts take turns on it and where its memory runs out."""

import warnings

import numpy as np
import pytest
import torch
from standin import counted, memory_left, memory_taken

import genseg
from genseg.cluster.kmeans import kmeans
from genseg.runs.plan import items_in, items_of, make_plan
from genseg.runs.rows import DONE, FAILED
from genseg.runs.store import Store
from genseg.runs.worker import Worker, WorkerSettings

QUICK = {
    "n_clusters": 4,
    "n_init": 1,
    "draws": 3,
    "replay_steps": 3,
    "num_inference_steps": 10,
    "size": 64,
    "margin": 0,
}


def segmented(backend, image, recipe="paper", **overrides):
    return genseg.Segmenter(backend, recipe, **QUICK | overrides)(image)


def test_the_standin_checks_devices_and_counts():
    on_card, on_host = torch.ones(2, 2).to("cuda"), torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
        on_card @ on_host
    with counted() as counts:
        assert (on_card * torch.tensor(2.0)).sum().item() == 8  # a scalar of the CPU is welcome
        on_host.to("cuda", torch.float64)
    assert counts == {"launches": 2, "to_card": 1, "to_host": 0, "synchronizations": 1, "float64": 1, "refused": 0}


@pytest.mark.parametrize("recipe", ["paper", "fast"])
@pytest.mark.parametrize("name", ["tiny", "sd15", "sd3", "vitmae"])
def test_labels_are_the_cpus(load, photo, name, recipe):
    on_card, on_host = (segmented(load(name, device), photo, recipe, batch_size=4) for device in ("cuda", "cpu"))
    assert np.mean(on_card.labels == on_host.labels) > 0.999  # rounding may decide a tie
    assert on_card.n_segments > 1


@pytest.mark.parametrize("n_init", [1, 30])
def test_clusters_are_the_cpus(n_init):
    points = torch.randn(200, 40, generator=torch.Generator().manual_seed(2))
    on_card, on_host = (kmeans(points.to(device), 12, n_init, seed=0) for device in ("cuda", "cpu"))
    assert on_card.labels.is_cuda
    assert torch.equal(on_card.labels.cpu(), on_host.labels)
    torch.testing.assert_close(on_card.centers.cpu(), on_host.centers)


def test_labels_in_bfloat16_are_the_cpus(load, photo):
    options = {
        "dtype": "bfloat16",
        "channels_last": False,
    }  # which rounds otherwise, and is the default on a card alone
    backends = (load("sd15", device, **options) for device in ("cuda", "cpu"))
    on_card, on_host = (segmented(backend, photo, batch_size=4) for backend in backends)
    assert np.mean(on_card.labels == on_host.labels) > 0.99


@pytest.mark.parametrize("name", ["sd15", "flux2"])
def test_offloaded_parts_compute_the_same(load, photo, name):
    offloaded, plain = load(name, offload=True), load(name)
    assert {p.device.type for p in offloaded.network.parameters()} == {"cpu"}
    assert np.array_equal(segmented(offloaded, photo).labels, segmented(plain, photo).labels)
    assert {p.device.type for p in offloaded.network.parameters()} == {"cpu"}  # the autoencoder had the last turn
    genseg.Segmenter(offloaded, "paper", **QUICK).generate()


def test_a_card_that_runs_out_of_memory_gives_the_same_and_no_second_image_runs_out(load, pixels):
    backend = load("sd15")
    point, offsets = next(iter(backend.points.values())), torch.eye(16)[:12].view(12, 4, 4)
    recipe = genseg.load_recipe(QUICK | {"batch_size": 12})
    state = backend.encode(pixels(64, 64), recipe, 0)

    def estimates(**overrides):
        return backend.regenerate(state, point, offsets, genseg.load_recipe(recipe, **overrides))

    few, expected = memory_taken(lambda: estimates(batch_size=4)), estimates()
    with memory_left(few):
        with counted() as first:
            torch.testing.assert_close(estimates(), expected)
        with counted() as second:
            estimates()
    assert (first["refused"], second["refused"]) == (2, 0)  # batches of twelve and of six, once each


def test_an_image_that_does_not_fit_fails_alone_and_leaves_no_memory_behind(load, photo, tmp_path):
    for name in ("a.png", "b.png"):
        photo.save(tmp_path / name)
    store, backend = Store(str(tmp_path / "run")), load("sd15")
    make_plan(store, items_of(str(tmp_path)), 64)
    segmenter = genseg.Segmenter(backend, "paper", **QUICK)
    rows = Worker(WorkerSettings(str(tmp_path / "run"), "sd15"), segmenter).rows(items_in(store, 0))
    segmenter(photo)  # what is made once is there
    used = torch.cuda.memory_allocated()
    with memory_left(1 << 16):
        first = next(rows)
    assert torch.cuda.memory_allocated() == used
    assert (first.status, next(rows).status) == (FAILED, DONE)
    assert "out of memory" in first.error


def test_dtype_auto_is_half_precision_with_features_in_float32_where_both_fit(load):
    backend = load("sd15", dtype="auto")
    assert (backend.dtype, backend.reader.dtype) == (torch.bfloat16, torch.float32)
    assert backend.network.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    copies = 6 * sum(parameter.numel() for parameter in backend.network.parameters())
    with memory_left(2 * copies - 1):
        assert load("sd15", dtype="auto").reader.dtype == torch.bfloat16


def test_float32_on_a_card_is_a_warning_unless_it_was_asked_for(load):
    with pytest.warns(UserWarning, match="choose dtype='auto'"):
        load("sd3", dtype=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("sd3", dtype="float32")
