"""Checkpoints and names of checkpoints that are refused, and in what words."""

import shutil

import pytest
import torch
from diffusers import UNet2DModel
from models import sd_parts, sd_unet
from safetensors.torch import load_file
from single_files import save

import genseg
from genseg_backends.families.stable_diffusion import StableDiffusion

CROSS_ATTENTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def load(name, model, **options):
    return genseg.load_backend(name, model=str(model), device="cpu", **options)


@pytest.mark.parametrize(
    "model", ["./gone", "../gone", "~/gone", "/gone/away", "a/b/c", "gone", "models/sd.safetensors", "models/sd.ckpt"]
)
def test_what_is_neither_a_path_nor_a_hub_id_is_refused_without_asking_the_hub(model):
    with pytest.raises(genseg.GensegError, match=f"there is no file or folder {model}, and a hub id is organization/"):
        genseg.load_backend("sd15", model=model)


def test_a_revision_of_a_local_folder_is_refused(folders):
    with pytest.raises(genseg.GensegError, match=r"revision='v1' is for the hub, and .* is local"):
        load("sd15", folders["sd1"], revision="v1")


def test_a_config_for_a_folder_is_refused(folders):
    with pytest.raises(genseg.GensegError, match=r"config=.* is for single files"):
        load("sd15", folders["sd1"], config=str(folders["sd1"]))


def test_a_pickle_is_refused(tmp_path):
    torch.save({}, tmp_path / "sd.ckpt")
    with pytest.raises(genseg.GensegError, match=r"sd.ckpt is not a .safetensors file; .*convert it"):
        load("sd15", tmp_path / "sd.ckpt")


def test_a_damaged_single_file_is_refused(files, tmp_path):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(files["sd1"].read_bytes()[:10_000])
    with pytest.raises(genseg.GensegError, match=r"cut.safetensors is damaged"):
        load("sd15", file)


@pytest.mark.parametrize(
    ("width", "backends"), [(1024, r"2.x; use backend sd20, sd21 or sd-turbo"), (768, r"1.x; use backend sd14 or sd15")]
)
def test_a_single_file_of_another_family_is_told_by_its_shapes(tmp_path, width, backends):
    save({CROSS_ATTENTION: torch.zeros(320, width)}, tmp_path / "other.safetensors")
    with pytest.raises(genseg.GensegError, match=f"prompts of width {width} .*Stable Diffusion {backends}"):
        load("sd21" if width == 768 else "sd15", tmp_path / "other.safetensors")


def test_a_single_file_of_another_architecture_is_refused_saying_what_was_looked_for(tmp_path):
    save({"joint_blocks.0.context_block.adaLN_modulation.1.bias": torch.zeros(1)}, tmp_path / "sd3.safetensors")
    with pytest.raises(
        genseg.GensegError, match=rf"sd3.safetensors is no single-file .* \(looked for {CROSS_ATTENTION}"
    ):
        load("sd15", tmp_path / "sd3.safetensors")


@pytest.mark.usefixtures("small_configs")
@pytest.mark.parametrize(("lost", "part"), [
    ("model.diffusion_model.out.2.weight", "unet"),
    ("first_stage_model.decoder.mid.attn_1.q.weight", "vae"),
    ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "text_encoder"),
])  # fmt: skip
def test_a_single_file_that_lacks_a_parameter_is_refused_naming_the_part(files, tmp_path, lost, part):
    weights = load_file(files["sd1"])
    del weights[lost]
    save(weights, tmp_path / "cut.safetensors")
    with pytest.raises(genseg.GensegError, match=f"the {part} of .*cut.safetensors lacks weights"):
        load("sd15", tmp_path / "cut.safetensors")


@pytest.mark.usefixtures("small_configs")
def test_a_single_file_without_text_encoder_is_refused(files, tmp_path):
    weights = {name: w for name, w in load_file(files["sd1"]).items() if not name.startswith("cond_stage")}
    save(weights, tmp_path / "pruned.safetensors")
    with pytest.raises(
        genseg.GensegError, match=r"pruned.safetensors holds no text encoder, as pruned files do; use the whole file"
    ):
        load("sd15", tmp_path / "pruned.safetensors")


@pytest.mark.usefixtures("small_configs")
def test_a_single_file_with_a_guidance_input_is_refused(files, tmp_path):
    weights = load_file(files["sd1"])
    weights["model.diffusion_model.time_embedding.cond_proj.weight"] = torch.zeros(32, 256)
    save(weights, tmp_path / "lcm.safetensors")
    with pytest.raises(genseg.GensegError, match=r"guidance scale.*diffusers folder"):
        load("lcm", tmp_path / "lcm.safetensors")


def test_a_folder_with_another_architecture_is_refused_saying_what_was_looked_for(folders, tmp_path):
    folder = shutil.copytree(folders["sd1"], tmp_path / "checkpoint")
    shutil.rmtree(folder / "unet")
    blocks = {"block_out_channels": (8, 8), "down_block_types": ("DownBlock2D",) * 2, "norm_num_groups": 4}
    UNet2DModel(**blocks, up_block_types=("UpBlock2D",) * 2).save_pretrained(folder / "unet")
    with pytest.raises(genseg.GensegError, match=r"the unet of .* is of class UNet2DModel \(looked for UNet2DCond"):
        load("sd15", folder)


def test_a_folder_whose_unet_lacks_the_papers_block_is_refused_saying_what_was_looked_for(folders, tmp_path):
    folder = shutil.copytree(folders["sd1"], tmp_path / "checkpoint")
    sd_unet(up_block_types=("UpBlock2D",) * 3).save_pretrained(folder / "unet")
    with pytest.raises(genseg.GensegError, match=r"looked for up_blocks\[i\].attentions\[0\] and \[2\]"):
        load("sd15", folder)


@pytest.mark.parametrize("config", [{"num_class_embeds": 10}, {"class_embed_type": "timestep"}], ids=str)
def test_a_unet_that_needs_class_labels_is_refused(config):
    with pytest.raises(genseg.GensegError, match="class labels"):
        StableDiffusion(**sd_parts() | {"unet": sd_unet(**config)})
