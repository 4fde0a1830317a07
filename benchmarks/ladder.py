"""What does each approximation gain in time, and cost in labels? A ladder of recipes, each beside `paper`.

    python benchmarks/ladder.py --data FOLDER [--images N] [--rungs RUNG ...] [key=value ...]

Data, protocol and figures are those of quality.py. A rung is PRESET[:DTYPE][,key=value]..., laid over the backend's
calibration. Features and clusters are computed once for all rungs that have the same ones, and every finished photo is
kept, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

import genseg
from command import run
from genseg.cluster import cluster, masks_of
from genseg.evaluation.metrics import Labels
from genseg.files import write_whole
from genseg.images import inner, mirrored, model_size, to_tensor
from genseg.interface import Backend
from genseg.modulate import labels_at, masks_for, normalized
from ladder_report import Measured, figures, markdown, table_of
from procedures import Procedure, with_overrides
from quality import (
    SIDE,
    Sample,
    common_options,
    digest,
    identity,
    load_set,
    parsed,
    provenance,
    record_of,
    wide_console,
)

PAPER = "paper"
NAIVE = "naive"  # the clusters scaled bilinearly, without any modulation
HALF = "paper:bfloat16"
RUNGS = (
    *(PAPER, HALF, f"{HALF},seed=1"),  # the last: what other noise alone does to the labels
    *(f"{HALF},draws=16", f"{HALF},draws=4"),
    *(f"{HALF},replay_steps={steps}" for steps in (5, 3, 2, 1)),
    *(f"{HALF},{key}" for key in ("difference=one-sided", "decoder=latent", "reach=1", "reach=2", "injection=false")),
    *(f"{HALF},replay_steps=1,{more}" for more in ("difference=one-sided", "decoder=latent", "reach=1")),
    *("fast", "fast:bfloat16", NAIVE),
)
FEATURES = ("tap", "t_f", "draws", "n_init", "kmeans_seed")  # recipe keys that move clusters and nothing else
SHAPE = ("size", "resize", "margin", "n_clusters")  # recipe keys that move both clusters and what follows


@dataclasses.dataclass(frozen=True)
class Rung:
    """A recipe, a dtype and the noise's seed under a name; ``modulates`` is false for `NAIVE`."""

    name: str
    recipe: genseg.Recipe
    dtype: str
    seed: int
    modulates: bool = True


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Low-resolution clusters of one photo, what determines them, and the seconds of each stage."""

    key: str
    grid_labels: npt.NDArray[np.int32]
    seconds: dict[str, float]


class Ladder:
    """Segments photos by rungs, keeping what is computed.

    Args:
        args: The command line: backend, model, seed and clusters.
        cache: Folder of what is kept.
    """

    def __init__(self, args: argparse.Namespace, cache: Path) -> None:
        self.args, self.cache = args, cache
        self.model = functools.cache(self._model)
        self.backend = functools.cache(self._warmed)
        self.identity = functools.cache(self._identity)

    def rung(self, text: str) -> Rung:
        """The rung that a line of `RUNGS` or of the command line describes."""
        procedure = Procedure.of(PAPER if text == NAIVE else text)
        shared = [f"n_clusters={self.args.clusters}", *self.args.overrides]
        seeds = [option for option in procedure.options if option.startswith("seed=")]
        kept = tuple(option for option in procedure.options if option not in seeds)
        recipe = dataclasses.replace(procedure, options=kept).recipe(self.model("float32").recipe, shared)
        name = str(procedure).removeprefix(f"{PAPER}:float32,").replace(":float32", "")
        seed = int(seeds[0].removeprefix("seed=")) if seeds else self.args.seed
        return Rung(NAIVE if text == NAIVE else name, recipe, procedure.dtype, seed, text != NAIVE)

    def clusters(self, sample: Sample, rung: Rung) -> Clusters:
        """The clusters of a photo, at the rung's features."""
        key = self._key(rung, (*FEATURES, *SHAPE))
        kept = self._kept(f"clusters-{key}", sample, lambda: self._cluster(sample, rung))
        labels = kept.pop("labels").astype(np.int32)
        same = digest(labels.tolist())  # whatever led to them
        return Clusters(same, labels, {name: float(value) for name, value in kept.items()})

    def segments(self, sample: Sample, rung: Rung, clusters: Clusters) -> tuple[Labels, dict[str, float]]:
        """Segments [SIDE, SIDE] by the rung's modulation of given clusters, and seconds of each stage."""
        keys = [f.name for f in dataclasses.fields(rung.recipe) if f.name not in FEATURES] if rung.modulates else SHAPE
        key = digest([self._key(rung, keys), clusters.key, rung.modulates])
        kept = self._kept(f"segments-{key}", sample, lambda: self._modulate(sample, rung, clusters))
        return kept.pop("labels").astype(np.int64), {name: float(value) for name, value in kept.items()}

    def _cluster(self, sample: Sample, rung: Rung) -> dict[str, Any]:
        backend, recipe = self.backend(rung.dtype), rung.recipe
        tap = backend.find_tap(recipe.tap)
        pixels = pixels_of(sample, backend, recipe)
        state = backend.encode(mirrored(pixels, recipe.margin), recipe, rung.seed)
        features, features_s = timed(backend, lambda: backend.features(state, tap, recipe))
        (labels, _), cluster_s = timed(backend, lambda: cluster(inner(features, recipe.margin // tap.stride), recipe))
        return {"labels": labels, "features": features_s, "cluster": cluster_s}

    def _modulate(self, sample: Sample, rung: Rung, clusters: Clusters) -> dict[str, Any]:
        backend, recipe, n_clusters = self.backend(rung.dtype), rung.recipe, int(clusters.grid_labels.max()) + 1
        if not rung.modulates:
            return {"labels": labels_at(masks_of(clusters.grid_labels, n_clusters), SIDE, SIDE).numpy()}
        pixels = pixels_of(sample, backend, recipe)
        state, encode_s = timed(backend, lambda: backend.encode(mirrored(pixels, recipe.margin), recipe, rung.seed))
        point = backend.find_point(recipe.point)
        masks = masks_for(point, clusters.grid_labels, n_clusters, (pixels.shape[2], pixels.shape[3]), recipe.margin)
        maps, modulate_s = timed(backend, lambda: genseg.difference_maps(backend, state, masks, recipe))
        labels = labels_at(normalized(inner(maps, recipe.margin), recipe.normalise), SIDE, SIDE).numpy()
        return {"labels": labels, "encode": encode_s, "modulate": modulate_s}

    def _kept(self, name: str, sample: Sample, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Read the arrays that an earlier run saved of this photo under this name; else compute and save them."""
        picture = hashlib.sha256(np.asarray(sample.square).tobytes()).hexdigest()[:12]
        file = self.cache / f"{name}-{picture}.npz"
        if not file.exists():
            result = compute()
            result["labels"] = result["labels"].astype(np.uint8)
            write_whole(file, lambda stream: np.savez_compressed(stream, allow_pickle=False, **result))
        with np.load(file, allow_pickle=False) as kept:
            return {entry: kept[entry] for entry in kept.files}

    def _key(self, rung: Rung, keys: Sequence[str]) -> str:
        """A short name of all that determines a result that depends on these keys of the recipe."""
        recipe = {key: getattr(rung.recipe, key) for key in keys if key not in ("keep_scores", "max_pixels")}
        return digest(self.identity() | {"recipe": recipe, "dtype": rung.dtype, "seed": rung.seed})

    def _identity(self) -> dict[str, Any]:
        """Facts beside recipe and dtype that results depend on: weights, seed, code of genseg and of the backend."""
        core = b"".join(f.read_bytes() for f in sorted(Path(genseg.__file__).parent.rglob("*.py")))
        return {
            **identity(self.args, self.model("float32"), genseg.Recipe()),
            "core": hashlib.sha256(core).hexdigest(),
        }

    def _model(self, dtype: str) -> Backend:
        return genseg.load_backend(self.args.backend, model=self.args.model, dtype=dtype)

    def _warmed(self, dtype: str) -> Backend:
        """The model after a small run: the first passes of a process are slower than the rest."""
        backend = self.model(dtype)
        shared = [*self.args.overrides, "n_clusters=2", "draws=1", "n_init=1"]
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        genseg.segment(noise, backend, Procedure("fast").recipe(backend.recipe, shared))
        return backend


def pixels_of(sample: Sample, backend: Backend, recipe: genseg.Recipe) -> torch.Tensor:
    """A photo's square as the model takes it, without margin."""
    side = recipe.size or backend.image_size
    return to_tensor(sample.square, model_size(*sample.square.size, side, backend.size_multiple, recipe.resize))


def timed(backend: Backend, run: Callable[[], Any]) -> tuple[Any, float]:
    """The result of ``run``, and its wall time in seconds."""
    start = time.perf_counter()
    result = run()
    if backend.device.type == "cuda":
        torch.cuda.synchronize(backend.device)
    return result, time.perf_counter() - start


def measured(ladder: Ladder, sample: Sample, rung: Rung, paper: Rung, n_classes: int | None) -> Measured:
    """One photo by one rung: its segments, those that `paper`'s clusters would have given, and the time."""
    clusters, papers = ladder.clusters(sample, rung), ladder.clusters(sample, paper)
    labels, seconds = ladder.segments(sample, rung, clusters)
    same, _ = (labels, None) if clusters.key == papers.key else ladder.segments(sample, rung, papers)
    spent = clusters.seconds | seconds
    return Measured(sample.name, labels, same, spent, record_of(labels, sample.truths, n_classes), n_classes)


def climbed(
    ladder: Ladder, texts: Sequence[str], sets: dict[str, tuple[list[Sample], int | None]], console: Any
) -> tuple[dict[str, Rung], dict[str, dict[str, list[Measured]]], dict[str, str]]:
    """Every rung on every photo, photo by photo, so that the rungs of one photo share the machine's mood.

    Returns:
        The rungs that worked, by name; what they measured, by rung and set; and why others did not work.
    """
    rungs, failed = {}, {}
    for text in dict.fromkeys((PAPER, *texts)):
        try:
            rung = ladder.rung(text)
            rungs[rung.name] = rung
        except genseg.GensegError as error:
            failed[text] = str(error)
    paper = next(iter(rungs.values()))
    found: dict[str, dict[str, list[Measured]]] = {name: {s: [] for s in sets} for name in rungs}
    for set_name, (samples, n_classes) in sets.items():
        for sample in track(samples, set_name, console=console):
            for name, rung in list(rungs.items()):
                try:
                    found[name][set_name].append(measured(ladder, sample, rung, paper, n_classes))
                except (genseg.GensegError, RuntimeError) as error:  # this rung does not work; the others may
                    if rung is paper:
                        raise
                    failed[name] = str(error).splitlines()[0]
                    del rungs[name], found[name]
    return rungs, found, failed


def main(argv: Sequence[str] | None = None) -> None:
    """Climb; print a table, and write the JSON and rows of markdown."""
    parser = common_options(__doc__, "benchmarks/results/ladder.json", 10)
    parser.add_argument("--rungs", nargs="+", default=RUNGS, metavar="PRESET[:DTYPE][,key=value]")
    args = with_overrides(parsed(parser, argv), "rungs")
    console = wide_console()
    ladder = Ladder(args, args.out.parent / f".{args.out.stem}_cache")
    sets = {name: load_set(args.data / name, args.images) for name in args.sets}
    rungs, found, failed = climbed(ladder, args.rungs, sets, console)
    for name, why in failed.items():
        console.print(f"left out: {name}: {why}", markup=False)
    report: dict[str, Any] = {"protocol": f"centre square at {SIDE}, oracle labels", "clusters": args.clusters}
    report |= provenance(args) | {"threads": torch.get_num_threads(), "failed": failed, "rungs": {}}
    paper = next(iter(rungs))
    for name, rung in rungs.items():
        same_dtype = [n for n, r in rungs.items() if r.recipe == rungs[paper].recipe and r.dtype == rung.dtype]
        entry = figures(found[name], found[paper], found[same_dtype[0]] if same_dtype else None)
        report["rungs"][name] = {"recipe": dataclasses.asdict(rung.recipe), "dtype": rung.dtype, **entry}
    write_whole(args.out, lambda stream: stream.write(json.dumps(report, indent=1, allow_nan=False).encode()))
    rows = args.out.with_suffix(".md")
    write_whole(rows, lambda stream: stream.write(markdown(report["rungs"]).encode()))
    console.print(table_of(report["rungs"]))
    console.print(f"written: {args.out}, {rows}")


if __name__ == "__main__":
    run(main)
