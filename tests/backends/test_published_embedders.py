"""TCL and CLIPpy from files laid out as published, against their architectures written out on the raw weights."""

import copy
import pickle

import pytest
import released_embedders as published
import torch
import torch.nn.functional as F
import transformers
from family_parts import clip_tokenizer
from safetensors.torch import save_file
from test_maskclip import word_tokenizer

import genseg
from genseg import GensegError
from genseg_backends.embedders.published import Published

CLIP_STANDARD = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_STANDARD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    for name, tokenizer in (("clip", clip_tokenizer()), ("t5", word_tokenizer())):
        tokenizer.save_pretrained(root / name)
        # AutoTokenizer asks what model the folder is of
        config = {"clip": transformers.CLIPConfig(), "t5": transformers.T5Config()}[name]
        config.save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def tcl_file(tmp_path_factory):
    """As TCL's training script saves it."""
    weights, path = published.tcl(), tmp_path_factory.mktemp("tcl") / "tcl.pth"
    torch.save({"model": weights, "optimizer": {"state": {}}, "step": 1}, path)
    return weights, path


@pytest.fixture(scope="module")
def clippy_file(tmp_path_factory):
    """As open_clip saves it, from training on several devices."""
    weights, path = published.clippy(), tmp_path_factory.mktemp("clippy") / "clippy_5k.pt"
    torch.save({"epoch": 1, "name": "x", "state_dict": {f"module.{name}": w for name, w in weights.items()}}, path)
    return weights, path


def load_tcl(path, tokenizers, **options):
    return genseg.load_embedder("tcl", model=str(path), device="cpu", clip=str(tokenizers / "clip"), **options)


def load_clippy(path, tokenizers):
    return genseg.load_embedder("clippy", model=str(path), device="cpu", text=str(tokenizers / "t5"))


