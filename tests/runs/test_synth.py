"""Images that a model makes up are a run like any other, whose image i depends on seed + i alone."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import genseg
from genseg import GensegError
from genseg.cli import app
from genseg.evaluation.datasets import from_rows
from genseg.runs.run import Run

QUICK = {
    "n_clusters": 3,
    "draws": 1,
    "n_init": 1,
    "num_inference_steps": 2,
    "replay_steps": 1,
    "size": 64,
    "modulate": True,
}


@pytest.fixture(scope="module")
def backend() -> genseg.Backend:
    return genseg.load_backend("tiny")


@pytest.fixture(scope="module")
def whole(backend, tmp_path_factory) -> Run:
    return genseg.synth(tmp_path_factory.mktemp("whole"), 3, backend, seed=10, shard_size=2, **QUICK)


def tables(run: Run) -> list[dict]:
    """All but what an image took."""
    cost = ["seconds", "peak_memory"]
    return [row for shard in run.shards for row in pq.read_table(run.store.path(shard)).drop_columns(cost).to_pylist()]


def test_rows_are_what_the_model_generates(whole, backend):
    rows = list(whole.rows())
    assert [row.key for row in rows] == [f"seed-000000{i}" for i in range(10, 13)]
    assert [whole.store.count(shard) for shard in whole.shards] == [2, 1]
    segmenter = genseg.Segmenter(backend, **QUICK)
    for row in (rows[0], rows[2]):
        expected = segmenter.generate(seed=int(row.key[5:]))
        assert np.array_equal(np.asarray(row.picture()), expected.image)
        assert np.array_equal(row.labels, expected.labels)
        assert row.recipe_hash == whole.settings["recipe_hash"]


def test_an_image_depends_on_its_seed_alone(whole, backend, tmp_path):
    other = genseg.synth(tmp_path, 1, backend, seed=12, shard_size=64, **QUICK)
    found, expected = tables(other), tables(whole)[2:]
    for row in found + expected:
        row.pop("recipe_hash")
    assert found == expected


def test_a_killed_run_goes_on_to_the_same_rows(whole, backend, tmp_path):
    class Killed(Exception):  # noqa: N818 - it stands for a signal
        pass

    def kill(stage, done, _total):
        if (stage, done) == ("images", 3):
            raise Killed

    given = {"seed": 10, "shard_size": 2, **QUICK}
    with pytest.raises(Killed):
        genseg.synth(tmp_path, 3, backend, progress=kill, **given)
    assert len(Run(str(tmp_path)).shards) == 1
    with pytest.raises(GensegError, match="holds a run; resume it by --resume"):
        genseg.synth(tmp_path, 3, backend, **given)
    with pytest.raises(GensegError, match="another recipe and seed"):
        genseg.synth(tmp_path, 3, backend, resume=True, **given | {"seed": 11, "n_clusters": 4})
    assert tables(genseg.synth(tmp_path, 3, backend, resume=True, **given)) == tables(whole)


def test_what_is_made_up_can_be_learned_from(whole):
    whole.assign("labels", ["a", "b", "c"], lambda _: np.arange(3, dtype=np.int32))
    from genseg.students.samples import Samples

    samples = Samples(whole, "labels", image_size=16, val_fraction=0)
    assert samples.n_training == 3
    assert next(samples.training()).pixels.shape == (16, 16, 3)


def test_its_masks_are_named_by_examples(whole):
    first = next(whole.rows())
    truth = np.where(first.labels == first.masks[0].label, 0, 1)
    examples = from_rows([{"image": first.picture(), "label": truth}], classes=["first", "others"])
    genseg.name_run_from_examples(whole, examples, name="few", device="cpu")
    named = next(whole.rows(classes="few"))
    assert named.classes[first.masks[0].label] == 0, "its own embedding is the mean"


def test_prompts_take_turns(sd_checkpoint, tmp_path):
    texts = ["!", "! !"]  # of the only word that this tokenizer knows
    model = genseg.load_backend("sd14", model=str(sd_checkpoint))
    model.guidance_scale = 1e3  # random weights hardly hear a prompt
    run = genseg.synth(tmp_path, 2, model, prompts=texts, seed=1, **QUICK)
    segmenter = genseg.Segmenter(model, **QUICK)
    for row, seed, prompt in zip(run.rows(), (1, 2), texts[::-1], strict=True):
        assert np.array_equal(np.asarray(row.picture()), segmenter.generate(prompt, seed).image)
        assert not np.array_equal(np.asarray(row.picture()), segmenter.generate("", seed).image)


def test_what_cannot_be_is_a_sentence(backend, tmp_path):
    with pytest.raises(GensegError, match="no text encoder"):
        genseg.synth(tmp_path / "a", 1, backend, prompts="a cat", **QUICK)
    with pytest.raises(GensegError, match="must be at least 1"):
        genseg.synth(tmp_path / "b", 0, backend)
    with pytest.raises(GensegError, match="no prompt given"):
        genseg.synth(tmp_path / "b", 1, backend, prompts=[])


def test_the_command_writes_a_run(tmp_path):
    keys = [f"{key}={value}" for key, value in QUICK.items()]
    out = tmp_path / "run"
    done = CliRunner().invoke(app, ["synth", *keys, "--n", "2", "--seed", "7", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert [row.key for row in Run(str(out)).rows(["key"])] == ["seed-00000007", "seed-00000008"]
    empty = tmp_path / "prompts.txt"
    empty.write_text("\n")
    refused = CliRunner().invoke(app, ["synth", "--n", "2", "--prompts", str(empty), "--out", str(tmp_path / "b")])
    assert (refused.exit_code, "no prompt given" in refused.output) == (2, True)
