"""Backends without weights, as the published configurations of their networks shape them (model_configs.toml)."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from genseg import FeatureTap
from genseg.registry import list_backends
from genseg_backends.families.vitmae import ViTMAE
from genseg_backends.loading.placement import without_weights
from genseg_backends.loading.single_file import CONFIGS

ENTRIES: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("model_configs.toml").read_text())
"""The published facts of each backend's network; the file explains the keys."""


@dataclass
class NoCodec:
    """Stands in the place of an autoencoder: latents without values."""

    channels: int
    stride: int

    def encode(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] to latents [N, C, h, w]."""
        sides = (side // self.stride for side in image.shape[2:])
        return torch.empty(len(image), self.channels, *sides, device="meta")


@cache
def entry(name: str) -> Mapping[str, Any]:
    """A backend's entry, with all of the one that it is like."""
    own = ENTRIES[name]
    base = entry(own["like"]) if "like" in own else {}
    return {**base, **own, "config": base.get("config", {}) | own.get("config", {})}


def sections() -> list[list[str]]:
    """Backends that share a section of the page: those like one another."""
    shared: dict[str, list[str]] = {}
    for name, own in ENTRIES.items():
        shared.setdefault(name if own.get("section") else own.get("like", name), []).append(name)
    return list(shared.values())


def shape_of(name: str) -> dict[str, Any]:
    """The configuration of a backend's network."""
    facts = entry(name)
    if "packaged" not in facts:
        return facts["config"]
    packaged: Any = diffusers.UNet2DConditionModel.load_config(str(CONFIGS / facts["packaged"] / "unet"))
    return {**packaged, **facts["config"]}


def network_of(name: str) -> Any:
    """The network of a backend on torch's device ``meta``."""
    shape = shape_of(name)
    if name == "vitmae":
        return without_weights(transformers.ViTMAEForPreTraining, transformers.ViTMAEConfig(**shape))
    return without_weights(getattr(diffusers, factory_of(name).kind.network_class), shape)


def backend_of(name: str) -> Any:
    """A backend over its network on ``meta``: it declares its sites, which have no values."""
    network, facts = network_of(name), entry(name)
    if name == "vitmae":
        return ViTMAE(network)
    prompt = {part: torch.zeros(1, *shape, device="meta") for part, shape in facts.get("prompt", {}).items()}
    codec, scheduler = NoCodec(*facts["latents"]), diffusers.DDIMScheduler()  # sites do not depend on the schedule
    return factory_of(name).kind.of_parts(network, prompt, vae=codec, scheduler=scheduler)


def sites_of(name: str, backend: Any) -> Mapping[str, FeatureTap]:
    """All sites of a backend by a pass without values, or its taps and points where there can be none."""
    if not entry(name).get("declared_only"):
        return backend.sites
    declared = {**backend.points, **backend.taps}
    return dict(sorted(declared.items(), key=lambda site: int(re.findall(r"\d+", site[0])[0])))


def image_size(name: str) -> int | None:
    """Image pixels along a side at a backend's own size; None where that is not known."""
    facts, shape = entry(name), shape_of(name)
    if "size" in facts:
        return facts["size"] or None
    return shape["sample_size"] * facts["latents"][1]


def factory_of(name: str) -> Any:
    """The factory of a backend, which has the class of the family as ``kind``."""
    module, _, factory = next(info for info in list_backends() if info.name == name).factory.partition(":")
    return getattr(importlib.import_module(module), factory)
