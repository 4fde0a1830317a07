"""Features of any site, read by one pass that ends at the last of them."""

import numpy as np
import pytest
import torch

import genseg
from genseg import GensegError
from genseg.contract.context import InterruptionError, interrupted, module_state
from genseg.feature_reader import FeatureReader

SMALL = {"size": 64, "margin": 0, "resize": "square"}
TWO = ["up1.0.query", "down0.output"]


@pytest.fixture(scope="module")
def reader(tiny):
    return FeatureReader(tiny, seed=0, **SMALL)


def test_every_site_is_a_float32_map_for_each_timestep(photo, tiny, reader):
    maps = reader.features(photo, TWO, timesteps=[1, 201])
    assert {name: each.shape for name, each in maps.items()} == {
        "up1.0.query": (2, 128, 8, 8), "down0.output": (2, 64, 8, 8),
    }  # fmt: skip
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in maps.values())
    alone = genseg.features(photo, tiny, "up1.0.query", 201, **SMALL)["up1.0.query"]
    assert torch.equal(alone, maps["up1.0.query"][1:])


@pytest.mark.parametrize("timesteps", [np.int64(101), np.array([101]), torch.tensor([101])])
def test_timesteps_of_arrays_are_numbers(photo, tiny, reader, timesteps):
    expected = reader.features(photo, "up1.output", 101)["up1.output"]
    assert torch.equal(reader.features(photo, "up1.output", timesteps)["up1.output"], expected)
    assert list(genseg.atlas(photo, tiny, "up1.output", timesteps, scores=False, **SMALL).timesteps) == [101]


def test_by_default_it_reads_what_segmentation_clusters(photo, tiny):
    segmenter = genseg.Segmenter(tiny, size=64, margin=16, draws=3, resize="square")
    (features,) = segmenter.features(photo, draws=3).values()
    assert torch.equal(features[0], segmenter.clusters(segmenter._read(photo).pixels).features)


def test_one_pass_gives_all_sites_and_ends_at_the_last(photo, tiny, reader):
    before = tiny.meter.evaluations
    with interrupted(None) as modules:
        reader.features(photo, TWO, draws=2)
    assert tiny.meter.evaluations == before + 2  # one batch of two draws
    ran = [module for module in modules if module in set(tiny.reader.modules())]
    assert ran[-1] is tiny.reader.get_submodule(tiny.find_tap("up1.0.query").module)


def test_patterns_modules_and_indices_name_sites(photo, reader):
    assert list(reader.features(photo, "up1.*.query")) == ["up1.0.query", "up1.1.query", "up1.2.query"]
    assert list(reader.features(photo, "module:conv_in")) == ["module:conv_in"]
    levels = ["down0.output", "down1.output", "down2.output", "mid.output", "up0.output", "up1.output", "up2.output"]
    assert list(reader.features(photo, indices=[0, -1])) == [levels[0], levels[-1]]
    assert list(reader.features(photo, indices=np.int64(1))) == levels[-1:]
    assert list(reader.features(photo, "up1.0.query", indices=2)) == ["up1.0.query", *levels[-2:]]


def test_tokens_are_the_maps_in_row_order(photo, reader):
    maps, tokens = (reader.features(photo, "up1.output", output_fmt=each)["up1.output"] for each in ("NCHW", "NLC"))
    assert torch.equal(tokens, maps.flatten(2).transpose(1, 2))


def test_a_run_with_cache_is_the_segmentation_and_the_features(photo, tiny):
    segmenter = genseg.Segmenter(tiny, n_clusters=3, n_init=1, replay_steps=1, draws=1, **SMALL)
    segmentation, cache = segmenter.run_with_cache(photo, "up1.output")
    assert (segmentation.labels == segmenter(photo).labels).all()
    assert torch.equal(cache["up1.output"], segmenter.features(photo, "up1.output")["up1.output"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": "up1.7.query"}, "unknown site 'up1.7.query': did you mean up1.2.query"),
        ({"sites": "module:up_blocks.9"}, "up_blocks.9 is no module of tiny that is a map .* did you mean module:up_"),
        ({"sites": "module:time_embedding"}, "no module of tiny that is a map of the image"),
        ({"indices": [7]}, "below 7"),
        ({"indices": ["up1"]}, "below 7"),
        ({"indices": 2.0}, "below 7"),
        ({"indices": 0}, "indices must be 1 to 7, how many of the last blocks, not 0"),
        ({"indices": 99}, "indices must be 1 to 7"),
        ({"indices": -1}, "indices must be 1 to 7"),
        ({"timesteps": 1000}, "t_f must be a whole number from 0 to 999"),
        ({"timesteps": 101.0}, "timesteps must be whole numbers from 0 to 999, at least one, not 101.0"),
        ({"timesteps": [1, "101"]}, "timesteps must be whole numbers"),
        ({"timesteps": []}, "timesteps must be whole numbers"),
        ({"draws": 0}, "draws must be"),
        ({"output_fmt": "NHWC"}, "output_fmt must be NCHW or NLC"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(photo, reader, options, message):
    with pytest.raises(GensegError, match=message):
        reader.features(photo, **options)


def test_nothing_stays_behind_when_a_pass_or_the_search_for_modules_is_interrupted(tiny):
    backend = genseg.load_backend("tiny", device="cpu")  # one that has not looked for its modules
    before = module_state(backend)
    for stop in (5, 60):
        with pytest.raises(InterruptionError), interrupted(stop):
            backend.intermediates(torch.zeros(1, 3, 64, 64), "*", recipe=SMALL)
        assert module_state(backend) == before
    names = list(backend.intermediates(torch.zeros(1, 3, 64, 64), "*", recipe=SMALL))
    assert names == list(tiny.sites)
    assert module_state(backend) == before


@pytest.mark.parametrize(
    ("tap", "point"),
    [
        ("module:up_blocks.1.attentions.2", "module:up_blocks.1.attentions.1.transformer_blocks.0.attn2"),
        ("module:up_blocks.1.attentions.2@output0", "up1.1.cross"),
    ],
)
def test_a_recipe_takes_the_path_of_a_module_for_tap_and_point(photo, tiny, tap, point):
    quick = {"n_clusters": 3, "n_init": 1, "replay_steps": 1, "draws": 1, "modulate": True, "keep_scores": True}
    quick |= SMALL
    by_path = genseg.segment(photo, tiny, tap=tap, point=point, **quick)
    by_name = genseg.segment(photo, tiny, tap="up1.2.output", point="up1.1.cross", **quick)
    assert (by_path.scores == by_name.scores).all()
    other = genseg.segment(photo, tiny, tap="down1.output", point="module:up_blocks.0.resnets.0", **quick)
    assert (other.scores != by_name.scores).any()
