"""What a student's weights depend on."""

from __future__ import annotations

from dataclasses import dataclass

from genseg.errors import GensegError

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Settings:
    """The arguments of `genseg.distill` that a student's weights depend on; see there.

    Raises:
        GensegError: For a value out of range.
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
        for key in ("image_size", "steps", "epochs", "batch_size", "lr", "save_every"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise GensegError(f"{key} must be above 0, not {value}")
        if not 0 <= self.val_fraction < 1:
            raise GensegError(f"val_fraction must be at least 0 and below 1, not {self.val_fraction}")
        if self.dtype not in DTYPES:
            raise GensegError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
