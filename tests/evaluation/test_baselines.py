"""Every method on one scene of the bundled model, and planted segments that each idea must find."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import genseg
from genseg import GensegError
from genseg.cluster import cluster
from genseg.evaluation.agreement import ari
from genseg.evaluation.baselines import GUIDED, METHODS, method_named, needs_model
from genseg.evaluation.baselines.attention import merged_to
from genseg.evaluation.baselines.ncut import best_cut, segments_of
from genseg.evaluation.baselines.pooling import masks_of_maps, pooled
from genseg.evaluation.baselines.upsampling import difference_maps
from genseg.evaluation.method import MethodInput
from genseg.hookspecs import hookimpl
from genseg.interface import Encoder, Upsampler
from genseg.plugins import Plugins
from genseg.registry import UPSAMPLERS
from genseg.upsampling.upsample import CELL

QUICK = {"n_clusters": 6, "n_init": 1, "draws": 1, "replay_steps": 1, "size": 96}
SIZE = (48, 72)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Fit the Gaussians of upsample-anything in two steps."""
    monkeypatch.setattr("genseg.upsampling.splatting.STEPS", 2)


@pytest.fixture(scope="module")
def segmenter(tiny):
    return genseg.Segmenter(tiny, "fast", **QUICK, seed=1)  # which neither refines nor merges


@pytest.fixture(scope="module")
def scene(segmenter, photo):
    return MethodInput(photo, SIZE, segmenter.recipe, 1, segmenter)


class Colors(Encoder):
    """An encoder whose features are the mean colors of its patches, in three more channels than it needs."""

    name, image_size, size_multiple = "colors", 64, 4

    def features(self, image: torch.Tensor) -> torch.Tensor:
        colors = F.avg_pool2d(image, 4)[0]
        return torch.cat([colors, -colors])


QUARTERS = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 32, axis=0), 32, axis=1)
FOUR = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [220, 220, 30]], dtype=np.uint8)


@pytest.fixture(scope="module")
def quarters():
    """Four flat colors, seen by an encoder; K is 4."""
    recipe = genseg.load_recipe(n_clusters=4, n_init=3)
    return MethodInput(Image.fromarray(FOUR[QUARTERS]), (64, 64), recipe, 0, None, Colors())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_masks_of_the_scenes_size_with_the_segments_features(name, scene):
    masks = method_named(name)(scene)
    count = int(masks.segments.max()) + 1
    assert masks.segments.shape == SIZE
    assert masks.segments.dtype == np.int32
    assert set(np.unique(masks.segments)) == set(range(count))
    assert 2 <= count <= (7 if name == "slic" else 6)
    assert masks.embeddings.shape == (count, scene.clusters.features.shape[0])
    assert masks.embeddings.dtype == np.float32
    assert np.ptp(masks.embeddings, axis=0).max() > 0.1


def test_modulation_is_what_the_segmenter_does(segmenter, photo):
    own = MethodInput(photo, photo.size[::-1], segmenter.recipe, 1, segmenter)
    assert ari(METHODS["modulation"](own).segments, segmenter(photo).labels) == 1


@pytest.mark.parametrize("upsampler", GUIDED)
def test_an_upsampler_takes_the_place_of_the_recipes_refinement(upsampler, scene):
    refining = replace(scene, recipe=replace(scene.recipe, refine=upsampler))
    for method, alone in ((upsampler, "naive"), (f"modulation+{upsampler}", "modulation")):
        segments = METHODS[method](scene).segments
        assert (segments == METHODS[alone](refining).segments).all()
        assert (segments != METHODS[alone](scene).segments).any()


class Plain(Upsampler):
    """Bilinear, of a plug-in."""

    name = "plain"

    def __call__(self, image, features):
        return F.interpolate(features[None], image.shape[2:], mode="bilinear", align_corners=False)[0]


def plain(model=None, device=None, dtype=None):  # noqa: ARG001
    return Plain()


@hookimpl
def register_upsamplers(register):
    register("plain", f"{__name__}:plain")


