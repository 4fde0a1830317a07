"""Loading checkpoints: diffusers folders, local or from the hub; safetensors only, no remote code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from genseg.errors import GensegError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def device_of(device: str | None) -> torch.device:
    """The torch device asked for; None for CUDA where there is one, else the CPU.

    Raises:
        GensegError: If it is no device, or not there.
    """
    try:
        found = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise GensegError(
            f"device {device!r} is not available here; use device='cpu' or install a torch for it"
        ) from error
    return found


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype:
    """The torch dtype asked for; None for float32.

    Raises:
        GensegError: If it is not one that models run in.
    """
    found = DTYPES.get(str(dtype or "float32").removeprefix("torch."))
    if found is None:
        raise GensegError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    return found


def load_part(kind: Any, model: str, subfolder: str, dtype: torch.dtype | None = None) -> Any:
    """Load one part of a pipeline with its class's ``from_pretrained``; weights where ``dtype`` is given.

    Raises:
        GensegError: If it is missing, unreadable, or of another architecture.
    """
    try:
        if dtype is None:
            return kind.from_pretrained(model, subfolder=subfolder)
        part, found = kind.from_pretrained(
            model, subfolder=subfolder, torch_dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # diffusers and the hub raise OSError, ValueError, RuntimeError, KeyError and their own
        raise _missing(model, subfolder, error) from error
    if found["missing_keys"]:  # transformers would leave them at random
        raise GensegError(f"{model} lacks weights of its {subfolder} ({min(found['missing_keys'])}); get it again")
    return part


def load_scheduler(model: str) -> DDIMScheduler:
    """The noise schedule of a checkpoint, whatever sampler it names.

    Raises:
        GensegError: If it is missing, or not one of betas.
    """
    scheduler = load_part(DDIMScheduler, model, "scheduler")
    config = DDIMScheduler.load_config(model, subfolder="scheduler")
    if "beta_start" not in config and not config.get("trained_betas"):
        raise GensegError(
            f"the scheduler of {model} is a {config.get('_class_name')}, which has no betas; "
            "this backend needs one of the DDPM family"
        )
    return scheduler


def empty_prompt(model: str) -> Tensor:
    """The embedding of the empty prompt, [1, tokens, dim] float32, by the checkpoint's own text encoder.

    Raises:
        GensegError: If transformers is not installed, or the text encoder cannot be loaded.
    """
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise GensegError(
            "this backend needs transformers for its text encoder; run: pip install 'genseg[sd]'"
        ) from error
    tokenizer = load_part(CLIPTokenizer, model, "tokenizer")
    encoder = load_part(CLIPTextModel, model, "text_encoder", torch.float32).eval()
    if len(tokenizer) != encoder.config.vocab_size:  # transformers makes up a tokenizer where the files are missing
        raise GensegError(f"the tokenizer of {model} is missing or not its text encoder's; get the checkpoint again")
    tokens = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    with torch.inference_mode():
        return encoder(tokens.input_ids).last_hidden_state.clone()


def _missing(model: str, part: str, error: Exception) -> GensegError:
    detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(model).exists():
        return GensegError(
            f"{model} has no usable {part}/ ({detail}); give a folder in the diffusers layout with safetensors"
        )
    return GensegError(
        f"cannot get {part} of {model} ({detail}); give a local folder with model=..., "
        "or connect to the hub once to download it"
    )
