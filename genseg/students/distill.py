"""From a run's masks to a fast segmenter. Heavy packages are imported when they are needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genseg.errors import GensegError
from genseg.progress import Progress
from genseg.students.settings import StudentSettings

if TYPE_CHECKING:
    from genseg.runs.run import Run

PACKAGES = ("accelerate", "fsspec", "onnx", "pyarrow", "pycocotools", "tensorboard", "transformers")


def distill(
    run: Run | str | Path,
    classes: str,
    out: str | Path,
    *,
    device: str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Path:
    """Train a segmentation model of transformers on the masks of a run.

    The loss is cross-entropy, weighted by the confidence of each pixel. Images are streamed: memory does not grow with
    the run. Images that can no longer be read are skipped. Interrupted training resumes from the last checkpoint and
    ends with the same weights.

    Written into ``out``: ``model.safetensors``, ``config.json`` and ``preprocessor_config.json``, as
    ``from_pretrained`` reads them; ``model.onnx``, of any batch, height and width; ``training.json``, all settings
    with the metrics and how many images were skipped; ``curves/``, loss, learning rate and agreement with
    the masks for TensorBoard. While it trains, ``state/``.

    Args:
        run: A run, or the folder of one, of ``genseg run`` or ``genseg synth``.
        classes: Name of a set of classes that its masks were given, such as ``"concepts-27"``.
        out: An empty folder, or a new one.
        device: A torch device, such as ``"cpu"`` or ``"cuda:1"``; None for the one that accelerate chooses.
        resume: Resume the training in ``out``, of the same settings; there need not be one.
        progress: Progress callback: ``("train", step, steps)``.
        **settings: Fields of `genseg.students.settings.StudentSettings`, such as ``image_size=256``.

    Returns:
        ``out``.

    Raises:
        GensegError: If packages are missing, the run has no such classes or no images, most images cannot be read, a
            setting is unknown or out of range, or ``out`` holds something else.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise GensegError(f"distilling needs the package {package!r}; run: pip install 'genseg[distill]'")
    from genseg.runs.run import Run

    checked = StudentSettings.of(settings)
    opened = run if isinstance(run, Run) else Run(str(run))

    from genseg.students.training import train  # takes seconds to import

    train(opened, classes, Path(out), checked, resume=resume, device=device, progress=progress)
    return Path(out)
