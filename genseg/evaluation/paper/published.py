"""Published tables as data: the method of each row, with its published score.

Scores are mIoU in per cent. A row whose published score is not known for certain has none; it is measured all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PublishedRow(NamedTuple):
    """One row of a table.

    Attributes:
        dataset: Name in `genseg.evaluation.datasets.list_datasets`.
        name: Name of the method in the paper.
        published: mIoU in per cent; None if it is not known.
        method: One of `genseg.evaluation.baselines.METHODS`.
        encoder: Encoder whose features replace those of the generative model; None for the generative model.
        embedder: Embedder that names the masks; None for a protocol without names.
        foreign: Reason why genseg cannot run the row; empty if it can.
    """

    dataset: str
    name: str
    published: float | None = None
    method: str = "modulation"
    encoder: str | None = None
    embedder: str | None = None
    foreign: str = ""


class Table(NamedTuple):
    """One table.

    Attributes:
        title: Title of the table.
        protocol: One of `genseg.evaluation.protocols.PROTOCOLS`, for all rows.
        resolution: One of `genseg.evaluation.resolution.RESOLUTIONS`, for all rows.
        notes: Differences between genseg's procedure and the paper's, and details that the paper leaves open.
        rows: The rows.
    """

    title: str
    protocol: str
    resolution: str
    notes: tuple[str, ...]
    rows: tuple[PublishedRow, ...]


class Paper(NamedTuple):
    """A paper's tables, by number.

    Attributes:
        source: Reference of the published scores.
        backend: Name of the paper's model; its preset is ``"paper"``.
        tables: The tables by number.
    """

    source: str
    backend: str
    tables: Mapping[int, Table]


def _ours(dataset: str, published: float | None = None, naive: float | None = None) -> tuple[PublishedRow, ...]:
    """Build the rows of a dataset: the paper's method, its baseline on the same features, and two encoders."""
    return (
        PublishedRow(dataset, "EmerDiff", published),
        PublishedRow(dataset, "SD, naive upsampling", naive, "naive"),
        PublishedRow(dataset, "DINO, naive upsampling", None, "naive", encoder="dino"),
        PublishedRow(dataset, "CLIP, naive upsampling", None, "naive", encoder="clip"),
    )


def _named(dataset: str, embedder: str, name: str, published: float) -> PublishedRow:
    return PublishedRow(dataset, f"{name} + EmerDiff", published, embedder=embedder)


FEATURES = (
    "The recipe called paper reads features as the authors' notebook does, averaged over 100 noise draws at t = 0; the "
    "paper's text has one timestep, t_f = 1.",
    "Its K = 25 is the notebook's; the K of the tables is not known (10 to 40 in the ablation, with little effect).",
)
ENCODERS = (
    "DINO is ViT-B/8, CLIP is ViT-B/16: the last layer's patches, K clusters, scaled bilinearly. The paper's CLIP is "
    "MaskCLIP's variant; the checkpoints of its rows are not known.",
)
FULL = (
    "Images and labels are measured at their own size, images seen at the area of 512 × 512 pixels; the resolution at "
    "which the paper measures is not known.",
)

EMERDIFF = Paper(
    "Namekata et al., EmerDiff, ICLR 2024, arXiv 2401.11739",
    "sd14",
    {
        1: Table(
            "unsupervised segmentation, clusters matched with classes once per dataset", "traditional", "320",
            (
                *FEATURES,
                "Images are cut to the centre square and scaled to 320 pixels, and from these to the model's own size.",
                "If the curated list is there, its images are measured (split val-curated, as STEGO's), else all of "
                "val; the paper's choice is not known.",
                "k-means over the dataset's masks starts once, and sees a sample of at most 20,000 masks and 32 MiB.",
                *ENCODERS,
            ),
            (
                *_ours("coco-stuff-27", 26.6),
                PublishedRow(
                    "coco-stuff-27", "STEGO", 26.8,
                    foreign="STEGO trains a head on DINO's features; genseg trains nothing and quotes its score",
                ),
            ),
        ),
        2: Table(
            "unsupervised segmentation, masks to the nearest concept (the paper's modified protocol)",
            "concept", "full",
            (*FEATURES, *FULL, *ENCODERS),
            (
                *_ours("ade20k-150", 33.1, 29.1),
                *_ours("coco-stuff-171", 30.5, 27.6),
                *_ours("pascal-context-59"),
                *_ours("pascal-context-459"),
                *_ours("cityscapes-19"),
            ),
        ),
        3: Table(
            "open vocabulary, masks named by another model's embeddings", "open-vocabulary", "full",
            (
                *FEATURES,
                *FULL,
                "Classes have the dataset's names, each in 85 prompts (CLIP's 80 and MaskCLIP's 5); the names and "
                "prompts of the paper are not known.",
                "TCL's embeddings are taken before its own refinement. CLIPpy is its first author's replication.",
            ),
            (
                _named("ade20k-150", "maskclip", "MaskCLIP", 15.9),
                _named("ade20k-150", "tcl", "TCL", 17.4),
                _named("ade20k-150", "clippy", "CLIPpy", 12.9),
                _named("pascal-context-59", "tcl", "TCL", 35.4),
                PublishedRow(
                    "pascal-context-59", "TCL", 28.9,
                    foreign="TCL alone makes its own masks; genseg names masks that it has made",
                ),
            ),
        ),
    },
)  # fmt: skip

PAPERS = {"emerdiff": EMERDIFF}