def test_an_upsampler_of_a_plug_in_is_a_method_on_features_and_on_difference_maps(scene, monkeypatch):
    plugins = Plugins("upsampler")
    plugins.add(sys.modules[__name__], "test:plain")
    monkeypatch.setattr(UPSAMPLERS, "plugins", plugins)
    coarse = F.avg_pool2d(difference_maps(scene), CELL)
    expected = {"plain": METHODS["feature-upsampling"](scene), "modulation+plain": masks_of_maps(scene, coarse)}
    for name, masks in expected.items():
        assert needs_model(name)
        assert (method_named(name)(scene).segments == masks.segments).mean() > 0.98
    with pytest.raises(GensegError, match="did you mean plain"):
        method_named("plan")


def test_pooling_is_the_mean_of_the_features_scaled_to_pixels(scene):
    segments = METHODS["naive"](scene).segments
    features = scene.clusters.features
    scaled = F.interpolate(features[None], SIZE, mode="bilinear", align_corners=False)[0].numpy()
    expected = np.stack([scaled[:, segments == k].mean(axis=1) for k in range(segments.max() + 1)])
    np.testing.assert_allclose(pooled(features, segments), expected, rtol=1e-4, atol=1e-4)


def test_feature_upsampling_takes_each_pixel_to_the_nearest_centre(scene):
    clusters = scene.clusters
    scaled = F.interpolate(clusters.features[None], SIZE, mode="bilinear", align_corners=False)[0]
    nearest = torch.cdist(scaled.flatten(1).T.double(), torch.from_numpy(clusters.embeddings).double()).argmin(dim=1)
    assert (METHODS["feature-upsampling"](scene).segments == nearest.reshape(SIZE).numpy()).mean() > 0.999


def test_feature_upsampling_knows_places_where_the_clusters_do():
    """Two squares of one color, that only their places tell apart."""
    photo = np.full((64, 64, 3), FOUR[0])
    photo[:, 24:40] = FOUR[1]
    scene = MethodInput(
        Image.fromarray(photo), (64, 64), genseg.load_recipe(n_clusters=3, position=0.9), 0, None, Colors()
    )
    segments = METHODS["feature-upsampling"](scene).segments
    assert len({int(segments[32, column]) for column in (8, 32, 56)}) == 3


@pytest.mark.parametrize("name", ["naive", "feature-upsampling", "ncut", "kl-merge", "rgb-kmeans", "slic"])
def test_planted_colors_are_found(name, quarters):
    masks = METHODS[name](quarters)
    inside = (np.abs(np.arange(64) - 31.5) > 3)[:, None] & (np.abs(np.arange(64) - 31.5) > 3)
    assert ari(masks.segments[inside], QUARTERS[inside]) == 1
    assert (masks.segments == masks.segments[8, 8]).mean() == pytest.approx(0.25, abs=0.03)
    of_first = masks.embeddings[masks.segments[8, 8]]
    assert of_first[:3] * 127.5 + 127.5 == pytest.approx(FOUR[0], abs=15)


@pytest.mark.parametrize("name", ["rgb-kmeans", "slic", "grid", "random"])
def test_methods_that_see_colors_need_no_model(name, scene):
    blind = replace(scene, segmenter=None)
    masks = METHODS[name](blind)
    assert masks.embeddings is None
    assert (masks.segments == METHODS[name](scene).segments).all()
    assert not needs_model(name)


def test_methods_that_need_a_model_say_so(scene, quarters):
    blind = replace(scene, segmenter=None)
    for name in METHODS:
        if needs_model(name):
            with pytest.raises(GensegError, match="needs a model; name a backend"):
                METHODS[name](blind)
    with pytest.raises(GensegError, match="encoder 'colors' has no modulation point"):
        METHODS["modulation"](quarters)
    for look_up in (method_named, needs_model):
        with pytest.raises(GensegError, match="unknown method 'nave': did you mean naive"):
            look_up("nave")


def test_clusters_do_not_wait_for_modulation(tiny, scene, segmenter, photo):
    fresh = MethodInput(photo, SIZE, segmenter.recipe, 1, segmenter)
    decodes = tiny.meter.decodes
    METHODS["naive"](fresh)
    assert tiny.meter.decodes == decodes
    assert (fresh.clusters.grid_labels == scene.analysis.grid_labels).all()


