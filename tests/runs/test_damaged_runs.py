"""Runs from elsewhere: what cannot be true is left out and named, and the rest is used."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from two_colors import SIDE, row_of, run_of
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.cli import app
from genseg.runs.class_sets import ClassCounts
from genseg.runs.report import NAME, write_report
from genseg.runs.rows import png_of, rle_of
from genseg.runs.run import Run
from genseg.runs.worker import CrashLog

SHARD, CLASSES = "shards/shard-00000.parquet", "classes/colors/shard-00000.parquet"
OTHER = np.zeros((20, 20), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A run of two shards of two images."""
    run_of(tmp_path / "run", [row_of(index) for index in range(4)], shard=2)
    return tmp_path / "run"


def exported(folder) -> tuple[int, str]:
    """How many images can be exported, and what is said of the others."""
    found = genseg.export_run(folder, "coco-panoptic", folder.parent / "out", classes="colors", min_confidence=0.5)
    return found.images, found.skipped.reason


def change(file, column: str, value: object, row: int = 0) -> None:
    """Write another value into a row of a Parquet file; a mapping changes its first mask."""
    table = pq.read_table(file)
    rows = table.to_pylist()
    if isinstance(value, dict):
        rows[row][column][0].update(value)
    else:
        rows[row][column] = value
    pq.write_table(pa.Table.from_pylist(rows, table.schema), file, compression="zstd")


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("labels_png", png_of(OTHER), "label map of image-0 is of another size"),
        ("labels_png", png_of(np.zeros((4000, 4000), np.uint8)), "over the limit"),
        ("labels_png", png_of(np.zeros((SIDE, SIDE + 8, 3), np.uint8)), "label map of image-0"),
        ("labels_png", png_of(np.full((SIDE, SIDE + 8), 9, np.uint8)), "labels without masks"),
        ("labels_png", row_of(0).labels_png[:60], "label map of image-0 is damaged"),
        ("labels_png", b"", "label map of image-0"),
        ("labels_png", None, "label map of image-0 is missing"),
        ("confidence_png", png_of(OTHER), "confidence of image-0 is of another size"),
        ("image", png_of(OTHER), "image-0 has another size"),
        ("height", -1, "size"),
        ("width", 2**31 - 1, "size"),
        ("status", "well", "status"),
        ("seconds", float("nan"), "cost"),
        ("masks", [], "labels of masks"),
        ("masks", {"label": -1}, "labels of masks"),
        ("masks", {"label": 2**31 - 1}, "labels of masks"),
        ("masks", {"area": 10**15}, "areas of masks"),
        ("masks", {"confidence": float("nan")}, "confidence of masks"),
        ("masks", {"rle": rle_of(np.ones((99, 99), bool))}, "run lengths of masks"),
        ("masks", {"rle": "é"}, "run lengths of masks"),
        ("masks", {"embedding": [1.0, 2.0]}, "embeddings of masks"),
        ("masks", {"embedding": [float("inf")]}, "not finite"),
    ],
)
def test_a_row_that_cannot_be_true_is_left_out(folder, column, value, reason):
    change(folder / SHARD, column, value)
    images, why = exported(folder)
    assert images == 3
    assert reason in why
    write_report(Run(str(folder)))
    assert (folder / NAME).exists()


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:400]),
        lambda folder: pq.write_table(pq.read_table(folder / SHARD).drop_columns("masks"), folder / SHARD),
        lambda folder: pq.write_table(pa.table({"key": [1, 2]}), folder / SHARD),
        lambda folder: change(folder / SHARD, "masks", {"area": None}),
        lambda folder: change(folder / CLASSES, "classes", [0, 7]),
        lambda folder: change(folder / CLASSES, "classes", [0, None]),
        lambda folder: pq.write_table(pq.read_table(folder / CLASSES)[:1], folder / CLASSES),
        lambda folder: pq.write_table(pa.table({"classes": [["a"], ["b"]]}), folder / CLASSES),
    ],
)
def test_a_damaged_shard_is_named_and_the_rest_is_used(folder, damage):
    damage(folder)
    images, why = exported(folder)
    assert images in (2, 3)
    assert "shard-00000.parquet is damaged" in why


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_a_shard_that_would_fill_the_memory_is_left_out(folder, monkeypatch):
    change(folder / SHARD, "error", " " * 2**24)
    assert exported(folder)[0] == 4
    monkeypatch.setattr("genseg.files.LARGE", 2**20)
    (folder.parent / "out").rename(folder.parent / "before")
    images, why = exported(folder)
    assert images == 2
    assert "it unpacks to 16.8 MB" in why


def test_classes_are_given_to_what_is_whole(folder):
    (folder / SHARD).write_bytes(b"PAR1")
    found = CliRunner().invoke(app, ["concepts", str(folder), "-k", "2"])
    assert found.exit_code == 1
    assert "shard-00000.parquet is damaged" in found.stderr
    assert sum(ClassCounts.of(Run(str(folder)), "concepts-2").masks) == 4


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("run.json", "[]"),
        ("run.json", "[" * 100_000),
        ("run.json", '{"images": "many"}'),
        ("classes/colors/classes.json", '{"names": 3}'),
    ],
)
def test_a_damaged_record_is_a_sentence(folder, file, text):
    (folder / file).write_text(text)
    with pytest.raises(GensegError, match=f"{file} (is damaged|cannot be read)"):
        exported(folder)


def test_a_damaged_log_of_crashes_is_a_sentence(folder):
    store = Run(str(folder)).store
    store.write_json("begun/shard-0000000.json", {"key": "a", "times": "often"})
    with pytest.raises(GensegError, match=r"is damaged \(times\)"):
        CrashLog(store, 0)


def test_classes_without_counts_are_a_sentence(folder):
    with pytest.raises(GensegError, match="has no counts"):
        ClassCounts.of(Run(str(folder)), "colors")
