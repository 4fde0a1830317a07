"""The engine gives what the paper's procedure gives, transcribed one branch at a time in tests/transcription.py."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transcription
from diffusers import DDIMScheduler
from models import sd_parts

import genseg
import genseg_backends.tiny
from genseg.sites import recorded
from genseg_backends.engine.noise import noise_generator
from genseg_backends.families.stable_diffusion import StableDiffusion

FEW = {"replay_steps": 3}
"""Of the paper's fifteen steps, where each is made as the others: one test alone needs them all."""


@dataclass
class Case:
    """A backend and an encoded photo, beside what the transcription needs of the same model."""

    backend: Any
    unet: Any
    decode: Any
    scheduler: Any
    prompt_embeds: torch.Tensor
    image: torch.Tensor
    masks: torch.Tensor
    recipe: Any
    state: Any
    kept: dict[Any, torch.Tensor] = field(default_factory=dict)

    @property
    def model(self):
        """The transcription's view of the model."""
        prediction_type = self.scheduler.config["prediction_type"]
        return transcription.Model(self.unet, self.scheduler.alphas_cumprod, prediction_type, self.prompt_embeds)

    def transcribed_maps(self, state, injection=True):
        point = "up_blocks.1.attentions.2.transformer_blocks.0.attn2"
        return transcription.difference_maps(
            self.unet, self.decode, self.scheduler.alphas_cumprod, self.scheduler.config["prediction_type"],
            self.prompt_embeds, state.timesteps, state.latents, self.masks, point, 10.0, injection,
        )  # fmt: skip

    def maps(self, **overrides):
        """The engine's difference maps; computed once for the same overrides."""
        key = tuple(sorted(overrides.items()))
        if key not in self.kept:
            recipe = genseg.load_recipe(self.recipe, **overrides)
            state = self.backend.encode(self.image, recipe, seed=0)
            self.kept[key] = genseg.difference_maps(self.backend, state, self.masks, recipe)
        return self.kept[key]


