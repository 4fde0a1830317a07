"""Tests of the path over CUDA without a card: the stand-in is loaded before anything imports torch.

They need a process of their own, so pytest comes here only if this folder is named, as `make test-device` does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import standin

if TYPE_CHECKING:
    from genseg import Backend

OBSTACLE = standin.obstacle()


def pytest_configure(config: pytest.Config) -> None:
    if not OBSTACLE:
        standin.load(Path(config.cache.mkdir("device")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if OBSTACLE:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=OBSTACLE))


@pytest.fixture(scope="session")
def load(tmp_path_factory) -> Callable[..., Backend]:
    """Load a backend by name, with small random weights unless it is bundled."""
    from families import write_checkpoint
    from models import write_sd_checkpoint

    import genseg
    from genseg_backends.engine.transformers import TransformerBackend
    from genseg_backends.families.flux2 import Flux2

    root = tmp_path_factory.mktemp("checkpoints")
    TransformerBackend.default_size, Flux2.default_size = 8, 4  # networks that do not say so are of 64 pixels here

    def loaded(name: str, device: str = "cuda", dtype: str = "float32", **options: object) -> Backend:
        folder = root / name
        if name != "tiny" and not folder.exists():
            (write_sd_checkpoint if name == "sd15" else lambda at: write_checkpoint(at, name))(folder)
        model = None if name == "tiny" else str(folder)
        return genseg.load_backend(name, model=model, device=device, dtype=dtype, **options)

    return loaded
