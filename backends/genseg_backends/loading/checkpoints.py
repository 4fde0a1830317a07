"""Loading checkpoints in the diffusers layout, from a folder or the hub; safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from diffusers import ModelMixin

from genseg.errors import GensegError
from genseg_backends.loading.hub import file_of, first_line, local_path, missing, place_of, variant_of

RENAMED = {"PixArtTransformer2DModel": "Transformer2DModel", "DiTTransformer2DModel": "Transformer2DModel"}
"""Classes of diffusers that the released configurations call by an older name."""


def load_part(
    kind: Any,
    model: str,
    subfolder: str,
    dtype: torch.dtype,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """Load the weights of one part of a checkpoint with its class's ``from_pretrained``.

    Weights that are there in one variant alone, such as ``fp16``, are read from that. Other options go to the class.

    Raises:
        GensegError: If it is missing, unreadable, of another architecture, or quantized in a way that cannot be used.
    """
    config = load_network_config(kind, model, subfolder, revision) if issubclass(kind, ModelMixin) else {}
    source = str(local_path(model, revision) or model)

    def read(variant: str | None) -> Any:
        return kind.from_pretrained(
            source,
            subfolder=subfolder,
            revision=revision,
            variant=variant,
            dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            **options,
        )

    try:
        variant = variant_of(model, subfolder, revision)
        try:
            part, info = read(variant)
        except OSError:
            online = local_path(model, revision) is None and not huggingface_hub.constants.HF_HUB_OFFLINE
            variant = variant_of(model, subfolder, revision, ask=True) if online and variant is None else None
            if variant is None:
                raise
            part, info = read(variant)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # diffusers and the hub raise OSError, ValueError, RuntimeError, KeyError and their own
        if quantization := config.get("quantization_config"):
            raise GensegError(
                f"{place_of(model, subfolder, revision)} is quantized by {quantization.get('quant_method')}, which "
                f"does not work here ({first_line(error)}); install what is missing, or use weights as published"
            ) from error
        raise missing(model, subfolder or kind.__name__, revision, error) from error
    if info["missing_keys"]:  # transformers would leave them at random
        place = place_of(model, subfolder, revision)
        raise GensegError(f"{place} lacks weights ({min(info['missing_keys'])}); get the checkpoint again")
    return part


def load_tokenizer(tokenizer: Any, model: str, subfolder: str, revision: str | None = None) -> Any:
    """Load a tokenizer of class ``tokenizer``.

    Raises:
        GensegError: If it is missing or unreadable.
    """
    source = str(local_path(model, revision) or model)
    try:
        return tokenizer.from_pretrained(source, subfolder=subfolder, revision=revision, trust_remote_code=False)
    except Exception as error:  # as above
        raise missing(model, subfolder or "tokenizer", revision, error) from error


def load_config(kind: Any, model: str, subfolder: str, revision: str | None = None) -> dict[str, Any]:
    """The configuration of one part of diffusers, as its file has it.

    Raises:
        GensegError: If it is missing or unreadable.
    """
    source = str(local_path(model, revision) or model)
    try:
        config: dict[str, Any] = kind.load_config(source, subfolder=subfolder, revision=revision)
    except Exception as error:
        raise missing(model, subfolder or kind.__name__, revision, error) from error
    return config


def load_network_config(kind: Any, model: str, subfolder: str, revision: str | None = None) -> dict[str, Any]:
    """The configuration of a network of diffusers.

    Raises:
        GensegError: If it is missing, unreadable, or that of another class, whose gaps diffusers would fill.
    """
    config = load_config(kind, model, subfolder, revision)
    name = config.get("_class_name", kind.__name__)
    if name not in (kind.__name__, RENAMED.get(kind.__name__)):
        raise GensegError(
            f"{place_of(model, subfolder, revision)} is of class {name} (looked for {kind.__name__}); "
            "use a checkpoint of the backend's family"
        )
    return config


def load_text_config(kind: Any, model: str, subfolder: str, revision: str | None = None) -> Any:
    """The configuration of one part of transformers, of the class that ``kind`` is configured by.

    Raises:
        GensegError: If it is missing or unreadable.
    """
    source = str(local_path(model, revision) or model)
    try:
        return kind.config_class.from_pretrained(
            source, subfolder=subfolder, revision=revision, trust_remote_code=False
        )
    except Exception as error:  # as above
        raise missing(model, subfolder, revision, error) from error


def load_network(
    kind: Any,
    model: str,
    part: str,
    dtype: torch.dtype,
    revision: str | None = None,
    config: str | None = None,
) -> Any:
    """A denoiser of one class, from a checkpoint's folder or a single file of its own.

    Args:
        kind: Its class in diffusers.
        model: A folder, hub id or ``.safetensors`` file.
        part: Its folder in a checkpoint.
        dtype: What it is loaded in.
        revision: Branch, tag or commit on the hub.
        config: The checkpoint that a single file belongs to.

    Raises:
        GensegError: If it is missing, unreadable, or of another architecture.
    """
    path = file_of(local_path(model, None if config else revision))
    if path is None:
        return load_part(kind, model, part, dtype, revision)
    if not hasattr(kind, "from_single_file"):
        raise GensegError(f"a {kind.__name__} is not read from single files; give a diffusers folder or a hub id")
    source = str(local_path(config or "", revision) or config)
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
    except NotImplementedError as error:  # torch cannot move a parameter that the file lacks
        raise GensegError(lacking) from error
    except Exception as error:
        raise GensegError(
            f"{file} does not fit the {part} of {config} ({first_line(error)}); "
            "give the folder that belongs to it as config=..., or another file"
        ) from error
    if any(parameter.is_meta for parameter in network.parameters()):
        raise GensegError(lacking)
    return network
