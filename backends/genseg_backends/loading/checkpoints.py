"""Loading checkpoints in the diffusers layout, from a folder or the hub; safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from torch import Tensor

from genseg.errors import GensegError
from genseg_backends.loading.hub import extra, first_line, local_path, missing, place_of
from genseg_backends.loading.placement import check_memory

RENAMED = {"PixArtTransformer2DModel": "Transformer2DModel", "DiTTransformer2DModel": "Transformer2DModel"}
"""Classes of diffusers that the released configurations call by an older name."""


class Parts(NamedTuple):
    """What a latent U-Net backend is made of.

    Attributes:
        unet: The denoiser, on the CPU.
        vae: The autoencoder, on the CPU.
        scheduler: The noise schedule.
        prompt_embeds: The encoded empty prompt, [1, tokens, dim] float32.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    prompt_embeds: Tensor


def load_folder(model: str, dtype: torch.dtype, revision: str | None = None, room: torch.device | None = None) -> Parts:
    """All parts of a checkpoint in the diffusers layout, a local folder or a hub id.

    The text encoder is loaded, asked for the embedding of the empty prompt, and dropped.

    Raises:
        GensegError: If a part is missing, unreadable, or of another architecture.
    """
    return Parts(
        unet=load_part(UNet2DConditionModel, model, "unet", dtype, revision, room),
        vae=load_part(AutoencoderKL, model, "vae", dtype, revision).eval(),
        scheduler=load_scheduler(model, revision),
        prompt_embeds=clip_prompt(model, revision=revision),
    )


