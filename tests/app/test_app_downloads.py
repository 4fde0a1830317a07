"""Downloads from the app, and the code that makes the same labels."""

import io
import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest
from app_parts import QUICK, done, edited, engine, pixels, png, session  # noqa: F401
from PIL import Image
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.app.downloads import FILES, FORMATS, download
from genseg.app.edits import Joined
from genseg.cli import app as command_line
from genseg.exports.formats import EXPORTS
from genseg.web.request import SegmentRequest


def test_coco_holds_the_segments_exactly(done):
    masks = pytest.importorskip("pycocotools.mask")
    result = done[0].results[0]
    dataset = json.loads(download(done[0], 0, "coco.json")[1])
    assert dataset == result.to_coco("photo.png")
    assert dataset["images"] == [{"id": 1, "file_name": "photo.png", "width": 96, "height": 64}]
    covered = np.zeros_like(result.labels)
    for one in dataset["annotations"]:
        rle = masks.frPyObjects(one["segmentation"], 64, 96)
        mask = masks.decode(rle).astype(bool)
        assert np.array_equal(mask, result.labels == one["id"] - 1)
        assert (one["area"], one["bbox"]) == (mask.sum(), masks.toBbox(rle).tolist())
        covered += mask
    assert (covered == 1).all()


def test_downloads_are_what_the_api_makes(done, tmp_path):
    session, _ = done
    result = session.results[0]
    made = {kind: download(session, 0, kind, opacity=0.2, outlines=False) for kind in FILES}
    assert [name for name, _ in made.values()] == [f"photo.{kind}" for kind in FILES]
    overlay = result.overlay(0.2, outlines=False)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made["overlay.png"][1]))), np.asarray(overlay))
    assert not np.array_equal(pixels(session, 0, "overlay.png", opacity=0.2), np.asarray(overlay))
    assert np.array_equal(pixels(session, 0, "image.png"), result.image)
    (tmp_path / "photo.npz").write_bytes(made["npz"][1])
    assert np.array_equal(genseg.Segmentation.load(tmp_path / "photo.npz").labels, result.labels)
    for which, kind in ((1, "labels.png"), (0, "../run.py"), (-1, "labels.png")):
        with pytest.raises(GensegError, match="there is no such file"):
            download(session, which, kind)


def test_a_selection_is_cut_out_and_its_masks_are_listed(done):
    session, _ = done
    result = session.results[0]
    label = int(result.labels[0, 0])
    left, top, width, height = result.mask(label).bbox
    box = np.s_[top : top + height, left : left + width]
    cut = pixels(session, 0, "cutout.png", selected=[label])
    assert np.array_equal(cut[..., 3], 255 * (result.labels == label)[box])
    assert np.array_equal(cut[..., :3], result.image[box])
    name, masks = download(session, 0, "masks.json", selected=[label])
    assert name == "photo.masks.json"
    assert json.loads(masks)["annotations"] == [result.to_coco()["annotations"][label]]
    with pytest.raises(GensegError, match="click one first"):
        download(session, 0, "cutout.png")


def test_every_export_format_that_needs_no_classes_can_be_downloaded(done):
    pytest.importorskip("pyarrow")
    assert set(EXPORTS) - set(FORMATS) == {"cityscapes"}
    for kind in FORMATS:
        name, content = download(done[0], 0, kind)
        if kind == "huggingface":
            assert (name, content[:4]) == ("photo.huggingface.parquet", b"PAR1")
            continue
        assert name == f"photo.{kind}.zip"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert any(PurePath(file).stem == "photo" for file in archive.namelist())


@pytest.mark.parametrize("height", [None, 0.6])
def test_the_command_line_and_the_python_make_the_same_labels(session, height, tmp_path, monkeypatch):
    run = SegmentRequest("tiny", "fast", (*QUICK, "injection=false", "difference=two-sided", "blur=0.5"), 5)
    list(session.segment([run]))
    if height is not None:
        session.edit(by="height", height=height)
    expected = pixels(session)
    monkeypatch.chdir(tmp_path)
    Path(session.name).write_bytes(download(session, 0, "image.png")[1])
    command, python = session.reproduced()
    words = shlex.split(command)
    assert words[:3] == ["genseg", "segment", "my photo's.png"]
    outcome = CliRunner().invoke(command_line, [*words[1:], "--out", "out"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert np.array_equal(np.asarray(Image.open("out/my photo's.labels.png")), expected)
    made: dict = {}
    exec(python, made)
    assert np.array_equal(made["seg"].labels, expected)
    assert np.array_equal(np.asarray(Image.open("labels.png")), expected)


@pytest.mark.parametrize(
    ("edits", "merges"),
    [
        ({"number": 2}, ["--merge", "2"]),
        ({"by": "auto"}, ["--merge", "auto"]),
        ({"min_area": 0.03, "connected": True, "number": 5}, None),
        ({"joined": (Joined(0, 1, (0, 1)), Joined(0, 2, (1, 2)))}, None),
    ],
)
def test_edits_are_reproduced_in_python_and_merges_on_the_command_line(edited, edits, merges, monkeypatch, tmp_path):
    edited.edit(**edits)
    command, python = edited.reproduced()
    words = shlex.split(command)
    assert words[words.index("--merge") :][:2] == merges if merges else command == ""
    whole = replace(edited.results[0], labels=edited.results[0].labels.copy())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(genseg, "segment", lambda *_, **__: whole)
    made: dict = {}
    exec(python, made)
    assert np.array_equal(made["seg"].labels, edited.shown[0].labels)
    assert not np.array_equal(made["seg"].labels, edited.results[0].labels)


def test_reproduction_names_model_device_and_dtype(engine):
    run = engine.complete(SegmentRequest("sd14", options=("tap=it's",)))
    assert f"--model {engine._models['sd14']} --device cpu" in run.command_line("-a.png")
    assert "./-a.png" in run.command_line("-a.png")
    assert "device='cpu'" in run.python("a.png")
    assert 'tap="it\'s"' in run.python("a.png")
