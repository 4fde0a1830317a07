"""Evaluation rules of published methods, by name: resolution, matching, refinement and classes, as their code has them.

docs/protocols.md lists the facts with the files that they are read from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from genseg.errors import unknown
from genseg.evaluation.datasets.base import Dataset, Sample
from genseg.evaluation.datasets.catalogue import READERS
from genseg.evaluation.metrics import IGNORE, Labels, overlaps
from genseg.evaluation.protocols.rules import PerImageHungarianAll, Traditional, merge_unmatched

BACKGROUND = "background"


@dataclass(frozen=True)
class Rules:
    """Rules by which a published method is evaluated.

    Attributes:
        name: Name of the rules, reported with every metric.
        source: Repository of the method.
        protocol: One of `genseg.evaluation.protocols.PROTOCOLS`.
        resolution: One of `genseg.evaluation.resolution.RESOLUTIONS`.
        refine: One of `genseg.evaluation.refinements.REFINEMENTS`; None for no refinement.
        splits: Datasets that the method's code evaluates, with the split of each.
        resolutions: Datasets at another resolution.
        by_row: Whether each row of pixels is matched as an image of its own.
        foreground_first: Whether, on datasets with background, masks are first matched with the other classes, and
            those that remain are merged into one; pixels that the dataset does not measure then count as background.
    """

    name: str
    source: str
    protocol: str
    resolution: str
    refine: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    resolutions: Mapping[str, str] = field(default_factory=dict)
    by_row: bool = False
    foreground_first: bool = False

    def resolution_of(self, dataset: Dataset) -> str:
        """Return the resolution of a dataset."""
        return self.resolutions.get(dataset.name, self.resolution)

    def split_of(self, name: str) -> str | None:
        """Return the split of a dataset to open, which the method's code evaluates; None for the usual one."""
        split = self.splits.get(name)
        return split if split is not None and split in READERS[name].info.splits else None

    def labels(self, dataset: Dataset) -> Dataset:
        """Return the dataset with the classes that the method's code gives it."""
        if not self.foreground_first:
            return dataset
        if dataset.name == "ade20k-150":  # read from 0, which stands for other things, up to the class before the last
            classes = ("other", *dataset.classes[:-1])
            return Relabeled(dataset, classes, np.array([0, *range(1, 150), IGNORE]))
        if dataset.name == "pascal-context-59":
            return Relabeled(dataset, (*dataset.classes, BACKGROUND), np.array([59, *range(59)]))
        if BACKGROUND not in dataset.classes:
            return dataset
        classes = (*(name for name in dataset.classes if name != BACKGROUND), BACKGROUND)
        return Relabeled(dataset, classes, np.array([classes.index(name) for name in (BACKGROUND, *dataset.classes)]))

    def merges(self, dataset: Dataset) -> bool:
        """Return whether masks of a dataset that `labels` returned are merged by `merged`."""
        return self.foreground_first and dataset.classes[-1:] == (BACKGROUND,)

    def differences(self, dataset: Dataset, n_images: int) -> list[str]:
        """Say what of an evaluation differs from that of the method's code, in one sentence each."""
        split = self.splits.get(dataset.name)
        differences = []
        if split is None:
            differences.append(f"the code of {self.source} does not evaluate {dataset.name}")
        elif split != dataset.split:
            differences.append(f"the images are those of {dataset.split} in place of {split}")
        if n_images < len(dataset):
            differences.append(f"{n_images} of {len(dataset)} images")
        return differences

    def described(self, dataset: Dataset, n_images: int) -> dict[str, Any]:
        """Describe the rules and their differences, as results state them."""
        facts = {key: value for key, value in dataclasses.asdict(self).items() if key not in ("splits", "resolutions")}
        facts["resolution"] = self.resolution_of(dataset)
        facts["foreground_first"] = self.merges(dataset)
        return facts | {"differences": self.differences(dataset, n_images)}


