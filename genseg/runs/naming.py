"""Names for all masks of a run: by text, or by a few images with labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from genseg.errors import GensegError
from genseg.evaluation.datasets import Dataset, Sample
from genseg.evaluation.metrics import IGNORE, overlaps
from genseg.evaluation.protocols import Contingency
from genseg.evaluation.protocols.rules import Concept
from genseg.interface import Embedder
from genseg.naming import class_embeddings, classes_of, first_synonyms, named_classes
from genseg.progress import Progress
from genseg.recipe import load_recipe
from genseg.registry import load_backend, load_embedder
from genseg.runs.class_sets import assign_classes, check_name
from genseg.runs.concepts import Concepts
from genseg.runs.report import write_report
from genseg.runs.rows import Row
from genseg.runs.run import Run, Skipped
from genseg.segmenter import Segmenter


def name_run(
    run: Run | str | Path,
    classes: str | Sequence[str],
    embedder: str | Embedder = "maskclip",
    *,
    name: str = "names",
    resume: bool = False,
    progress: Progress | None = None,
) -> Skipped:
    """Name every mask of a run by text, as `genseg.Segmentation.name` does (open vocabulary, section 4.4 of the paper).

    Each image is read from where it lies. One that cannot be read gets class -1 and is counted.

    Args:
        run: A run, or the folder or URL of one.
        classes: Names, or one text such as ``"sky,building,tree"``; synonyms as ``"car|automobile"``.
        embedder: A name from `genseg.list_embedders`, or a loaded `Embedder`.
        name: Name of the set of classes. A set of the same name is replaced.
        resume: Whether to resume with names of the same classes and embedder, after an interruption or for images that
            were added: shards keep the names they have, and images without names are tried again.
        progress: Progress callback: ``("classes", done, total)`` in images, then ``("report", 0, 1)``.

    Returns:
        The images without names, which cannot be read any more; `ClassCounts.of(run, name)` counts the others.

    Raises:
        GensegError: For classes that cannot be used, an unknown embedder or missing weights, or if names of other
            classes or of another embedder are to be resumed.
    """
    run = run if isinstance(run, Run) else Run(str(run))
    check_name(name)
    prompts = classes_of(classes)
    model = load_embedder(embedder) if isinstance(embedder, str) else embedder
    class_embeddings(prompts, model)  # here, so that an error is not reported as an image's
    unnamed = Skipped()

    def named(row: Row) -> npt.NDArray[np.int64]:
        labels = row.labels  # whose damage `assign_classes` deals with
        try:
            picture = row.picture()
        except GensegError as error:
            unnamed.add(str(error))
            return np.full(labels.max() + 1, -1)
        return named_classes(labels, picture, prompts, model)

    columns = ["key", "uri", "offset", "length", "image", "labels_png"]
    about = {"kind": "text", "prompts": prompts, "embedder": model.name}
    assign_classes(run, name, first_synonyms(prompts), named, columns, progress, resume=resume, **about)
    write_report(run, progress)
    return unnamed


def name_run_from_examples(
    run: Run | str | Path,
    examples: Dataset,
    *,
    name: str = "names",
    limit: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Concepts:
    """Name every mask of a run by the class whose mean embedding over a few labeled images is nearest.

    It is the concept embedding of the paper's modified protocol: the examples are segmented as the run was, with its
    backend, recipe, seed and dtype, each pixel has its mask's embedding, and a class the mean over its pixels.

    Args:
        run: A run, or the folder or URL of one.
        examples: Images with classes, such as ``load_dataset("folder", root)``.
        name: Name of the set of classes. A set of the same name is replaced.
        limit: At most so many of the examples, evenly spaced; None for all.
        device: A torch device; None for CUDA where there is one, else the CPU.
        progress: Progress callback: ``("examples", done, total)``, then ``("classes", done, total)`` in images.

    Returns:
        The classes with their means. Classes without an example are never assigned: `Concepts.absent` lists them.

    Raises:
        GensegError: If the examples have no classes or no labeled pixel, one cannot be read, or the backend cannot
            be loaded.
    """
    run = run if isinstance(run, Run) else Run(str(run))
    check_name(name)
    if examples.n_classes is None:
        raise GensegError(f"{examples.name} has regions without classes; give examples with one class a pixel")
    keys = examples.spaced(limit)
    on_progress = progress or (lambda *_: None)
    on_progress("load", 0, 1)
    segmenter, means = _segmenter_of(run, device), Concept(examples.n_classes)
    for done, key in enumerate(keys):
        on_progress("examples", done, len(keys))
        means.fit(_view(examples[key], segmenter, examples.n_classes))
    means.close()
    concepts = Concepts(name, tuple(examples.classes), means.concepts.astype(np.float32))
    if len(concepts.absent) == len(concepts):
        raise GensegError(f"no pixel of the {len(keys)} examples has a class; label some")
    concepts.assign(run, progress, kind="examples", examples=examples.name, images=len(keys))
    return concepts


def _segmenter_of(run: Run, device: str | None) -> Segmenter:
    """Load the segmenter of a run."""
    settings = run.settings
    if missing := {"backend", "model", "dtype", "load", "recipe", "seed"} - settings.keys():
        raise GensegError(f"the run does not say its {' and '.join(sorted(missing))}; name its masks by text instead")
    backend = load_backend(
        settings["backend"], model=settings["model"], device=device, dtype=settings["dtype"], **settings["load"]
    )
    return Segmenter(backend, load_recipe(settings["recipe"]), seed=settings["seed"])


def _view(sample: Sample, segmenter: Segmenter, n_classes: int) -> Contingency:
    """Count an example's pixels by mask and class."""
    segmentation, (truth,) = segmenter(sample.image), sample.truths
    measured = truth != IGNORE
    table = overlaps(segmentation.labels[measured], truth[measured], len(segmentation.embeddings), n_classes)
    return Contingency(table, segmentation.embeddings)
