"""Tables of all backends and of their sites, from cards and configurations; only the bundled weights are read."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from genseg import FeatureTap
from genseg.registry import list_backends, load_backend
from genseg.sites.vocabulary import named, readable, shapes_recorded
from genseg_backends.engine.transformers import TransformerBackend
from genseg_backends.engine.unets import sites
from genseg_backends.loading.placement import without_weights
from genseg_backends.loading.single_file import CONFIGS

NAMES = {"sd1": ("sd14", "sd15"), "sd2-512": ("sd-turbo",), "sd2-768-v": ("sd20", "sd21")}
"""Backends whose configuration is part of genseg, by its folder."""


def backends_table() -> str:
    """A row for each backend that ships with genseg: what its card says."""
    head = ["backend", "family", "checkpoint", "license", "parameters", "recipe", "weights"]
    rows = [head, ["---"] * len(head)]
    for info in list_backends():
        card = info.card
        if card is None or not info.factory.startswith("genseg_backends."):
            continue
        place = f"[{card.model}](https://huggingface.co/{card.model})" if card.model else "part of genseg"
        parameters = f"{card.parameters / 1e6:,.0f} M" if card.parameters else ""
        access = card.access if card.model else "bundled"
        rows.append([f"`{info.name}`", card.family, place, card.licence, parameters, card.calibration, access])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def sites_table() -> str:
    """The sites of the models whose configuration is at hand, and the kinds of site of the others."""
    tiny = load_backend("tiny", device="cpu")
    parts = [_section("`tiny`", tiny.sites)]
    for layout, names in NAMES.items():
        parts.append(_section(", ".join(f"`{name}`" for name in names), _unet_sites(layout)))
    return "\n".join([*parts, _others()])


def _unet_sites(layout: str) -> Mapping[str, FeatureTap]:
    """The sites of a U-Net of Stable Diffusion, by a pass without weights and without numbers."""
    config: Any = UNet2DConditionModel.load_config(str(CONFIGS / layout / "unet"))
    unet = without_weights(UNet2DConditionModel, config).eval()
    taps, points = sites(unet, 8)
    size, image_size = (192, 320), config["sample_size"] * 8
    prompt = torch.zeros(1, 77, config["cross_attention_dim"], device="meta")
    with torch.inference_mode(), shapes_recorded(unet) as tensors:
        x = torch.zeros(1, config["in_channels"], *(side // 8 for side in size), device="meta")
        unet(x, torch.ones(1, device="meta"), prompt)
    declared = {**points, **taps}
    return named(readable(tensors, size, image_size, declared.values()), declared, {})


def _section(title: str, sites: Mapping[str, FeatureTap]) -> str:
    """A table of sites, a row for those of one level that have the same channels and stride."""
    groups: dict[tuple[str, int, int, tuple[int, int]], list[str]] = {}
    for name, site in sites.items():
        groups.setdefault((name.split(".")[0], site.channels, site.stride, site.grid), []).append(name)
    lines = [f"### {title}", "", "| level | channels | stride | grid | sites |", "|---|---|---|---|---|"]
    for (level, channels, stride, grid), names in groups.items():
        lines.append(f"| `{level}` | {channels} | {stride} | {grid[0]}×{grid[1]} | {_short(level, names)} |")
    return "\n".join([*lines, ""])


def _short(level: str, names: Iterable[str]) -> str:
    """Names of a level's sites, those that differ in the number of their layer as one: ``0-2.query``."""
    layers: dict[tuple[bool, str], list[str]] = {}
    for name in names:
        found = re.fullmatch(r"(?:(\d+)\.)?(.+)", name.removeprefix(f"{level}."))
        assert found is not None
        layers.setdefault((found[1] is not None, found[2]), []).append(found[1] or "")
    texts = []
    for (in_layer, kind), numbers in layers.items():
        where = "-".join(dict.fromkeys((numbers[0], numbers[-1])))
        texts.append(f"`{where}.{kind}`" if in_layer else f"`{kind}`")
    return " ".join(texts)


def _others() -> str:
    """The kinds of site that transformers declare; their channels and grids are their checkpoints'."""
    lines = [
        "### Transformers",
        "",
        "| backends | taps | points | default tap | default point |",
        "|---|---|---|---|---|",
    ]
    families: dict[type[TransformerBackend], list[str]] = {}
    for info in list_backends():
        module, _, factory = info.factory.partition(":")
        kind = getattr(getattr(importlib.import_module(module), factory, None), "kind", None)
        if isinstance(kind, type) and issubclass(kind, TransformerBackend):
            families.setdefault(kind, []).append(info.name)
    for kind, names in families.items():
        taps, points = (
            " ".join(f"`{letter}*.{each}`" for letter, stack in kind.stacks.items() for each in getattr(stack, what))
            for what in ("taps", "points")
        )
        defaults = [
            f"`{letter}N.{each}`, N = depth × {part}/{whole}" for letter, each, (part, whole) in (kind.tap, kind.point)
        ]
        backends = " ".join(f"`{name}`" for name in names)
        lines.append(f"| {backends} | {taps} | {points} | {' | '.join(defaults)} |")
    return "\n".join([*lines, ""])
