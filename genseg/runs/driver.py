"""The driver of a run: plan, workers, shards, report, with Ray Data on a laptop or a cluster."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from genseg.errors import GensegError, needing
from genseg.fingerprint import weights_of
from genseg.progress import Bar, Progress
from genseg.recipe import RecipeLike, load_recipe, read_recipe
from genseg.registry import BACKENDS
from genseg.runs.manifest import check_resumable, load_manifest, write_manifest
from genseg.runs.plan import make_plan
from genseg.runs.report import write_report
from genseg.runs.run import Run
from genseg.runs.store import Store
from genseg.runs.worker import Worker, WorkerSettings, resolve_recipe, shards_left

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
MOST_BLOCKS = 10_000  # of Ray Data; a block has one shard, or several of a very large run


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
        address: Address of a Ray cluster, such as ``"auto"``; None to start one on this machine.
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
    with _ray(address) as ray:
        on_gpu, most = _accelerators(ray, device, cpus_per_worker)
        needs = {"num_cpus": cpus_per_worker, "num_gpus": int(on_gpu)}
        on_progress("load", 0, 1)
        task = ray.remote(**needs)(resolve_recipe)
        resolved, problem = ray.get(task.remote(worker_settings, values, options, overrides))
        if problem:
            raise GensegError(problem)
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
            images, shards = make_plan(store, str(given), shard_size)
            manifest = write_manifest(store, settings, images=images, shards=shards, shard_size=shard_size)
        check_resumable(store, manifest, settings)
        left = list(shards_left(store, manifest["shards"]))
        worker_settings = replace(worker_settings, recipe=resolved, recipe_hash=manifest["recipe_hash"])
        with closing(_segment(ray, worker_settings, left, min(workers or most, len(left)), needs)) as results:
            follow(results, manifest, len(left), max_errors, on_progress)
    run = Run(str(out))
    write_report(run)
    return run


def _segment(
    ray: Any, settings: WorkerSettings, left: Sequence[int], workers: int, needs: Mapping[str, int]
) -> Generator[dict[str, Any]]:
    """Segment shards; yield the result of each as it is finished. Only numbers pass through Ray and the driver."""
    if not left:
        return
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)
    shards = ray.data.from_items([{"shard": k} for k in left], override_num_blocks=min(len(left), MOST_BLOCKS))
    yield from shards.map_batches(
        Worker, fn_constructor_args=(settings,), batch_size=1, compute=pool, **needs
    ).iter_rows()


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


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Connect to the caller's Ray or to a cluster, or start Ray for as long as the run takes."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with needing("ray", "runs need"):
        import ray
        import ray.data
    is_running = ray.is_initialized()
    if not is_running:
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        on_termination = signal.getsignal(signal.SIGTERM)
        try:
            if where == "local":
                start(object_store_memory=128 * 2**20)
            else:
                with _no_stderr():
                    ray.init(where, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # a node that times out raises nothing more special
            if where != "local":
                raise GensegError(f"no Ray cluster answers at {where}; check --address") from error
            cause = next(iter(str(error).splitlines()), type(error).__name__)
            raise GensegError(f"Ray does not start on this machine: {cause}") from error
        if on_termination is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_termination)  # Ray's own handler prints stacks and aborts
    try:
        yield ray
    finally:
        if not is_running:
            ray.shutdown()


def start(**options: Any) -> None:
    """Start Ray on this machine, reachable from this machine alone.

    Args:
        **options: Further arguments of ``ray.init``.
    """
    import ray
    from ray._private import ray_constants

    # With this constant, Ray takes 127.0.0.1 for its node, as it does by default on macOS and Windows.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        with _no_stderr():
            ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", **options)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Silence file descriptor 2, to which Ray's native part writes its log level as it starts."""
    duplicate = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(duplicate, 2)
        os.close(duplicate)


def _accelerators(ray: Any, device: str | None, cpus_per_worker: int) -> tuple[bool, int]:
    """Whether each worker has a GPU, and the largest number of workers."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    if gpus and not (device or "cuda").startswith("cpu"):
        return True, gpus
    cpus = int(resources.get("CPU", 0))
    if cpus < cpus_per_worker:
        raise GensegError(f"a worker needs {cpus_per_worker} of {cpus} CPUs; choose a smaller --cpus-per-worker")
    return False, cpus // cpus_per_worker
