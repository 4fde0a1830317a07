"""How many FLOPs does one image take at the size of SD 1.5? Counted on the meta device, without weights or waiting.

    python benchmarks/flops.py [--side 512] [--clusters 25] [--procedures PRESET[,key=value] ...] [key=value ...]

The procedures named, such as ``fast,replay_steps=1``, come beside those that are always counted. The engine's own code
runs, batch by batch; the published procedure's stages are counted once and multiplied. k-means is not in the figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import genseg
from command import run
from genseg.files import write_whole
from genseg.interface import Backend
from genseg.modulate import masks_for
from genseg_backends.families.stable_diffusion import StableDiffusion
from procedures import Procedure, flop_counter, random_sd15, with_overrides
from published import Published

REFERENCE = "published:float32,draws=1"  # what ratios are to
ALWAYS = (REFERENCE, "published:float32,draws=100", "paper,draws=1", "paper,draws=100", "fast")
BARS = {"paper:float32,draws=1": 0.83, "fast:float32": 0.08}  # the most that a procedure may take of REFERENCE
BATCH = 16  # rows a pass, unless told otherwise: attention probabilities are computed once a pass
STAGES = ("encode", "features", "modulate")


class OutOfMeta(TorchDispatchMode):
    """Tensors and numbers that leave the meta device are ones, in place of the error that torch raises.

    With it, code that ends with ``.cpu()`` or ``.item()`` and looks at the values runs as it is.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let every operation pass but what copies from meta to the CPU."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return 1.0
        return func(*args, **kwargs)


