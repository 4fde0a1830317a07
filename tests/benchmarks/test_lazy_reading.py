"""The benchmark of lazy reading: rows, sizes and the verdict, at a small size."""

import json

import pytest

import lazy_reading
from genseg.runs.rows import table_of
from genseg.runs.run import Run


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(lazy_reading, "ROWS", 5)
    monkeypatch.setattr(lazy_reading, "POINTS", 2)


QUICK = ("size=64", "draws=1", "n_init=1", "n_clusters=3", "margin=0")


def test_shards_are_written_up_to_a_size_with_rows_that_differ(tmp_path):
    table = table_of(lazy_reading.rows(5, QUICK))
    assert len(set(table.column("labels_png").to_pylist())) == 5
    assert lazy_reading.write(tmp_path, 1, table) == (tmp_path / "shards/shard-00000.parquet").stat().st_size
    size = lazy_reading.write(tmp_path, 2.5 * (tmp_path / "shards/shard-00000.parquet").stat().st_size, table)
    files = list((tmp_path / "shards").iterdir())
    assert len(files) == 3
    assert size == sum(file.stat().st_size for file in files)
    assert len({row.key for row in Run(str(tmp_path)).rows()}) == 15


def test_growth_is_after_the_first_point_and_the_verdict_is_by_the_bar(tmp_path, capsys, monkeypatch):
    out = tmp_path / "report.json"
    arguments = ["--gb", "0.000001", "--folder", str(tmp_path), "--out", str(out), *QUICK]
    lazy_reading.main(arguments)
    report = json.loads(out.read_text())
    assert report["rows"] == 5
    assert report["bytes_per_row"] == report["bytes"] / 5
    assert [count for count, _ in report["courses"]["rows"]["points"]] == [2, 4]
    assert all(size > 1e8 for course in report["courses"].values() for _, size in course["points"])
    assert report["met"]
    assert "flat" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    monkeypatch.setattr(lazy_reading, "BAR", -1)
    lazy_reading.main(arguments)
    assert not json.loads(out.read_text())["met"]


def test_growth_is_the_largest_over_the_first():
    course = lazy_reading.Course(3)
    course.points, course.seconds = [(1, 100), (2, 180), (3, 130)], 2.0
    assert course.report() == {"points": course.points, "growth": 80, "rows_per_second": 1.5}
