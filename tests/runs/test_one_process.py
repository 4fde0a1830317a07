"""Runs in one process, which need no Ray: the same shards, resumed after whatever stops them."""

import json
import shutil

import pytest
from commands import run as command
from small_runs import FAST, KEYS, told

import genseg
from genseg import GensegError, Run
from genseg.runs.driver import run_dataset
from genseg.runs.one_process import useful_workers
from genseg.runs.plan import items_of
from genseg.runs.worker import Worker, WorkerSettings


@pytest.fixture(scope="module")
def whole(photos, plugin, tmp_path_factory) -> Run:
    """A run of two shards by one worker."""
    return run_dataset(photos, tmp_path_factory.mktemp("whole") / "run", plugin, shard_size=6, workers=1, **FAST)


def test_rows_are_those_of_a_worker(whole, photos, plugin):
    worker = Worker(WorkerSettings("", plugin), genseg.Segmenter(plugin, device="cpu", **FAST))
    rows = list(whole.rows(failed=True))
    assert len(whole.shards) == 2
    assert [told(row)[:6] for row in rows] == [told(row)[:6] for row in worker.rows(list(items_of(str(photos))))]
    assert {row.recipe_hash for row in rows} == {whole.settings["recipe_hash"]}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_a_run_that_was_stopped_is_resumed(whole, photos, plugin, tmp_path, stop):
    seen = []

    def stopping(stage: str, done: int, total: int) -> None:
        seen.append((stage, done, total))
        if stage == "images" and done == 8:
            raise stop

    settings = {"shard_size": 6, "workers": 1, **FAST}
    with pytest.raises(stop):
        run_dataset(photos, tmp_path / "run", plugin, progress=stopping, **settings)
    assert len(Run(tmp_path / "run").shards) == 1
    assert [done for stage, done, _ in seen if stage == "images"] == [*range(7), 6, 7, 8]
    run = run_dataset(photos, tmp_path / "run", plugin, resume=True, **settings)
    assert [told(row) for row in run.rows(failed=True)] == [told(row) for row in whole.rows(failed=True)]
    assert not run.store.names("begun/*")


def test_an_image_at_which_a_user_stops_is_not_given_up(photos, plugin, tmp_path):
    settings = {"shard_size": 10, **FAST}

    def stopping(stage: str, done: int, _total: int) -> None:
        if stage == "images" and done == 1:
            raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            run_dataset(photos, tmp_path / "run", plugin, progress=stopping, resume=True, **settings)
    run = run_dataset(photos, tmp_path / "run", plugin, resume=True, **settings)
    assert run.counts() == {"done": 9, "failed": 1}


def test_a_run_is_resumed_on_the_command_line_and_by_equal_settings_alone(whole, photos, plugin, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole.store.path(""), out)
    (out / whole.shards[0]).unlink()
    with pytest.raises(GensegError, match="holds a run"):
        run_dataset(photos, out, plugin, **FAST)
    result = command("run", photos, *KEYS, "-b", plugin, "-o", out, "--resume", "--json")
    assert result.exit_code == 1, "an image failed"
    assert "5.png" in result.stderr
    counts = json.loads(result.stdout)
    assert (counts["images"], counts["failed"]) == (10, 1)
    assert [told(row) for row in Run(out).rows(failed=True)] == [told(row) for row in whole.rows(failed=True)]
    page = (out / "report.html").read_text()
    assert "9 of 10" in page
    assert "5.png" in page
    assert page.count("<img") == 9
    with pytest.raises(GensegError, match="another recipe and seed"):
        run_dataset(photos, out, plugin, seed=1, resume=True, workers=1, **FAST | {"draws": 2})


def test_too_many_failures_stop_it_after_their_shard_is_written(photos, plugin, tmp_path):
    with pytest.raises(GensegError, match="1 images failed, more than the 0 allowed"):
        run_dataset(photos, tmp_path / "run", plugin, shard_size=6, workers=1, max_errors=0, **FAST)
    assert Run(tmp_path / "run").counts() == {"done": 5, "failed": 1}


def test_a_refusal_of_the_backend_writes_nothing(photos, plugin, tmp_path):
    with pytest.raises(GensegError, match="leave model and dtype out"):
        run_dataset(photos, tmp_path / "run", plugin, model=str(tmp_path / "nowhere"))
    assert not (tmp_path / "run").exists()


def test_ray_starts_where_there_is_something_to_share(photos, plugin, tmp_path, monkeypatch):
    class EngineError(Exception):
        """Says which engine a run starts, and stops it."""

    def stages(stage: str, _done: int, _total: int) -> None:
        raise EngineError(stage)

    def engine(**settings) -> str:
        with pytest.raises(EngineError) as error:
            run_dataset(photos, tmp_path / "run", plugin, progress=stages, **settings)
        return str(error.value)

    assert engine() == "one process", "ten images are one shard"
    assert engine(workers=2) == "one process", "for one of them there would be no shard"
    assert engine(workers=2, shard_size=9) == "ray"
    assert engine(workers=1, shard_size=9) == "one process"
    assert engine(address="local") == "ray"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert engine() == "ray"


@pytest.mark.parametrize(
    ("workers", "shards", "cpus_per_worker", "number"),
    [(None, 9, 1, 4), (None, 3, 1, 3), (None, 9, 2, 2), (None, 9, 8, 1), (2, 9, 1, 2), (6, 9, 1, 6)],
)
def test_workers_are_counted_by_cpus_and_shards(monkeypatch, workers, shards, cpus_per_worker, number):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert useful_workers(workers, shards, "cpu", cpus_per_worker) == number