def norm(w, name, x, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def dense(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def attention(x, weight, bias, out, mask=None, heads=1):
    """[L, C]; what F.multi_head_attention_forward does with weights as torch and OpenAI stack them."""
    return F.multi_head_attention_forward(
        x[:, None], x[:, None], x[:, None], x.shape[1], heads, weight, bias, None, None, False, 0.0, *out,
        attn_mask=mask, need_weights=False,
    )[0][:, 0]  # fmt: skip


def clip_block(w, at, x, mask=None):
    inside = norm(w, f"{at}.ln_1", x)
    out = w[f"{at}.attn.out_proj.weight"], w[f"{at}.attn.out_proj.bias"]
    x = x + attention(inside, w[f"{at}.attn.in_proj_weight"], w[f"{at}.attn.in_proj_bias"], out, mask)
    inside = dense(w, f"{at}.mlp.c_fc", norm(w, f"{at}.ln_2", x))
    return x + dense(w, f"{at}.mlp.c_proj", inside * torch.sigmoid(1.702 * inside))


def standardised(image, standard):
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in standard)
    return ((image + 1) / 2 - mean) / deviation


def patches_of(image, weight, bias, first, places):
    """The tokens of an image of 3 × 5 patches: a class token and patches, positions added."""
    patches = F.conv2d(image, weight, bias, stride=weight.shape[-1]).flatten(2)[0].T
    grid = places[1:].T.reshape(1, -1, 4, 4)
    grid = F.interpolate(grid, size=(3, 5), mode="bicubic", align_corners=False).flatten(2)[0].T
    return torch.cat([first.reshape(1, -1) + places[:1], patches + grid])


def test_tcl_embeds_pixels_as_its_masker_does(tcl_file, tokenizers, pixels):
    w, path = tcl_file
    embedder = load_tcl(path, tokenizers)
    image, visual = pixels(24, 40), "clip_image_encoder.clip_visual"
    x = patches_of(
        standardised(image, IMAGENET_STANDARD), w[f"{visual}.conv1.weight"], None, w[f"{visual}.class_embedding"],
        w[f"{visual}.positional_embedding"],
    )  # fmt: skip
    x = norm(w, f"{visual}.ln_pre", x)
    for number in range(2):
        x = clip_block(w, f"{visual}.transformer.resblocks.{number}", x)
    masker = "masker.image_encoder"
    only_itself = torch.full((16, 16), -torch.inf).fill_diagonal_(0)
    x = clip_block(w, f"{masker}.backbone.transformer.resblocks.2", x, only_itself)
    maps = x[1:].T.reshape(1, 64, 3, 5)
    for stage in range(2):
        maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        for conv in ("conv", "conv2"):
            at = f"{masker}.decoder.decoder.net.{stage}.{conv}"
            inside = F.gelu(norm(w, f"{at}.norm", maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
            convolved = F.conv2d(inside, w[f"{at}.conv.weight"], w[f"{at}.conv.bias"], padding=1)
            maps = maps + torch.tanh(w[f"{at}.gate.gate"]) * convolved
    end = f"{masker}.decoder.image_proj"
    expected = (norm(w, f"{end}.ln", maps.permute(0, 2, 3, 1)) @ w[f"{end}.proj"])[0].permute(2, 0, 1)
    found = embedder.pixels(image)
    assert found.shape == (24, 12, 20)
    assert torch.allclose(found, expected, atol=2e-4 * expected.abs().max().item())


def test_tcl_embeds_texts_at_the_end_token(tcl_file, tokenizers):
    w, path = tcl_file
    ids = torch.tensor([2, 0, 1, 3])  # <start> ! !</w> <end>
    x = w["clip_text_encoder.token_embedding.weight"][ids] + w["clip_text_encoder.positional_embedding"][:4]
    causal = torch.full((4, 4), -torch.inf).triu(1)
    for number in range(2):
        x = clip_block(w, f"clip_text_encoder.transformer.resblocks.{number}", x, causal)
    expected = norm(w, "clip_text_encoder.ln_final", x)[-1] @ w["clip_text_encoder.text_projection"]
    found = load_tcl(path, tokenizers).texts(["!!", "!"])
    assert torch.allclose(found[0], expected, atol=2e-4 * expected.abs().max().item())


def test_clippy_embeds_patches_behind_the_last_norm(clippy_file, tokenizers, pixels):
    w, path = clippy_file
    embedder = load_clippy(path, tokenizers)
    image, trunk = pixels(24, 40), "visual.trunk"
    x = patches_of(
        standardised(image, CLIP_STANDARD), w[f"{trunk}.patch_embed.proj.weight"], w[f"{trunk}.patch_embed.proj.bias"],
        w[f"{trunk}.cls_token"], w[f"{trunk}.pos_embed"][0],
    )  # fmt: skip
    for number in range(2):
        at = f"{trunk}.blocks.{number}"
        out = w[f"{at}.attn.proj.weight"], w[f"{at}.attn.proj.bias"]
        inside = norm(w, f"{at}.norm1", x, 1e-6)
        x = x + attention(inside, w[f"{at}.attn.qkv.weight"], w[f"{at}.attn.qkv.bias"], out)
        x = x + dense(w, f"{at}.mlp.fc2", F.gelu(dense(w, f"{at}.mlp.fc1", norm(w, f"{at}.norm2", x, 1e-6))))
    expected = norm(w, f"{trunk}.norm", x, 1e-6)[1:].T.reshape(64, 3, 5)
    assert torch.allclose(embedder.pixels(image), expected, atol=2e-4 * expected.abs().max().item())
    assert embedder.size_multiple == 8


def test_clippy_embeds_texts_as_the_projected_mean_of_tokens(clippy_file, tokenizers):
    w, path = clippy_file
    t5 = "text.0.auto_model.encoder"

    def rms(name, x):
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * w[f"{name}.weight"]

    x = w["text.0.auto_model.shared.weight"][torch.tensor([2, 3, 0])]  # a cat </s>
    ahead = torch.tensor([[j - i for j in range(3)] for i in range(3)])
    buckets = ahead.abs() + 16 * (ahead > 0)  # near tokens have a bucket each, those behind in the upper half
    bias = w[f"{t5}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"][buckets].permute(2, 0, 1)
    for number in range(2):
        at = f"{t5}.block.{number}.layer"
        inside = rms(f"{at}.0.layer_norm", x)
        q, k, v = (
            (inside @ w[f"{at}.0.SelfAttention.{letter}.weight"].T).unflatten(1, (2, 8)).transpose(0, 1)
            for letter in "qkv"
        )
        mixed = ((q @ k.transpose(1, 2) + bias).softmax(-1) @ v).transpose(0, 1).flatten(1)
        x = x + mixed @ w[f"{at}.0.SelfAttention.o.weight"].T
        inside = (rms(f"{at}.1.layer_norm", x) @ w[f"{at}.1.DenseReluDense.wi.weight"].T).relu()
        x = x + inside @ w[f"{at}.1.DenseReluDense.wo.weight"].T
    expected = rms(f"{t5}.final_layer_norm", x).mean(dim=0) @ w["text.2.linear.weight"].T
    found = load_clippy(path, tokenizers).texts(["a cat", "a cat dog dog"])
    assert torch.allclose(found[0], expected, atol=2e-4 * expected.abs().max().item())


@pytest.mark.parametrize("which", ["tcl", "clippy"])
def test_each_tensor_of_a_file_is_taken_exactly_once(which, tcl_file, clippy_file, tokenizers, tmp_path, monkeypatch):
    weights, path = {"tcl": tcl_file, "clippy": clippy_file}[which]
    load = {"tcl": load_tcl, "clippy": load_clippy}[which]
    taken: list[str] = []
    take = Published.take

    def noted(file, name):
        taken.append(name)
        return take(file, name)

    monkeypatch.setattr(Published, "take", noted)
    load(path, tokenizers)
    assert len(set(taken)) == len(taken)
    unused = set(weights) - set(taken)
    if which == "clippy":
        assert unused == {"logit_scale"}
    else:
        assert {name for name in unused if not name.startswith("clip_image_encoder.")} == {
            "masker.sim2mask.w", "masker.sim2mask.b", "tcli_loss.logit_scale", "tclf_loss.logit_scale",
        }  # fmt: skip
        left = {name for name in unused if name.startswith("clip_image_encoder.")}
        assert all(".clip_proj." in name or ".resblocks.2." in name for name in left), left
        assert len(left) == 3 + 12

    other = copy.copy(weights)
    del other[max(taken)]
    save_file({name: w.clone() for name, w in other.items()}, tmp_path / "less.safetensors")
    with pytest.raises(GensegError, match="lacks "):
        load(tmp_path / "less.safetensors", tokenizers)
    save_file(
        {name: w.clone() for name, w in (weights | {"extra.weight": torch.ones(1)}).items()},
        tmp_path / "more.safetensors",
    )
    with pytest.raises(GensegError, match=r"holds extra\.weight, which this embedder has not"):
        load(tmp_path / "more.safetensors", tokenizers)
    save_file({name: w.clone() for name, w in weights.items()}, tmp_path / "same.safetensors")
    load(tmp_path / "same.safetensors", tokenizers)


def test_tcl_without_clip_in_its_file_takes_the_checkpoint_of_clip(tcl_file, tokenizers, tmp_path, pixels):
    weights, path = tcl_file
    own = {name: w.clone() for name, w in weights.items() if not name.startswith("clip_")}
    save_file(own, tmp_path / "own.safetensors")
    whole = load_tcl(path, tokenizers)
    config = transformers.CLIPConfig(
        text_config=whole.language.config.to_dict(), projection_dim=24,
        vision_config=whole.vision.config.to_dict() | {"num_hidden_layers": 3},
    )  # fmt: skip
    clip = transformers.CLIPModel(config)
    parts = whole.language.state_dict() | {f"vision_model.{name}": w for name, w in whole.vision.state_dict().items()}
    missing = clip.load_state_dict(parts, strict=False)
    assert not missing.unexpected_keys
    clip.save_pretrained(tmp_path / "clip")
    clip_tokenizer().save_pretrained(tmp_path / "clip")
    found = genseg.load_embedder(
        "tcl", model=str(tmp_path / "own.safetensors"), device="cpu", clip=str(tmp_path / "clip")
    )
    assert torch.equal(found.pixels(pixels(32, 32)), whole.pixels(pixels(32, 32)))
    assert torch.allclose(found.texts(["!"]), whole.texts(["!"]), atol=1e-5)


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("code of the file was run",))


def test_no_code_of_a_file_is_run(tokenizers, tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    torch.save({"model": published.tcl(), "config": Harmful()}, tmp_path / "y.pth")
    for name in ("x.pth", "y.pth"):
        with pytest.raises(
            GensegError, match=r"pickles can run code; save the state dict in its 'model' as \.safetensors"
        ):
            load_tcl(tmp_path / name, tokenizers)


def test_files_that_are_something_else(tcl_file, clippy_file, tokenizers, tmp_path):
    with pytest.raises(GensegError, match=r"lacks visual\.trunk"):
        load_clippy(tcl_file[1], tokenizers)
    with pytest.raises(GensegError, match=r"lacks masker\.image_encoder"):
        load_tcl(clippy_file[1], tokenizers)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(GensegError, match="is damaged"):
        load_tcl(tmp_path / "x.safetensors", tokenizers)
    with pytest.raises(GensegError, match="there is no file nowhere"):
        load_tcl("nowhere", tokenizers)
    for name, said in (("tcl", "TCL is on no hub"), ("clippy", "CLIPpy is on no hub")):
        with pytest.raises(GensegError, match=said):
            genseg.load_embedder(name)
