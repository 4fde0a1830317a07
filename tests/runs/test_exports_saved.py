"""Exports of `.npz` files, which are those of a run with the same masks."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from commands import assert_refused
from commands import run as command
from exported import segmented
from pycocotools.coco import COCO

import genseg
from genseg import GensegError
from genseg.exports.export import Exported
from genseg.runs.rows import Row, png_of
from genseg.runs.run import MANIFEST
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of

NAMES = ("sky", "sea", "", "sky", "boat", "sea", "sky", "sky", "sky", "sky")


@pytest.fixture
def folder(tmp_path):
    """Two segmentations and what is none of them."""
    folder = tmp_path / "masks"
    folder.mkdir()
    segmented("coffee").save(folder / "b.npz")
    segmented("astronaut").save(folder / "a.npz")
    (folder / ".hidden.npz").write_bytes(b"")
    (folder / "a.labels.png").write_bytes(b"")
    return folder


def content(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_exported_as_a_run_of_the_same_masks(folder, tmp_path):
    store = Store(str(tmp_path / "run"))
    rows = [
        Row.of(each, key, ImageSource(""), "", image=png_of(each.image))
        for key, each in (("a", segmented("astronaut")), ("b", segmented("coffee")))
    ]
    store.write_table("shards/shard-0000000.parquet", table_of(rows))
    store.write_json(MANIFEST, {"backend": "tiny"})
    for name in ("coco-instances", "coco-panoptic", "voc"):
        for given, out in ((folder, "files"), (tmp_path / "run", "run")):
            assert genseg.export_run(given, name, tmp_path / name / out, min_confidence=0.3) == Exported(2)
        assert content(tmp_path / name / "files") == content(tmp_path / name / "run")


def test_files_are_named_one_by_one_or_by_patterns(folder, tmp_path):
    for number, (given, keys) in enumerate(
        {(folder / "b.npz",): "b", (folder / "*.npz",): "ab", (folder / "b.npz", folder / "[a-z].npz"): "ba"}.items()
    ):
        result = command("export", *given, "coco-instances", "--out", tmp_path / str(number))
        assert result.exit_code == 0, result.stderr
        images = json.loads((tmp_path / f"{number}/annotations/instances.json").read_text())["images"]
        assert "".join(image["key"] for image in images) == keys


def test_a_damaged_file_is_skipped_and_counted(folder, tmp_path):
    (folder / "a.npz").write_bytes((folder / "a.npz").read_bytes()[:1000])
    replace(segmented("coffee"), confidence=None).save(folder / "old.npz")
    result = command("export", folder, "voc", "--out", tmp_path / "voc")
    assert result.exit_code == 1
    assert result.stdout == f"1 images in {tmp_path / 'voc'}\n"
    assert "2 images or shards are left out" in result.stderr
    assert "a.npz is not a segmentation that genseg saved" in result.stderr
    with pytest.raises(GensegError, match=r"a\.npz is not a segmentation"):
        genseg.export_run(folder / "a.npz", "voc", tmp_path / "none")


def test_names_that_are_no_utf8_are_exported(folder, tmp_path):
    (folder / "a.npz").rename(folder / os.fsdecode(b"caf\xe9.npz"))
    assert genseg.export_run(folder, "voc", tmp_path / "out") == Exported(2)


def test_names_become_classes(folder, tmp_path):
    named = replace(segmented("coffee"), names=NAMES)
    named.save(folder / "b.npz")
    assert genseg.export_run(folder, "coco-instances", tmp_path / "coco").images == 2
    coco = COCO(str(tmp_path / "coco/annotations/instances.json"))
    assert [each["name"] for each in coco.cats.values()] == ["sky", "sea", "boat"]
    assert not coco.getAnnIds(imgIds=[1]), "the segments of the other file have no names"
    for category in coco.cats.values():
        masks = [coco.annToMask(each) for each in coco.loadAnns(coco.getAnnIds(catIds=[category["id"]]))]
        assert np.array_equal(np.add.reduce(masks), named.class_labels == named.classes.index(category["name"]))
    with pytest.raises(GensegError, match="did you mean names"):
        genseg.export_run(folder, "voc", tmp_path / "voc", classes="name")


def test_what_holds_no_masks_is_a_sentence(tmp_path):
    for given in (tmp_path, tmp_path / "*.npz"):
        refused = command("export", given, "voc", "--out", tmp_path / "out")
        assert_refused(refused, "holds neither a run nor .npz files")
    for given in (tmp_path / "a.npz", tmp_path / "a"):
        refused = command("export", given, "voc", "--out", tmp_path / "out")
        assert_refused(refused, f"{given} does not exist; check the path")