@pytest.fixture(scope="module", params=["sd-epsilon", "sd-v_prediction", "tiny"])
def case(request, pixels):
    model, _, prediction_type = request.param.partition("-")
    if model == "sd":
        parts = sd_parts(prediction_type=prediction_type)
        backend, image = StableDiffusion(**parts), pixels(*((32, 96) if prediction_type == "epsilon" else (64, 64)))
        vae, scheduler, prompt = parts["vae"], parts["scheduler"], parts["prompt_embeds"]

        def decode(latents):
            return vae.decode(latents / 0.18215).sample
    else:
        backend, image = request.getfixturevalue("tiny"), pixels(48, 64)
        scheduler = DDIMScheduler.from_pretrained(genseg_backends.tiny.FOLDER, subfolder="scheduler")
        prompt, stride = backend.prompt_embeds, math.isqrt(backend.network.config["in_channels"] // 3)

        def decode(latents):
            return F.pixel_shuffle(latents, stride)

    height, width = next(iter(backend.points.values())).grid_for(*image.shape[2:])
    below, right = torch.arange(height)[:, None] >= height // 2, torch.arange(width) >= width // 3
    masks = F.one_hot(below * (1 + right.long()), 3).permute(2, 0, 1).float()  # above, below left, below right
    recipe = genseg.load_recipe("paper", draws=3)
    state = backend.encode(image, recipe, seed=0)
    return Case(backend, backend.network, decode, scheduler, prompt, image, masks, recipe, state)


def relative_error(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(
    ("case", "overrides"),
    [
        ("sd-epsilon", {}),
        ("sd-epsilon", FEW | {"injection": False}),
        ("sd-v_prediction", FEW),
        ("tiny", FEW),
        pytest.param("sd-v_prediction", {}, marks=pytest.mark.slow),
        pytest.param("tiny", {}, marks=pytest.mark.slow),
    ],
    indirect=["case"],
)
def test_difference_maps_and_labels_are_those_of_the_transcription(case, overrides):
    recipe = genseg.load_recipe(case.recipe, **overrides)
    state = case.backend.encode(case.image, recipe, seed=0)
    found = case.maps(**overrides)
    expected = case.transcribed_maps(state, injection=recipe.injection)
    agreement = (found.argmax(0) == expected.argmax(0)).float().mean().item()
    print(f"relative error {relative_error(found, expected):.2e}, labels equal on {agreement:.4%}")
    assert relative_error(found, expected) < 1e-4
    assert agreement >= 0.999
    assert expected.argmax(0).unique().tolist() == [0, 1, 2]  # so that equal labels mean something


def test_the_paper_recipe_runs_fifteen_steps_from_281_to_1(case):
    assert case.state.timesteps.tolist() == list(range(281, 0, -20))


def test_every_timestep_has_standard_noise_of_its_own(case):
    abar = case.scheduler.alphas_cumprod[case.state.timesteps].view(-1, 1, 1, 1)
    noise = ((case.state.latents[:-1] - abar.sqrt() * case.state.latents[-1]) / (1 - abar).sqrt()).flatten(1)
    error = 4 / math.sqrt(noise.shape[1])
    assert noise.mean(dim=1).abs().max() < error
    assert (noise.std(dim=1) - 1).abs().max() < error
    others = torch.corrcoef(noise) - torch.eye(len(noise))
    assert others.abs().max() < error


@torch.no_grad()
def test_residuals_are_sigma_times_the_noise_of_edit_friendly_inversion(case):
    state = case.backend.encode(case.image, genseg.load_recipe(case.recipe, **FEW), seed=0)
    with case.model as model:
        z = transcription.invert(model, state.timesteps, state.latents)
        sigmas = torch.tensor([model.sigma(t, before) for t, before in transcription.steps(state.timesteps)])
    assert sigmas.min() > 0
    torch.testing.assert_close(state.residuals, sigmas.view(-1, 1, 1, 1) * z, atol=1e-5, rtol=1e-4)


def test_a_zero_offset_gives_the_image_back(case):
    point, recipe = next(iter(case.backend.points.values())), genseg.load_recipe(case.recipe, **FEW)
    state = case.backend.encode(case.image, recipe, seed=0)
    estimates = case.backend.regenerate(state, point, torch.zeros_like(case.masks), recipe)
    clean = state.latents[-1:].expand_as(estimates)
    torch.testing.assert_close(estimates, clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(case.backend.decode(estimates), case.decode(clean).detach(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("t_f", [0, 101])
@torch.no_grad()
def test_features_are_the_transcriptions_averaged_over_the_same_noise(case, t_f):
    tap = next(iter(case.backend.taps.values()))
    found = case.backend.features(case.state, tap, genseg.load_recipe(case.recipe, t_f=t_f, batch_size=2))
    clean, abar = case.state.latents[-1], case.scheduler.alphas_cumprod[t_f]
    noise = torch.randn((3, *clean.shape), generator=noise_generator(0, "features"))
    attention = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
    draws = [
        transcription.features(
            case.unet, abar.sqrt() * clean + (1 - abar).sqrt() * e, t_f, case.prompt_embeds, attention
        )
        for e in noise
    ]
    assert relative_error(draws[0], draws[1]) > 1e-3  # the draws differ, so the average is one
    assert relative_error(found, torch.stack(draws).mean(0)) < 1e-4


def test_one_sided_differences_are_to_the_image_itself(case):
    point = next(iter(case.backend.points.values()))
    recipe = genseg.load_recipe(case.recipe, **FEW)
    state = case.backend.encode(case.image, recipe, seed=0)
    estimates = case.backend.regenerate(state, point, 10 * case.masks, recipe)
    image, changed = (
        genseg.modulate.blurred(case.decode(x).detach(), 0.8) for x in (case.state.latents[-1:], estimates)
    )
    assert relative_error(case.maps(**FEW, difference="one-sided"), (image - changed).norm(dim=1)) < 1e-4


def test_without_injection_the_maps_are_others(case):
    assert relative_error(case.maps(**FEW, injection=False), case.maps(**FEW)) > 0.01


def test_the_result_does_not_depend_on_the_batch_size(case):
    first, second = (
        case.backend.encode(case.image, genseg.load_recipe(case.recipe, **FEW, batch_size=size), seed=0).residuals
        for size in (5, None)
    )
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    assert relative_error(case.maps(**FEW, batch_size=5), case.maps(**FEW)) < 5e-5


@torch.no_grad()
def test_strength_in_rms_is_strength_times_the_points_own_rms(case):
    point = next(iter(case.backend.points.values()))
    with recorded(case.unet, point.module) as outputs:
        case.unet(case.state.latents[:1], case.state.timesteps[0], case.prompt_embeds)
    rms = outputs[0].square().mean().sqrt().item()
    assert abs(rms - 1) > 0.01  # so that the unit matters
    in_rms = case.maps(**FEW, strength=20.0, strength_unit="rms")
    assert relative_error(in_rms, case.maps(**FEW, strength=20.0 * rms)) < 1e-4


def test_replaying_three_steps_starts_from_the_same_noise_as_replaying_all(case):
    few = case.backend.encode(case.image, genseg.load_recipe(case.recipe, replay_steps=3), seed=0)
    assert few.timesteps.tolist() == [281, 141, 1]
    assert torch.equal(few.latents, case.state.latents[[0, 7, 14, 15]])
