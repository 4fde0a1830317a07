"""The workers of a run as actors of Ray Data, on this machine or a cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from genseg.errors import GensegError, needing
from genseg.recipe import RecipeLike
from genseg.runs.worker import Worker, WorkerSettings, resolve_recipe

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
MOST_BLOCKS = 10_000  # of Ray Data; a block has one shard, or several of a very large run


def is_connected() -> bool:
    """Whether the caller has connected this process to a Ray cluster; imports nothing."""
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


class RayWorkers:
    """Segments shards in actors of Ray Data. Only numbers pass through Ray and the driver.

    Args:
        ray: The module, connected to a cluster.
        settings: The settings of the run, its recipe not resolved yet.
        workers: Number of workers; None for as many as the cluster has room for.
    """

    def __init__(self, ray: Any, settings: WorkerSettings, workers: int | None) -> None:
        on_gpu, most = _accelerators(ray, settings.device, settings.threads)
        self._ray, self._settings, self._workers = ray, settings, workers or most
        self._needs = {"num_cpus": settings.threads, "num_gpus": int(on_gpu)}

    def resolve(
        self, recipe: RecipeLike | None, options: Sequence[str], overrides: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Resolve the recipe where the workers run; return all its keys.

        Raises:
            GensegError: If the backend or the recipe cannot be used.
        """
        task = self._ray.remote(**self._needs)(resolve_recipe)
        resolved, problem = self._ray.get(task.remote(self._settings, recipe, options, overrides))
        if problem:
            raise GensegError(problem)
        return dict(resolved)

    def segment(self, recipe_hash: str, resolved: Mapping[str, Any], left: Sequence[int]) -> Generator[dict[str, Any]]:
        """Segment shards; yield the result of each as it is finished."""
        if not left:
            return
        ray, settings = self._ray, replace(self._settings, recipe=resolved, recipe_hash=recipe_hash)
        context = ray.data.DataContext.get_current()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context.enable_progress_bars = False
        context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes
        pool = ray.data.ActorPoolStrategy(size=min(self._workers, len(left)), max_tasks_in_flight_per_actor=1)
        shards = ray.data.from_items([{"shard": k} for k in left], override_num_blocks=min(len(left), MOST_BLOCKS))
        yield from shards.map_batches(
            Worker, fn_constructor_args=(settings,), batch_size=1, compute=pool, **self._needs
        ).iter_rows()


@contextmanager
def ray_workers(settings: WorkerSettings, workers: int | None, address: str | None) -> Iterator[RayWorkers]:
    """Workers of the caller's Ray or of a cluster, or of a Ray that is started for as long as the run takes.

    Args:
        settings: The settings of the run, its recipe not resolved yet.
        workers: Number of workers; None for as many as there is room for.
        address: Address of a cluster; ``"local"`` or None for one on this machine.

    Raises:
        GensegError: If Ray is missing, or cannot be started or reached.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with needing("ray", "runs need"):
        import ray
        import ray.data
    is_running = ray.is_initialized()
    if not is_running:
        where = address or "local"
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
        yield RayWorkers(ray, settings, workers)
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
