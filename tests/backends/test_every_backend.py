"""Every family keeps the contract, read from a checkpoint in the hub's layout; its other backends segment a photo."""

import pytest
from families import PIPELINES, write_checkpoint
from models import LAYOUTS, write_sd_checkpoint

import genseg
import genseg.contract.checks
from genseg.contract.context import CheckContext, synthetic_image
from genseg.testing import BackendContract
from genseg_backends.engine.transformers import TransformerBackend
from genseg_backends.families.flux2 import Flux2

LAYOUT = {
    "sd14": "sd1", "sd15": "sd1", "sd20": "sd2-768-v", "sd21": "sd2-768-v", "sd-turbo": "sd2-512", "lcm": "lcm",
}  # fmt: skip
"""The checkpoints of Stable Diffusion's backends."""

LOCAL = {
    "tiny", "qwen-image", "z-image", "lumina2", "pixart-alpha", "pixart-sigma", "sd3",
    "sd35-medium", "sana", "deepfloyd-if", "vitmae",
}  # fmt: skip
"""Backends whose weights, trained or not, change most where they are changed."""

NAMES = ["tiny", *LAYOUT, *PIPELINES]

TWINS = {
    "sd14", "sd20", "sd-turbo", "sdxl-turbo", "ssd-1b", "vega", "pixart-sigma", "sd35-large", "flux-schnell",
}  # fmt: skip
"""Backends of the same class as another, which differ from it by configuration alone."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A checkpoint of every backend that needs one, by name."""
    root = tmp_path_factory.mktemp("contract")
    layouts = {layout: write_sd_checkpoint(root / layout, layout=layout) for layout in LAYOUTS}
    written = {name: write_checkpoint(root / name, name) for name in PIPELINES}
    return written | {name: layouts[layout] for name, layout in LAYOUT.items()}


@pytest.fixture(scope="module", autouse=True)
def small():
    """Networks that do not say so are of 64 pixels here, so that generation is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformerBackend, "default_size", 8)
        patch.setattr(Flux2, "default_size", 4)
        yield


def load(checkpoints, name, dtype):
    model = str(checkpoints[name]) if name in checkpoints else None
    return genseg.load_backend(name, model=model, device="cpu", dtype=dtype)


def small_context(backend, name):
    """What is checked, on 64 pixels where that is enough."""
    image = synthetic_image(64, 64) if name in LAYOUT else None
    return CheckContext(backend, {"num_inference_steps": 5}, image=image, locality=name in LOCAL)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TWINS], scope="class")
class TestFloat32(BackendContract):
    @pytest.fixture(scope="class")
    def backend(self, checkpoints, name):
        return load(checkpoints, name, "float32")

    @pytest.fixture(scope="class")
    def context(self, backend, name):
        return small_context(backend, name)


def one_of_each_kind(context):
    """The default point and the first of each other kind, such as resnet: all of a kind compute in the same way."""
    points = context.backend.points
    kinds = {name.rpartition(".")[2]: name for name in (*reversed(points), context.recipe.point or next(iter(points)))}
    return {name: points[name] for name in kinds.values()}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TWINS])
def test_in_bfloat16_a_photo_is_segmented_and_given_back(checkpoints, name):
    context = small_context(load(checkpoints, name, "bfloat16"), name)
    context.tolerance = 0.02
    context.backend.points = one_of_each_kind(context)
    for check in ("a_zero_offset_changes_nothing", "an_offset_changes_pixels", "a_photo_is_segmented"):
        genseg.contract.checks.CHECKS[check](context)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_the_others_segment_a_photo(checkpoints, name):
    genseg.contract.checks.CHECKS["a_photo_is_segmented"](small_context(load(checkpoints, name, "bfloat16"), name))
