"""The baseline of the speed benchmark gives the maps of the transcription, and spends what the publication spends."""

import pytest
import torch
import torch.nn.functional as F
import transcription
from models import sd_parts as make_sd_parts

import genseg
from genseg_backends.engine.noise import noise_generator
from genseg_backends.families.stable_diffusion import StableDiffusion
from published import Published

K, DRAWS, STEPS, BELOW = 3, 4, 5, 3  # t = 801, ..., 201, 1, of which 401, 201 and 1 are run


@pytest.fixture(scope="module")
def recipe():
    return genseg.load_recipe("paper", n_clusters=K, draws=DRAWS, num_inference_steps=STEPS, t_m=401, n_init=2)


@pytest.fixture
def passes(sd_parts):
    """The number of rows of every pass that reached the end of the U-Net."""
    rows = []
    handle = sd_parts["unet"].conv_out.register_forward_hook(lambda _m, _i, output: rows.append(len(output)))
    yield rows
    handle.remove()


def relative_error(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_difference_maps_are_the_transcriptions(prediction_type, recipe, pixels):
    parts = make_sd_parts(prediction_type=prediction_type)
    published = Published(StableDiffusion(**parts), recipe)
    clean = published.encode(pixels(32, 64))
    quarters = torch.arange(8).view(2, 4) // 2
    masks = F.one_hot(quarters.clamp(max=2), K).permute(2, 0, 1).float()
    start, noise = published.invert(clean)
    found = published.differences(published.perturbed(start, noise, published.record(start, noise), masks))

    abar, times = parts["scheduler"].alphas_cumprod, torch.tensor([401, 201, 1])
    drawn = torch.randn((BELOW, *clean.shape[1:]), generator=noise_generator(0, "inversion"))
    scale = abar[times].view(-1, 1, 1, 1)
    latents = torch.cat([scale.sqrt() * clean + (1 - scale).sqrt() * drawn, clean])
    expected = transcription.difference_maps(
        parts["unet"], lambda x: parts["vae"].decode(x / 0.18215).sample, abar,
        prediction_type, parts["prompt_embeds"], times, latents, masks,
        "up_blocks.1.attentions.2.transformer_blocks.0.attn2", 10.0,
    )  # fmt: skip
    assert relative_error(found, expected) < 1e-4
    assert relative_error(found[0], expected[1]) > 0.01  # the masks' maps differ, so equality means something


@pytest.mark.parametrize("margin", [0, 16])
def test_the_engine_gives_the_same_labels(tiny, recipe, photo, margin):
    recipe = genseg.load_recipe(recipe, size=32, margin=margin, t_f=101)
    run, engine = Published(tiny, recipe, seed=5)(photo), genseg.Segmenter(tiny, recipe, seed=5)(photo)
    assert run.labels.shape == engine.labels.shape == (64, 96)
    assert (run.grid_labels == engine.grid_labels).all()
    assert (run.labels == engine.labels).mean() > 0.999
    assert len(set(run.labels.ravel())) == K


def test_it_spends_what_the_publication_spends_and_leaves_the_network_as_it_was(sd, recipe, photo, passes):
    before = dict(sd.network.attn_processors)
    run = Published(sd, genseg.load_recipe(recipe, size=64))(photo)
    assert passes == [1] * (DRAWS + STEPS + BELOW + 2 * K * BELOW)
    assert run.evaluations == len(passes)
    assert run.decodes == 2 * K
    stages = "encode features cluster inversion recording modulate decode labels"
    assert list(run.seconds) == stages.split()
    assert min(run.seconds.values()) > 0
    assert sd.network.attn_processors == before
    assert [name for name, module in sd.network.named_modules() if module._forward_hooks] == ["conv_out"]  # our own


def test_the_published_constants_are_915_evaluations(sd):
    published = Published(sd, genseg.load_recipe("paper", size=64, n_init=1))
    assert published.steps == list(range(281, 0, -20))
    assert published.every == list(range(981, 0, -20))
    assert published.recipe.draws + len(published.every) + (1 + 2 * 25) * len(published.steps) == 915


@pytest.mark.parametrize("override", [{"strength_unit": "rms"}, {"injection": False}])
def test_what_was_not_published_is_refused(sd, recipe, override):
    with pytest.raises(genseg.GensegError, match="published procedure"):
        Published(sd, genseg.load_recipe(recipe, **override))
