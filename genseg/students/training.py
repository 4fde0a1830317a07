"""Training a student on a run's masks, resumable from the last checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import patch_environment
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from genseg.errors import GensegError
from genseg.files import write_whole
from genseg.progress import Progress
from genseg.runs.run import Run
from genseg.students.export import write_student
from genseg.students.loss import agreement, upsampled, weighted_loss
from genseg.students.models import new_student, processor_for
from genseg.students.samples import Samples, TrainingCrop
from genseg.students.settings import StudentSettings
from genseg.version import __version__

RECORD, STATE, CURVES = "training.json", "state", "curves"
WARM_UP = 0.05  # of all steps, over which the learning rate rises
PRECISIONS = {"float32": "no", "float16": "fp16", "bfloat16": "bf16"}  # as accelerate calls them


def train(
    run: Run,
    classes: str,
    out: Path,
    settings: StudentSettings,
    *,
    resume: bool,
    device: str | None,
    progress: Progress | None,
) -> None:
    """Train a student; see `genseg.distill`."""
    names = run.class_names(classes)
    samples = Samples(
        run,
        classes,
        image_size=settings.image_size,
        min_confidence=settings.min_confidence,
        confidence_weighting=settings.confidence_weighting,
        val_fraction=settings.val_fraction,
        seed=settings.seed,
    )
    if not samples.n_training:
        raise GensegError(f"{run.store.url} has no image to learn from; let the run finish, or hold out fewer")
    steps = settings.steps or max(round(settings.epochs * samples.n_training / settings.batch_size), 1)
    record = asdict(settings) | {
        "steps": steps,
        "classes": classes,
        "names": list(names),
        "recipe_hash": run.settings.get("recipe_hash"),
        "training_images": samples.n_training,
        "validation_images": samples.n_validation,
    }
    if _begun(out, record, resume):
        return
    accelerator = _accelerator(device, settings.dtype)
    with torch.random.fork_rng(enabled=accelerator.device.type == "cpu"):
        torch.manual_seed(settings.seed)
        model = new_student(settings.student, settings.checkpoint, names)
        processor = processor_for(settings.checkpoint, settings.image_size)
        _write(out, record)
        training = _Training(accelerator, model, processor, samples, steps, settings, out)
        measured = training.run(progress or (lambda *_: None))
    write_student(accelerator.unwrap_model(training.model), processor, out, settings.image_size)
    for shard in sorted(run.damaged.keys() & set(run.shards)):
        samples.skipped.add(run.damaged[shard])
    unreadable = {"images": samples.skipped.count, "why": samples.skipped.reason}
    outcome = {"versions": _versions(), "run": run.store.url, "validation": measured, "unreadable": unreadable}
    _write(out, record | outcome | {"done": True})
    shutil.rmtree(out / STATE, ignore_errors=True)


class _Training:
    """The training loop and its checkpoints."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        processor: Any,
        samples: Samples,
        steps: int,
        settings: StudentSettings,
        out: Path,
    ) -> None:
        self._accelerator, self._processor, self._samples = accelerator, processor, samples
        self._steps, self._settings, self._out = steps, settings, out
        self._n_classes = model.config.num_labels
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.01)
        schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(WARM_UP * steps), steps)
        self.model, self._optimizer, self._schedule = accelerator.prepare(model, optimizer, schedule)

    def run(self, progress: Progress) -> dict[str, float]:
        """Run all remaining steps; return the agreement with the masks of the validation images."""
        begun = self._load()
        measured: dict[str, float] = {}
        batch_size = self._settings.batch_size
        samples = self._samples.training(begun * batch_size)
        curves = SummaryWriter(str(self._out / CURVES), purge_step=begun)
        progress("train", begun, self._steps)
        for step, batch in enumerate(ahead(samples, batch_size, self._steps - begun), start=begun + 1):
            curves.add_scalar("learning rate", self._schedule.get_last_lr()[0], step)
            curves.add_scalar("loss", self._step(batch), step)
            if step % self._settings.save_every == 0 or step == self._steps:
                measured = self._measure()
                for name, figure in measured.items():
                    curves.add_scalar(f"validation {name}", figure, step)
                curves.flush()
                self._save(step)
            progress("train", step, self._steps)
        curves.close()
        return measured or self._measure()

    def _step(self, batch: list[TrainingCrop]) -> float:
        """Train on one batch; return its loss."""
        pixels, classes, weights = self._tensors(batch)
        self.model.train()
        with self._accelerator.autocast():
            logits = self.model(pixel_values=pixels).logits
        loss = weighted_loss(logits, classes, weights)
        self._accelerator.backward(loss)
        self._accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return float(loss.detach())

    def _measure(self) -> dict[str, float]:
        """Return the agreement with the masks of the validation images."""
        return agreement(self._predictions(), self._n_classes) if self._samples.n_validation else {}

    @torch.no_grad()
    def _predictions(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.model.eval()
        samples = self._samples.validation()
        while batch := list(islice(samples, self._settings.batch_size)):
            pixels, classes, weights = self._tensors(batch)
            with self._accelerator.autocast():
                logits = self.model(pixel_values=pixels).logits
            yield upsampled(logits, classes).argmax(dim=1), torch.where(weights > 0, classes, -1)

    def _tensors(self, batch: list[TrainingCrop]) -> tuple[Tensor, Tensor, Tensor]:
        pixels = self._processor(
            [sample.pixels for sample in batch], do_resize=False, input_data_format="channels_last", return_tensors="pt"
        ).pixel_values
        classes = torch.from_numpy(np.stack([sample.classes for sample in batch]))
        weights = torch.from_numpy(np.stack([sample.weights for sample in batch]))
        device = self._accelerator.device
        return pixels.to(device), classes.to(device), weights.to(device)

    def _save(self, step: int) -> None:
        """Save a checkpoint as a whole, then remove those before it."""
        folder = self._out / STATE
        before = list(folder.glob("step-*"))
        fresh = folder / "unfinished"
        shutil.rmtree(fresh, ignore_errors=True)
        self._accelerator.save_state(str(fresh))
        fresh.rename(folder / f"step-{step:08}")
        for old in before:
            shutil.rmtree(old)

    def _load(self) -> int:
        """Load the last checkpoint; return its step, 0 if there is none."""
        saved = sorted((self._out / STATE).glob("step-*"))
        if not saved:
            return 0
        self._accelerator.load_state(str(saved[-1]))
        return int(saved[-1].name.removeprefix("step-"))


def ahead(samples: Iterator[TrainingCrop], batch_size: int, n_batches: int) -> Iterator[list[TrainingCrop]]:
    """Yield batches of samples; the next is made while the last is in use."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="genseg-samples") as reader:
        following = reader.submit(lambda: list(islice(samples, batch_size)))
        for left in range(n_batches - 1, -1, -1):
            batch = following.result()
            if left:
                following = reader.submit(lambda: list(islice(samples, batch_size)))
            yield batch


def _begun(out: Path, record: Mapping[str, Any], resume: bool) -> bool:
    """Return whether the training has finished already.

    Raises:
        GensegError: If the folder holds something else, or ``resume`` is false.
    """
    if not out.exists() or not any(out.iterdir()):
        return False
    if not resume:
        raise GensegError(f"{out} is not empty; choose another folder, or resume it by --resume")
    try:
        saved = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GensegError(f"{out} holds no training to resume; choose another folder") from error
    if other := [key for key in record if record[key] != saved.get(key)]:
        raise GensegError(f"{out} holds a training with another {' and '.join(other)}; choose another folder")
    return bool(saved.get("done"))


def _accelerator(device: str | None, dtype: str) -> Accelerator:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise GensegError(f"there is no device {device} here; leave it out for the one that is") from error
    # all trainings of a process would have the first one's precision and device
    AcceleratorState._reset_state(reset_partial_state=True)
    on_cpu = device is not None and torch.device(device).type == "cpu"
    with patch_environment(accelerate_torch_device=device) if device else nullcontext():  # its way to name the index
        return Accelerator(cpu=on_cpu, mixed_precision=PRECISIONS[dtype])


def _write(out: Path, record: Mapping[str, Any]) -> None:
    write_whole(out / RECORD, lambda file: file.write((json.dumps(record, indent=2) + "\n").encode()))


def _versions() -> dict[str, str]:
    return {"genseg": __version__, "torch": torch.__version__, "transformers": transformers.__version__}
