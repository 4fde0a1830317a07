"""Common to all formats: names, images, thresholds, and that an export is there wholly or not at all."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exported import KEYS, SIZE, made, segmented
from PIL import Image
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.cli import app
from genseg.exports.file_names import LAYOUTS, FileNamer
from genseg.exports.formats import EXPORTS
from genseg.exports.json_arrays import JsonArrayWriter
from genseg.files import whole_folder
from genseg.runs.rows import Row, png_of
from genseg.runs.run import MANIFEST, Run, Skipped
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("made"))


def instances(folder: Path) -> dict:
    return json.loads((folder / "annotations/instances.json").read_text())


def test_every_format_writes_every_image_that_is_done(run, tmp_path):
    for name in EXPORTS:
        told = []
        found = genseg.export_run(
            run, name, tmp_path / name, classes="streets", progress=lambda *at, told=told: told.append(at)
        )
        assert (found.images, found.skipped) == (5, Skipped())
        assert told == [(number, 6) for number in range(1, 6)]
        assert not list(tmp_path.glob(".*"))


def test_names_are_safe_unique_and_keep_folders():
    names = FileNamer("folders")
    keys = ["a/b.jpg", "a/b.png", "A/B.jpg", "a/b-2", "../../etc/passwd", "/abs.olute/x.tif", "s3://bucket/ü (1).png"]
    keys += ["C:\\x\\..\\y.bmp", "", "..", "照片", ".hidden", "a" * 300, "a/b.jpg", "a.png/c", "a.b.c.jpg"]
    found = [names.of(key) for key in keys]
    assert found[:7] == ["a/b", "a/b-2", "A/B-3", "a/b-2-2", "etc/passwd", "abs_olute/x", "s3_/bucket/u_1_"]
    assert found[7:] == ["C_/x/y", "image", "image-2", "_", "hidden", "a" * 100, "a/b-4", "a_png/c", "a_b_c"]
    assert len({name.lower() for name in found}) == len(keys)


def test_no_key_is_too_long_to_be_a_file(tmp_path):
    for layout in LAYOUTS:
        names = FileNamer(layout)
        for key in ("/".join(["folder" * 30] * 60), "/".join(["folder" * 9] * 5)):
            path = tmp_path / f"{names.of(key)}_000000_{'x' * 40}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            assert path.is_file()


def test_names_of_flat_layouts_have_their_folders_in_them():
    flat, city = FileNamer("flat"), FileNamer("city")
    assert [flat.of(key) for key in ("a/b_c.jpg", "a_b/c.png", "x")] == ["a_b_c", "a_b_c-2", "x"]
    assert [city.of(key) for key in ("a_b/c/d_e.jpg", "a-b/c/d-e.jpg", "x_y")] == [
        "a-b-c/d-e",
        "a-b-c/d-e-2",
        "genseg/x-y",
    ]


def test_keys_stand_beside_formats_that_have_no_place_for_them(run, tmp_path):
    for name, format in EXPORTS.items():
        genseg.export_run(run, name, tmp_path / name, classes="streets", images="none")
        assert (tmp_path / name / "keys.csv").exists() != format.keys
    with (tmp_path / "voc/keys.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == list(KEYS)
    assert [row["name"] for row in rows] == ["street_a_photo", "street_b", "street_B-2", "c", "inside"]


def test_images_are_linked_where_they_can_be_taken_as_they_lie(run, tmp_path):
    genseg.export_run(run, "coco-instances", tmp_path / "out")
    names = [image["file_name"] for image in instances(tmp_path / "out")["images"]]
    assert names == ["street/a_photo.jpg", "street/b.png", "street/B-2.png", "c.png", "inside.webp"]
    paths = [tmp_path / "out/images" / name for name in names]
    linked = [path.samefile(row.source.uri) for row, path in zip(list(run.rows())[:3], paths, strict=False)]
    assert linked == [True, True, False]
    for row, path in zip(run.rows(), paths, strict=True):
        with Image.open(path) as image:
            assert image.size == SIZE
            assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(row.picture()))


def test_images_are_copied_or_left_out(run, tmp_path):
    genseg.export_run(run, "coco-instances", tmp_path / "copy", images="copy")
    genseg.export_run(run, "coco-instances", tmp_path / "none", images="none")
    copy = tmp_path / "copy/images/street/a_photo.jpg"
    source = next(run.rows()).source.uri
    assert not copy.samefile(source)
    assert copy.read_bytes() == Path(source).read_bytes()
    assert not (tmp_path / "none/images").exists()
    assert instances(tmp_path / "none")["images"][0]["file_name"] == source


def test_images_that_cannot_be_read_are_left_out_and_told(tmp_path):
    moved = made(tmp_path)
    (tmp_path / "images/c.tar").unlink()
    Image.new("RGB", (40, 40)).save(tmp_path / "images/a.jpg")
    for name in EXPORTS:
        found = genseg.export_run(moved, name, tmp_path / name, classes="streets")
        assert (found.images, found.skipped.count) == (3, 2)
        assert "street/a photo.jpg has another size" in found.skipped.reason
    kept = [entry["key"] for entry in instances(tmp_path / "coco-instances")["images"]]
    assert kept == ["street/b.png", "street/B.jpg", "inside"]
    told = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "voc", "-o", str(tmp_path / "told")])
    assert told.exit_code == 1
    assert told.stdout.strip().endswith("told")
    assert "2 images or shards are left out; the first: street/a photo.jpg has another size" in told.stderr


@pytest.mark.parametrize("images", ["link", "copy"])
@pytest.mark.parametrize(("name", "stored"), [("voc", "b.png"), ("coco-panoptic", "b.png"), ("cityscapes", "a.jpg")])
def test_an_image_that_is_cut_off_is_left_out_where_it_must_be_written_anew(tmp_path, name, stored, images):
    cut = made(tmp_path)
    path = tmp_path / "images" / stored
    path.write_bytes(path.read_bytes()[:-2000])
    found = genseg.export_run(cut, name, tmp_path / "out", classes="streets", images=images)
    assert (found.images, found.skipped.count) == (4, 1)
    key = next(row.key for row in cut.rows(["key", "uri"]) if row.source.uri.endswith(stored))
    assert found.skipped.reason.startswith(f"{key} is damaged or truncated")


def test_an_export_that_fails_leaves_nothing(tmp_path):
    moved = made(tmp_path)
    (tmp_path / "images/a.jpg").unlink()
    for name in EXPORTS:
        with pytest.raises(GensegError, match=r"a\.jpg does not exist"):
            genseg.export_run(moved, name, tmp_path / "out", classes="streets", limit=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "run"]


def test_what_a_killed_export_left_is_removed_by_the_next_one(run, tmp_path):
    write = f"""
