"""Runs on a local Ray cluster of two workers: every image once, whatever is killed.

Their backend is that of a new plug-in project, so that workers do not wait for diffusers as they start.
"""

import contextlib
import json
import os
import signal

import numpy as np
import psutil
import pytest
from PIL import Image
from small_runs import FAST, KEYS, told
from typer.testing import CliRunner

import genseg
from genseg import GensegError, Run
from genseg.cli import app
from genseg.runs.driver import follow, run_dataset
from genseg.runs.manifest import recipe_hash
from genseg.runs.plan import items_of, make_plan
from genseg.runs.ray_workers import start
from genseg.runs.report import Summary
from genseg.runs.rows import FAILED, Row
from genseg.runs.run import SHARDS
from genseg.runs.store import Store
from genseg.runs.tables import SCHEMA, rows_of
from genseg.runs.worker import Worker, WorkerSettings


@pytest.fixture(scope="module")
def ray(plugin):  # noqa: ARG001
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else workers starve beside the tests of other processes
        start(num_cpus=2, object_store_memory=80 * 2**20)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def alone(photos, plugin) -> dict[str, tuple]:
    """The rows that a worker makes in this process, without Ray."""
    segmenter = genseg.Segmenter(plugin, device="cpu", **FAST)
    job = WorkerSettings("", plugin, {}, 0, "", threads=1)
    return {row.key: told(row) for row in Worker(job, segmenter).rows(list(items_of(str(photos))))}


@pytest.mark.usefixtures("ray")
def test_a_local_ray_answers_this_machine_alone_and_asks_for_a_token():
    this = psutil.Process()
    connections = [c for process in (this, *this.children(recursive=True)) for c in process.net_connections("tcp")]
    addresses = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert addresses
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert os.environ["RAY_AUTH_MODE"] == "token"


@pytest.mark.usefixtures("ray")
def test_a_worker_that_is_killed_loses_and_repeats_nothing(photos, alone, plugin, tmp_path):
    killed = []

    def kill(stage: str, done: int, _total: int) -> None:
        if stage == "images" and done and not killed:
            workers = [p for p in psutil.Process().children(recursive=True) if "MapWorker" in p.name()]
            killed.extend(workers)
            workers[0].send_signal(signal.SIGKILL)

    run = run_dataset(photos, tmp_path / "run", plugin, shard_size=2, progress=kill, **FAST)
    assert killed
    assert [row.key for row in run.rows(failed=True)] == sorted(alone)
    for row in run.rows(failed=True):
        assert told(row)[:6] == alone[row.key][:6]
    assert run.settings["images"] == 10
    assert run.settings["recipe"]["n_clusters"] == 4


def test_an_image_that_kills_its_workers_is_given_up_and_the_others_are_not(photos, plugin, tmp_path):
    store = Store(str(tmp_path))
    assert make_plan(store, items_of(str(photos)), 4) == (10, 3)
    segmenter = genseg.Segmenter(plugin, device="cpu", **FAST)
    killer, attempts = (photos / "2.png").read_bytes(), 0

    class Dead(BaseException):
        """Nothing that a worker could catch."""

    def deadly(image: bytes) -> genseg.Segmentation:
        if image == killer:
            raise Dead
        return segmenter(image)

    while not store.names(SHARDS):
        attempts += 1
        with contextlib.suppress(Dead):
            Worker(WorkerSettings(str(tmp_path), "tiny", {}, 0, ""), deadly)({"shard": np.array([0])})
    assert attempts == 5, "one without notes, three that note the image, and one without it"
    rows = [row for batch in store.batches("shards/shard-0000000.parquet", SCHEMA) for row in rows_of(batch)]
    assert [(row.key, row.status) for row in rows] == [
        ("0.png", "done"), ("1.png", "done"), ("2.png", FAILED), ("3.png", "done")
    ]  # fmt: skip
    assert "died on this image" in rows[2].error
    assert not store.names("begun/*"), "nothing is left of it"


def test_too_many_failures_stop_a_run():
    shards = [{"images": 4, "failed": 1, "problem": ""}] * 3
    seen = []
    with pytest.raises(GensegError, match="2 images failed, more than the 1 allowed"):
        follow(iter(shards), {"images": 20, "shard_size": 4}, 5, 1, lambda *what: seen.append(what))
    assert seen == [("images", 0, 20), ("images", 4, 20), ("images", 8, 20)]
    follow(iter(shards), {"images": 20, "shard_size": 4}, 3, 3, lambda *what: seen.append(what))
    assert seen[3:] == [("images", done, 20) for done in (8, 12, 16, 20)], "two shards were there before"


def test_shards_are_not_written_among_the_input(photos):
    with pytest.raises(GensegError, match="choose a folder outside"):
        run_dataset(photos, photos / "run")


def test_the_hash_leaves_out_what_labels_do_not_depend_on():
    settings = {"weights": {}, "dtype": None, "seed": 0, "recipe": {"t_m": 281, "batch_size": None}}
    assert recipe_hash(settings) == recipe_hash(settings | {"recipe": {"t_m": 281, "batch_size": 3}})
    assert recipe_hash(settings) != recipe_hash(settings | {"recipe": {"t_m": 282, "batch_size": None}})
    assert recipe_hash(settings) != recipe_hash(settings | {"seed": 1})


def test_images_and_confidence_are_kept_if_asked_for(photos):
    segmenter = genseg.Segmenter("tiny", "fast", **FAST)
    job = WorkerSettings("", "tiny", {}, 0, "", keep_images=True, pixel_confidence=False)
    items = list(items_of(str(photos)))[4:6]
    row, failed = Worker(job, segmenter).rows(items)
    assert row.image == (photos / "4.png").read_bytes()
    assert row.confidence_png is None
    assert np.array_equal(np.asarray(row.picture()), np.asarray(Image.open(photos / "4.png")))
    assert (failed.status, failed.masks) == (FAILED, ())


def test_a_dry_run_counts_and_measures(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--workers", "2", "--shard-size", "5", "--dry-run", "--json"]
    result = CliRunner().invoke(app, ["run", str(photos), *KEYS, "-r", "fast", *options])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["images"], figures["sample"], figures["workers"]) == (10, 1, 2)
    assert figures["evaluations"] == pytest.approx(10 * 10, abs=10), "2 · (1 + 4) a photo, and a draw"
    assert figures["bytes"] > 10_000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-b", "tinny"], "tiny"),
        (["-r", "fats"], "fast"),
        (["drwas=3"], "draws"),
    ],
)
def test_mistakes_are_told_before_ray_starts(photos, tmp_path, arguments, problem):
    result = CliRunner().invoke(app, ["run", str(photos), "-o", str(tmp_path / "run"), *arguments])
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_summary_counts_what_is_there(tmp_path):
    from genseg.runs.run import MANIFEST
    from genseg.runs.sources import ImageSource
    from genseg.runs.store import Store
    from genseg.runs.tables import table_of

    store = Store(str(tmp_path))
    store.write_json(MANIFEST, {"images": 300})
    store.write_table("shards/shard-0000000.parquet", table_of(
        [Row(str(k), ImageSource("x"), FAILED, "no image") for k in range(150)]))  # fmt: skip
    summary = Summary.of(Run(str(tmp_path)))
    assert (summary.images, summary.failed, len(summary.failures)) == (150, 150, 100)
