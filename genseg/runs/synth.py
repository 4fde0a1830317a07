"""Datasets that a model generates: images with their masks, without inversion, as a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genseg.checks import checked_seed
from genseg.errors import GensegError
from genseg.fingerprint import weights_of
from genseg.interface import Backend
from genseg.progress import Progress
from genseg.recipe import RecipeLike
from genseg.registry import BACKENDS, given_backend
from genseg.runs.manifest import check_resumable, load_manifest, write_manifest
from genseg.runs.plan import shard_name
from genseg.runs.report import write_report
from genseg.runs.rows import Row, png_of
from genseg.runs.run import SHARDS, Run
from genseg.runs.sources import ImageSource
from genseg.runs.store import Store
from genseg.runs.tables import table_of
from genseg.segmenter import Segmenter


def synth(
    out: str | Path,
    n: int,
    backend: str | Backend = "tiny",
    recipe: RecipeLike | None = None,
    *,
    prompts: str | Sequence[str] = "",
    seed: int = 0,
    model: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    load: Mapping[str, Any] | None = None,
    options: Sequence[str] = (),
    shard_size: int = 64,
    pixel_confidence: bool = True,
    resume: bool = False,
    progress: Progress | None = None,
    **overrides: Any,
) -> Run:
    """Generate images, and segment them without inversion: `Segmenter.generate` for a whole dataset.

    Image i depends on seed + i and its prompt alone; prompts take turns. Its key is ``seed-00000012``, and its row
    holds the image as a PNG. A shard is written as a whole or not at all; an interrupted run resumes with the missing
    shards.

    Args:
        out: A new folder, or an fsspec URL.
        n: How many images.
        backend: A name from `genseg.list_backends`, or a loaded `Backend`, that can generate.
        recipe: As for `Segmenter`.
        prompts: What images show: one text, or several that take turns; ``""`` for anything.
        seed: Of the first image.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA where there is one, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"``, ``"bfloat16"`` or ``"auto"``.
        load: What else the backend's factory takes.
        options: Recipe keys as ``key=value``.
        shard_size: Images to a shard: what is lost at most when it is killed.
        pixel_confidence: Whether to keep confidence by pixel, and not only by mask.
        resume: Resume the run in ``out``, of the same settings; there need not be one.
        progress: Progress callback: ``("images", done, n)``.
        **overrides: Recipe keys.

    Returns:
        The run.

    Raises:
        GensegError: If the backend cannot generate, or not from a prompt, a setting cannot be used, or ``out`` holds
            another run.
    """
    seed = checked_seed(seed)
    if n < 1 or shard_size < 1:
        raise GensegError("n and shard_size must be at least 1")
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise GensegError('no prompt given; give one a line, or "" for anything')
    store, on_progress = Store(str(out)), progress or (lambda *_: None)
    manifest = load_manifest(store, resume)
    load = {key: value for key, value in (load or {}).items() if value is not None}
    on_progress("load", 0, 1)
    weights: dict[str, Any] = {}
    if isinstance(backend, str):
        weights = weights_of("backend", backend, BACKENDS.info(backend).card, model, load)
    backend = given_backend(backend, model=model, device=device, dtype=dtype, **load)
    resolved = backend.resolve(recipe, options, **overrides)
    settings = {
        "input": "synth",
        "backend": backend.name,
        "model": model,
        "dtype": dtype,
        "load": load,
        "weights": weights,
        "recipe": asdict(resolved),
        "seed": seed,
        "prompts": texts,
        "images": n,
        "shard_size": shard_size,
        "pixel_confidence": pixel_confidence,
    }
    manifest = write_manifest(store, settings) if manifest is None else manifest
    check_resumable(store, manifest, settings)
    recipe_hash, segmenter = manifest["recipe_hash"], Segmenter(backend, resolved)
    finished = set(store.names(SHARDS))
    for first in range(0, n, shard_size):
        name = shard_name(first // shard_size)
        last = min(first + shard_size, n)
        if name not in finished:
            rows = []
            for number in range(seed + first, seed + last):
                segmentation = segmenter.generate(texts[number % len(texts)], number)
                key, image = f"seed-{number:08}", png_of(segmentation.image)
                rows.append(
                    Row.of(
                        segmentation, key, ImageSource(""), recipe_hash, image=image, pixel_confidence=pixel_confidence
                    )
                )
                on_progress("images", number - seed + 1, n)
            store.write_table(name, table_of(rows))
        on_progress("images", last, n)
    run = Run(str(out))
    write_report(run)
    return run
