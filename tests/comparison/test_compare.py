"""Comparing models: what is run, kept and left out, and the figures that come of it."""

import gc
import json
import weakref
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from compared import QUICK, TRUTHS, two_photos
from models import sd_parts, write_sd_checkpoint
from oracle_reference import accuracy, confusion, mean_iou, measure_image, oracle_labels
from PIL import Image

import genseg
from genseg import GensegError
from genseg.comparison import compare as comparing
from genseg.evaluation import agreement
from genseg.evaluation.protocols import PROTOCOLS, GroundTruth, SegmentStatistics, measured, protocol_named
from genseg_backends.families.stable_diffusion import StableDiffusion


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return two_photos()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def found(images, out):
    """Three models, ground truth under every protocol that there can be, and one image that cannot be read."""
    models = {"sd14": str(write_sd_checkpoint(out / "sd14-model", seed=1))}
    backends = ["tiny", StableDiffusion(**sd_parts()), "sd14"]
    truths = [*TRUTHS, TRUTHS[0]]
    settings = {"out": out, "truths": truths, "protocols": RULES, "models": models, "seed": 2} | QUICK
    return genseg.compare([*images, out / "none.png"], backends, **settings)


BACKENDS = ["tiny", "stable-diffusion", "sd14"]
RULES = [name for name in PROTOCOLS if name != "open-vocabulary"]
GROUND_TRUTH_METRICS = ("miou", "accuracy", "boundary_f")


# --- what is run ----------------------------------------------------------------------------------------------------


def test_each_model_segments_as_it_does_alone_at_the_images_own_size(found, images):
    alone = genseg.segment(images[0], "tiny", seed=2, **QUICK)
    assert np.array_equal(found.segmentation("image0", "tiny").labels, alone.labels)
    assert found.segmentation("image1", "sd14").labels.shape == (64, 64)
    assert list(found.recipes) == BACKENDS


def test_clusters_are_one_number_and_the_rest_each_models_own(images, tiny):
    quick = {key: value for key, value in QUICK.items() if key not in ("n_clusters", "margin")} | {"size": 64}
    found = genseg.compare(images[:1], [tiny], **quick)
    assert found.recipes["tiny"].n_clusters == 25  # its own would be 15
    assert found.recipes["tiny"].margin == tiny.recipe["margin"]
    assert genseg.compare(images[:1], [tiny], {"n_clusters": 4}, **quick).recipes["tiny"].n_clusters == 4
    assert genseg.compare(images[:1], [tiny], options=["n_clusters=5"], **quick).recipes["tiny"].n_clusters == 5
    with pytest.raises(GensegError, match="one number of clusters, not 'auto'"):
        genseg.compare(images[:1], [tiny], **quick, n_clusters="auto")
    with pytest.raises(GensegError, match="models names 'tiny', which is loaded already"):
        genseg.compare(images[:1], [tiny], models={"tiny": "x"}, **quick)


def test_one_model_is_in_memory_at_a_time(images, tmp_path, monkeypatch):
    path = str(write_sd_checkpoint(tmp_path / "model"))
    loaded: list[weakref.ref] = []

    def load(name, **options):
        assert not any(model() for model in loaded), "the model before it is still there"
        loaded.append(weakref.ref(backend := genseg.load_backend(name, **options)))
        return backend

    monkeypatch.setattr(comparing, "load_backend", load)
    too_many = QUICK | {"n_clusters": 9}  # sd14's grid has no 9 positions at this size: it fails on every image
    found = genseg.compare(images[:1], ["sd14", "tiny", "sd15"], models={"sd14": path, "sd15": path}, **too_many)
    gc.collect()
    assert len(loaded) == 3
    assert not any(model() for model in loaded)
    assert list(found.recipes) == ["tiny"]


def test_an_unreadable_image_is_reported_and_left_out_everywhere(found):
    assert found.failures.values.tolist() == [["", "none", found.failures.problem[0]]]
    assert "does not exist" in found.failures.problem[0]
    assert set(found.images["image"]) == set(found.pairs["image"]) == {"image0", "image1"}


# --- the figures ----------------------------------------------------------------------------------------------------


def test_each_image_and_backend_has_a_row_of_what_the_segmentation_says(found):
    assert len(found.images) == 6
    for row in found.images.itertuples():
        seg = found.segmentation(row.image, row.backend)
        assert row.segments == seg.n_segments
        assert row.seconds == pytest.approx(sum(seg.cost.seconds.values()))
        assert (row.evaluations, row.decodes) == (seg.cost.evaluations, seg.cost.decodes)
        truth = TRUTHS[int(row.image[-1])]
        scores = measure_image(seg.labels, [truth], 3).scalars
        oracle = [row.oracle_miou, row.oracle_accuracy, row.oracle_boundary_f]
        assert oracle == pytest.approx([scores[key] for key in GROUND_TRUTH_METRICS])
    errors = found.images.groupby("backend")["reconstruction_rmse"].max()
    assert errors["tiny"] < 1e-5 < 1e-3 < errors["sd14"]


def test_each_image_and_pair_has_a_row_of_how_they_agree(found):
    pairs = found.pairs.set_index(["image", "first", "second"])
    assert list(pairs.index) == [(f"image{i}", *pair) for i in (0, 1) for pair in combinations(BACKENDS, 2)]
    for (image, first, second), row in pairs.iterrows():
        one, two = (found.segmentation(image, name).labels for name in (first, second))
        assert row.ari == agreement.ari(one, two)
        assert row.matched_miou == agreement.matched_iou(one, two)
        assert row.boundary_f == agreement.boundary_f(one, two)
        assert row.first_explains_second == agreement.explains(one, two)
        assert row.second_explains_first == agreement.explains(two, one)


