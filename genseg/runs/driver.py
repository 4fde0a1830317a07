"""The driver of a run: plan, workers, shards, report; in one process, or with Ray Data on a laptop or a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from genseg.checks import checked_seed
from genseg.errors import GensegError
from genseg.fingerprint import weights_of
from genseg.progress import Bar, Progress
from genseg.recipe import RecipeLike, load_recipe, read_recipe
from genseg.registry import BACKENDS
from genseg.runs.manifest import check_resumable, load_manifest, write_manifest
from genseg.runs.one_process import OneProcess, one_process, useful_workers
from genseg.runs.plan import items_of, make_plan
from genseg.runs.ray_workers import RayWorkers, is_connected, ray_workers
from genseg.runs.report import write_report
from genseg.runs.run import Run
from genseg.runs.store import Store
from genseg.runs.worker import WorkerSettings, shards_left


def run_dataset(
    given: str | Path,
    out: str | Path,
    backend: str = "tiny",
    recipe: RecipeLike | None = None,
    *,
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    load: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    workers: int | None = None,
    cpus_per_worker: int = 1,
    shard_size: int = 64,
    keep_images: bool = False,
    pixel_confidence: bool = True,
    resume: bool = False,
    max_errors: int | None = None,
    address: str | None = None,
    progress: Progress | bool | None = None,
    **overrides: Any,
) -> Run:
    """Segment a dataset into shards of Parquet.

    This process does the work where one worker is enough: one shard, one GPU (or CPU) or ``workers=1``. Else Ray
    starts workers that share it.

    A plan fixes each shard's images beforehand, and a shard's file is written whole or not at all. So ``resume``
    completes a run that was killed, and each image is segmented once. Images that fail become rows with an error.

    Args:
        given: A folder, a pattern or a file, local or by fsspec URL: images, WebDataset tars, Parquet files with a
            column of encoded images (`genseg.runs.plan.items_of`).
        out: A folder or URL that all workers can write to.
        backend: A name from `genseg.list_backends`.
        recipe: As for `genseg.Segmenter`.
        seed: Fixes every random draw.
        model: A local checkpoint or hub id in place of the backend's own, which all workers can read.
        device: A torch device; None for one GPU per worker where the cluster has some, else the CPU.
        dtype: As for `genseg.Segmenter`.
        load: Further options of the backend.
        options: Recipe keys as ``key=value``.
        workers: Number of workers; None for one per GPU, or as many as the CPUs allow.
        cpus_per_worker: CPUs that a worker reserves, and on the CPU its number of threads.
        shard_size: Images per shard: the most that a killed worker loses.
        keep_images: Whether rows include the encoded image.
        pixel_confidence: Whether rows include the map of confidence, and not only its mean over masks.
        resume: Whether to resume the run in ``out``, if there is one.
        max_errors: Stop once more images than this have failed; None for never.
        address: Address of a Ray cluster, such as ``"auto"``, or ``"local"`` to start Ray on this machine even for
            one worker; None for the variable RAY_ADDRESS, if it is set.
        progress: True for a progress bar, or a progress callback ``(stage, done, total)``.
        **overrides: Recipe keys.

    Returns:
        The run, finished.

    Raises:
        GensegError: If the input, the backend or the recipe cannot be used, ``out`` holds another run, or too many
            images failed; what was finished is kept.
    """
    for name, value in {"shard_size": shard_size, "cpus_per_worker": cpus_per_worker, "workers": workers}.items():
        if value is not None and value < 1:
            raise GensegError(f"{name} must be at least 1, not {value}")
    seed = checked_seed(seed)
    on_progress = Bar() if progress is True else progress or (lambda *_: None)
    values = read_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    load_recipe(values or "paper", calibration={"n_clusters": "auto"}, options=options, **overrides)
    load = {key: value for key, value in (load or {}).items() if value is not None}
    card, store = BACKENDS.info(backend).card, Store(str(out))
    if store.inside(str(given)):
        raise GensegError(f"{out} lies in {given}, whose files are the input; choose a folder outside of it")
    manifest = load_manifest(store, resume)
    worker_settings = WorkerSettings(
        out=store.path("").rstrip("/") if store.local else str(out),
        backend=backend,
        recipe={},
        seed=seed,
        recipe_hash="",
        model=model,
        device=device,
        dtype=dtype,
        load=load,
        threads=cpus_per_worker,
        keep_images=keep_images,
        pixel_confidence=pixel_confidence,
    )
    images = items_of(str(given)) if manifest is None else iter(())
    first = list(islice(images, shard_size + 1))
    shards = (
        1 + (len(first) > shard_size) if manifest is None else len(list(shards_left(store, manifest.get("shards", 0))))
    )
    with _workers(worker_settings, workers, shards, address, on_progress) as chosen:
        on_progress("load", 0, 1)
        resolved = chosen.resolve(values, options, overrides)
        settings: dict[str, Any] = {
            "input": str(given),
            "backend": backend,
            "model": model,
            "dtype": dtype,
            "load": load,
            "weights": weights_of("backend", backend, card, model, load),
            "recipe": resolved,
            "seed": seed,
            "keep_images": keep_images,
            "pixel_confidence": pixel_confidence,
        }
        if manifest is None:
            on_progress("plan", 0, 1)
            n_images, n_shards = make_plan(store, chain(first, images), shard_size)
            manifest = write_manifest(store, settings, images=n_images, shards=n_shards, shard_size=shard_size)
        check_resumable(store, manifest, settings)
        left = list(shards_left(store, manifest["shards"]))
        with closing(chosen.segment(manifest["recipe_hash"], resolved, left)) as results:
            follow(results, manifest, len(left), max_errors, on_progress)
    run = Run(str(out))
    write_report(run)
    return run


def _workers(
    settings: WorkerSettings, workers: int | None, shards: int, address: str | None, on_progress: Progress
) -> AbstractContextManager[OneProcess | RayWorkers]:
    """Work in this process if one worker is enough for the shards (two stand for any number), else with Ray."""
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and not is_connected() and useful_workers(workers, shards, settings.device, settings.threads) == 1:
        on_progress("one process", 0, 1)
        return one_process(settings)
    on_progress("ray", 0, 1)
    return ray_workers(settings, workers, address)


def follow(
    results: Iterator[Mapping[str, Any]],
    manifest: Mapping[str, Any],
    left: int,
    max_errors: int | None,
    on_progress: Progress,
) -> None:
    """Report progress of a run, and stop it if no further shard can succeed or too many images have failed."""
    failed, total = 0, manifest["images"]
    done = max(total - left * manifest["shard_size"], 0)
    on_progress("images", done, total)
    for shard in results:
        if shard["problem"]:
            raise GensegError(shard["problem"])
        done, failed = done + shard["images"], failed + shard["failed"]
        on_progress("images", min(done, total), total)
        if max_errors is not None and failed > max_errors:
            raise GensegError(
                f"{failed} images failed, more than the {max_errors} allowed; see their rows, and raise --max-errors "
                "to continue with --resume"
            )