import os, pathlib, genseg.files
with genseg.files.whole_folder(pathlib.Path({str(tmp_path / "out")!r})) as folder:
    (folder / "half").touch()
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", write], check=False)
    (abandoned,) = tmp_path.iterdir()
    with whole_folder(tmp_path / "out") as busy:
        assert not abandoned.exists()
        genseg.export_run(run, "voc", tmp_path / "out", limit=1)
        assert busy.exists()
        (tmp_path / "out").rename(tmp_path / "first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "out"]


def test_no_key_is_a_formula_of_a_spreadsheet(tmp_path):
    segments = segmented("coffee")
    image = png_of(segments.image)
    rows = [Row.of(segments, key, ImageSource("x"), "", image=image) for key in ("=1+1.png", "a,b.png")]
    store = Store(str(tmp_path / "run"))
    store.write_table("shards/shard-0.parquet", table_of(rows))
    store.write_json(MANIFEST, {})
    run = Run(str(tmp_path / "run"))
    run.assign("c", ["road, wet", "@car"], lambda _: np.zeros(10, dtype=np.int32))
    genseg.export_run(run, "cityscapes", tmp_path / "out", classes="c", images="none")
    cells = [list(csv.reader((tmp_path / "out" / name).open(newline=""))) for name in ("keys.csv", "classes.csv")]
    assert [key for _, key in cells[0]] == ["key", "'=1+1.png", "a,b.png"]
    assert [name for _, name in cells[1]] == ["class", "road, wet", "'@car"]


def test_a_folder_that_is_there_is_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    genseg.export_run(run, "voc", tmp_path / "out", limit=1)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GensegError, match="is there already"):
        genseg.export_run(run, "voc", tmp_path / "out")
    with pytest.raises(GensegError, match="is there already"):
        genseg.export_run(run, "voc", tmp_path / "out/keys.csv")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(GensegError, match="cannot write"):
        genseg.export_run(run, "voc", tmp_path / "out/keys.csv/below")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("out", [".", "linked", "dangling"])