class Relabeled(Dataset):
    """A dataset with other classes.

    Args:
        dataset: The dataset.
        classes: Names of the classes.
        table: int64 [1 + C], the new label of `IGNORE` and of each class of the dataset.
    """

    def __init__(self, dataset: Dataset, classes: tuple[str, ...], table: npt.NDArray[np.int64]) -> None:
        self.name, self.split, self.licence, self.keys = dataset.name, dataset.split, dataset.licence, dataset.keys
        self.classes, self.ignore = classes, dataset.ignore
        self._dataset, self._table = dataset, table

    def __getitem__(self, key: str) -> Sample:
        """Read one sample; see `Dataset`."""
        sample = self._dataset[key]
        return dataclasses.replace(sample, truths=tuple(self._table[truth + 1] for truth in sample.truths))

    def fingerprint(self) -> str:
        """Digest the files; see `Dataset`."""
        return self._dataset.fingerprint()


def merged(segments: npt.NDArray[np.int32], truth: Labels, n_classes: int) -> npt.NDArray[np.int32]:
    """Merge the segments that match no foreground class of the ground truth.

    Args:
        segments: int32 [H, W] in 0..K-1.
        truth: int [H, W] in 0..C-1, background last, or `IGNORE`.
        n_classes: C.

    Returns:
        int32 [H, W]: each segment's own number, or K. Numbers of merged segments remain unused, because the solver
        decides between equal matchings by the order of segments.
    """
    counts = overlaps(segments, truth + 1, int(segments.max()) + 1, n_classes + 1)
    return merge_unmatched(counts[:, 1:-1])[segments].astype(np.int32)


_BY_STEGO = {"coco-stuff-27": "val-curated", "cityscapes-27": "val"}
_BY_DIFFCUT = {"coco-object": "val-curated", "voc-21": "val", "pascal-context-59": "val", "ade20k-150": "val"}
_BY_SEG4DIFF = ("voc-21", "pascal-context-59", "coco-object", "coco-stuff-27", "cityscapes-19", "ade20k-150")

DIFFCUT = Rules(
    "diffcut", "PaulCouairon/DiffCut", PerImageHungarianAll.name, "diffcut", splits=_BY_STEGO | _BY_DIFFCUT,
    foreground_first=True,
)  # fmt: skip
DIFFSEG = Rules("diffseg", "google/diffseg", PerImageHungarianAll.name, "diffseg", splits=_BY_STEGO)
STEGO = Rules(
    "stego", "mhamilton723/STEGO", Traditional.name, "stego", splits=_BY_STEGO | {"potsdam-3": "val"}
)  # fmt: skip
CAUSE = Rules(
    "cause", "ByungKwanLee/Causal-Unsupervised-Segmentation", Traditional.name, "stego",
    splits=_BY_STEGO | {"voc-21": "val"}, resolutions={"voc-21": "cause-voc"},
)  # fmt: skip
SEG4DIFF = Rules(
    "seg4diff", "cvlab-kaist/Seg4Diff", PerImageHungarianAll.name, "seg4diff", by_row=True,
    splits=dict.fromkeys(_BY_SEG4DIFF, "val"),
)  # fmt: skip

RULES: dict[str, Rules] = {
    rules.name: rules
    for rules in (
        DIFFCUT,
        dataclasses.replace(DIFFCUT, name="diffcut+pamr", refine="pamr-diffcut"),
        DIFFSEG,
        STEGO,
        dataclasses.replace(STEGO, name="stego+crf", refine="crf-stego"),
        CAUSE,
        dataclasses.replace(CAUSE, name="cause+crf", refine="crf-stego"),
        SEG4DIFF,
    )
}
"""Rules by name; those with ``+`` refine masks, which is an option of the method's code."""


def rules_named(name: str) -> Rules:
    """Return rules by name.

    Raises:
        GensegError: If there are no such rules; the message suggests the closest name.
    """
    if name not in RULES:
        raise unknown("rules", name, RULES)
    return RULES[name]
