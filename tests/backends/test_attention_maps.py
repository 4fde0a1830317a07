"""Attention maps are those that the model attends with, of the image's own positions and of the prompt's tokens."""

import families
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

import genseg
import genseg.interface
from genseg_backends.engine.attention_maps import attention_recorded
from genseg_backends.engine.transformers import TransformerBackend
from genseg_backends.families.flux2 import Flux2
from genseg_backends.families.stable_diffusion import StableDiffusion

JOINT = {"sd3": "b0", "flux-dev": "d0", "flux2": "d0", "qwen-image": "b0", "z-image": "b0", "lumina2": "b0"}
"""The first block with attention to text and image, of each family."""
TEXT = {"sd15": 77, "sdxl": 77, "pixart-alpha": 5, "sana": 4, "hunyuan-dit": 77 + 256, "deepfloyd-if": 77}
"""Tokens of "a cat", padding included, of the other families."""


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransformerBackend, "default_size", 8)
        patch.setattr(Flux2, "default_size", 4)
        yield


@pytest.fixture(scope="module")
def load(tmp_path_factory, sd_checkpoint):
    folder = tmp_path_factory.mktemp("attention")

    def loaded(name):
        where = sd_checkpoint if name == "sd15" else folder / name
        if not where.exists():
            families.write_checkpoint(where, name)
        return genseg.load_backend(name, model=str(where), device="cpu")

    return loaded