def test_blind_partitions_have_k_segments_and_the_seed_decides(scene):
    def partition(name, seed, wanted):
        recipe = replace(scene.recipe, n_clusters=wanted)
        return METHODS[name](MethodInput(scene.image, SIZE, recipe, seed)).segments

    for wanted in (2, 6, 24):
        assert partition("random", 0, wanted).max() + 1 == wanted
        assert partition("grid", 0, wanted).max() + 1 == wanted
    assert (partition("random", 3, 6) == partition("random", 3, 6)).all()
    assert ari(partition("random", 3, 6), partition("random", 4, 6)) < 0.9
    sizes = np.bincount(partition("grid", 0, 24).ravel())
    assert set(sizes) == {12 * 12}


def test_slic_gives_as_many_segments_as_are_asked_for(photo):
    for wanted in (5, 10, 20):
        recipe = genseg.load_recipe(n_clusters=wanted)
        assert abs(METHODS["slic"](MethodInput(photo, (96, 144), recipe)).segments.max() + 1 - wanted) <= 1


def test_rgb_kmeans_of_a_large_image_takes_every_pixel_to_its_nearest_centre():
    image = np.repeat(np.repeat(FOUR[QUARTERS], 4, axis=0), 4, axis=1)
    recipe = genseg.load_recipe(n_clusters=4, n_init=2)
    segments = METHODS["rgb-kmeans"](MethodInput(Image.fromarray(image), (256, 256), recipe)).segments
    assert ari(segments, np.repeat(np.repeat(QUARTERS, 4, axis=0), 4, axis=1)) == 1


def test_auto_counts_the_clusters_of_the_features(quarters):
    recipe = replace(quarters.recipe, n_clusters="auto")
    scene = replace(quarters, recipe=recipe)
    assert scene.n_clusters == cluster(scene.clusters.features, recipe)[1].shape[0]


def blocks(sizes, within=0.9, across=0.02):
    """The affinity of groups of nodes, shuffled, and the groups."""
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    affinity = np.where(groups[:, None] == groups, within, across)
    np.fill_diagonal(affinity, 1)
    return affinity, groups


@pytest.mark.parametrize("sizes", [(30, 50), (20, 30, 40), (150, 100, 90)])
def test_cuts_recover_planted_groups_and_then_stop(sizes):
    affinity, groups = blocks(sizes)
    found = segments_of(affinity, 10)
    assert found.max() + 1 == len(sizes)
    assert ari(found, groups) == 1


def test_cutting_stops_at_k_or_where_a_cut_costs_too_much():
    affinity, _ = blocks((20, 20, 20, 20))
    assert segments_of(affinity, 3).max() + 1 == 3
    assert segments_of(affinity, 4, tau=0.001).max() == 0
    assert segments_of(affinity, 7, tau=2.0).max() + 1 == 7


def test_a_cuts_cost_is_that_of_shi_and_malik():
    affinity, _ = blocks((12, 20), across=0.1)
    cut = best_cut(affinity, np.arange(32))
    between = affinity[np.ix_(cut.side, ~cut.side)].sum()
    expected = between / affinity[cut.side].sum() + between / affinity[~cut.side].sum()
    assert cut.cost == pytest.approx(expected)


def test_merging_joins_the_nearest_distributions_first():
    rng = np.random.default_rng(0)
    kinds = rng.dirichlet(np.ones(12), size=3)
    groups = rng.permutation(np.repeat(np.arange(3), (4, 5, 6)))
    noisy = kinds[groups] * rng.uniform(0.95, 1.05, (15, 12))
    maps = torch.from_numpy(noisy / noisy.sum(axis=1, keepdims=True))
    merged = merged_to(maps, 3)
    means = torch.stack([maps[torch.from_numpy(groups == k)].mean(dim=0) for k in range(3)])
    distances = torch.cdist(merged, means)
    assert sorted(distances.argmin(dim=1).tolist()) == [0, 1, 2]
    assert distances.min(dim=1).values.max() < 1e-12
    assert merged_to(maps, 15).equal(maps)
