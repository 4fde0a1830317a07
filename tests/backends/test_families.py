"""Every family of transformers, over small checkpoints that the real pipelines write and random weights."""

import functools
from dataclasses import replace
from typing import NamedTuple

import families
import pytest
import torch
from torch.overrides import TorchFunctionMode

import genseg
from genseg.recipe import load_recipe
from genseg_backends.engine.transformers import TransformerBackend
from genseg_backends.families.flux2 import Flux2

QUICK = {"n_clusters": 3, "n_init": 1, "draws": 1, "replay_steps": 2, "num_inference_steps": 4, "margin": 0}
HEIGHT, WIDTH = 48, 80
CELL = (1, 3)
"""One of the three rows and five columns of tokens, which is another one in columns and rows."""
PACKED = ("flux-dev", "flux-schnell", "qwen-image")
"""Those whose pipelines unpack tokens to latents by themselves."""
PIPELINES_OWN_STEPS = (*PACKED, "flux2", "z-image", "lumina2")
"""Those sampled with their pipelines' steps: PixArt is with DDIM's, and SD3's pipeline applies its shift twice."""
TRANSFORMERS = ("pixart-alpha", "pixart-sigma", "sd3", "sd35-medium", "sd35-large", "hunyuan-dit", *PIPELINES_OWN_STEPS)
TWINS = ("pixart-sigma", "sd35-large", "flux-schnell")
"""Those that differ from another one by configuration alone: their calls are compared, and their steps."""
OWN_PROCESSORS = [name for name in TRANSFORMERS if not name.startswith("pixart") and name not in TWINS]
"""Those whose attention is no plain one, for which `test_exactness.py` is."""


@pytest.fixture(scope="module", autouse=True)
def small():
    """Networks that do not say so are of 64 pixels here, so that generation is quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformerBackend, "default_size", 8)
        patch.setattr(Flux2, "default_size", 4)
        yield


@pytest.fixture(scope="module", params=[name for name in TRANSFORMERS if name not in TWINS])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return families.write_checkpoint(tmp_path_factory.mktemp("families") / name, name)


@pytest.fixture(scope="module")
def backend(name, folder):
    return genseg.load_backend(name, model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def recipe(backend):
    return load_recipe(QUICK, calibration=backend.recipe)


@pytest.fixture(scope="module")
def state(backend, recipe, pixels):
    """A photo of three rows and five columns of tokens."""
    return backend.encode(pixels(HEIGHT, WIDTH), recipe, 0)


@pytest.fixture(scope="module")
def pipeline(name):
    """The library's own pipeline, of the same weights."""
    made = families.PIPELINES[name]()
    made.set_progress_bar_config(disable=True)
    return made


def sampled(name, pipeline, height, width):
    """The image that the pipeline makes in two steps, without classifier-free guidance."""
    options = {
        "qwen-image": {}, "z-image": {"guidance_scale": 0.0}, "flux-dev": {"guidance_scale": 3.5},
        "flux-schnell": {"max_sequence_length": 256},
    }  # fmt: skip
    given = options.get(name, {"guidance_scale": 1.0})
    if name.startswith(("pixart", "hunyuan")):
        given |= {"use_resolution_binning": False}
    noise = torch.Generator().manual_seed(0)
    size = {"height": height, "width": width}
    return pipeline(prompt="a cat", num_inference_steps=2, generator=noise, output_type="pt", **size, **given).images


class Run(NamedTuple):
    """Calls of the pipeline.

    Attributes:
        steps: Of each step the network's output as the scheduler takes it, the timestep, x_t and x_{t-1}, as maps.
        image: [1, 3, H, W] in [0, 1].
    """

    steps: list[tuple[torch.Tensor, ...]]
    image: torch.Tensor


