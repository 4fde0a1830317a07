"""How fast is the engine? Beside the procedure as published, on the same photos, weights and machine, in one run.

    python benchmarks/speed.py [--images PHOTO ...] [--procedures NAME[:DTYPE][,key=value] ...] [key=value ...]

Every procedure runs in a process of its own, so that its peak memory is its own. Model loading and a first, small run
are not timed. What is finished is written at once.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import genseg
from command import run
from genseg.files import write_whole
from genseg.images import inner, load_image, mirrored, model_size, to_tensor
from genseg.modulate import labels_at, masks_for, normalized
from genseg_backends.families.stable_diffusion import StableDiffusion
from procedures import DTYPES, RANDOM, Procedure, flop_counter, launches_of, with_overrides
from published import Published
from quality import provenance, wide_console
from speed_report import completed, plot, tables

PROCEDURES = (
    *("published:float32", "published:bfloat16", "paper:float32", "paper:bfloat16"),
    *("fast:float32", "fast:bfloat16"),
)
SWEEP = (10, 20, 40)  # numbers of masks


@dataclasses.dataclass(frozen=True)
class Job:
    """One procedure on one model.

    Attributes:
        procedure: What runs.
        backend: A backend's name, or one of `procedures.RANDOM`.
        model: A checkpoint in place of the backend's own.
        device: A torch device.
        photos: Files.
        shared: Recipe keys as ``key=value`` for every procedure.
        seed: Of all noise.
        flops: Whether FLOPs are counted, in a run of the first photo that is not timed.
        clusters: The reference's low-resolution clusters of every photo; empty for none.
    """

    procedure: Procedure
    backend: str
    model: str | None
    device: str
    photos: tuple[Path, ...]
    shared: tuple[str, ...]
    seed: int = 0
    flops: bool = True
    clusters: tuple[Any, ...] = ()

    def load(self) -> Any:
        """The model."""
        if self.backend in RANDOM:
            return RANDOM[self.backend](self.device, self.procedure.dtype, self.seed)
        return genseg.load_backend(self.backend, model=self.model, device=self.device, dtype=self.procedure.dtype)

    def method(self, backend: Any, *options: str) -> Callable[[Any], Any]:
        """The function that segments a photo, with recipe keys laid over the procedure's own."""
        recipe = genseg.load_recipe(self.procedure.recipe(backend.recipe, list(self.shared)), options=options)
        if self.procedure.name != "published":
            return genseg.Segmenter(backend, recipe, seed=self.seed)
        if not isinstance(backend, StableDiffusion):
            raise genseg.GensegError(f"the published procedure runs on Stable Diffusion's shape, not {backend.name!r}")
        backend.network.to(memory_format=torch.contiguous_format)  # as weights come
        return Published(backend, recipe, self.seed)


