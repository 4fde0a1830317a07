"""Changes that other tools make to a network in memory: what is set aside for a pass, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models import attention_processor
from torch import nn

from genseg.errors import GensegError


def uncompiled(network: Any) -> Any:
    """The module behind the wrapper of ``torch.compile``, whose hooks and processors can be changed."""
    return getattr(network, "_orig_mod", network)


def check_patches(network: nn.Module) -> None:
    """Refuse changes under which a pass depends on earlier ones or on an image prompt, or ignores hooks.

    Raises:
        GensegError: If there is one; the message says how to undo it.
    """
    own_forward = vars(network).get("forward")
    managed = hasattr(network, "_hf_hook") or hasattr(network, "_diffusers_hook")  # accelerate and diffusers
    if own_forward is not None and not managed and getattr(own_forward, "__func__", None) is not type(network).forward:
        raise GensegError(
            f"the forward of this {type(network).__name__} has been replaced by "
            f"{getattr(own_forward, '__module__', '')}.{getattr(own_forward, '__qualname__', own_forward)}, which may "
            "reuse results of other passes, as DeepCache does; disable it first"
        )
    for name, module in network.named_modules():
        if module._compiled_call_impl is not None:
            raise GensegError(
                f"{name or type(network).__name__} was compiled in place, where hooks are ignored; load the model "
                "again without .compile(), and pass torch.compile(network)"
            )
        for key, hook in getattr(getattr(module, "_diffusers_hook", None), "hooks", {}).items():
            if hook._is_stateful:
                raise GensegError(
                    f"this {type(network).__name__} reuses results of other passes ({key}), which would mix up the "
                    "branches; call disable_cache() on it first"
                )
        if "IPAdapter" in type(getattr(module, "processor", None)).__name__:
            raise GensegError(
                f"this {type(network).__name__} has an IP-Adapter, which needs an image prompt; call "
                "unload_ip_adapter() on its pipeline first"
            )


@contextmanager
def unfused(network: nn.Module) -> Iterator[None]:
    """Within the block no attention uses fused projections: taps and attention injection need the separate ones.

    ``fuse_qkv_projections()`` leaves those in place, so that results are those of the network as it was before.
    """
    # By `vars`, once a pass: torch looks long for what a module does not have.
    fused: list[Any] = [module for module in network.modules() if vars(module).get("fused_projections")]
    processors = {attention: attention.processor for attention in fused}
    try:
        for attention, processor in processors.items():
            attention.fused_projections = False
            kind = type(processor).__name__
            if kind.startswith("Fused"):
                attention.set_processor(getattr(attention_processor, kind.removeprefix("Fused"))())
        yield
    finally:
        for attention, processor in processors.items():
            attention.fused_projections = True
            attention.set_processor(processor)
