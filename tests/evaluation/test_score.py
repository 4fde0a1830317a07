"""Figures over a set: against torchmetrics, plain confusions, and closed forms; intervals and what they promise."""

import json
import math

import numpy as np
import pytest
import torch
from oracle_reference import measure_image, set_figures
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from genseg.errors import GensegError
from genseg.evaluation import metrics
from genseg.evaluation.bootstrap import weights
from genseg.evaluation.metrics import IGNORE
from genseg.evaluation.protocols import (
    PROTOCOLS,
    GroundTruth,
    Record,
    RowStatistics,
    Score,
    SegmentStatistics,
    measured,
    paired_interval,
    protocol_named,
)


def made_up(seed, n_segments=6, n_classes=5, shape=(24, 30)):
    """Segments and a truth that partly follows them, some of it ignored."""
    rng = np.random.default_rng(seed)
    segments = np.kron(rng.integers(0, n_segments, (4, 5)), np.ones((6, 6), int))
    segments = np.where(rng.random(shape) < 0.03, rng.integers(0, n_segments, shape), segments)
    truth = np.roll(rng.integers(0, n_classes, n_segments)[segments], rng.integers(-2, 3, 2), (0, 1))
    truth[rng.random(shape) < 0.1] = IGNORE
    return segments.astype(np.int32), truth


def scored(images, name="oracle", n_classes=5, classes=None, **options):
    """The score of (segments, truth) pairs, and what each image measured."""
    protocol = protocol_named(name, n_classes)
    score, rows = Score(protocol, n_classes, **options), []
    for i, (segments, *truths) in enumerate(images):
        seen = SegmentStatistics(segments, [GroundTruth(truth, n_classes) for truth in truths])
        given = [protocol.classes(view) if classes is None else classes[i] for view in seen.contingencies()]
        record = measured(seen, given)
        score.add(str(i), record)
        rows.append(record.metrics)
    return score, rows


IMAGES = [made_up(seed) for seed in range(5)]


# --- against independent computations -------------------------------------------------------------------------------


def test_figures_are_those_of_torchmetrics():
    rng = np.random.default_rng(0)
    classes = [rng.integers(0, 5, 6) for _ in IMAGES]
    figures = scored(IMAGES, "oracle", classes=classes)[0].metrics()
    predicted = torch.from_numpy(np.stack([c[s] for c, (s, _) in zip(classes, IMAGES, strict=True)]))
    truth = torch.from_numpy(np.stack([t for _, t in IMAGES]))
    by_class = MulticlassJaccardIndex(5, average="none", ignore_index=IGNORE)(predicted, truth)
    assert [entry["value"] for entry in figures["iou"]] == pytest.approx(by_class.tolist())
    mean = MulticlassJaccardIndex(5, average="macro", ignore_index=IGNORE)(predicted, truth)
    assert figures["miou"]["value"] == pytest.approx(float(mean))
    share = MulticlassAccuracy(5, average="micro", ignore_index=IGNORE)(predicted, truth)
    assert figures["accuracy"]["value"] == pytest.approx(float(share))


def test_oracle_figures_are_those_of_plain_confusions():
    score, rows = scored(IMAGES)
    expected = [measure_image(segments, [truth], 5) for segments, truth in IMAGES]
    for row, image in zip(rows, expected, strict=True):
        assert {name: row[name] for name in image.scalars} == pytest.approx(image.scalars)
    total = set_figures(expected)
    figures = score.metrics()
    assert {name: figures[name]["value"] for name in total} == pytest.approx(total)


