"""Samples that students learn from: crops, weights, order; and that memory does not grow."""

from dataclasses import replace
from itertools import islice

import numpy as np
import psutil
import pytest
import torch
from two_colors import COLORS, SIDE, row_of, run_of

from genseg.errors import GensegError
from genseg.runs.rows import LEVELS, Row, png_of
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of
from genseg.students.loss import weighted_loss
from genseg.students.samples import Samples, shuffled


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return run_of(tmp_path_factory.mktemp("run"), [row_of(i) for i in range(24)])


def test_pixels_count_as_their_weights_say():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 4, generator=draws, dtype=torch.float64, requires_grad=True)
    classes = torch.randint(0, 3, (2, 4, 4), generator=draws)
    w = torch.rand(2, 4, 4, generator=draws)
    w[0, 0, 0] = 0
    weighted_loss(logits, classes, w).backward()
    one_hot = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2)
    expected = (w / w.sum())[:, None] * (logits.softmax(dim=1) - one_hot)  # of Σ w·ce / Σ w
    assert torch.allclose(logits.grad, expected.detach(), atol=1e-6)
    assert not logits.grad[0, :, 0, 0].any()
    assert weighted_loss(logits, classes, torch.zeros_like(w)) == 0


def test_weights_are_confidence_and_0_where_it_is_low_or_no_class_is(tmp_path):
    levels = np.full((SIDE, SIDE + 8), 9, np.uint8)
    levels[:, : SIDE // 2] = 3
    run = run_of(tmp_path, [row_of(0, levels)])
    run.assign("one", ["red"], lambda _: np.array([0, -1], dtype=np.int32))
    of = {"image_size": SIDE, "val_fraction": 1 - 1e-12}
    (sample,) = Samples(run, "one", min_confidence=0.4, **of).validation()
    expected = np.where((sample.classes == 0) & (np.arange(SIDE) >= SIDE // 2 - 4), 9 / LEVELS, 0)
    assert np.allclose(sample.weights, expected)
    assert (sample.classes == -1).any()
    (plain,) = Samples(run, "one", min_confidence=0.4, confidence_weighting=False, **of).validation()
    assert np.array_equal(plain.weights, expected > 0)


def test_crops_keep_pixels_and_classes_together(run):
    for sample in islice(Samples(run, "colors", image_size=SIDE, val_fraction=0).training(), 40):
        nearest = np.square(sample.pixels[:, :, None].astype(int) - COLORS.astype(int)).sum(axis=3).argmin(axis=2)
        assert (nearest == sample.classes).mean() > 0.97  # all but pixels on an edge


def test_each_crop_is_one_of_its_own(tmp_path):
    run = run_of(tmp_path, [row_of(0), replace(row_of(0), key="again")])
    crops = [sample.pixels.tobytes() for sample in islice(Samples(run, "colors", image_size=16).training(), 6)]
    assert len(set(crops)) == 6


def test_an_epoch_has_every_image_once_in_an_order_of_its_own(run):
    samples = Samples(run, "colors", image_size=8, val_fraction=0.3)
    assert samples.n_training + samples.n_validation == 24
    assert samples.n_validation == len(list(samples.validation())) > 0
    first, second = ([row.key for row in samples._shuffled(epoch)] for epoch in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second
    assert sorted(shuffled(range(100), np.random.default_rng(0), 10)) == list(range(100))


def test_what_comes_after_a_start_is_the_same(run):
    samples = Samples(run, "colors", image_size=16, val_fraction=0.3)
    whole = list(islice(samples.training(), 40))  # more than two epochs
    for start in (3, samples.n_training, 25):
        for sample, expected in zip(islice(samples.training(start), 5), whole[start:], strict=False):
            assert all(np.array_equal(a, b) for a, b in zip(sample, expected, strict=True))


def gone(index: int) -> Row:
    """An image that cannot be read any more."""
    return replace(row_of(index), image=None, source=ImageSource("gone.png"))


def test_an_image_that_is_gone_changes_nothing_of_the_others(tmp_path):
    rows, of = [row_of(i) for i in range(12)], {"image_size": 16, "val_fraction": 0}
    whole = Samples(run_of(tmp_path / "whole", rows), "colors", **of)
    less = Samples(run_of(tmp_path / "less", [*rows[:5], gone(5), *rows[6:]]), "colors", **of)
    kept = 0
    for sample, expected in zip(islice(less.training(), 24), whole.training(), strict=False):
        if sample.weights.any():
            assert all(np.array_equal(a, b) for a, b in zip(sample, expected, strict=True))
            kept += 1
    assert kept == 22
    assert less.skipped.count == 1
    assert "gone.png does not exist" in less.skipped.reason
    assert not whole.skipped.count


def test_a_run_whose_images_are_gone_is_a_sentence(tmp_path):
    samples = Samples(run_of(tmp_path, [gone(i) for i in range(12)]), "colors", image_size=16, val_fraction=0)
    with pytest.raises(
        GensegError, match=r"more images of the run cannot be read than can; .* gone.png does not exist"
    ):
        list(islice(samples.training(), 12))


def test_memory_does_not_grow_with_the_run(tmp_path):
    def largest(n: int) -> int:
        row = row_of(0)
        big = png_of(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8))  # 48 kB
        store = Store(str(tmp_path / str(n)))
        for shard in range(n // 100):
            rows = [Row(f"{shard}-{i}", row.source, size=(128, 128), image=big, labels_png=row.labels_png,
                        confidence_png=row.confidence_png) for i in range(100)]  # fmt: skip
            store.write_table(f"shards/shard-{shard:05}.parquet", table_of(rows))
        store.write_json(MANIFEST, {})
        run = Run(str(tmp_path / str(n)))
        run.assign("colors", ["red", "blue"], lambda _: np.arange(2, dtype=np.int32), ["key"])
        samples, process, most = Samples(run, "colors", image_size=8), psutil.Process(), 0
        for count, _row in enumerate(samples._shuffled(0)):
            most = max(most, process.memory_info().rss) if count % 50 == 0 else most
        return most

    assert largest(4000) - largest(1000) < 75 * 2**20  # half of what is more on disk; resident sizes vary by 40 MB


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_run_that_is_damaged_while_it_is_read_is_a_sentence(tmp_path):
    run = run_of(tmp_path, [row_of(i) for i in range(2)])
    crops = Samples(run, "colors", image_size=16, val_fraction=0).training()
    run.store.write(run.shards[0], b"PAR1")
    with pytest.raises(GensegError, match="no image of the run can be read any more"):
        next(crops)
