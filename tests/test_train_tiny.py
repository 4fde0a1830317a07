"""The training script, for a few steps: it learns, resumes exactly, and writes what the backend loads."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model

import genseg

EXAMPLES = Path(__file__).parents[1] / "examples"
OPTIONS = ["--image-size", 32, "--patch", 4, "--channels", 16, 32, 16, "--token-dim", 16]
OPTIONS += ["--batch-size", 4, "--warmup-steps", 1, "--samples", 84]


@pytest.fixture(scope="module")
def _examples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, _examples) -> Path:
    """Runs on 24 plain photos in two groups: alone, with a teacher, and the same again in two parts."""
    folder = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    for index in range(24):
        path = folder / "images" / f"group{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        halves = rng.integers(256, size=(2, 1, 1, 3), dtype=np.uint8)
        Image.fromarray(np.concatenate([np.tile(half, (64, 32, 1)) for half in halves], axis=1)).save(path)
    with script_state():
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=14)
        Dinov2Model(config).save_pretrained(folder / "teacher")
        train(folder, "alone")
        train(folder, "unbroken", "--teacher", folder / "teacher")
        Thread(target=terminate, args=[folder / "resumed" / "log.jsonl"]).start()
        train(folder, "resumed", "--teacher", folder / "teacher", "--checkpoint-minutes", "0")
        assert log_of(folder / "resumed")[-1]["samples"] < 84
        train(folder, "resumed", "--teacher", folder / "teacher")
    return folder


@contextmanager
def script_state() -> Iterator[None]:
    """Put back the settings that the script makes for the whole process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    precision = torch.get_float32_matmul_precision()
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.set_float32_matmul_precision(precision)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def train(folder: Path, out: str, *options: object) -> None:
    """Run the script."""
    import train_tiny

    arguments = ["train_tiny.py", "--images", folder / "images", "--out", folder / out, *OPTIONS, *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", list(map(str, arguments)))
        train_tiny.main()


def terminate(log: Path) -> None:
    """Send this process SIGTERM once a run has logged twice."""
    while not log.exists() or log.read_text().count("\n") < 2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_that_was_terminated_goes_on_as_if_it_had_not_been(runs: Path):
    rows = log_of(runs / "resumed")
    assert rows[-1]["samples"] == 84
    assert len(rows) > 2
    assert {"cosine_middle", "cosine_up"} < rows[-1].keys()
    resumed, unbroken = (
        torch.load(runs / name / "checkpoint.pt", weights_only=True) for name in ("resumed", "unbroken")
    )
    torch.testing.assert_close(resumed["model"], unbroken["model"], rtol=1e-4, atol=1e-5)


def test_alignment_heads_are_not_part_of_the_model(runs: Path):
    assert "heads.up.weight" in torch.load(runs / "unbroken" / "checkpoint.pt", weights_only=True)["model"]
    exported = [
        load_file(runs / name / "model/unet/diffusion_pytorch_model.safetensors") for name in ("unbroken", "alone")
    ]
    assert exported[0].keys() == exported[1].keys()


@pytest.mark.usefixtures("_examples")
def test_tokens_are_resampled_as_their_photo_is():
    from photos import random_views, resampled

    places = torch.stack(torch.meshgrid(*2 * [(torch.arange(32) + 0.5) / 32], indexing="ij"))
    photos = places.expand(8, -1, -1, -1)
    tokens = torch.nn.functional.avg_pool2d(photos, 8)
    views = random_views(8, torch.device("cpu"))
    assert len(views.unique(dim=0)) > 2
    expected = torch.nn.functional.avg_pool2d(resampled(photos, views, 64), 8)
    torch.testing.assert_close(
        resampled(tokens, views, 8)[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=0, atol=0.02
    )


@pytest.mark.usefixtures("_examples")
def test_cells_that_differ_as_the_teachers_do_cost_nothing():
    from alignment import MEAN_REMOVED, alignment_loss

    tokens = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    same = 5 * (tokens - MEAN_REMOVED * tokens.mean((2, 3), keepdim=True))
    loss, cosine = alignment_loss(tokens, same, tokens)
    assert (loss.item(), cosine.item()) == pytest.approx((0, 1), abs=1e-5)
    assert alignment_loss(tokens, same.flip(3), tokens)[0] > 0.1
    assert alignment_loss(tokens.flip(3), same, tokens)[0] > 0.1


@pytest.mark.usefixtures("_examples")
def test_heads_begin_with_what_the_features_already_tell():
    from alignment import Heads
    from train_tiny import TinyModel, new_unet

    torch.manual_seed(0)
    model = TinyModel(new_unet(32, 4, (16, 32, 16), 16), 2, components=4)
    mix = torch.randn(4, model.heads.up.in_channels, 1, 1)

    def batches(n: int) -> Iterator[torch.Tensor]:
        for _ in range(n):
            assert model(torch.randn(4, 48, 8, 8), torch.full((4,), 200), torch.zeros(4).long(), read=True) is None
            yield torch.nn.functional.conv2d(model.heads.features["up"], mix)

    model.heads.fit(batches(8))
    tokens = next(batches(1))
    assert isinstance(model.heads, Heads)
    assert model.heads.loss(torch.ones(4).bool(), tokens)[1]["up"] > 0.95


@pytest.mark.usefixtures("_examples")
def test_tokens_are_the_teachers_and_are_computed_once(runs: Path):
    from alignment import Teacher

    photos = torch.randint(256, (20, 3, 56, 56), generator=torch.Generator().manual_seed(0)).byte()
    teacher = Teacher(runs / "teacher", photos, runs / "cache")
    rows = torch.tensor([3, 7, 3])
    tokens = teacher(rows)
    expected = teacher._encode(rows).mT.unflatten(2, (8, 8))
    torch.testing.assert_close(_distances(tokens), _distances(expected), rtol=0.01, atol=0.01)
    resumed = Teacher(runs / "teacher", photos, runs / "cache")
    resumed.network = None
    torch.testing.assert_close(resumed(rows), tokens)


def _distances(tokens: torch.Tensor) -> torch.Tensor:
    cells = tokens.flatten(2).mT
    return torch.cdist(cells, cells)


@pytest.mark.parametrize("name", ["alone", "resumed"])
def test_what_it_writes_is_a_backend(runs: Path, name: str):
    backend = genseg.load_backend("tiny", model=str(runs / name / "model"), device="cpu")
    assert backend.image_size == 32
    tap = next(iter(backend.taps))
    point = next(iter(backend.points))
    seg = genseg.segment(
        Image.effect_noise((32, 32), 50),
        backend=backend,
        n_clusters=3,
        tap=tap,
        point=point,
        size=32,
        margin=0,
        modulate=True,
        replay_steps=1,
    )
    assert seg.labels.shape == (32, 32)
    assert (runs / name / "samples.png").exists()
