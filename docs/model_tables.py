"""Tables of all backends and of their sites, from cards and configurations; only the bundled weights are read.

The passes behind the table of sites take half a minute, so it is a file, which ``python docs/model_tables.py`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from genseg import Backend, FeatureTap
from genseg.registry import list_backends, load_backend
from genseg_backends.engine.transformers import TransformerBackend
from model_layouts import ENTRIES, backend_of, entry, factory_of, image_size, sections, sites_of

Shape = tuple[int, int]
"""Channels and stride."""

SITES = Path(__file__).parent / "model_sites.txt"
"""The table of sites as the page includes it."""

UNKNOWN = "known once the model is here"


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
    """A section for each layout: the sites of its backends, and their grids at the backends' own image sizes."""
    tiny = load_backend("tiny", device="cpu")
    parts = [section(tiny, tiny.sites, {"tiny": tiny.image_size}, "part of genseg")]
    for names in sections():
        backend = backend_of(names[0])
        sizes = {name: image_size(name) for name in names}
        sources = dict.fromkeys(entry(name)["source"] for name in names)
        parts.append(section(backend, sites_of(names[0], backend), sizes, "; ".join(sources)))
    return "\n".join([*parts, _defaults()])


def section(backend: Backend, sites: Mapping[str, FeatureTap], sizes: Mapping[str, int | None], source: str) -> str:
    """A table of sites, a row for those of one level, or of levels alike, that have the same channels and stride."""
    by_size: dict[int | None, list[str]] = {}
    for name, size in sizes.items():
        by_size.setdefault(size, []).append(f"`{name}`")
    images = ", ".join(
        (f"{size}×{size} pixels" if size else UNKNOWN) + (f" ({', '.join(names)})" if len(by_size) > 1 else "")
        for size, names in by_size.items()
    )
    tap = backend.recipe.get("tap", next(iter(backend.taps)))
    point = backend.recipe.get("point", next(iter(backend.points)))
    lines = [
        f"### {', '.join(f'`{name}`' for name in sizes)}",
        "",
        f"Images: {images}. Default tap `{tap}`, default point `{point}`.",
        f"Configuration: {source}.",
        "",
        "| level | channels | stride | grid | sites |",
        "|---|---|---|---|---|",
    ]
    for level, (channels, stride), texts in rows_of(sites):
        grids = ", ".join(f"{size // stride}×{size // stride}" for size in by_size if size)
        lines.append(f"| `{level}` | {channels} | {stride} | {grids} | {texts} |")
    return "\n".join([*lines, ""])


def rows_of(sites: Mapping[str, FeatureTap]) -> list[tuple[str, Shape, str]]:
    """Levels, channels and stride, and names without the level; levels that follow one another and are alike as one."""
    levels: dict[str, dict[Shape, list[str]]] = {}
    for name, site in sites.items():
        level, _, rest = name.partition(".")
        levels.setdefault(level, {}).setdefault((site.channels, site.stride), []).append(rest)
    runs: list[list[str]] = []
    for level in levels:
        before = runs[-1][-1] if runs else ""
        if _letters(before) == _letters(level) and _alike(levels[before], levels[level]):
            runs[-1].append(level)
        else:
            runs.append([level])
    return [(_span(run), shape, short_names(names)) for run in runs for shape, names in levels[run[0]].items()]


def _alike(one: Mapping[Shape, list[str]], other: Mapping[Shape, list[str]]) -> bool:
    """Return whether two levels have the same sites, in whatever order."""
    return {shape: set(names) for shape, names in one.items()} == {shape: set(names) for shape, names in other.items()}


def _letters(level: str) -> str:
    return level.rstrip("0123456789")


def _span(levels: Sequence[str]) -> str:
    """``b0``, ``b1``, ``b2`` as ``b0-2``."""
    return levels[0] if len(levels) == 1 else f"{levels[0]}-{levels[-1].removeprefix(_letters(levels[-1]))}"


def short_names(names: Iterable[str]) -> str:
    """Names of a level's sites by where in the level they are: ``0-2.b0-9``: query, key."""
    places: dict[tuple[str, bool, bool], list[tuple[str, str]]] = {}
    for name in names:
        found = re.fullmatch(r"(?:(\d+)\.)?(?:(b\d+)\.)?(.+)", name)
        assert found is not None
        layer, block, kind = found[1] or "", found[2] or "", found[3]
        places.setdefault((kind, bool(layer), bool(block)), []).append((layer, block))
    kinds: dict[str, list[str]] = {}
    for (kind, *_), where in places.items():
        kinds.setdefault(_place(where), []).append(kind)
    return "; ".join(f"{place}: {', '.join(group)}" if place else ", ".join(group) for place, group in kinds.items())


def _place(where: Iterable[tuple[str, str]]) -> str:
    """Layers and blocks in short; layers with other blocks stand apart: ```0-1.b0-3` `2.b0-9```."""
    blocks: dict[str, list[str]] = {}
    for layer, block in where:
        blocks.setdefault(layer, []).append(block)
    groups: list[tuple[list[str], str]] = []
    for layer, inner in ((layer, _span(inner)) for layer, inner in blocks.items()):
        if groups and groups[-1][1] == inner:
            groups[-1][0].append(layer)
        else:
            groups.append(([layer], inner))
    texts = (f"{_span(layers)}.{inner}".strip(".") for layers, inner in groups)
    return " ".join(f"`{text}`" for text in texts if text)


def _defaults() -> str:
    """The kinds of tap and point of transformers, and the rule for the default ones of other checkpoints."""
    rows: dict[str, list[str]] = {}
    for info in list_backends():
        kind = getattr(factory_of(info.name), "kind", None) if info.name in ENTRIES else None
        if isinstance(kind, type) and issubclass(kind, TransformerBackend):
            rows.setdefault(_rule(kind), []).append(f"`{info.name}`")
    lines = [
        "### Other checkpoints of transformers",
        "",
        "| backends | taps | points | default tap | default point |",
        "|---|---|---|---|---|",
        *(f"| {' '.join(names)} | {rule} |" for rule, names in rows.items()),
    ]
    return "\n".join([*lines, ""])


def _rule(kind: type[TransformerBackend]) -> str:
    taps, points = (
        " ".join(f"`{letter}*.{each}`" for letter, stack in kind.stacks.items() for each in getattr(stack, what))
        for what in ("taps", "points")
    )
    defaults = (
        f"`{letter}N.{each}`, N = depth × {part}/{whole}" for letter, each, (part, whole) in (kind.tap, kind.point)
    )
    return " | ".join((taps, points, *defaults))


if __name__ == "__main__":
    SITES.write_text(sites_table(), encoding="utf-8")