@pytest.fixture(scope="module")
def run(name, pipeline):
    """A run of the pipeline, of as many tokens as `state` has."""
    steps, own = [], pipeline.scheduler.step

    def maps(latents):
        if name in PACKED:
            unpacked = pipeline._unpack_latents(latents, HEIGHT, WIDTH, pipeline.vae_scale_factor)
            return unpacked[:, :, 0] if unpacked.ndim == 5 else unpacked
        if name == "flux2":
            return latents.transpose(1, 2).unflatten(2, (HEIGHT // 16, WIDTH // 16))
        return latents

    @functools.wraps(own)
    def recorded(output, timestep, sample, **rest):
        after = own(output, timestep, sample, **rest)
        steps.append((maps(output), timestep, maps(sample), maps(after[0])))
        return after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.scheduler, "step", recorded)
        return Run(steps, sampled(name, pipeline, HEIGHT, WIDTH))


@pytest.mark.parametrize("name", TRANSFORMERS, indirect=True)
def test_a_call_is_the_call_of_the_librarys_own_pipeline(backend, run):
    conditioning = backend.described("a cat")
    for expected, timestep, x, _ in run.steps:
        with torch.inference_mode():
            found = backend.predict(x, timestep[None], conditioning=conditioning)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_images_are_decoded_as_the_librarys_own_pipeline_does(backend, run):
    found = backend.decode(run.steps[-1][3]) / 2 + 0.5
    torch.testing.assert_close(found.clamp(0, 1), run.image, rtol=0, atol=1e-4)
    assert run.image.std() > 0.01


def test_latents_of_an_image_decode_to_what_the_autoencoder_makes_of_it(backend, state, pixels):
    vae, image = backend.codec.vae, pixels(HEIGHT, WIDTH)
    with torch.inference_mode():
        frames = image[:, :, None] if vae.config["_class_name"] == "AutoencoderKLQwenImage" else image
        expected = vae.decode(vae.encode(frames).latent_dist.mean).sample.reshape(image.shape)
    torch.testing.assert_close(backend.decode(state.latents[-1:]), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", PIPELINES_OWN_STEPS, indirect=True)
def test_the_samplers_timesteps_are_those_of_the_librarys_own_pipeline(name, backend, pipeline):
    sampled(name, pipeline, backend.image_size, backend.image_size)
    torch.testing.assert_close(backend.schedule.sampler(2), pipeline.scheduler.timesteps.double(), rtol=1e-5, atol=0)


def test_every_point_changes_the_image_and_each_row_is_its_own(backend, recipe, state):
    for point in backend.points.values():
        grid = point.grid_for(HEIGHT, WIDTH)
        offsets = recipe.strength * torch.eye(grid[0] * grid[1])[:2].reshape(2, *grid)
        together = backend.regenerate(state, point, offsets, recipe)
        alone = torch.cat([backend.regenerate(state, point, offset[None], recipe) for offset in offsets])
        scale = state.latents[-1].abs().max().item()
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-4 * scale)
        changes = (together - state.latents[-1]).abs().amax(dim=(1, 2, 3))
        assert (changes > 1e-3 * scale).all(), point


def moved_most(before, after, grid):
    """The cell of maps [1, C, H, W] that differ, on a grid of cells."""
    change = torch.nn.functional.adaptive_avg_pool2d((after - before).square().sum(dim=1), grid)
    return divmod(change.argmax().item(), grid[1])


def test_a_tap_moves_most_where_the_image_does(backend, recipe, state):
    for name, tap in backend.taps.items():
        if name.endswith("attention"):
            continue  # what random attention puts out is the same everywhere
        grid = tap.grid_for(HEIGHT, WIDTH)
        side = tap.stride // backend.codec.stride
        other = state.latents.clone()
        other[-1, :, CELL[0] * side : (CELL[0] + 1) * side, CELL[1] * side : (CELL[1] + 1) * side] += 1
        features = (backend.features(each, tap, recipe)[None] for each in (state, replace(state, latents=other)))
        assert moved_most(*features, grid) == CELL, name


def test_an_offset_moves_the_image_most_where_it_is_added(backend, recipe, state):
    for name, point in backend.points.items():
        grid = point.grid_for(HEIGHT, WIDTH)
        offsets = torch.zeros(1, *grid)
        offsets[0, CELL[0], CELL[1]] = recipe.strength
        changed = backend.regenerate(state, point, offsets, recipe)
        assert moved_most(state.latents[-1:], changed, grid) == CELL, name


def test_a_zero_offset_gives_the_image_back(backend, recipe, state):
    for point in backend.points.values():
        nothing = torch.zeros(2, *point.grid_for(HEIGHT, WIDTH))
        found = backend.regenerate(state, point, nothing, recipe)
        torch.testing.assert_close(found, state.latents[-1:].expand_as(found), rtol=0, atol=1e-5)


class Attended(TorchFunctionMode):
    """Collects the queries and keys of every attention."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, kinds, arguments=(), options=None):
        if function is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), arguments, strict=False)) | (options or {})
            self.seen.append((named["query"], named["key"], named["value"]))
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("name", OWN_PROCESSORS, indirect=True)
def test_under_injection_branches_attend_with_the_unmodified_samples_queries_and_keys(backend, state):
    x, t = state.latents[:1], state.timesteps[:1]
    others = torch.cat([x, x + 0.5, 2 * x])
    with torch.inference_mode(), backend.injection.under_way() as injection:
        injection.leads = True
        with Attended() as leading:
            backend.predict(x, t)
        injection.leads = False
        with Attended() as following:
            backend.predict(others, t.expand(3))
    assert leading.seen
    moved = 0
    for (query, key, value), (queries, keys, values) in zip(leading.seen, following.seen, strict=True):
        torch.testing.assert_close(queries, query.expand_as(queries))
        torch.testing.assert_close(keys, key.expand_as(keys))
        moved += not torch.allclose(values, value.expand_as(values), rtol=0.01)
    assert moved > 0
    with torch.inference_mode(), Attended() as free:
        backend.predict(others, t.expand(3))
    assert not torch.allclose(free.seen[-1][0], leading.seen[-1][0].expand_as(free.seen[-1][0]), rtol=0.01)


def test_injection_still_gives_the_image_back_and_changes_what_an_offset_does(backend, recipe, state):
    point = next(iter(backend.points.values()))
    grid = point.grid_for(HEIGHT, WIDTH)
    offsets = torch.zeros(2, *grid)
    offsets[1, 0, 0] = recipe.strength
    held = backend.regenerate(state, point, offsets, load_recipe(recipe, injection=True))
    free = backend.regenerate(state, point, offsets, load_recipe(recipe, injection=False))
    torch.testing.assert_close(held[:1], state.latents[-1:], rtol=0, atol=1e-5)
    assert not torch.allclose(held[1], free[1], atol=1e-5)


@pytest.fixture(scope="module")
def made(backend, recipe):
    """The state of an image generated under a prompt from a seed."""
    return functools.cache(lambda prompt, seed=0: backend.generate(prompt, seed, recipe))


@pytest.mark.parametrize("prompt", ["", "a cat"])
def test_a_generated_image_is_what_its_state_gives_back(backend, recipe, made, prompt):
    state, point = made(prompt), next(iter(backend.points.values()))
    found = backend.regenerate(state, point, torch.zeros(1, *point.grid), recipe)
    torch.testing.assert_close(found, state.latents[-1:], rtol=0, atol=1e-4 * state.latents[-1].abs().max().item())


def test_seed_and_prompt_are_heard(made):
    image = made("a cat").latents[-1]
    assert not torch.allclose(image, made("a cat", 1).latents[-1])
    assert not torch.allclose(image, made("a cat on a mat").latents[-1], atol=1e-5)


def test_the_recipe_replays_from_about_the_noise_level_that_it_names(backend):
    recipe = load_recipe(calibration=backend.recipe)
    assert abs(backend.schedule.timesteps(recipe)[0] - recipe.t_m) < 100
