"""Rows that a run saves of an image come back as they were."""

from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_masks

import genseg
from genseg import GensegError
from genseg.runs.rows import DONE, FAILED, LEVELS, Row, png_of
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import rows_of, table_of


@pytest.fixture(scope="module")
def found(photo) -> genseg.Segmentation:
    return genseg.segment(photo, n_clusters=4, n_init=1, draws=1, size=32, margin=0)


def back(row: Row) -> Row:
    (read,) = rows_of(table_of([row]).to_batches()[0])
    return read


def test_a_row_comes_back_as_it_was(found):
    row = Row.of(found, "a", ImageSource("a.png"), "hash", image=b"file")
    read = back(row)
    assert read == replace(row, masks=read.masks)
    for mask, own in zip(read.masks, row.masks, strict=True):
        assert np.array_equal(mask.embedding, own.embedding)
        assert (mask.label, mask.area, mask.rle) == (own.label, own.area, own.rle)
        assert mask.confidence == pytest.approx(own.confidence)
    assert np.array_equal(read.labels, found.labels)
    assert read.labels.dtype == np.int32
    assert np.abs(read.confidence - found.confidence.astype(np.float32)).max() <= 0.5 / LEVELS + 1e-3


def test_masks_are_coco_run_lengths_of_the_labels(found):
    row = Row.of(found, "a", ImageSource("a.png"), "hash")
    assert [mask.label for mask in row.masks] == np.unique(found.labels).tolist()
    for mask in row.masks:
        decoded = coco_masks.decode({"size": list(row.size), "counts": mask.rle.encode()}).astype(bool)
        assert np.array_equal(decoded, found.labels == mask.label)
        assert mask.area == decoded.sum()
        assert np.array_equal(mask.embedding, found.embeddings[mask.label])


def test_without_a_map_a_pixel_has_its_masks_confidence(found):
    row = back(Row.of(found, "a", ImageSource("a.png"), "hash", pixel_confidence=False))
    assert row.confidence_png is None
    assert np.allclose(row.confidence, found.mask_confidence[found.labels])


def test_more_labels_than_a_byte_holds_are_kept(found):
    labels = (np.arange(found.labels.size, dtype=np.int32) % 300).reshape(found.labels.shape)
    many = replace(found, labels=labels, embeddings=np.zeros((300, 2), np.float32), colors=np.zeros((300, 3), np.uint8))
    assert np.array_equal(back(Row.of(many, "a", ImageSource("a.png"), "hash")).labels, labels)


def test_a_failure_is_a_row_without_masks():
    row = Row("b", ImageSource("b.png"), FAILED, "no image", recipe_hash="hash")
    assert back(row) == row


def written(tmp_path, *shards: list[Row]) -> Run:
    store = Store(str(tmp_path / "run"))
    for index, rows in enumerate(shards):
        store.write_table(f"shards/shard-{index:05}.parquet", table_of(rows))
    store.write_json(MANIFEST, {})
    return Run(str(tmp_path / "run"))


def test_rows_are_read_shard_by_shard(found, tmp_path):
    rows = [Row.of(found, key, ImageSource(f"{key}.png"), "hash") for key in "abc"]
    run = written(tmp_path, rows[:2], [Row("x", ImageSource("x.png"), FAILED, "no image"), rows[2]])
    assert len(run) == 4
    assert [row.key for row in run.rows()] == ["a", "b", "c"]
    assert [row.key for row in run.rows(["key"], failed=True)] == ["a", "b", "x", "c"]
    assert all(row.labels_png is None for row in run.rows(["key"]))
    assert run.counts() == {DONE: 3, FAILED: 1}


def test_classes_are_those_that_were_assigned(found, tmp_path):
    rows = [Row.of(found, key, ImageSource(f"{key}.png"), "hash") for key in "ab"]
    run = written(tmp_path, [Row("x", ImageSource("x.png"), FAILED, "no image"), rows[0]], [rows[1]])
    of = np.arange(4, dtype=np.int32) - 1
    run.assign("mine", ["sky", "tree", "car"], lambda row: of if row.key == "a" else of[::-1].copy(), how="by hand")
    assert run.class_sets == ["mine"]
    assert run.class_names("mine") == ("sky", "tree", "car")
    first, second = run.rows(classes="mine")
    assert np.array_equal(first.class_labels, of[found.labels])
    assert np.array_equal(second.class_labels, of[::-1][found.labels])
    with pytest.raises(GensegError, match="mine"):
        run.class_names("mime")


def test_classes_that_were_given_to_a_part_alone_are_none(found, tmp_path):
    rows = [Row.of(found, key, ImageSource(f"{key}.png"), "hash") for key in "ab"]
    run = written(tmp_path, [rows[0]])
    of = np.zeros(4, dtype=np.int32)
    run.assign("mine", ["sky"], lambda _: of)
    run.store.write_table("shards/shard-00001.parquet", table_of([rows[1]]))
    with pytest.raises(GensegError, match="came after its classes mine"):
        list(run.rows(classes="mine"))

    def killed(row: Row) -> np.ndarray:
        if row.key == "b":
            raise KeyboardInterrupt
        return of

    with pytest.raises(KeyboardInterrupt):
        run.assign("mine", ["tree"], killed)
    assert run.class_sets == [], "not the old names for some of the new classes"


def test_a_folder_without_a_run_is_a_sentence(tmp_path):
    with pytest.raises(GensegError, match="holds no run"):
        Run(str(tmp_path))


def test_pictures_are_read_from_where_they_lie(tmp_path, photo):
    content = png_of(np.asarray(photo))
    (tmp_path / "a.png").write_bytes(b"before" + content + b"after")
    row = Row("a", ImageSource(str(tmp_path / "a.png"), offset=6, length=len(content)))
    assert np.array_equal(np.asarray(row.picture()), np.asarray(photo))
    assert Row("a", ImageSource("nowhere.png"), image=content).picture().size == row.picture().size
    with pytest.raises(GensegError, match="does not exist"):
        Row("a", ImageSource(str(tmp_path / "b.png"))).picture()
