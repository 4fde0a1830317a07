"""Published tables as data: what each row measures, and the figure that the paper gives for it.

Figures are mIoU in per cent. Only figures that are known for certain stand here; a row without one is measured all the
same, and compared with nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PublishedRow(NamedTuple):
    """One row of a table.

    Attributes:
        dataset: As in `genseg.evaluation.datasets.list_datasets`.
        name: What the paper calls the method.
        published: mIoU in per cent; None where no figure is known.
        method: One of `genseg.evaluation.baselines.METHODS`.
        encoder: Whose features are clustered in place of the generative model's; None for the latter.
        embedder: What names the masks; None for a protocol without names.
        foreign: Why genseg cannot run it; empty if it can.
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
        title: What it is about.
        protocol: One of `genseg.evaluation.protocols.PROTOCOLS`, for all rows.
        resolution: One of `genseg.evaluation.resolution.RESOLUTIONS`, likewise.
        notes: Where genseg's way differs from the paper's, or the paper's is not known.
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
        source: Where published figures come from.
        backend: The paper's model; its preset is ``"paper"``.
        tables: By number.
    """

    source: str
    backend: str
    tables: Mapping[int, Table]


def _ours(dataset: str, published: float | None = None, naive: float | None = None) -> tuple[PublishedRow, ...]:
    """The rows of a set: the paper's method, its baseline on the same features, and two encoders."""
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
    "Its K = 25 is the notebook's; which K the tables have is not known (10 to 40 in the ablation, which is flat).",
)
ENCODERS = (
    "DINO is ViT-B/8, CLIP is ViT-B/16: the last layer's patches, K clusters, scaled bilinearly. The paper's CLIP is "
    "MaskCLIP's variant, and which checkpoints its rows have is not known.",
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
            "unsupervised segmentation, clusters matched with classes once a data set", "traditional", "320",
            (
                *FEATURES,
                "Images are cut to the centre square and scaled to 320 pixels, and from these to the model's own size.",
                "Where the curated list is, its images are measured (split val-curated, as STEGO's), else all of val; "
                "which the paper has is not known.",
                "k-means over the masks of the set starts once, and sees a sample of 20,000 masks and 32 MiB at most.",
                *ENCODERS,
            ),
            (
                *_ours("coco-stuff-27", 26.6),
                PublishedRow(
                    "coco-stuff-27", "STEGO", 26.8,
                    foreign="STEGO trains a head on DINO's features; genseg trains nothing and quotes its figure",
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
                "Classes have the data set's names, each in 85 prompts (CLIP's 80 and MaskCLIP's 5); the names and "
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
                    foreign="TCL alone makes masks of its own; genseg names masks that it has made",
                ),
            ),
        ),
    },
)  # fmt: skip

PAPERS = {"emerdiff": EMERDIFF}