def regions(n_clusters: int, height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Cluster labels [height, width] in 0..K-1 as clusters lie: each position belongs to the nearest of K seeds."""
    chosen = np.random.default_rng(seed).permutation(height * width)[:n_clusters]
    rows, columns = np.divmod(np.arange(height * width)[:, None], width)
    distances = (rows - chosen // width) ** 2 + (columns - chosen % width) ** 2
    return distances.argmin(axis=1).reshape(height, width).astype(np.int32)


def masks_of_regions(backend: Backend, recipe: genseg.Recipe, image: Tensor) -> Tensor:
    """Masks [K, h, w] on the point's grid for an image [1, 3, H, W]."""
    tap, point = backend.find_tap(recipe.tap), backend.find_point(recipe.point)
    assert isinstance(recipe.n_clusters, int)
    labels = regions(recipe.n_clusters, *tap.grid_for(*image.shape[2:]))
    return masks_for(point, labels, recipe.n_clusters, (image.shape[2], image.shape[3]), 0)


def published_flops(backend: StableDiffusion, recipe: genseg.Recipe, image: Tensor) -> dict[str, int]:
    """FLOPs of the published procedure by stage."""
    assert isinstance(recipe.n_clusters, int)
    encode, draw, mask = _published_once(backend, dataclasses.replace(recipe, draws=1, n_clusters=2), image)
    return dict(zip(STAGES, (encode, recipe.draws * draw, recipe.n_clusters * mask), strict=True))


@functools.cache
def _published_once(backend: StableDiffusion, recipe: genseg.Recipe, image: Tensor) -> tuple[int, int, int]:
    """FLOPs of all that is done once an image, of one noise draw and of one mask; draws are alike, and so are masks."""
    published, masks = Published(backend, recipe), masks_of_regions(backend, recipe, image)
    with OutOfMeta():
        with flop_counter() as encode:
            clean = published.encode(image)
            start, noise = published.invert(clean)
            tape = published.record(start, noise)
        with flop_counter() as draw:
            published.features(clean)
        with flop_counter() as mask:
            published.differences(published.perturbed(start, noise, tape, masks[:1]))
    return encode.get_total_flops(), draw.get_total_flops(), mask.get_total_flops()


def engine_flops(backend: Backend, recipe: genseg.Recipe, image: Tensor) -> dict[str, int]:
    """FLOPs of the engine by stage."""
    masks = masks_of_regions(backend, recipe, image)
    tap = backend.find_tap(recipe.tap)
    with OutOfMeta():
        with flop_counter() as encode:
            state = backend.encode(image, recipe, 0)
        with flop_counter() as features:
            backend.features(state, tap, recipe)
        with flop_counter() as modulate:
            genseg.difference_maps(backend, state, masks, recipe)
    spent = (encode.get_total_flops(), features.get_total_flops(), modulate.get_total_flops())
    return dict(zip(STAGES, spent, strict=True))


def single_figures(backend: StableDiffusion, image: Tensor) -> dict[str, int]:
    """FLOPs of one pass through the U-Net, of encoding and of decoding one image."""
    with torch.inference_mode():
        with flop_counter() as encode:
            latents = backend.codec.encode(image.to(backend.device))
        with flop_counter() as unet:
            backend.network(latents.to(backend.dtype), 1, backend.prompt_embeds)
        with flop_counter() as decode:
            backend.codec.decode(latents)
    counted = {"unet": unet, "encode": encode, "decode": decode}
    return {name: counter.get_total_flops() for name, counter in counted.items()}


def measure(
    backend: StableDiffusion, procedures: Sequence[Procedure], image: Tensor, shared: list[str], console: Console
) -> dict[str, Any]:
    """The figures of every procedure, REFERENCE among them, by its name."""
    figures: dict[str, Any] = {}
    for procedure in track(procedures, "counting", console=console, transient=True):
        recipe = procedure.recipe(backend.recipe, shared)
        count = published_flops if procedure.name == "published" else engine_flops
        try:
            flops = count(backend, recipe, image)
        except genseg.GensegError as error:
            console.print(f"left out: {procedure}: {error}", markup=False)
            continue
        figures[str(procedure)] = {"flops": sum(flops.values()), "stages": flops, "recipe": dataclasses.asdict(recipe)}
    if REFERENCE not in figures:
        raise genseg.GensegError(f"the others are shares of {REFERENCE}, which cannot be counted on this model")
    return with_ratios(figures)


def with_ratios(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures with each procedure's share of REFERENCE, and its bar."""
    completed = {}
    for name, entry in figures.items():
        completed[name] = {**entry, "ratio": entry["flops"] / figures[REFERENCE]["flops"]}
        if name in BARS:
            completed[name] |= {"bar": BARS[name], "within_bar": completed[name]["ratio"] <= BARS[name]}
    return completed


def table_of(figures: Mapping[str, Any], single: Mapping[str, int]) -> Table:
    """The figures in TFLOP."""
    caption = ", ".join(f"{name} {flops / 1e12:.3f}" for name, flops in single.items())
    columns = ("procedure", *STAGES, "total", "share", "bar")
    table = Table(*columns, title="TFLOP an image", caption=f"one pass: {caption}")
    for name, entry in figures.items():
        cells = [f"{entry['stages'][stage] / 1e12:.2f}" for stage in STAGES]
        bar = f"{entry['bar']} {'met' if entry['within_bar'] else 'MISSED'}" if "bar" in entry else ""
        table.add_row(name, *cells, f"{entry['flops'] / 1e12:.1f}", f"{entry['ratio']:.3f}", bar)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Count; print a table and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--procedures", nargs="+", default=(), metavar="PRESET[,key=value]", help="to count as well")
    parser.add_argument("--side", type=int, default=512, help="of the square image, in pixels")
    parser.add_argument("--clusters", type=int, default=25, help="K")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/flops.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys for every procedure")
    args = with_overrides(parser.parse_intermixed_args(argv), "procedures")
    console = Console(width=max(Console().width, 120))
    procedures = list(dict.fromkeys(Procedure.of(text) for text in (*ALWAYS, *args.procedures)))
    backend, image = random_sd15("meta", "float32"), torch.zeros(1, 3, args.side, args.side)
    single = single_figures(backend, image)
    shared = [f"n_clusters={args.clusters}", f"batch_size={BATCH}", *args.overrides]
    figures = measure(backend, procedures, image, shared, console)
    report = {"model": "SD 1.5", "side": args.side, "clusters": args.clusters, "reference": REFERENCE}
    report |= {"versions": {name: version(name) for name in ("genseg", "torch", "diffusers")}}
    report |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "single": single, "procedures": figures}
    write_whole(args.out, lambda stream: stream.write(json.dumps(report, indent=1).encode()))
    console.print(table_of(figures, single))
    console.print(f"written: {args.out}")


if __name__ == "__main__":
    run(main)