def test_regions_of_annotators_are_measured_one_annotator_after_the_other():
    images = [(*made_up(seed, 6, 4), made_up(seed + 20, 6, 9)[1]) for seed in range(3)]
    images = [(segments, *(truth + 3 for truth in truths)) for segments, *truths in images]  # any numbers, none ignored
    score, rows = scored(images, n_classes=None)
    expected = [measure_image(segments, truths, None) for segments, *truths in images]
    for row, image in zip(rows, expected, strict=True):
        assert {name: row[name] for name in image.scalars} == pytest.approx(image.scalars)
    figures = score.metrics()
    for name, value in set_figures(expected).items():
        assert figures[name]["value"] == pytest.approx(value)
    assert "iou" not in figures


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"traditional", "concept", "open-vocabulary"}))
def test_boundaries_are_those_of_the_map_of_classes(name):
    protocol = protocol_named(name, 5)
    for segments, truth in IMAGES:
        seen = SegmentStatistics(segments, [GroundTruth(truth, 5)])
        classes = protocol.classes(seen.contingencies()[0])
        figures = seen.boundary_metrics(0, classes)
        for ending, tolerance in (("", 2), ("_diagonal", 0.0075 * math.hypot(24, 30))):
            precision, recall, f = metrics.boundary_scores(classes[segments], truth, tolerance=tolerance)
            assert figures[f"boundary_precision{ending}"] == precision
            assert figures[f"boundary_recall{ending}"] == recall
            assert figures[f"boundary_f{ending}"] == f
            assert f > 0


@pytest.mark.parametrize(("shift", "narrow", "wide"), [(2, 1, 1), (3, 0, 1), (4, 0, 0)])
def test_the_wider_tolerance_is_three_quarters_of_a_percent_of_the_diagonal(shift, narrow, wide):
    columns = np.tile(np.arange(400), (300, 1))  # a diagonal of 500 pixels
    segments, truth = (columns >= 200 + shift).astype(np.int32), (columns >= 200).astype(int)
    figures = scored([(segments, truth)], n_classes=2)[1][0]
    assert (figures["boundary_f"], figures["boundary_f_diagonal"]) == (narrow, wide)


def test_segments_left_over_cost_classes_that_the_image_lacks():
    segments, truth = np.array([[0, 0, 0, 1]], np.int32), np.zeros((1, 4), int)
    one = scored([(segments, truth)], "per-image-hungarian")[0].metrics()
    assert one["miou"]["value"] == 0.75  # three of four pixels, and no other class
    every = scored([(segments, truth)], "per-image-hungarian-all")[0].metrics()
    assert every["miou"]["value"] == (0.75 + 0) / 2  # the fourth is a false positive of another class
    assert one["accuracy"]["value"] == every["accuracy"]["value"] == 0.75


def test_rows_of_pixels_are_matched_apart_and_pooled():
    segments, truth = np.array([[0, 1], [0, 1]], np.int32), np.array([[0, 1], [1, 0]])
    truths = [GroundTruth(truth, 2)]
    protocol = protocol_named("per-image-hungarian-all", 2)
    whole, rows = SegmentStatistics(segments, truths), RowStatistics(segments, truths)
    by_image, by_row = (measured(s, [protocol.classes(v) for v in s.contingencies()]) for s in (whole, rows))
    assert (by_image.metrics["accuracy"], by_row.metrics["accuracy"]) == (0.5, 1)
    assert by_row.pixels.tolist() == [[2, 2]] * 3
    assert {name: by_row.metrics[name] for name in ("covering", "ari", "components")} == {
        name: by_image.metrics[name] for name in ("covering", "ari", "components")
    }


def test_scores_under_two_protocols_have_no_difference():
    with pytest.raises(GensegError, match="under oracle and per-image-hungarian cannot be compared"):
        paired_interval(scored(IMAGES)[0], scored(IMAGES, "per-image-hungarian")[0], "miou")


# --- closed forms ---------------------------------------------------------------------------------------------------


def test_segments_that_are_the_truth_are_perfect_under_any_numbers():
    truth = np.kron(np.array([[0, 1, 0], [2, 2, 3]]), np.ones((6, 6), int))
    figures = scored([(np.array([3, 0, 2, 1], np.int32)[truth], truth)])[0].metrics()
    for name in ("miou", "accuracy", "boundary_f", "boundary_f_diagonal", "covering", "pri", "ari"):
        assert figures[name]["value"] == 1
    assert figures["voi"]["value"] == pytest.approx(0, abs=1e-12)
    assert figures["components"]["value"] == 5
    assert [entry["value"] for entry in figures["iou"]] == pytest.approx([1, 1, 1, 1, math.nan], nan_ok=True)


