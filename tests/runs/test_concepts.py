"""Concepts of a run: planted groups come back, whatever the shards, in memory that does not grow."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from genseg import Concepts, GensegError, find_concepts
from genseg.cli import app
from genseg.runs.class_sets import ClassCounts
from genseg.runs.embeddings import rows_in_chunks
from genseg.runs.rows import FAILED, Row, StoredMask
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of

WIDTH, PER_IMAGE = 6, 5


def image(key: str, embeddings, first_label: int = 0) -> Row:
    """A row with a mask of 10 pixels, 11, 12, ... for each embedding."""
    masks = tuple(
        StoredMask(first_label + k, 10 + k, 0.5, "", np.asarray(e, dtype=np.float32)) for k, e in enumerate(embeddings)
    )
    size = (1, sum(mask.area for mask in masks))
    return Row(key, ImageSource(f"{key}.png"), size=size, masks=masks, labels_png=b"")


def written(folder, rows, per_shard: int) -> Run:
    store = Store(str(folder))
    for number, start in enumerate(range(0, len(rows), per_shard)):
        store.write_table(f"shards/shard-{number:05}.parquet", table_of(rows[start : start + per_shard]))
    store.write_json(MANIFEST, {})
    return Run(str(folder))


def planted(n_groups: int, n_images: int, seed: int = 0, noise: float = 0.3):
    """Rows whose masks are of groups 10 apart, and the group of each mask."""
    draws = np.random.default_rng(seed)
    middles = 10 * np.eye(n_groups, max(WIDTH, n_groups))
    groups = draws.integers(0, n_groups, (n_images, PER_IMAGE))
    vectors = middles[groups] + noise * draws.standard_normal((n_images, PER_IMAGE, middles.shape[1]))
    return [image(f"{n:04}", each) for n, each in enumerate(vectors)], groups


def given(run: Run, classes: str) -> np.ndarray:
    return np.concatenate([row.classes for row in run.rows(["key"], classes=classes)])


def test_planted_groups_come_back_over_several_shards(tmp_path):
    rows, groups = planted(4, 40)
    rows.insert(7, Row("bad", ImageSource("bad.png"), FAILED, "no image"))
    run = written(tmp_path / "run [1]", rows, 9)  # no pattern
    concepts = find_concepts(run, 4)
    assert concepts.name == "concepts-4"
    assert run.class_names("concepts-4") == concepts.names == ("concept 0", "concept 1", "concept 2", "concept 3")
    found = given(run, "concepts-4")
    assert adjusted_rand_score(groups.ravel(), found) == 1
    counts = ClassCounts.of(run, "concepts-4")
    assert counts.masks == tuple(np.bincount(found))
    areas = np.tile(np.arange(10, 10 + PER_IMAGE), 40)
    assert counts.pixels == tuple(np.bincount(found, areas).astype(int))


def test_a_small_run_is_clustered_as_the_traditional_protocol_does(tmp_path):
    draws = np.random.default_rng(1)
    vectors = draws.standard_normal((150, WIDTH)).astype(np.float32)  # no groups: any other start gives others
    run = written(tmp_path / "run", [image(f"{n:03}", vectors[5 * n : 5 * n + 5]) for n in range(30)], 7)
    means = KMeans(9, n_init=1, random_state=3).fit(vectors)
    concepts = find_concepts(run, 9, seed=3)
    assert np.allclose(concepts.centres, means.cluster_centers_, atol=1e-5)
    assert np.array_equal(given(run, concepts.name), means.labels_)


def test_the_shards_of_a_streamed_run_do_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_VECTORS", 60)
    monkeypatch.setattr("genseg.runs.concepts.CHUNK", 64)
    rows, _ = planted(4, 80, noise=3.0)
    first, other = (find_concepts(written(tmp_path / str(n), rows, n), 4, seed=2) for n in (3, 50))
    assert np.array_equal(first.centres, other.centres)
    assert not np.array_equal(first.centres, find_concepts(tmp_path / "3", 4, seed=7).centres)


def test_more_masks_than_the_sample_improve_the_centres(tmp_path, monkeypatch):
    draws = np.random.default_rng(4)
    vectors = draws.standard_normal((2000, WIDTH)).astype(np.float32)
    run = written(tmp_path / "run", [image(f"{n:03}", vectors[20 * n : 20 * n + 20]) for n in range(100)], 40)
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_VECTORS", 100)
    monkeypatch.setattr("genseg.runs.concepts.CHUNK", 500)

    def inertia(centres) -> float:
        return float((np.square(vectors[:, None] - centres[None]).sum(axis=2).min(axis=1)).sum())

    streamed = inertia(find_concepts(run, 8).centres)
    whole = KMeans(8, n_init=1, random_state=0).fit(vectors).inertia_
    sample = KMeans(8, n_init=1, random_state=0).fit(vectors[draws.choice(2000, 100, replace=False)])
    assert streamed < 1.03 * whole
    assert streamed < inertia(sample.cluster_centers_)


def test_there_can_be_more_concepts_than_a_step_sees_masks(tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_VECTORS", 60)
    monkeypatch.setattr("genseg.runs.concepts.CHUNK", 16)
    run = written(tmp_path / "run", planted(4, 17)[0], 5)  # 85 masks: the last step sees fewer
    assert np.isfinite(find_concepts(run, 20).centres).all()


@pytest.mark.parametrize("n_groups", [3, 7])
def test_the_elbow_finds_how_many_groups_are_planted(tmp_path, n_groups):
    rows, groups = planted(n_groups, 40)
    run = written(tmp_path / "run", rows, 20)
    concepts = find_concepts(run, "auto")
    assert len(concepts) == n_groups
    assert adjusted_rand_score(groups.ravel(), given(run, f"concepts-{n_groups}")) == 1


def test_vectors_are_regrouped_without_loss():
    vectors = np.arange(46, dtype=np.float32).reshape(23, 2)
    pieces = [vectors[:1], vectors[1:13], vectors[13:14], vectors[14:]]
    chunks = list(rows_in_chunks(pieces, 5))
    assert [len(chunk) for chunk in chunks] == [5, 5, 5, 5, 3]
    assert np.array_equal(np.concatenate(chunks), vectors)


def test_concepts_are_kept_and_given_to_other_runs(tmp_path):
    rows, groups = planted(3, 20)
    found = find_concepts(written(tmp_path / "run", rows, 20), 3, name="mine")
    loaded = Concepts.load(Run(str(tmp_path / "run")), "mine")
    assert (loaded.name, loaded.names) == (found.name, found.names)
    assert np.array_equal(loaded.centres, found.centres)
    others, other_groups = planted(3, 10, seed=5)
    other = written(tmp_path / "other", others, 10)
    loaded.assign(other)
    both = np.concatenate([given(Run(str(tmp_path / "run")), "mine"), given(other, "mine")])
    assert adjusted_rand_score(np.concatenate([groups.ravel(), other_groups.ravel()]), both) == 1
    gap = image("gap", rows[0].masks[0].embedding[None], first_label=2)
    assert loaded.classes_of(gap).tolist() == [-1, -1, loaded.classes_of(rows[0])[0]]
    with pytest.raises(GensegError, match="concepts mine have 6 numbers and the embeddings of wide 9"):
        loaded.classes_of(image("wide", np.zeros((1, 9))))


def test_what_cannot_be_clustered_is_one_sentence(tmp_path):
    rows, _ = planted(3, 4)
    run = written(tmp_path / "run", rows, 3)
    for k, said in ((21, "20 masks, fewer than 21"), (0, "at least 1"), ("many", "'auto', not many")):
        with pytest.raises(GensegError, match=said):
            find_concepts(run, k)
    with pytest.raises(GensegError, match=r"cannot be called '\.\./out'"):
        find_concepts(run, 3, name="../out")
    with pytest.raises(GensegError, match="unknown set of classes"):
        Concepts.load(run, "mine")
    run.assign("mine", ["a"], lambda _: np.zeros(5, dtype=np.int32))
    with pytest.raises(GensegError, match="classes mine have no centers"):
        Concepts.load(run, "mine")
    rows[2].masks[0].embedding[1] = np.nan
    rows.insert(1, Row("bad", ImageSource("bad.png"), FAILED, "no image"))
    broken = written(tmp_path / "broken", rows, 10)
    find_concepts(broken, 3)
    assert list(broken.damaged) == ["0002"]
    assert "not finite" in broken.damaged["0002"]


def synthetic(folder, n_shards: int) -> Run:
    """A run of 32 masks a shard."""
    store = Store(str(folder))
    rows = [image(str(n), np.random.default_rng(n).standard_normal((8, 32)) + n) for n in range(4)]
    store.write_table("shards/shard-00000.parquet", table_of(rows))
    content = (folder / "shards/shard-00000.parquet").read_bytes()
    for number in range(1, n_shards):
        (folder / f"shards/shard-{number:05}.parquet").write_bytes(content)
    store.write_json(MANIFEST, {})
    return Run(str(folder))


def test_memory_does_not_grow_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("genseg.evaluation.reservoir.MAX_VECTORS", 1000)
    monkeypatch.setattr("genseg.runs.concepts.CHUNK", 1024)
    monkeypatch.setattr("genseg.runs.concepts.PASSES", 1)
    find_concepts(synthetic(tmp_path / "warm", 10), 4)

    def peak(n_shards: int) -> tuple[int, int]:
        """The most that Python and arrow held at once."""
        run = synthetic(tmp_path / str(n_shards), n_shards)
        arrow = 0

        def told(*_) -> None:
            nonlocal arrow
            arrow = max(arrow, pa.total_allocated_bytes())

        tracemalloc.start()
        find_concepts(run, 4, progress=told)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, arrow

    few, many = peak(25), peak(250)
    embeddings = 250 * 32 * 32 * 4  # bytes; the names of shards take some, too
    assert many[0] - few[0] < embeddings / 3
    assert many[1] - few[1] < embeddings / 4


def command(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_the_command_tells_what_each_concept_got(tmp_path):
    rows, groups = planted(12, 60)
    run = written(tmp_path / "run", rows, 25)
    done = command("concepts", tmp_path / "run", "--k", "12", "--name", "mine")
    assert done.exit_code == 0, done.stderr
    head, *lines, last, report = done.stdout.splitlines()
    assert head.split() == ["class", "masks", "pixels"]
    assert Path(report.removeprefix("typical masks of each class: ")).is_file()
    sizes = sorted(np.bincount(groups.ravel()).tolist(), reverse=True)
    assert [int(line.split()[2]) for line in lines] == sizes[:10]
    assert last == "mine: 300 masks in 12 classes, of which the largest 10 are shown"
    counts = ClassCounts.of(run, "mine")
    largest = int(np.argmax(counts.masks))
    assert lines[0].split() == [
        *counts.names[largest].split(),
        str(sizes[0]),
        f"{counts.pixels[largest] / sum(counts.pixels):.1%}",
    ]
    assert command("concepts", tmp_path / "run", "--k", "auto").exit_code == 0
    assert run.class_sets == ["concepts-12", "mine"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere does not exist; check the path"),
        ((".",), ". holds no run; name the folder"),
        (("run", "--k", "1000"), "the run has 10 masks, fewer than 1000"),
        (("run", "--k", "auto"), "the run has 10 masks, fewer than 16"),
        (("run", "--k", "few"), "--k must be a number or auto, not 'few'"),
        (("run", "--name", "a/b", "--k", "2"), "cannot be called 'a/b'"),
    ],
)
def test_what_the_command_refuses_is_one_sentence(tmp_path, monkeypatch, arguments, said):
    written(tmp_path / "run", planted(3, 2)[0], 3)
    monkeypatch.chdir(tmp_path)
    refused = command("concepts", *arguments)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_missing_package_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "genseg.runs.run")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = command("concepts", tmp_path)
    assert refused.exit_code == 2
    assert refused.stderr == "genseg: runs need the package 'pyarrow'; run: pip install 'genseg[ray]'\n"