def test_the_folder_one_is_in_and_links_to_folders_are_written_into(run, tmp_path, monkeypatch, out):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    if out != ".":
        monkeypatch.chdir(tmp_path)
        (tmp_path / out).symlink_to("inside" if out == "linked" else "new")
    before = inside.stat().st_ino
    genseg.export_run(run, "voc", out, limit=1)
    assert sorted(path.name for path in Path(out).iterdir()) == ["VOCdevkit", "keys.csv"]
    assert inside.stat().st_ino == before  # a mount stays one, and no shell is left in a folder that is gone
    with pytest.raises(GensegError, match="is there already"):
        genseg.export_run(run, "voc", out, limit=1)


def test_what_is_not_there_is_a_sentence(run, tmp_path):
    for options, said in [
        ({"format": "coco"}, "'coco': did you mean coco-instances or coco-panoptic.*: cityscapes, coco-instances, "),
        ({"classes": "street"}, "did you mean streets"),
        ({"images": "move"}, "available: copy, link, none"),
        ({"min_confidence": 7}, r"must lie in \[0, 1\]"),
        ({"format": "cityscapes"}, "name a set of classes"),
        ({"classes": "streets", "things": "car"}, "coco-panoptic with classes alone"),
        ({"format": "coco-panoptic", "things": "car"}, "coco-panoptic with classes alone"),
        ({"format": "coco-panoptic", "classes": "streets", "things": "cat"}, "unknown class 'cat': did you mean car"),
    ]:
        with pytest.raises(GensegError, match=said):
            genseg.export_run(run, **({"format": "voc", "out": tmp_path / "out"} | options))
        assert not list(tmp_path.iterdir())


def test_thresholds_ignore_pixels_and_small_segments(run, tmp_path):
    counts = []
    for least in (0.0, 0.6, 0.9):  # 0.6 is one of the levels of confidence
        genseg.export_run(run, "coco-instances", tmp_path / str(least), min_confidence=least)
        entries = instances(tmp_path / str(least))["annotations"]
        for image, row in enumerate(run.rows(), start=1):
            sure = (row.confidence >= least).sum()
            assert sum(entry["area"] for entry in entries if entry["image_id"] == image) == sure
        assert all(entry["score"] >= least for entry in entries)
        counts.append(len(entries))
    assert counts[0] > counts[2] > 0
    areas = [entry["area"] for entry in instances(tmp_path / "0.6")["annotations"]]
    least = sorted(areas)[len(areas) // 2]
    genseg.export_run(run, "coco-instances", tmp_path / "large", min_area=least, min_confidence=0.6)
    large = [entry["area"] for entry in instances(tmp_path / "large")["annotations"]]
    assert large == [area for area in areas if area >= least] != areas


def test_arrays_of_json_are_joined_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    with JsonArrayWriter(path, {"info": 1}, "few", "none") as arrays:
        arrays.add("few", {"a": "ü"})
        arrays.add("few", {"b": 2})
        assert not path.exists()
    assert json.loads(path.read_text()) == {"info": 1, "few": [{"a": "ü"}, {"b": 2}], "none": []}
    with pytest.raises(KeyboardInterrupt), JsonArrayWriter(tmp_path / "b.json", {"info": 1}, "few"):
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_the_command_exports(run, tmp_path):
    out, options = tmp_path / "out", {"classes": "streets", "min_confidence": 0.6, "min_area": 500, "images": "none"}
    given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    arguments = ["export", str(run.store.url), "coco-instances", "--out", str(out), *given, "--limit", "2"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, f"2 images in {out}\n")
    found = instances(out)
    for left_out in [None, *options]:
        some = {name: value for name, value in options.items() if name != left_out}
        genseg.export_run(run, "coco-instances", tmp_path / f"without {left_out}", limit=2, **some)
        assert (instances(tmp_path / f"without {left_out}") == found) == (left_out is None)
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert again.exit_code == 2
    assert again.stderr == f"genseg: {out} is there already; remove it or name another folder\n"
