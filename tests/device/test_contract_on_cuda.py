"""Backends keep the contract on a card: no operator mixes devices, and nothing else differs from the CPU."""

import pytest

from genseg.contract.context import CheckContext, synthetic_image
from genseg.interface import FeatureTap
from genseg.testing import BackendContract


def one_of_each_kind(sites: dict[str, FeatureTap], default: str | None) -> dict[str, FeatureTap]:
    """The default site, and the first of each kind: all of a kind are hooked by the same code."""
    default = default or next(iter(sites))
    of_kind = {name.rpartition(".")[2]: name for name in reversed(sites)}
    return {name: sites[name] for name in {default: None} | dict.fromkeys(of_kind.values())}


class TestContract(BackendContract):
    @pytest.fixture(scope="class", params=["tiny", "sd15", "sd3", "vitmae"])
    def context(self, request, load):
        backend = load(request.param)
        recipe = backend.resolve()
        backend.taps = one_of_each_kind(backend.taps, recipe.tap)
        backend.points = one_of_each_kind(backend.points, recipe.point)
        image = synthetic_image(64, 64) if request.param in ("tiny", "sd15") else None
        return CheckContext(
            backend, {"num_inference_steps": 5}, image=image, locality=request.param in ("sd3", "vitmae")
        )