def load_part(
    kind: Any,
    model: str,
    subfolder: str = "",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    room: torch.device | None = None,
    **given: Any,
) -> Any:
    """Load one part of a pipeline with its class's ``from_pretrained``; weights where ``dtype`` is given.

    What else is ``given`` goes to the class.

    Raises:
        GensegError: If it is missing, unreadable, of another architecture, or larger than the memory free on ``room``.
    """
    if dtype is not None and issubclass(kind, ModelMixin):
        shape = load_config(kind, model, subfolder, revision)
        found = shape.get("_class_name", kind.__name__)
        if found not in (
            kind.__name__,
            RENAMED.get(kind.__name__),
        ):  # diffusers would fill what it does not find with defaults
            raise GensegError(
                f"{place_of(model, subfolder, revision)} is of class {found} (looked for {kind.__name__}); "
                "use a checkpoint of the backend's family"
            )
        if room is not None:
            check_memory(kind, shape, dtype, room)
    source = str(local_path(model, revision) or model)
    try:
        if dtype is None:
            return kind.from_pretrained(source, subfolder=subfolder, revision=revision)
        part, info = kind.from_pretrained(
            source,
            subfolder=subfolder,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **given,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # diffusers and the hub raise OSError, ValueError, RuntimeError, KeyError and their own
        raise missing(model, subfolder or kind.__name__, revision, error) from error
    if info["missing_keys"]:  # transformers would leave them at random
        place = place_of(model, subfolder, revision)
        raise GensegError(f"{place} lacks weights ({min(info['missing_keys'])}); get the checkpoint again")
    return part


def load_config(kind: Any, model: str, subfolder: str, revision: str | None = None) -> dict[str, Any]:
    """The configuration of one part, as its file has it.

    Raises:
        GensegError: If it is missing or unreadable.
    """
    source = str(local_path(model, revision) or model)
    try:
        config: dict[str, Any] = kind.load_config(source, subfolder=subfolder, revision=revision)
    except Exception as error:
        raise missing(model, subfolder or kind.__name__, revision, error) from error
    return config


def load_scheduler(model: str, revision: str | None = None, folder: str = "scheduler") -> Any:
    """The noise schedule of a checkpoint, whatever sampler it names: a `DDIMScheduler`, or a scheduler of a flow.

    Raises:
        GensegError: If it is missing, or of neither kind.
    """
    config = load_config(DDIMScheduler, model, folder, revision)
    name = str(config.get("_class_name"))
    if is_flow(config):
        return load_part(getattr(diffusers, name), model, folder, revision=revision)
    if "beta_start" not in config and not config.get("trained_betas"):
        raise GensegError(
            f"the scheduler of {model} is a {name}, which has no betas; this backend needs one of the DDPM family"
        )
    return load_part(DDIMScheduler, model, folder, revision=revision)


def is_flow(config: Any) -> bool:
    """Whether a scheduler's configuration is that of a rectified flow."""
    return config.get("prediction_type") == "flow_prediction" or "FlowMatch" in str(config.get("_class_name"))


def load_network(
    kind: Any,
    model: str,
    part: str,
    dtype: torch.dtype,
    room: torch.device,
    revision: str | None = None,
    config: str | None = None,
) -> Any:
    """A denoiser of one class, from a checkpoint's folder or a single file of its own.

    Args:
        kind: Its class in diffusers.
        model: A folder, hub id or ``.safetensors`` file.
        part: Its folder in a checkpoint.
        dtype: What it is loaded in.
        room: The device whose free memory it must fit into.
        revision: Branch, tag or commit on the hub.
        config: The checkpoint that a single file belongs to.

    Raises:
        GensegError: If it is missing, unreadable, of another architecture, or too large.
    """
    path = local_path(model, None if config else revision)
    if path is None or path.is_dir():
        return load_part(kind, model, part, dtype, revision, room)
    if path.suffix != ".safetensors":
        raise GensegError(f"{path} is not a .safetensors file; pickles can run code, so convert it first")
    if not hasattr(kind, "from_single_file"):
        raise GensegError(f"a {kind.__name__} is not read from single files; give a diffusers folder or a hub id")
    source = str(local_path(config or "", revision) or config)
    check_memory(kind, load_config(kind, source, part, revision), dtype, room)
    read = partial(kind.from_single_file, str(path), dtype=dtype, revision=revision)
    return read_single_file(read, path, part, source)


def read_single_file(read: Callable[..., Any], file: Path, part: str, config: str) -> Any:
    """One part of a single file, by diffusers, which raises whatever comes up where a file does not fit.

    Args:
        read: diffusers' reader of the file, which takes ``config`` and ``subfolder``.
        file: The file, for messages.
        part: The part's folder in a checkpoint.
        config: The diffusers folder or hub id whose configurations belong to the file.

    Raises:
        GensegError: If the file lacks weights of the part, or does not fit it in another way.
    """
    lacking = f"the {part} of {file} lacks weights; get the file again, or another one"
    try:
        network = read(config=config, subfolder=part)
    except (MemoryError, torch.OutOfMemoryError):
        raise  # told elsewhere
    except NotImplementedError as error:  # torch's, of moving a parameter without values
        raise GensegError(lacking) from error
    except Exception as error:
        raise GensegError(
            f"{file} does not fit the {part} of {config} ({first_line(error)}); "
            "give the folder that belongs to it as config=..., or another file"
        ) from error
    if any(parameter.is_meta for parameter in network.parameters()):
        raise GensegError(lacking)
    return network


def load_text(kind: Any, model: str, dtype: torch.dtype, revision: str | None = None) -> Any:
    """A pipeline of a checkpoint with its tokenizers and text encoders and nothing else.

    Args:
        kind: The pipeline's class in diffusers.
        model: A folder or hub id.
        dtype: What the network computes in; text encoders, which overflow in float16, are then in bfloat16.
        revision: Branch, tag or commit on the hub.

    Raises:
        GensegError: If a part is missing or unreadable, or a package is.
    """
    extra("transformers")
    index = load_config(kind, model, "", revision)
    others = [
        name
        for name, value in index.items()
        if isinstance(value, list | tuple) and not name.startswith(("text_encoder", "tokenizer"))
    ]
    precision = torch.float32 if dtype == torch.float32 else torch.bfloat16
    source = str(local_path(model, revision) or model)
    try:
        return kind.from_pretrained(
            source, **dict.fromkeys(others), dtype=precision, use_safetensors=True, revision=revision
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # as in `load_part`
        raise missing(model, "text encoders", revision, error) from error


def clip_prompt(model: str, prompt: str = "", revision: str | None = None) -> Tensor:
    """The embedding of a prompt, [1, tokens, dim] float32, by the checkpoint's own CLIP text encoder.

    Raises:
        GensegError: If transformers is not installed, or the text encoder cannot be loaded.
    """
    transformers = extra("transformers")
    tokenizer = load_part(transformers.CLIPTokenizer, model, "tokenizer", revision=revision)
    encoder = load_part(transformers.CLIPTextModel, model, "text_encoder", torch.float32, revision).eval()
    if len(tokenizer) != encoder.config.vocab_size:  # transformers makes up a tokenizer where the files are missing
        raise GensegError(f"the tokenizer of {model} is missing or not its text encoder's; get the checkpoint again")
    length = tokenizer.model_max_length
    tokens = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return encoded(encoder, tokens.input_ids)


@torch.inference_mode()
def encoded(encoder: Any, tokens: Tensor) -> Tensor:
    """What a CLIP text encoder makes of token ids [1, tokens]: [1, tokens, dim]."""
    return encoder(tokens).last_hidden_state.clone()
