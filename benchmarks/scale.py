"""How a run would go on more workers than there are here: a simulation with the times that a real run measured.

    python benchmarks/scale.py RUN --images 1000000 --shard-size 64 --start 30 --loss 0.01

Images take the seconds that RUN's rows say, drawn anew; they are put into shards, and each shard goes to the worker
that is free first. START is the seconds that a worker takes to load, and LOSS the probability that a worker dies within
an hour: its shard is done again, once, after another start. What is simulated is the schedule alone: storage and
network count as unbounded.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import genseg
from command import run

WORKERS = (1, 2, 8, 64, 512, 4096)


def makespan(shards: npt.NDArray[np.float64], workers: int, start: float, loss: float, seed: int) -> float:
    """Seconds until the last shard is written.

    Args:
        shards: Seconds of each.
        workers: How many.
        start: Seconds that a worker takes to load.
        loss: Probability that a worker dies within an hour.
        seed: Fixes who dies.
    """
    lives = np.random.default_rng(seed).exponential(3600 / -np.log1p(-loss), len(shards)) if loss else None
    free = [start] * min(workers, len(shards))
    for index, seconds in enumerate(shards):
        begun = heapq.heappop(free)
        if lives is not None and lives[index] < seconds:  # a life begins anew with each shard: deaths have no memory
            begun += lives[index] + start
        heapq.heappush(free, begun + seconds)
    return max(free)


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--shard-size", type=int, nargs="+", default=[64, 1000])
    parser.add_argument("--start", type=float, default=30)
    parser.add_argument("--loss", type=float, default=0.01)
    args = parser.parse_args(argv)
    measured = np.array([row.cost.seconds["image"] for row in genseg.Run(args.run).rows(["seconds"])])
    draws = np.random.default_rng(0)
    print(f"{len(measured)} images measured: {measured.mean():.3f} s, standard deviation {measured.std():.3f}")
    for size in args.shard_size:
        counts = np.full(-(-args.images // size), size)
        counts[-1] = args.images - size * (len(counts) - 1)
        # The sum of many draws: its own mean and variance suffice.
        shards = draws.normal(counts * measured.mean(), np.sqrt(counts) * measured.std()).clip(0)
        for workers in WORKERS:
            seconds = makespan(shards, workers, args.start, args.loss, 1)
            speedup = shards.sum() / seconds
            print(
                f"shards of {size}, {workers} workers: {seconds / 3600:.2f} h, {speedup:.1f} times one worker, "
                f"{speedup / workers:.1%} of linear"
            )


if __name__ == "__main__":
    run(main)
