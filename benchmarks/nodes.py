"""A run on a Ray cluster that loses a node: its rows beside those of a run on one machine.

    python benchmarks/nodes.py --images FOLDER --limit 64

The nodes are processes of this machine with a CPU each, and a head without any, as `ray.cluster_utils` makes them; the
run is `genseg run --address`. Once a quarter of the images is done a node is killed, and another one joins.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ray.cluster_utils import Cluster

import genseg
from command import run
from runs import command, contents, images_done, linked

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}


def main(argv: Sequence[str] | None = None) -> None:
    """Run on a cluster, kill a node, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", required=True)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--shard-size", type=int, default=4)
    parser.add_argument("--options", nargs="*", default=["size=64", "draws=2", "n_clusters=8", "n_init=5"])
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        photos = linked(args, Path(scratch))
        subprocess.run(command(photos, Path(scratch, "whole"), args), check=True, stdout=subprocess.DEVNULL)
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        try:
            lose_a_node(cluster, command(photos, Path(scratch, "nodes"), args), args.limit)
        finally:
            cluster.shutdown()
        found = genseg.Run(str(Path(scratch, "nodes")))
        same = contents(Path(scratch, "nodes")) == contents(Path(scratch, "whole"))
        print(f"{found.counts()}: {'the same as on one machine' if same else 'DIFFERENT'}")
        if not same:
            raise SystemExit(1)


def lose_a_node(cluster: Cluster, line: list[str], images: int) -> None:
    """Run to the end, with a node killed on the way."""
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    start, lost = time.perf_counter(), False
    process = subprocess.Popen([*line, "--address", cluster.address], stdout=subprocess.PIPE, text=True)
    for told in process.stdout or ():
        done = images_done(told) or 0
        if done >= images / 4 and not lost:
            lost = True
            cluster.remove_node(nodes[0], allow_graceful=False)
            print(f"a node killed after {done} of {images} images, {time.perf_counter() - start:.0f} s")
            cluster.add_node(**NODE)
    code = process.wait()
    print(f"exit code {code} after {time.perf_counter() - start:.0f} s")
    if not lost:
        print("no node was killed: the run was over too soon; raise --limit")
    if code or not lost:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