def test_summaries_are_means_with_intervals_and_say_their_protocol(found):
    for backend in BACKENDS:
        mean, low, high = found.figures(backend)["seconds"]
        seconds = found.images[found.images["backend"] == backend]["seconds"]
        assert mean == pytest.approx(seconds.mean())
        assert (low, high) == pytest.approx((seconds.min(), seconds.max()))  # of two images, one is drawn twice
    pair = found.pairs[(found.pairs["first"] == "tiny") & (found.pairs["second"] == "sd14")]
    assert found.figures("tiny", "sd14")["ari"][0] == pytest.approx(pair["ari"].mean())
    said = dict(zip(found.summary["figure"], found.summary["protocol"], strict=True))
    for name in RULES:
        assert said[f"{name}_miou"] == f"mean IoU over classes; {PROTOCOLS[name].rule}"


def test_the_oracles_figures_of_a_set_are_those_of_its_accumulated_confusion(found):
    table = np.zeros((3, 3), int)
    for i, truth in enumerate(TRUTHS):
        labels = found.segmentation(f"image{i}", "tiny").labels
        table += confusion(truth, oracle_labels(labels, truth), 3)
    figures = found.figures("tiny")
    assert figures["oracle_miou"][0] == pytest.approx(mean_iou(table))
    assert figures["oracle_accuracy"][0] == pytest.approx(accuracy(table))


@pytest.mark.parametrize("name", RULES)
def test_a_protocol_learns_from_all_images_of_a_backend_and_then_measures_each(found, name):
    for backend in BACKENDS:
        rule = protocol_named(name, 3, seed=2)
        segmentations = [found.segmentation(f"image{i}", backend) for i in (0, 1)]
        seen = [
            SegmentStatistics(seg.labels, [GroundTruth(truth, 3)])
            for seg, truth in zip(segmentations, TRUTHS, strict=True)
        ]
        views = [one.contingencies(seg.embeddings)[0] for one, seg in zip(seen, segmentations, strict=True)]
        for _ in range(rule.passes):
            for view in views:
                rule.fit(view)
            rule.close()
        records = [measured(one, [rule.classes(view)]) for one, view in zip(seen, views, strict=True)]
        rows = found.images[found.images["backend"] == backend]
        for key in GROUND_TRUTH_METRICS:
            assert rows[f"{name}_{key}"].tolist() == [record.metrics[key] for record in records]
        right, true, predicted = sum(record.pixels for record in records)
        ious = right / np.maximum(true + predicted - right, 1)
        pooled = {"miou": ious[true + predicted > 0].mean(), "accuracy": right.sum() / true.sum()}
        for key in GROUND_TRUTH_METRICS:
            mean = rows[f"{name}_{key}"].mean()
            expected = pooled.get(key, mean) if rule.pooled else mean
            assert found.figures(backend)[f"{name}_{key}"][0] == pytest.approx(expected)


def test_a_protocol_that_cannot_measure_a_backend_is_told_and_costs_no_other(images, tiny):
    truth = np.tile(np.arange(96) // 10, (64, 1))
    settings = QUICK | {"truths": [truth], "protocols": ["oracle", "traditional"]}
    found = genseg.compare(images[:1], [tiny], **settings)
    assert found.failures.values.tolist()[0][:2] == ["tiny", ""]
    assert found.failures.problem[0].startswith("traditional: the traditional protocol makes 10 clusters of")
    assert "oracle_miou" in found.figures("tiny")
    assert "traditional_miou" not in found.figures("tiny")


def test_truths_may_be_files_by_name(images, tmp_path, tiny):
    for i, truth in enumerate(TRUTHS):
        images[i].save(tmp_path / f"p{i}.png")
        Image.fromarray(np.where(truth == 0, 255, truth).astype(np.uint8)).save(tmp_path / f"p{i}.truth.png")
    paths = [tmp_path / f"p{i}.png" for i in (0, 1)]
    found = genseg.compare(paths, [tiny], truths={p.stem: p.with_suffix(".truth.png") for p in paths}, **QUICK)
    assert list(found.images["image"]) == ["p0", "p1"]
    assert found.images["oracle_accuracy"][0] == 1  # one class is measured in this one


def test_without_truths_nothing_is_said_of_them(images, tiny):
    found = genseg.compare(images[:1], [tiny], **QUICK)
    assert not [column for column in found.images if column.startswith("oracle")]


def test_the_json_holds_what_the_tables_hold(found, tmp_path):
    what = json.loads(found.to_json(tmp_path / "new" / "c.json").read_text())
    for name in ("images", "pairs", "summary", "failures"):
        pd.testing.assert_frame_equal(pd.DataFrame(what[name]), getattr(found, name), check_dtype=False)
    assert what["genseg"] == genseg.__version__
    assert (what["seed"], what["recipes"]["tiny"]["n_clusters"]) == (2, 3)


def test_the_plot_shows_agreement_and_cost(found):
    left, right = found.plot().axes
    assert [label.get_text() for label in left.get_xticklabels()] == BACKENDS
    assert left.texts[1].get_text() == f"{found.figures('tiny', 'stable-diffusion')['ari'][0]:.2f}"
    widths = [bar.get_width() for bar in right.patches]
    assert widths == pytest.approx([found.figures(name)["seconds"][0] for name in BACKENDS])


def test_a_temporary_folder_lasts_as_long_as_the_comparison(images, tiny):
    found = genseg.compare(images[:1], [tiny], **QUICK)
    folder = found.folder
    assert found.segmentation("image0", "tiny").labels.shape == (64, 96)
    del found
    gc.collect()
    assert not folder.exists()
