"""Which way to attend with shared queries and keys is fastest? Every way at the shapes of `tiny` and of SD 1.5.

python benchmarks/attention.py [--device cpu] [--rows 10]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from genseg_backends.engine.attention import attend

SHAPES = {  # heads, tokens, channels a head
    "tiny, 24×24": (4, 576, 32),
    "tiny, 12×12": (4, 144, 48),
    "SD 1.5, 64×64": (8, 4096, 40),
    "SD 1.5, 32×32": (8, 1024, 80),
    "SD 1.5, 16×16": (8, 256, 160),
    "SD 1.5, 8×8": (8, 64, 160),
}


def side_by_side(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """softmax(QKᵀ) once, as two products; what the engine does."""
    return attend(query, key, values)


def wide_sdpa(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """Torch's attention with all rows' values as one wide value."""
    rows, heads = len(values), len(query)
    wide = values.unflatten(2, (heads, -1)).permute(2, 1, 0, 3).flatten(2)
    mixed = F.scaled_dot_product_attention(query[None], key[None], wide[None])[0]
    return mixed.unflatten(2, (rows, -1)).permute(2, 1, 0, 3).flatten(2)


def repeated_sdpa(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """Torch's attention for every row, queries and keys repeated."""
    rows, heads = len(values), len(query)
    split = values.unflatten(2, (heads, -1)).transpose(1, 2)
    same = (part[None].expand(rows, -1, -1, -1) for part in (query, key))
    return F.scaled_dot_product_attention(*same, split).transpose(1, 2).flatten(2)


def milliseconds(run: Callable[[], Tensor], repeats: int = 5) -> float:
    """The best of some runs; the sum is read so that a GPU is waited for."""
    best = float("inf")
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run().flatten()[0].item()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=10, help="branches in a batch")
    args = parser.parse_args(argv)
    ways = (side_by_side, wide_sdpa, repeated_sdpa)
    table = Table("layer", "dtype", *(way.__name__.replace("_", " ") for way in ways), title=f"ms, {args.rows} rows")
    for name, (heads, tokens, width) in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            query, key = torch.randn(2, heads, tokens, width, device=args.device).to(dtype)
            values = torch.randn(args.rows, tokens, heads * width, device=args.device).to(dtype)
            times = (milliseconds(partial(way, query, key, values)) for way in ways)
            table.add_row(name, str(dtype).removeprefix("torch."), *(f"{t:.2f}" for t in times))
    Console().print(table)


if __name__ == "__main__":
    main()
