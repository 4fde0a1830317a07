"""The settings that a student's weights depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from genseg.errors import GensegError, unknown

DTYPES = ("float32", "float16", "bfloat16")

BOUNDS: Mapping[str, tuple[float, float]] = {
    "image_size": (32, 8192),  # the students' coarsest features are at a 32nd of the image
    "epochs": (0.001, 100_000),
    "steps": (1, 10**9),
    "batch_size": (1, 65_536),
    "lr": (1e-9, 10),
    "min_confidence": (0, 1),
    "seed": (0, 2**32 - 1),
    "val_fraction": (0, 0.9),
    "save_every": (1, 10**9),
}
"""The smallest and largest value of each number."""


@dataclass(frozen=True)
class StudentSettings:
    """How a student is trained.

    Attributes:
        student: One of `genseg.students.models.STUDENTS`, with random weights.
        checkpoint: A local folder or hub id of a model of transformers to start from, in place of random weights.
        image_size: Side in pixels of the square crops; of the shorter side of images, later.
        epochs: How often each image is seen.
        steps: Number of batches, in place of epochs.
        batch_size: Crops in a batch.
        lr: Peak learning rate of AdamW, after a warm-up over a twentieth of the steps and before a linear decay to 0.
        min_confidence: Pixels below it, in [0, 1], are ignored; so are those without a class.
        confidence_weighting: Whether to weight the loss of a pixel by its confidence.
        seed: Fixes random weights, order, crops and dropout.
        val_fraction: Validation fraction: images held out to measure how well the student agrees with their masks.
        save_every: Checkpoint and validate every so many steps.
        dtype: ``"float32"``, or ``"float16"`` or ``"bfloat16"`` for mixed precision.
    """

    student: str = "segformer-b0"
    checkpoint: str | None = None
    image_size: int = 512
    epochs: float = 20
    steps: int | None = None
    batch_size: int = 16
    lr: float = 6e-4
    min_confidence: float = 0.0
    confidence_weighting: bool = True
    seed: int = 0
    val_fraction: float = 0.05
    save_every: int = 500
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for key, (least, most) in BOUNDS.items():
            value = getattr(self, key)
            if value is not None and not least <= value <= most:
                raise GensegError(f"{key} must be a number from {least} to {most}, not {value}")
        if self.dtype not in DTYPES:
            raise GensegError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> StudentSettings:
        """Settings from keywords.

        Raises:
            GensegError: For an unknown one, naming the nearest, or a value out of range.
        """
        names = [field.name for field in fields(cls)]
        for name in values:
            if name not in names:
                raise unknown("setting", name, names)
        return cls(**values)