@torch.inference_mode()
def test_a_map_is_the_probabilities_of_diffusers_own_processor(sd, sd_parts, pixels):
    class Kept(AttnProcessor):
        """diffusers' processor that computes probabilities, which are kept."""

        def __call__(self, attn, *args, **kwargs):
            own = attn.get_attention_scores
            attn.get_attention_scores = lambda *given: self.probabilities.append(own(*given)) or self.probabilities[-1]
            try:
                return super().__call__(attn, *args, **kwargs)
            finally:
                del attn.get_attention_scores

    image, unet = pixels(64, 96), sd_parts["unet"]
    found = sd.intermediates(image, ["up1.0.cross", "up1.0.self"], 201, kind="attention", heads=True)
    mean = sd.intermediates(image, "up1.0.cross", 201, kind="attention")["up1.0.cross"]
    block, kept = unet.up_blocks[1].attentions[0].transformer_blocks[0], Kept()
    for attention, name in ((block.attn2, "up1.0.cross"), (block.attn1, "up1.0.self")):
        own, kept.probabilities = attention.processor, []
        attention.set_processor(kept)
        try:
            sd.intermediates(image, "up1.0.output", 201)
        finally:
            attention.set_processor(own)
        (probabilities,) = kept.probabilities  # [heads, h·w, keys]
        expected = probabilities.transpose(1, 2).unflatten(2, found[name].shape[-2:])
        torch.testing.assert_close(found[name][0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mean, found["up1.0.cross"].mean(dim=1))


@pytest.mark.parametrize(("name", "block"), JOINT.items())
@torch.inference_mode()
def test_keys_of_text_are_those_that_the_prompt_changes(load, pixels, name, block):
    backend, image = load(name), pixels(48, 80)
    text, of_image = backend.attention_sites[f"{block}.joint.text"], backend.attention_sites[f"{block}.joint.image"]
    state, tokens = backend.encode(image, backend.resolve(), 0), len(backend.tokens())
    x, t = state.latents[:1], torch.tensor([201.0])
    key = "cap_feats" if name == "z-image" else "encoder_hidden_states"
    other = {**backend.conditioning, key: backend.conditioning[key].flip(2) + 1}
    keys = []
    for conditioning in (backend.conditioning, other):
        with attention_recorded(backend.network, [text.module]) as calls:
            backend.predict(x, t, conditioning=conditioning)
        keys.append(calls[text.module].key[0].transpose(0, 1).flatten(1))
    changed = (keys[0] - keys[1]).abs().amax(dim=1) > 1e-5
    cells = (48 // text.stride) * (80 // text.stride)
    assert changed[text.columns(len(changed), cells, tokens)].all()
    assert not changed[of_image.columns(len(changed), cells, tokens)].any()
    if name != "z-image":  # which has padding besides
        assert changed.sum() == tokens


def test_register_tokens_before_the_text_are_no_keys_of_text():
    site = genseg.interface.AttentionSite("attn", "text", 16)
    assert site.columns(8 + 77 + 15, 15, 77) == slice(8, 8 + 77)
    assert site.columns(77, 15, 77) == slice(0, 77)  # cross-attention


@pytest.mark.parametrize("name", [*JOINT, *TEXT])
def test_over_all_keys_maps_add_up_to_one_and_tokens_have_names(load, pixels, name):
    backend = load(name)
    maps = backend.intermediates(pixels(64, 64), kind="attention", prompt="a cat")
    assert list(maps) == list(backend.attention_sites)
    tokens = backend.tokens("a cat")
    assert any("a" in token for token in tokens) or name == "sdxl" or all(token.strip("<>|") for token in tokens)
    totals = {}
    for site, each in maps.items():
        if backend.attention_sites[site].keys == "text":
            assert each.shape[1] == len(tokens)
        block = site.removesuffix(".text").removesuffix(".image")
        totals[block] = totals.get(block, 0) + each.sum(dim=1)
    for total in totals.values():
        assert (total < 1 + 1e-4).all()
        assert (total > 1 - 1e-4).all() or name == "z-image"  # whose padding is attended to as well
    if name in TEXT:
        assert len(tokens) == TEXT[name]


def test_words_beside_the_prompt_share_the_attention_with_it(load, pixels):
    backend, image = load("flux-dev"), pixels(48, 80)
    under = {"sites": "d0.joint.text", "kind": "attention", "prompt": "a cat", "heads": True}
    (prompt,), (words,) = (backend.intermediates(image, **under, words=each).values() for each in ("", "a cat"))
    share = prompt.sum(dim=2)
    # In the first block keys depend on the prompt alone: each of its tokens is there twice.
    torch.testing.assert_close(words.sum(dim=2), share / (1 + share), rtol=1e-4, atol=1e-6)
    with pytest.raises(genseg.GensegError, match="words are keys of text"):
        backend.intermediates(image, "d0.joint.image", kind="attention", words="a cat")


def test_a_masked_autoencoders_patches_attend_to_each_other(load, pixels):
    backend = load("vitmae")
    maps = backend.intermediates(pixels(64, 64), "encoder*", kind="attention", heads=True)
    assert {name: each.shape for name, each in maps.items()} == dict.fromkeys(
        ("encoder0.self", "encoder1.self", "encoder2.self"), (1, 4, 16, 4, 4)
    )
    total = maps["encoder0.self"].sum(dim=2)
    assert (total < 1).all()  # the class token has a part
    assert (total > 0.8).all()


def test_attention_that_torch_does_not_compute_is_refused(sd_parts, pixels):
    parts = {**sd_parts, "unet": families.seeded(lambda: type(sd_parts["unet"]).from_config(sd_parts["unet"].config))}
    backend = StableDiffusion(**parts)
    name = next(iter(backend.attention_sites))
    backend.network.set_attn_processor(AttnProcessor())
    with pytest.raises(genseg.GensegError, match=r"of its own \(AttnProcessor\).*default attention processors"):
        backend.intermediates(pixels(64, 64), name, kind="attention")
    with pytest.raises(genseg.GensegError, match="no attention of stable-diffusion can be read"):
        StableDiffusion(**parts).intermediates(pixels(64, 64), kind="attention")


def test_positions_in_the_margin_are_cut_off_on_both_sides(sd, photo):
    segmenter = genseg.Segmenter(sd, margin=32)
    maps = segmenter.features(photo, ["up1.0.self", "up1.0.cross"], kind="attention")
    height, width = maps["up1.0.self"].shape[2:]
    assert maps["up1.0.self"].shape[1] == height * width
    assert maps["up1.0.cross"].shape == (1, 77, height, width)
    tokens = segmenter.features(photo, "up1.0.self", kind="attention", output_fmt="NLC")["up1.0.self"]
    assert torch.equal(tokens[0, 1, 5], maps["up1.0.self"][0, 5].flatten()[1])
