"""Single-file checkpoints in the original layout of Stable Diffusion 1.x and 2.x, read without the hub.

Such a file holds the weights of all parts and nothing else. The architecture comes from a diffusers folder of
configurations, by default one of those in ``configs/``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.utils import logging
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genseg.errors import GensegError
from genseg_backends.loading.checkpoints import load_config, read_single_file
from genseg_backends.loading.hub import extra, first_line, local_path
from genseg_backends.loading.schedulers import load_scheduler
from genseg_backends.loading.text import encoded

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

CONFIGS = Path(__file__).parent / "configs"
FIRST_CROSS_ATTENTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
GUIDANCE = "model.diffusion_model.time_embedding.cond_proj.weight"
PARTS = {"VAE": "first_stage_model.", "text encoder": "cond_stage_model."}
"""Prefixes of the names of parts that a file may lack."""
OPEN_CLIP = "cond_stage_model.model.token_embedding.weight"
FAMILIES = {768: "1.x; use backend sd14 or sd15", 1024: "2.x; use backend sd20, sd21 or sd-turbo"}
"""Families by the width of the prompts that they take."""


class FileParts(NamedTuple):
    """Parts of a latent U-Net backend, on the CPU.

    Attributes:
        unet: The denoiser.
        vae: The autoencoder.
        scheduler: The noise schedule.
        prompt_embeds: The encoded empty prompt, [1, tokens, dim] float32.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    prompt_embeds: Tensor


def load_single_file(file: Path, dtype: torch.dtype, config: str, prediction_type: str | None = None) -> FileParts:
    """All parts of a single-file checkpoint.

    Args:
        file: The ``.safetensors`` file.
        dtype: What U-Net and autoencoder are loaded in.
        config: A diffusers folder, local or on the hub, whose configurations and scheduler belong to the weights:
            shapes do not tell v-prediction, image size or number of heads.
        prediction_type: What the U-Net predicts; None for what the file says, or else ``config``.

    Returns:
        The parts. The empty prompt needs no tokenizer: it is the start token, the end token and padding.

    Raises:
        GensegError: If it is no such file, or not shaped as ``config`` says.
    """
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    extra("accelerate")  # without it diffusers would leave missing weights at random
    weights = _weights(file)
    _check_shape(file, weights, load_config(UNet2DConditionModel, config, "unet"))
    scheduler = load_scheduler(config, prediction_type=prediction_type, file=file)
    source = str(local_path(config) or config)
    text_model = extra("transformers").CLIPTextModel
    # Where a file also holds the averaged weights, diffusers folders are made of those.
    read_unet = partial(UNet2DConditionModel.from_single_file, weights, extract_ema=True, torch_dtype=dtype)
    read_vae = partial(AutoencoderKL.from_single_file, weights, torch_dtype=dtype)
    read_text = partial(create_diffusers_clip_model_from_ldm, text_model, weights, torch_dtype=torch.float32)
    with _warnings_off():
        unet = read_single_file(read_unet, file, "unet", source)
        vae = read_single_file(read_vae, file, "vae", source)
        encoder = read_single_file(read_text, file, "text_encoder", source)
    prompt_embeds = encoded(encoder, empty_prompt_ids(encoder.config, open_clip=OPEN_CLIP in weights))
    return FileParts(unet, vae, scheduler, prompt_embeds)


@contextmanager
def _warnings_off() -> Iterator[None]:
    """Keep diffusers from warning of casts and of averaged weights, which are meant."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def empty_prompt_ids(config: Any, *, open_clip: bool) -> Tensor:
    """The token ids of the empty prompt, int64 [1, tokens].

    Start and end tokens are the last two of CLIP's vocabulary (49406 and 49407), whatever ``bos_token_id`` and
    ``eos_token_id`` say: in the released configurations those are wrong. CLIP pads with the end token, OpenCLIP with 0.
    """
    start, end = config.vocab_size - 2, config.vocab_size - 1
    padding = (config.max_position_embeddings - 2) * [0 if open_clip else end]
    return torch.tensor([[start, end, *padding]])


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise GensegError(f"{file} is damaged or no safetensors ({first_line(error)}); get it again") from error


def _check_shape(file: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Refuse files of another family in words of their own."""
    if FIRST_CROSS_ATTENTION not in weights:
        raise GensegError(
            f"{file} is no single-file checkpoint of Stable Diffusion 1.x or 2.x (looked for {FIRST_CROSS_ATTENTION}); "
            "use another file"
        )
    if GUIDANCE in weights:  # diffusers would leave it out without a word
        raise GensegError(
            f"{file} takes the guidance scale as an input, which is not read from single files; "
            "use the model's diffusers folder"
        )
    width, expected = weights[FIRST_CROSS_ATTENTION].shape[-1], config["cross_attention_dim"]
    if width != expected:
        known = FAMILIES.get(width)
        cure = f"that is Stable Diffusion {known}" if known else "give the folder that belongs to it as config=..."
        raise GensegError(f"{file} takes prompts of width {width} instead of {expected}; {cure}")
    for part, prefix in PARTS.items():
        if not any(name.startswith(prefix) for name in weights):
            raise GensegError(f"{file} holds no {part}, as pruned files do; use the whole file, or a diffusers folder")
