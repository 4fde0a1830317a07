"""A run: plan, workers, shards, report (Ray Data is the engine, on a laptop and on a cluster)."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
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
from genseg.runs.worker import Job, Worker, resolved, shards_left

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
    """Segment a data set, into shards of Parquet.

    Each shard's images are fixed beforehand by a plan, and its file is there wholly or not at all; so a run that was
    killed goes on with ``resume``, no image lost and none twice. Images that fail become rows with an error.

    Args:
        given: A folder, a pattern or a file, local or by fsspec URL: images, WebDataset tars, Parquet files with a
            column of encoded images (`genseg.runs.plan.items_of`).
        out: A folder or URL that all workers can write to.
        backend: A name from `genseg.list_backends`.
        recipe: As for `genseg.Segmenter`.
        seed: Fixes every random draw.
        model: A local checkpoint or hub id in place of the backend's own, which all workers can read.
        device: A torch device; None for one GPU a worker where the cluster has some, else the CPU.
        dtype: As for `genseg.Segmenter`.
        load: Further options of the backend.
        options: Recipe keys as ``key=value``.
        workers: How many; None for one a GPU, or as many as the CPUs allow.
        cpus_per_worker: CPUs that a worker reserves, and on the CPU its number of threads.
        shard_size: Images to a shard: what a killed worker loses at most.
        keep_images: Whether rows carry the encoded image.
        pixel_confidence: Whether rows carry the map of confidence, and not only its mean over masks.
        resume: Whether to go on with a run that ``out`` may hold.
        max_errors: Stop once more images than this have failed; None for never.
        address: Of a Ray cluster, such as ``"auto"``; None for one of its own on this machine.
        progress: True for a bar, or what is called as ``progress(stage, done, total)``.
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
    tell = Bar() if progress is True else progress or (lambda *_: None)
    asked = read_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    load_recipe(asked or "paper", calibration={"n_clusters": "auto"}, options=options, **overrides)
    load = {key: value for key, value in (load or {}).items() if value is not None}
    card, store = BACKENDS.info(backend).card, Store(str(out))
    if store.inside(str(given)):
        raise GensegError(f"{out} lies in {given}, whose files are the input; choose a folder outside of it")
    manifest = load_manifest(store, resume)
    job = Job(
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
        tell("load", 0, 1)
        found, problem = ray.get(ray.remote(**needs)(resolved).remote(job, asked, options, overrides))
        if problem:
            raise GensegError(problem)
        settings: dict[str, Any] = {
            "input": str(given),
            "backend": backend,
            "model": model,
            "dtype": dtype,
            "load": load,
            "weights": weights_of("backend", backend, card, model, load),
            "recipe": found,
            "seed": seed,
            "keep_images": keep_images,
            "pixel_confidence": pixel_confidence,
        }
        if manifest is None:
            tell("plan", 0, 1)
            images, shards = make_plan(store, str(given), shard_size)
            manifest = write_manifest(store, settings, images=images, shards=shards, shard_size=shard_size)
        check_resumable(store, manifest, settings)
        left = list(shards_left(store, manifest["shards"]))
        job = replace(job, recipe=found, recipe_hash=manifest["recipe_hash"])
        with closing(_done(ray, job, left, min(workers or most, len(left)), needs)) as told:
            follow(told, manifest, len(left), max_errors, tell)
    run = Run(str(out))
    write_report(run)
    return run


def _done(ray: Any, job: Job, left: Sequence[int], workers: int, needs: Mapping[str, int]) -> Generator[dict[str, Any]]:
    """What came of each shard, as soon as it is there. Only numbers pass through Ray and the driver."""
    if not left:
        return
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)
    shards = ray.data.from_items([{"shard": k} for k in left], override_num_blocks=min(len(left), MOST_BLOCKS))
    yield from shards.map_batches(Worker, fn_constructor_args=(job,), batch_size=1, compute=pool, **needs).iter_rows()


def follow(
    told: Iterator[Mapping[str, Any]],
    manifest: Mapping[str, Any],
    left: int,
    max_errors: int | None,
    tell: Callable[[str, int, int], None],
) -> None:
    """Count what is done, and stop the run where it makes no sense to go on."""
    failed, total = 0, manifest["images"]
    done = max(total - left * manifest["shard_size"], 0)
    tell("images", done, total)
    for shard in told:
        if shard["problem"]:
            raise GensegError(shard["problem"])
        done, failed = done + shard["images"], failed + shard["failed"]
        tell("images", min(done, total), total)
        if max_errors is not None and failed > max_errors:
            raise GensegError(
                f"{failed} images failed, more than the {max_errors} allowed; see their rows, and raise --max-errors "
                "to go on with --resume"
            )


@contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """Ray: the caller's, a cluster's, or one of our own for as long as the run takes."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with needing("ray", "runs need"):
        import ray
        import ray.data
    theirs = ray.is_initialized()
    if not theirs:
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
        if not theirs:
            ray.shutdown()


def start(**options: Any) -> None:
    """Start Ray on this machine, reachable from this machine alone.

    Args:
        **options: Of ``ray.init``.
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
    """Without what Ray's native part says of its log level, to the file descriptor itself, as it starts."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _accelerators(ray: Any, device: str | None, cpus_per_worker: int) -> tuple[bool, int]:
    """Whether workers have a GPU each, and how many there can be."""
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    if gpus and not (device or "cuda").startswith("cpu"):
        return True, gpus
    cpus = int(there.get("CPU", 0))
    if cpus < cpus_per_worker:
        raise GensegError(f"a worker wants {cpus_per_worker} CPUs of {cpus}; choose a smaller --cpus-per-worker")
    return False, cpus // cpus_per_worker
