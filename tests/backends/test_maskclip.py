"""MaskCLIP over small checkpoints of CLIP and SigLIP, against what the two papers say written out."""

import json

import pytest
import torch
import torch.nn.functional as F
from family_parts import clip_tokenizer
from text_aligned import DEVIATION, MEAN, clip_model, siglip_model, word_tokenizer, write

import genseg
from genseg import GensegError
from genseg.naming import name_masks


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    network = clip_model()
    return network, write(tmp_path_factory.mktemp("clip"), network, clip_tokenizer())


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    network = siglip_model()
    return network, write(tmp_path_factory.mktemp("siglip"), network, word_tokenizer())


def standardised(image):
    return torch.stack([((image[:, c] + 1) / 2 - MEAN[c]) / DEVIATION[c] for c in range(3)], dim=1)


@torch.no_grad()
def test_the_last_block_of_clip_attends_to_itself_only(clip, pixels):
    network, folder = clip
    embedder = genseg.load_embedder("maskclip", model=str(folder), device="cpu")
    image = pixels(24, 40)
    hidden = []
    vision = network.vision_model
    hooked = vision.encoder.layers[-1].register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    vision(standardised(image), interpolate_pos_encoding=True)
    hooked.remove()
    (x,), block = hidden, vision.encoder.layers[-1]
    x = x + block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(x)))
    x = x + block.mlp(block.layer_norm2(x))
    expected = network.visual_projection(vision.post_layernorm(x))[0, 1:].reshape(3, 5, 16).permute(2, 0, 1)
    found = embedder.pixels(image)
    assert found.shape == (16, 3, 5)
    assert torch.allclose(found, expected, atol=1e-5)
    assert (embedder.image_size, embedder.size_multiple) == (64, 8)


@torch.no_grad()
def test_the_pooling_head_of_siglip_sees_one_patch_at_a_time(siglip, pixels):
    network, folder = siglip
    embedder = genseg.load_embedder("maskclip", model=str(folder), device="cpu", size=48)
    image, head = pixels(24, 40), network.vision_model.head
    x = network.vision_model(standardised(image), interpolate_pos_encoding=True).last_hidden_state
    weight, bias = head.attention.in_proj_weight[64:], head.attention.in_proj_bias[64:]
    x = head.attention.out_proj(F.linear(x, weight, bias))
    x = x + head.mlp(head.layernorm(x))
    assert torch.allclose(embedder.pixels(image), x[0].T.reshape(32, 3, 5), atol=1e-5)
    assert embedder.image_size == 48


@torch.no_grad()
def test_texts_are_embedded_as_the_models_embed_them(clip, siglip):
    network, folder = clip
    embedder = genseg.load_embedder("maskclip", model=str(folder), device="cpu")
    expected = network.get_text_features(torch.tensor([[2, 1, 3, 3], [2, 0, 1, 3]])).pooler_output
    assert torch.allclose(embedder.texts(["!", "!!"]), expected, atol=1e-5)
    assert embedder.texts(["!" * 40]).shape == (1, 16), "long texts are cut off"

    network, folder = siglip
    embedder = genseg.load_embedder("maskclip", model=str(folder), device="cpu")
    expected = network.get_text_features(torch.tensor([[2, 3] + 10 * [0], [4, 0] + 10 * [0]])).pooler_output
    assert torch.allclose(embedder.texts(["a cat", "dog"]), expected, atol=1e-5)


def test_segments_of_a_photo_get_names(siglip, photo):
    embedder = genseg.load_embedder("maskclip", model=str(siglip[1]), device="cpu")
    labels = torch.arange(6).reshape(2, 3).repeat_interleave(32, 0).repeat_interleave(32, 1).numpy()
    names, scores = name_masks(labels, photo, "cat,dog", embedder, ["a {}"])
    assert set(names) <= {"cat", "dog"}
    assert abs(scores).max() <= 1 + 1e-5
    assert scores.std() > 0


def test_what_is_no_such_checkpoint_is_refused(clip, tmp_path):
    _, folder = clip
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "vit"}))
    with pytest.raises(GensegError, match="is a model of type 'vit'; use a CLIP or SigLIP"):
        genseg.load_embedder("maskclip", model=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(GensegError, match="has no usable"):
        genseg.load_embedder("maskclip", model=str(tmp_path))


@pytest.mark.usefixtures("offline")
def test_what_has_not_been_downloaded_is_one_sentence():
    with pytest.raises(GensegError, match=r"clip-vit-base-patch16.*has not been downloaded"):
        genseg.load_embedder("maskclip")