def test_one_segment_finds_one_class():
    truth = np.repeat([0, 1, 1, 1], 8).reshape(4, 8)
    figures = scored([(np.zeros((4, 8), np.int32), truth)], n_classes=2)[0].metrics()
    assert figures["accuracy"]["value"] == 0.75
    assert figures["miou"]["value"] == pytest.approx(0.75 / 2)
    assert figures["boundary_f"]["value"] == figures["ari"]["value"] == 0
    assert figures["covering"]["value"] == pytest.approx(0.25**2 + 0.75**2)


def test_an_image_without_measured_pixels_does_not_count():
    blank = (IMAGES[0][0], np.full_like(IMAGES[0][1], IGNORE))
    score, rows = scored([*IMAGES, blank])
    assert all(math.isnan(rows[-1][name]) for name in rows[-1] if name != "components")
    with_it, without = score.metrics(), scored(IMAGES)[0].metrics()
    assert with_it["images"] == 6
    for name in set(rows[0]) - {"components"}:
        assert with_it[name]["value"] == pytest.approx(without[name]["value"])


def test_a_set_without_measured_pixels_measures_nothing():
    figures = scored([(IMAGES[0][0], np.full_like(IMAGES[0][1], IGNORE))])[0].metrics()
    assert math.isnan(figures["miou"]["value"])
    assert all(math.isnan(end) for end in figures["miou"]["interval"])
    assert math.isnan(figures["iou"][0]["value"])


def test_no_images_have_no_figures():
    with pytest.raises(GensegError, match="no image has been measured"):
        Score(protocol_named("oracle", 3), 3).metrics()


def test_segments_without_a_class_are_missed_but_false_in_none():
    segments = np.repeat(np.arange(4, dtype=np.int32), 8).reshape(4, 8)
    truth = np.repeat([0, 0, 1, 1], 8).reshape(4, 8)
    figures = scored([(segments, truth)], classes=[np.array([0, IGNORE, 1, 1])], n_classes=2)[0].metrics()
    assert [entry["value"] for entry in figures["iou"]] == [0.5, 1]
    assert figures["accuracy"]["value"] == 0.75


def test_many_to_one_is_the_oracle_averaged_over_images():
    pooled, (score, rows) = scored(IMAGES)[0].metrics(), scored(IMAGES, "per-image-many-to-one")
    averaged = score.metrics()
    for name in ("miou", "accuracy"):
        assert averaged[name]["value"] == pytest.approx(np.mean([row[name] for row in rows]))
        assert averaged[name]["value"] != pytest.approx(pooled[name]["value"], abs=1e-4)
    assert averaged["iou"] == pooled["iou"]
    assert averaged["protocol"] == "per-image-many-to-one"


def test_ignored_pixels_neither_vote_nor_count_nor_bound():
    truth = np.tile((np.arange(16) >= 8).astype(int), (16, 1))
    truth[:, 6:11] = IGNORE  # hides the boundary between the classes
    segments = np.zeros_like(truth)
    segments[:, 11:] = 1
    (row,) = scored([(segments, truth)], n_classes=2)[1]
    assert row["accuracy"] == row["miou"] == 1
    assert row["boundary_f"] == 1  # neither map has a boundary between measured pixels
    hidden = np.where(truth == IGNORE, 2, segments)
    (view,) = SegmentStatistics(hidden, [GroundTruth(truth, 2)]).contingencies()
    assert protocol_named("oracle", 2).classes(view).tolist() == [0, 1, IGNORE]


def test_mean_iou_is_of_the_sets_pixels_over_classes_that_occur():
    nothing, quarter = np.zeros((4, 4), int), np.tile((np.arange(4) >= 1).astype(int), (4, 1))
    figures = scored([(nothing, nothing), (nothing, quarter)])[0].metrics()  # the second is all called class 1
    assert figures["miou"]["value"] == pytest.approx((16 / 20 + 12 / 16) / 2)  # class 2, 3 and 4 are nowhere
    assert figures["accuracy"]["value"] == pytest.approx(28 / 32)


def test_figures_of_regions_are_means_over_annotators_then_images():
    nothing, quarter, half = (np.tile((np.arange(4) >= n).astype(int), (4, 1)) for n in (4, 1, 2))
    score, rows = scored([(nothing, nothing, quarter), (half, half)], n_classes=None)
    assert rows[0]["accuracy"] == pytest.approx((1 + 0.75) / 2)
    assert score.metrics()["accuracy"]["value"] == pytest.approx((0.875 + 1) / 2)