def measure(job: Job) -> dict[str, Any]:
    """Run a procedure on every photo; what it took, and its labels."""
    backend, device = job.load(), torch.device(job.device)
    forget_peak(device)  # loading may take more than running
    loaded, rows = peak_memory(device), [0]

    def count(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        rows[0] += len(output)

    job.method(backend, "n_clusters=2", "draws=1", "n_init=1")(job.photos[0])
    run, taken = job.method(backend), []
    handle = backend.network.conv_out.register_forward_hook(count)
    forget_peak(device)
    for file in job.photos:
        photo, rows[0] = load_image(file, max_pixels=100_000_000), 0
        start = time.perf_counter()
        done = run(photo)
        seconds = time.perf_counter() - start
        spent = done if isinstance(run, Published) else done.cost
        entry = {"seconds": seconds, "stages": dict(spent.seconds), "passes": rows[0]}
        entry |= {"evaluations": spent.evaluations, "decodes": spent.decodes}
        taken.append((entry, done.labels.astype(np.uint8), done.grid_labels))
    handle.remove()
    peak = peak_memory(device)  # before FLOPs are counted, which keeps tensors of its own
    return {
        "recipe": dataclasses.asdict(run.recipe),
        "photos": {file.stem: entry for file, (entry, *_) in zip(job.photos, taken, strict=True)},
        "labels": [labels for _, labels, _ in taken],
        "clusters": [grid_labels for *_, grid_labels in taken],
        "labels_given": [
            labels if np.array_equal(own, given) else labels_given(run, photo, given)
            for photo, (_, labels, own), given in zip(job.photos, taken, job.clusters, strict=False)
        ],
        "peak_memory": peak,
        "loaded_memory": loaded,
        "flops": flops_of(run, job.photos[0]) if job.flops else None,
        "launches": launches_of(run, job.photos[0]) if isinstance(run, genseg.Segmenter) else None,  # not of a million
        "threads": torch.get_num_threads(),
    }


def labels_given(run: genseg.Segmenter, photo: Path, grid_labels: Any) -> Any:
    """The labels that a segmenter makes of given low-resolution clusters."""
    recipe, backend = run.recipe, run.backend
    picture = load_image(photo, recipe.max_pixels)
    side = recipe.size or backend.image_size
    pixels = to_tensor(picture, model_size(*picture.size, side, backend.size_multiple, recipe.resize))
    shape = (pixels.shape[2], pixels.shape[3])
    masks = masks_for(run.point, grid_labels, int(grid_labels.max()) + 1, shape, recipe.margin)
    state = backend.encode(mirrored(pixels, recipe.margin), recipe, run.seed)
    maps = inner(genseg.difference_maps(backend, state, masks, recipe), recipe.margin)
    return labels_at(normalized(maps, recipe.normalise), picture.height, picture.width).numpy().astype(np.uint8)


def flops_of(run: Callable[[Any], Any], photo: Path) -> int | None:
    """FLOPs of one photo; None where the counter does not get through."""
    try:
        with flop_counter() as counted:
            run(photo)
    except Exception as error:  # a counter that fails must not cost the measurement
        print(f"FLOPs not counted: {error}", file=sys.stderr)
        return None
    return counted.get_total_flops()


def peak_memory(device: torch.device) -> int:
    """Bytes: the most allocated on a GPU, or this process's largest resident size; 0 where no system call tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak(device: torch.device) -> None:
    """Let `peak_memory` begin anew, where the system can: CUDA and Linux."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def matmul_rate(device: str, dtype: str, sides: Sequence[int], repeats: int = 5) -> float:
    """FLOP/s of the best of square matrix products of these sides: what the device can reach."""
    best = 0.0
    for side in sides:
        a, b = (torch.randn(side, side, device=device, dtype=DTYPES[dtype]) for _ in range(2))
        for _ in range(repeats):
            start = time.perf_counter()
            torch.mm(a, b).sum().item()  # reading the sum waits for a GPU
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a fresh process that has imported torch and computed nothing yet."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(["genseg.segmenter", "genseg_backends.families.stable_diffusion", "quality"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def machine(device: str) -> dict[str, Any]:
    """The machine and software that the figures were measured on."""
    name = platform.processor() or platform.machine()
    file = Path("/proc/cpuinfo")
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {"cpu": name, "cores": usable, **gpu}


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    photos = sorted(Path("examples/images").glob("*.jpg"))
    parser.add_argument("--images", type=Path, nargs="+", default=photos, help="photos; the median counts")
    parser.add_argument("--procedures", nargs="+", default=PROCEDURES, metavar="NAME[:DTYPE][,key=value]")
    parser.add_argument("--clusters", type=int, default=25, help="K")
    parser.add_argument("--sweep", type=int, nargs="*", default=SWEEP, metavar="K", help="`paper` over K, one photo")
    parser.add_argument("--backend", default="tiny")
    parser.add_argument("--model", help="a checkpoint in place of the backend's own")
    parser.add_argument(
        "--random", choices=["sd15", "sdxl"], help="a model of this shape with random weights as backend"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="in place of every procedure's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gemm", type=int, nargs="+", default=(1024, 2048, 4096), help="sides of the matrix products")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="recipe keys for every procedure")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; print tables, and write the JSON after every procedure and a plot at the end."""
    args = with_overrides(options().parse_intermixed_args(argv), "procedures")
    args.backend = f"random-{args.random}" if args.random else args.backend
    if not args.images:
        raise genseg.GensegError("no photos: give some with --images")
    for photo in args.images:
        load_image(photo, max_pixels=100_000_000)  # what cannot be read is refused before anything is measured
    console = wide_console()
    wanted = [Procedure.of(text) for text in args.procedures]
    wanted = list(dict.fromkeys(dataclasses.replace(p, dtype=args.dtype) if args.dtype else p for p in wanted))
    swept = [Procedure("paper", wanted[0].dtype, ("draws=1", f"n_clusters={k}")) for k in args.sweep]
    report: dict[str, Any] = {"machine": machine(args.device), "clusters": args.clusters, **provenance(args)}
    report |= {"matmul": {}, "procedures": {}, "sweep": {}, "failed": {}}
    labels: dict[str, list[Any]] = {}
    given: dict[str, list[Any]] = {}
    clusters: tuple[Any, ...] = ()
    for dtype in dict.fromkeys(procedure.dtype for procedure in wanted):
        report["matmul"][dtype] = alone(matmul_rate, args.device, dtype, args.gemm)
    for place, procedure in [*(("procedures", p) for p in wanted), *(("sweep", p) for p in swept)]:
        shared = (f"n_clusters={args.clusters}", *args.overrides)
        photos = tuple(args.images if place == "procedures" else args.images[:1])
        job = Job(procedure, args.backend, args.model, args.device, photos, shared, args.seed, place == "procedures")
        job = dataclasses.replace(job, clusters=clusters)
        try:
            with console.status(f"{procedure}"):
                measured = alone(measure, job)
        except (genseg.GensegError, BrokenProcessPool) as error:  # this one does not work; the others may
            report["failed"][str(procedure)] = str(error)
            console.print(f"{procedure}: {error}")
            continue
        labels[str(procedure)], found = measured.pop("labels"), measured.pop("clusters")
        given[str(procedure)] = measured.pop("labels_given")
        clusters = clusters or (tuple(found) if procedure.name == "published" else ())
        report[place][str(procedure)] = measured
        report = completed(report, labels, given)
        written = json.dumps(report, indent=1, allow_nan=False).encode()
        write_whole(args.out, lambda stream, text=written: stream.write(text))
        console.print(f"{procedure}: {report[place][str(procedure)]['seconds']:.2f} s an image")
    show(report, args.out, console)


def show(report: dict[str, Any], out: Path, console: Console) -> None:
    """Print the tables and write the plot beside the JSON."""
    if not report["procedures"]:
        raise genseg.GensegError("no procedure could be measured")
    for table in tables(report):
        console.print(table)
    plot(report, out.with_suffix(".png"))
    console.print(f"written: {out}, {out.with_suffix('.png')}")


if __name__ == "__main__":
    run(main)
