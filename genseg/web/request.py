"""A visitor's request, and the command line and Python that make the same labels."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from omegaconf import OmegaConf


@dataclass(frozen=True)
class SegmentRequest:
    """A backend, a recipe and a seed: all that the labels of an image depend on.

    Attributes:
        backend: A name from `genseg.list_backends`.
        recipe: A preset's name; None for the backend's own.
        options: Recipe keys as ``key=value``.
        seed: Fixes every random draw.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"auto"``; None for float32.
    """

    backend: str = "tiny"
    recipe: str | None = None
    options: tuple[str, ...] = ()
    seed: int = 0
    model: str | None = None
    device: str | None = None
    dtype: str | None = None

    def command_line(self, image: str, merged: int | str | None = None) -> str:
        """The shell command that writes the same labels.

        Args:
            image: Name of the image's file.
            merged: The number of segments it was merged into, or ``"auto"``; None if it was not.
        """
        words = ["genseg", "segment", f"./{image}" if image.startswith("-") else image, "--backend", self.backend]
        for option in ("recipe", "model", "device", "dtype"):
            if (value := getattr(self, option)) is not None:
                words += [f"--{option}", value]
        words += ["--seed", str(self.seed)]
        if merged is not None:
            words += ["--merge", str(merged)]
        return shlex.join([*words, *self.options])

    def python(self, image: str, edits: str = "") -> str:
        """Python code that makes the same labels, as ``seg.labels``.

        Args:
            image: Name of the image's file.
            edits: Lines that change ``seg``.
        """
        keywords = {"backend": self.backend}
        keywords |= {name: value for name in ("recipe", "model", "device", "dtype") if (value := getattr(self, name))}
        keys = {str(key): value for key, value in OmegaConf.from_dotlist(list(self.options)).items()}
        arguments = [
            repr(image),
            *(f"{key}={value!r}" for key, value in (keywords | {"seed": self.seed} | keys).items()),
        ]
        numpy = "import numpy\n" if "numpy" in edits else ""
        return f"import genseg\n{numpy}\nseg = genseg.segment({', '.join(arguments)})\n{edits}seg.save('labels.png')\n"
