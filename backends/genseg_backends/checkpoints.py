"""Loading checkpoints in the diffusers layout, from a folder or the hub; safetensors only, no remote code."""

from __future__ import annotations

import copy
import importlib
import re
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from torch import Tensor, nn

from genseg.errors import GensegError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
"""How names end that are a file's and no hub id."""


ModuleT = TypeVar("ModuleT", bound=nn.Module)


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


def in_dtype(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """The module itself if it is in ``dtype``, else a copy that is."""
    if next(module.parameters()).dtype == dtype:
        return module
    return nn.Module.to(copy.deepcopy(module), dtype)  # diffusers' own `to` warns of what does not concern these


def local_path(model: str, revision: str | None = None) -> Path | None:
    """The file or folder that ``model`` names, or None for a hub id; the hub itself is not asked.

    Raises:
        GensegError: If it is neither, or a local one with a ``revision``.
    """
    path = Path(model).expanduser()
    if path.exists():
        if revision:
            raise GensegError(f"revision={revision!r} is for the hub, and {model} is local; leave it out")
        return path
    if not HUB_ID.fullmatch(model) or model.endswith(FILES):
        raise GensegError(
            f"there is no file or folder {model}, and a hub id is organisation/name; "
            "give a local folder, a .safetensors file or a hub id"
        )
    return None


def load_folder(model: str, dtype: torch.dtype, revision: str | None = None) -> Parts:
    """All parts of a checkpoint in the diffusers layout, a local folder or a hub id.

    The text encoder is loaded, asked for the embedding of the empty prompt, and dropped.

    Raises:
        GensegError: If a part is missing, unreadable, or of another architecture.
    """
    return Parts(
        unet=load_part(UNet2DConditionModel, model, "unet", dtype, revision),
        vae=load_part(AutoencoderKL, model, "vae", dtype, revision).eval(),
        scheduler=load_scheduler(model, revision),
        prompt_embeds=empty_prompt(model, revision),
    )


def load_part(
    kind: Any, model: str, subfolder: str = "", dtype: torch.dtype | None = None, revision: str | None = None
) -> Any:
    """Load one part of a pipeline with its class's ``from_pretrained``; weights where ``dtype`` is given.

    Raises:
        GensegError: If it is missing, unreadable, or of another architecture.
    """
    if dtype is not None and issubclass(kind, ModelMixin):
        found = load_config(kind, model, subfolder, revision).get("_class_name", kind.__name__)
        if found != kind.__name__:  # diffusers would fill what it does not find with defaults
            raise GensegError(
                f"{_place(model, subfolder, revision)} is of class {found} (looked for {kind.__name__}); "
                "use a checkpoint shaped like Stable Diffusion 1.x or 2.x"
            )
    source = str(local_path(model, revision) or model)
    try:
        if dtype is None:
            return kind.from_pretrained(source, subfolder=subfolder, revision=revision)
        part, info = kind.from_pretrained(
            source,
            subfolder=subfolder,
            revision=revision,
            torch_dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # diffusers and the hub raise OSError, ValueError, RuntimeError, KeyError and their own
        raise _missing(model, subfolder or kind.__name__, revision, error) from error
    if info["missing_keys"]:  # transformers would leave them at random
        place = _place(model, subfolder, revision)
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
        raise _missing(model, subfolder or kind.__name__, revision, error) from error
    return config


def load_scheduler(model: str, revision: str | None = None) -> DDIMScheduler:
    """The noise schedule of a checkpoint, whatever sampler it names.

    Raises:
        GensegError: If it is missing, or not one of betas.
    """
    scheduler = load_part(DDIMScheduler, model, "scheduler", revision=revision)
    config = load_config(DDIMScheduler, model, "scheduler", revision)
    if "beta_start" not in config and not config.get("trained_betas"):
        raise GensegError(
            f"the scheduler of {model} is a {config.get('_class_name')}, which has no betas; "
            "this backend needs one of the DDPM family"
        )
    return scheduler


def empty_prompt(model: str, revision: str | None = None) -> Tensor:
    """The embedding of the empty prompt, [1, tokens, dim] float32, by the checkpoint's own text encoder.

    Raises:
        GensegError: If transformers is not installed, or the text encoder cannot be loaded.
    """
    transformers = extra("transformers")
    tokenizer = load_part(transformers.CLIPTokenizer, model, "tokenizer", revision=revision)
    encoder = load_part(transformers.CLIPTextModel, model, "text_encoder", torch.float32, revision).eval()
    if len(tokenizer) != encoder.config.vocab_size:  # transformers makes up a tokenizer where the files are missing
        raise GensegError(f"the tokenizer of {model} is missing or not its text encoder's; get the checkpoint again")
    tokens = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    return encoded(encoder, tokens.input_ids)


@torch.inference_mode()
def encoded(encoder: Any, tokens: Tensor) -> Tensor:
    """What a CLIP text encoder makes of token ids [1, tokens]: [1, tokens, dim]."""
    return encoder(tokens).last_hidden_state.clone()


def extra(package: str) -> Any:
    """A package of the ``sd`` extra.

    Raises:
        GensegError: If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise GensegError(f"this needs the package {package!r}; run: pip install 'genseg[sd]'") from error


def first_line(error: Exception) -> str:
    """An exception in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _place(model: str, subfolder: str, revision: str | None) -> str:
    part = f"the {subfolder} of {model}" if subfolder else model
    return f"{part} at revision {revision!r}" if revision else part


def _missing(model: str, part: str, revision: str | None, error: Exception) -> GensegError:
    detail = first_line(error)
    if Path(model).expanduser().exists():
        return GensegError(
            f"{model} has no usable {part}/ ({detail}); give a folder in the diffusers layout with safetensors"
        )
    return GensegError(
        f"cannot get {_place(model, part, revision)} ({detail}); connect to the hub once to download it, "
        "or give a local folder"
    )
