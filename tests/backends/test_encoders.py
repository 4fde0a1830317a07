"""Vision encoders: checkpoints as transformers writes them, and features against the network's own output."""

import json
import shutil

import pytest
import torch
import transformers

from genseg import GensegError
from genseg.registry import ENCODERS
from genseg_backends.encoders import IMAGENET, OPENAI

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TOWER = SMALL | {"image_size": 32, "patch_size": 8}
TEXT = SMALL | {"vocab_size": 50, "max_position_embeddings": 8}


def clip():
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=16)
    return transformers.CLIPModel(config)  # the released checkpoints hold both towers


def siglip():
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=TEXT, vision_config=TOWER))


NETWORKS = {
    "dino": lambda: transformers.ViTModel(transformers.ViTConfig(**TOWER), add_pooling_layer=False),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(**TOWER, mlp_ratio=2)),
    "dinov2-registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(**TOWER, mlp_ratio=2, num_register_tokens=4)
    ),
    "dinov3": lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**TOWER, num_register_tokens=4)),
    "clip": clip,
    "siglip": siglip,
    "siglip2": siglip,
    "mae": lambda: transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            **TOWER,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=4,
            decoder_intermediate_size=32,
        )
    ),
}
PREFIX = {"siglip": 0, "siglip2": 0, "dinov2-registers": 5, "dinov3": 5}  # class and register tokens; else 1
ODD = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint of each encoder, without a processor."""
    found = {}
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        found[name] = tmp_path_factory.mktemp(name)
        network().save_pretrained(found[name])
    return found


def own_features(name, network, pixels):
    """The patches' tokens as transformers gives them, [C, h, w]."""
    given = {} if name.startswith("dinov") else {"interpolate_pos_encoding": True}
    if name == "mae":
        given["noise"] = torch.arange(24.0)[None]
    with torch.inference_mode():
        tokens = network.eval()(pixels, **given).last_hidden_state
    assert tokens.shape[1] == PREFIX.get(name, 1) + 24
    return tokens[0, PREFIX.get(name, 1) :].T.reshape(32, 4, 6)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_the_networks_own_patches(name, folders, pixels):
    encoder = ENCODERS.load(name, model=str(folders[name]), device="cpu")
    assert (encoder.name, encoder.image_size, encoder.size_multiple) == (name, 32, 8)
    image = pixels(32, 48)
    torch.manual_seed(0)
    whole = NETWORKS[name]()
    network = {"clip": "vision_model", "siglip": "vision_model", "siglip2": "vision_model", "mae": "vit"}.get(name)
    network = getattr(whole, network) if network else whole
    network.config.mask_ratio = 0.0
    mean, std = {"clip": OPENAI, "siglip": ([0.5] * 3,) * 2, "siglip2": ([0.5] * 3,) * 2}.get(name, IMAGENET)
    levels = (image + 1) / 2
    standardised = torch.stack([(levels[0, c] - mean[c]) / std[c] for c in range(3)])[None]
    torch.testing.assert_close(encoder.features(image), own_features(name, network, standardised), rtol=1e-4, atol=1e-5)


def test_the_processors_mean_and_deviation_count(folders, pixels, tmp_path):
    folder = tmp_path / "dinov2"
    folder.mkdir()
    for file in folders["dinov2"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "preprocessor_config.json").write_text(json.dumps(ODD))
    image = pixels(32, 48)
    mean, std = (torch.tensor(ODD[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    network = transformers.Dinov2Model.from_pretrained(folder)
    expected = own_features("dinov2", network, ((image + 1) / 2 - mean) / std)
    found = ENCODERS.load("dinov2", model=str(folder), device="cpu").features(image)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_processor_without_mean_is_the_families_and_a_damaged_one_is_refused(folders, pixels, tmp_path):
    folder = shutil.copytree(folders["dinov2"], tmp_path / "dinov2")
    plain = ENCODERS.load("dinov2", model=str(folder), device="cpu").features(pixels(32, 48))
    (folder / "preprocessor_config.json").write_text("{}")
    assert torch.equal(ENCODERS.load("dinov2", model=str(folder), device="cpu").features(pixels(32, 48)), plain)
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(GensegError, match=r"preprocessor_config.json of .* is damaged"):
        ENCODERS.load("dinov2", model=str(folder), device="cpu")


def test_encoders_are_listed_with_their_licences_and_are_usable():
    infos = {info.name: info for info in ENCODERS.list()}
    assert set(NETWORKS) <= set(infos)
    assert all(not info.problem and info.card.licence in info.description for info in infos.values())
    assert infos["dinov3"].provider == "genseg:builtin"


@pytest.mark.parametrize(
    ("name", "model", "options", "said"),
    [
        ("dinov4", None, {}, "unknown encoder 'dinov4': did you mean dinov"),
        ("clip", "clip", {"revison": "x"}, "option of encoder 'clip',.*revision"),
        ("dinov2", "dino", {}, "lacks weights|no usable"),
        ("clip", "nowhere", {}, "there is no file or folder nowhere"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(name, model, options, said, folders):
    with pytest.raises(GensegError, match=said):
        ENCODERS.load(name, model=str(folders.get(model, model)) if model else None, device="cpu", **options)
