"""How fast is genseg on a card? SD 1.5 and SDXL at full size, by the published procedure, `paper` and `fast`.

    python benchmarks/gpu.py [--models NAME[=CHECKPOINT] ...] [--procedures NAME[,key=value] ...] [key=value ...]

Prints a table in Markdown, to be pasted into an issue. Weights are random unless models are named, such as
``sd15=FOLDER``: times are the same. Every procedure runs in a process of its own, on squares of the model's own size.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch

import genseg
from command import run
from genseg.errors import is_out_of_memory
from procedures import DTYPES, RANDOM, Procedure, with_overrides
from speed import Job, alone, machine, matmul_rate, measure

PROCEDURES = ("published", "paper", "fast")
COLUMNS = (
    "model", "procedure", "s/image", "against published", "of it k-means, s", "TFLOP", "share of the rate",
    "peak GiB", "kernel launches",
)  # fmt: skip


def figures_of(name: str, procedure: Procedure, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a procedure: medians over the photos, and what was counted on the first."""
    photos = list(measured["photos"].values())
    return {
        "model": name,
        "procedure": procedure,
        "seconds": median(photo["seconds"] for photo in photos),
        "clustering": median(photo["stages"]["cluster"] for photo in photos),
        **{key: measured[key] for key in ("flops", "peak_memory", "launches")},
    }


def table(figures: Sequence[Mapping[str, Any]], rate: float) -> Iterator[str]:
    """Lines of a table in Markdown.

    Args:
        figures: Those of `figures_of`.
        rate: FLOP/s of matrix products, which shares are of.
    """
    published = {each["model"]: each["seconds"] for each in figures if each["procedure"].name == "published"}
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for each in figures:
        seconds, flops, launches = each["seconds"], each["flops"], each["launches"]
        cells = [each["model"], f"`{','.join((each['procedure'].name, *each['procedure'].options))}`"]
        cells += [f"{seconds:.3g}", f"{published[each['model']] / seconds:.1f}×" if each["model"] in published else ""]
        cells += [f"{each['clustering']:.2g}", f"{flops / 1e12:.3g}" if flops else ""]
        cells += [f"{flops / seconds / rate:.0%}" if flops else "", f"{each['peak_memory'] / 2**30:.1f}"]
        yield f"| {' | '.join([*cells, f'{launches:,}' if launches else ''])} |"


def title(device: str, dtype: str, rate: float) -> str:
    """The device and software, in one line."""
    where, versions = machine(device), {name: version(name) for name in ("genseg", "diffusers")}
    if device.startswith("cuda"):
        versions = {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()} | versions
    packages = ", ".join(f"{name} {number}" for name, number in ({"torch": torch.__version__} | versions).items())
    return (
        f"{where.get('gpu') or where['cpu']}, {dtype}; {packages}; "
        f"best square matrix product: {rate / 1e12:.3g} TFLOP/s"
    )


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    photos = sorted(Path("examples/images").glob("*.jpg"))[:2]
    parser.add_argument("--models", nargs="+", default=list(RANDOM), metavar="NAME[=CHECKPOINT]")
    parser.add_argument("--procedures", nargs="+", default=PROCEDURES, metavar="NAME[,key=value]")
    parser.add_argument("--images", type=Path, nargs="+", default=photos, help="photos; the median counts")
    parser.add_argument("--clusters", type=int, default=25, help="K")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--gemm", type=int, nargs="+", default=(4096, 8192), help="sides of the matrix products")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys for every procedure")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; print the table at the end."""
    args = with_overrides(options().parse_intermixed_args(argv), "procedures")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise genseg.GensegError("there is no CUDA device here; run this where there is one")
    procedures = [dataclasses.replace(Procedure.of(text), dtype=args.dtype) for text in args.procedures]
    rate, figures, left_out = alone(matmul_rate, args.device, args.dtype, args.gemm), [], []
    shared = (f"n_clusters={args.clusters}", "resize=square", *args.overrides)
    for name, _, checkpoint in (model.partition("=") for model in args.models):
        for procedure in procedures:
            job = Job(procedure, name, checkpoint or None, args.device, tuple(args.images), shared)
            try:
                figures.append(figures_of(name, procedure, alone(measure, job)))
            except (genseg.GensegError, RuntimeError) as error:
                if not (isinstance(error, genseg.GensegError | BrokenProcessPool) or is_out_of_memory(error)):
                    raise
                left_out.append(f"- left out: {name}, `{procedure.name}`: {error}")
            else:
                print(f"{name} {procedure}: {figures[-1]['seconds']:.3g} s an image", flush=True)
    print("", title(args.device, args.dtype, rate), "", *table(figures, rate), "", *left_out, sep="\n")


if __name__ == "__main__":
    run(main)
