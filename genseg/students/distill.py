"""From a run's masks to a fast segmenter. What is heavy is imported once it is needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from genseg.errors import GensegError
from genseg.progress import Progress
from genseg.students.settings import Settings

if TYPE_CHECKING:
    from genseg.runs.run import Run

PACKAGES = ("accelerate", "fsspec", "onnx", "pyarrow", "pycocotools", "tensorboard", "transformers")


def distill(
    run: Run | str | Path,
    classes: str,
    out: str | Path,
    *,
    student: str = Settings.student,
    checkpoint: str | None = None,
    image_size: int = Settings.image_size,
    epochs: float = Settings.epochs,
    steps: int | None = None,
    batch_size: int = Settings.batch_size,
    lr: float = Settings.lr,
    min_confidence: float = Settings.min_confidence,
    confidence_weighting: bool = True,
    seed: int = 0,
    val_fraction: float = Settings.val_fraction,
    save_every: int = Settings.save_every,
    dtype: str = Settings.dtype,
    device: str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train a segmentation model of transformers on the masks of a run.

    The loss is cross-entropy, each pixel counting as its confidence says. Images pass by as a stream: memory does not
    grow with the run. An image that cannot be read any more is left out. Training that was killed goes on from the
    last state that it saved, and its weights are those of one that was not.

    Written into ``out``: ``model.safetensors``, ``config.json`` and ``preprocessor_config.json``, as
    ``from_pretrained`` reads them; ``model.onnx``, of any batch, height and width; ``training.json``, all settings
    with what was measured and how many images could not be read; ``curves/``, loss, learning rate and agreement with
    the masks for TensorBoard. While it trains, ``state/``.

    Args:
        run: What ``genseg run`` or ``genseg synth`` has written, or its folder.
        classes: Name of a set of classes that its masks were given, such as ``"concepts-27"``.
        out: An empty folder, or a new one.
        student: One of `genseg.students.models.STUDENTS`, with random weights.
        checkpoint: A local folder or hub id of a model of transformers to start from, in place of random weights.
        image_size: Side in pixels of the square crops; of the shorter side of images, later.
        epochs: How often each image is seen.
        steps: How many batches, in place of epochs.
        batch_size: Crops in a batch.
        lr: Largest learning rate of AdamW, after a rise over a twentieth of the steps and before a linear fall to 0.
        min_confidence: Pixels below it, in [0, 1], are ignored; so are those without a class.
        confidence_weighting: Whether pixels count as their confidence says, or all the same.
        seed: Fixes random weights, order, crops and dropout.
        val_fraction: Part of the images that is held out, to measure how well the student agrees with their masks.
        save_every: Steps from one saved state, and one such measurement, to the next.
        dtype: ``"float32"``, or ``"float16"`` or ``"bfloat16"`` for mixed precision.
        device: ``"cpu"``; None for what accelerate finds, such as CUDA.
        resume: Go on with the training that ``out`` holds, of the same settings; there need not be one.
        progress: Called as ``progress("train", step, steps)``.

    Returns:
        ``out``.

    Raises:
        GensegError: If packages are missing, the run has no such classes or no images, most images cannot be read, a
            setting cannot be used, or ``out`` holds something else.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise GensegError(f"distilling needs the package {package!r}; run: pip install 'genseg[distill]'")
    from genseg.runs.run import Run

    settings = Settings(
        student=student,
        checkpoint=checkpoint,
        image_size=image_size,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        min_confidence=min_confidence,
        confidence_weighting=confidence_weighting,
        seed=seed,
        val_fraction=val_fraction,
        save_every=save_every,
        dtype=dtype,
    )
    opened = run if isinstance(run, Run) else Run(str(run))

    from genseg.students.training import train

    train(opened, classes, Path(out), settings, resume=resume, device=device, progress=progress)
    return Path(out)
