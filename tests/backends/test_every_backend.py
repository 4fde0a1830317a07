"""Every family keeps the contract, read from a checkpoint in the hub's layout; its other backends segment a photo."""

import functools

import pytest
from families import PIPELINES, write_checkpoint
from models import write_sd_checkpoint

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

UNLIKE_SD15 = {"sd21", "lcm"}
"""Backends of its class whose networks predict or are told something else: checked in bfloat16 alone."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The checkpoint of a backend by name, written when it is first needed; None for one that needs none."""
    root = tmp_path_factory.mktemp("contract")

    @functools.cache
    def written(kind):
        return (
            write_checkpoint(root / kind, kind) if kind in PIPELINES else write_sd_checkpoint(root / kind, layout=kind)
        )

    return lambda name: None if name == "tiny" else str(written(LAYOUT.get(name, name)))


@pytest.fixture(scope="module", autouse=True)
def small():
    """Networks that do not say so are of 64 pixels here, so that generation is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformerBackend, "default_size", 8)
        patch.setattr(Flux2, "default_size", 4)
        yield


def load(checkpoint, name, dtype):
    return genseg.load_backend(name, model=checkpoint(name), device="cpu", dtype=dtype)


def small_context(backend, name):
    """Backends to check, on 64 pixels where that is enough."""
    image = synthetic_image(64, 64) if name in LAYOUT else None
    return CheckContext(backend, {"num_inference_steps": 5}, image=image, locality=name in LOCAL)


def one_of_each_kind(context):
    """The default point and the first of each other kind, such as resnet: all of a kind compute in the same way."""
    points = context.backend.points
    kinds = {name.rpartition(".")[2]: name for name in (*reversed(points), context.recipe.point or next(iter(points)))}
    return {name: points[name] for name in kinds.values()}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TWINS | UNLIKE_SD15], scope="class")
class TestFloat32(BackendContract):
    @pytest.fixture(scope="class")
    def backend(self, checkpoint, name):
        return load(checkpoint, name, "float32")

    @pytest.fixture(scope="class")
    def context(self, backend, name):
        return small_context(backend, name)

    @pytest.fixture(autouse=True)
    def _few_points(self, context, check, monkeypatch):
        if check not in ("declarations", "sites_are_as_declared"):  # which are of every site
            monkeypatch.setattr(context.backend, "points", one_of_each_kind(context))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TWINS])
def test_in_bfloat16_a_photo_is_segmented_and_given_back(checkpoint, name):
    context = small_context(load(checkpoint, name, "bfloat16"), name)
    context.tolerance = 0.02
    context.backend.points = one_of_each_kind(context)
    for check in ("a_zero_offset_changes_nothing", "an_offset_changes_pixels", "a_photo_is_segmented"):
        genseg.contract.checks.CHECKS[check](context)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_the_others_segment_a_photo(checkpoint, name):
    genseg.contract.checks.CHECKS["a_photo_is_segmented"](small_context(load(checkpoint, name, "bfloat16"), name))


@pytest.mark.parametrize("name", ["lcm", "sd-turbo", "sdxl-turbo", "flux-schnell", "z-image"])
def test_models_of_few_steps_are_sampled_without_classifier_free_guidance(checkpoint, name):
    assert load(checkpoint, name, "bfloat16").guidance_scale == 1


@pytest.mark.parametrize(("name", "tokens"), [("flux-schnell", 256), ("flux-dev", 512)])
def test_flux_is_told_as_many_tokens_as_it_was_trained_with(checkpoint, name, tokens):
    backend = load(checkpoint, name, "bfloat16")
    assert backend.conditioning["encoder_hidden_states"].shape[1] == tokens
    assert backend.described("a cat")["encoder_hidden_states"].shape[1] == tokens
