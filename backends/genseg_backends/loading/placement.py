"""Device and precision of models, and checks of the memory that they need."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from genseg.batches import free_memory
from genseg.errors import GensegError
from genseg_backends.loading.hub import extra

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def device_of(device: str | None) -> torch.device:
    """The requested torch device; None for CUDA where there is one, else the CPU.

    Raises:
        GensegError: If it is no device, or not available.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        raise GensegError(
            f"device {device!r} is not available here; use device='cpu' or install a torch for it"
        ) from error
    if place.type == "meta":
        raise GensegError("device 'meta' holds no values, so nothing can be computed there; use device='cpu'")
    return place


def dtype_of(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The requested torch dtype; None for float32, ``"auto"`` for half precision on CUDA and float32 elsewhere.

    Raises:
        GensegError: If it is not one that models run in.
    """
    name = str(dtype or "float32").removeprefix("torch.")
    if name == "auto" and device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if name not in DTYPES and name != "auto":
        raise GensegError(f"dtype must be one of {', '.join(DTYPES)} or auto, not {dtype!r}")
    return DTYPES.get(name, torch.float32)


def features_dtype_of(
    features_dtype: str | None, dtype: str | None, device: torch.device, parameters: int
) -> torch.dtype:
    """The dtype that features are read in, by a copy of the network where it is not the network's own.

    Where ``dtype`` is ``"auto"``, it is float32 if both copies fit in half of the free memory: k-means is sensitive to
    rounding. A warning says what None for ``dtype`` costs on CUDA.

    Args:
        features_dtype: The requested one; None for ``dtype``.
        dtype: What was requested for the network.
        device: Where it is to compute.
        parameters: Number of the network's parameters.

    Raises:
        GensegError: If it is not one that models run in.
    """
    network = dtype_of(dtype, device)
    if dtype is None and device.type == "cuda":
        warnings.warn(
            "float32 takes several times as long as half precision on this device; choose dtype='auto', or "
            "dtype='float32' to leave this warning out",
            stacklevel=3,
        )
    if features_dtype is not None or dtype != "auto":
        return dtype_of(features_dtype or dtype, device)
    copies = parameters * (network.itemsize + torch.float32.itemsize)
    return torch.float32 if 2 * copies <= free_memory(device) else network


def compute_dtype(network: Any) -> torch.dtype:
    """The dtype that a network computes in, whatever its weights are stored in: float8, blocks of integers."""
    quantized = (getattr(module, "compute_dtype", None) for module in network.modules())
    dtype: torch.dtype = next((each for each in quantized if isinstance(each, torch.dtype)), network.dtype)
    return dtype


def in_dtype(module: ModuleT, dtype: torch.dtype) -> ModuleT:
    """The module itself if it is in ``dtype``, else a copy that is."""
    if next(module.parameters()).dtype == dtype:
        return module
    return nn.Module.to(copy.deepcopy(module), dtype)  # diffusers' own `to` warns of what does not concern these


def parameters_of(kind: Any, config: Any) -> int:
    """The number of parameters of a network of diffusers or transformers, by its configuration alone."""
    count: int = without_weights(kind, config).num_parameters()
    return count


def without_weights(kind: Any, config: Any) -> Any:
    """A network of diffusers or transformers on torch's device ``meta``: its modules and configuration alone."""
    with torch.device("meta"):
        return kind.from_config(config) if isinstance(config, dict) else kind(config)


def check_fit(subject: str, parameters: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse so many parameters where they do not fit.

    Args:
        subject: What the message begins with, such as ``"this UNet2DConditionModel takes"``.
        parameters: Their number.
        dtype: What they are to be in.
        device: Where they are to be.

    Raises:
        GensegError: If they are larger than the memory that is free.
    """
    needed, free = parameters * dtype.itemsize, free_memory(device)
    if needed > free:
        raise GensegError(
            f"{subject} {needed / 2**30:.1f} GiB in {str(dtype).removeprefix('torch.')}, and "
            f"{free / 2**30:.1f} GiB are free on {device}; use dtype='bfloat16', offload=true on a graphics card, "
            "or a smaller model"
        )


class Placed(NamedTuple):
    """Parts of a model where they compute.

    Attributes:
        network: The denoiser.
        reader: The same in another dtype, to read features from, or itself.
        vae: The autoencoder, or None.
    """

    network: nn.Module
    reader: nn.Module
    vae: nn.Module | None


def place(
    network: nn.Module,
    vae: nn.Module | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tiling: bool = False,
    offload: bool = False,
    channels_last: bool | None = None,
) -> Placed:
    """Bring the parts of a model to a device.

    Args:
        network: The denoiser, in the dtype that features are read in.
        vae: The autoencoder, in its dtype.
        device: Where to.
        dtype: What the network is to compute in.
        tiling: Whether the autoencoder works in tiles.
        offload: Whether the parts wait on the CPU while another one computes.
        channels_last: Whether convolutions keep channels last in memory; None for where that is faster: in float32 on
            the CPU, and in half precision on CUDA.

    Raises:
        GensegError: If the autoencoder knows no tiles.
    """
    reader, network = network, in_dtype(network, dtype)
    modules = list(dict.fromkeys(module for module in (reader, network, vae) if module is not None))
    for module in modules:
        is_float32 = next(module.parameters()).dtype == torch.float32
        # In low precision on the CPU they would round otherwise when the batch is of another size.
        faster = is_float32 if device.type == "cpu" else device.type == "cuda" and not is_float32
        flat = all(parameter.ndim < 5 for parameter in module.parameters())  # frames know no channels-last
        if flat and (faster if channels_last is None else channels_last):
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if tiling:
        if not hasattr(vae, "enable_tiling"):
            raise GensegError("this backend has no autoencoder that works in tiles; leave tiling out")
        vae.enable_tiling()  # type: ignore[union-attr,operator]
    if offload:
        _take_turns(modules, device)
    else:
        for module in modules:
            module.to(device)
    return Placed(network, reader, vae)


def _take_turns(modules: Sequence[nn.Module], where: torch.device) -> None:
    """Let all wait on the CPU, each brought to ``where`` when it is run, the one before it in the round sent back."""
    accelerate = extra("accelerate")
    hooks = [accelerate.cpu_offload_with_hook(module, where)[1] for module in modules]
    for hook, before in zip(hooks, [hooks[-1], *hooks], strict=False):
        hook.hook.prev_module_hook = before