# --- intervals ------------------------------------------------------------------------------------------------------


def test_values_of_a_resample_are_those_of_the_images_it_repeats():
    score = scored(IMAGES, draws=40)[0]
    drawn = np.stack([weights(str(i), draws=40)[1:] for i in range(5)], axis=1)
    images = [measure_image(segments, [truth], 5) for segments, truth in IMAGES]
    expected = [set_figures(images, counts) for counts in drawn]
    for name in expected[0]:
        assert score.values(name)[1:] == pytest.approx([figures[name] for figures in expected], nan_ok=True)


def test_intervals_are_around_the_value_and_the_same_again():
    images = [made_up(seed) for seed in range(30)]
    first, second = scored(images)[0].metrics(), scored(images)[0].metrics()
    assert first == second
    for name in ("miou", "accuracy", "boundary_f", "covering", "pri", "voi", "ari"):
        low, high = first[name]["interval"]
        assert low < first[name]["value"] < high
    assert first != scored(images, seed=1)[0].metrics()


def test_counted_figures_do_not_depend_on_the_order():
    one, other = (Score(protocol_named("oracle", 5), 5) for _ in range(2))
    seen = [SegmentStatistics(segments, [GroundTruth(truth, 5)]) for segments, truth in IMAGES]
    oracle = protocol_named("oracle", 5)
    for score, order in ((one, range(5)), (other, reversed(range(5)))):
        for i in order:
            score.add(str(i), measured(seen[i], [oracle.classes(view) for view in seen[i].contingencies()]))
    assert one.metrics()["miou"] == other.metrics()["miou"]
    assert one.metrics()["iou"] == other.metrics()["iou"]


def test_differences_are_paired():
    images = [made_up(seed) for seed in range(30)]
    worse = [
        np.where(np.arange(6) == 0, (c + 1) % 5, c)
        for c in (np.argmax(SegmentStatistics(s, [GroundTruth(t, 5)]).tables[0], axis=1) for s, t in images)
    ]
    good, bad = scored(images)[0], scored(images, classes=worse)[0]
    assert paired_interval(good, good, "miou") == [0, 0]
    low, high = paired_interval(good, bad, "accuracy")
    gain = good.values("accuracy")[0] - bad.values("accuracy")[0]
    assert 0 < low < gain < high
    assert paired_interval(bad, good, "accuracy") == pytest.approx([-high, -low])


def test_differences_between_other_images_are_refused():
    with pytest.raises(GensegError, match="the same images and seed"):
        paired_interval(scored(IMAGES)[0], scored(IMAGES[:4])[0], "miou")


def test_a_column_of_pixels_has_no_sides_to_the_right():
    segments = np.array([[0], [0], [1], [1]], np.int32)
    assert scored([(segments, segments)], n_classes=2)[0].metrics()["boundary_f"]["value"] == 1


def test_views_end_with_the_largest_segment_that_has_pixels():
    embeddings = np.arange(8, dtype=np.float32).reshape(4, 2)
    seen = SegmentStatistics(np.array([[0, 2]], np.int32), [GroundTruth(np.array([[1, 1]]), 2)])
    (view,) = seen.contingencies(embeddings, np.array([1, 0, 1, 0]))
    assert view.table.tolist() == [[0, 1], [0, 0], [0, 1]]
    assert (view.embeddings == embeddings[:3]).all()
    assert view.named.tolist() == [1, 0, 1]


def test_records_that_went_through_a_file_give_the_same_digits():
    oracle, whole, again = protocol_named("oracle", 5), *(Score(protocol_named("oracle", 5), 5) for _ in range(2))
    for i, (segments, truth) in enumerate(IMAGES):
        seen = SegmentStatistics(segments, [GroundTruth(truth, 5)])
        record = measured(seen, [oracle.classes(view) for view in seen.contingencies()])
        kept = json.loads(json.dumps({"figures": record.metrics, "pixels": record.pixels.tolist()}))
        whole.add(str(i), record)
        again.add(str(i), Record(kept["figures"], np.array(kept["pixels"])))
    assert again.metrics() == whole.metrics()
