"""Protocols by which segments without classes are scored against ground truth with classes (docs/protocols.md)."""

from __future__ import annotations

from collections.abc import Collection

from genseg.errors import GensegError, unknown
from genseg.evaluation.protocols.base import Contingency, EvaluationProtocol
from genseg.evaluation.protocols.rules import (
    Concept,
    OpenVocabulary,
    Oracle,
    PerImageHungarian,
    PerImageHungarianAll,
    PerImageManyToOne,
    Traditional,
)
from genseg.evaluation.protocols.score import Record, Score, measured, paired_interval
from genseg.evaluation.protocols.statistics import GroundTruth, RowStatistics, SegmentStatistics

__all__ = [
    "PROTOCOLS",
    "Contingency",
    "EvaluationProtocol",
    "GroundTruth",
    "Record",
    "RowStatistics",
    "Score",
    "SegmentStatistics",
    "check_protocols",
    "measured",
    "paired_interval",
    "protocol_named",
]

PROTOCOLS: dict[str, type[EvaluationProtocol]] = {
    protocol.name: protocol
    for protocol in (
        Traditional,
        Concept,
        PerImageHungarian,
        PerImageHungarianAll,
        PerImageManyToOne,
        Oracle,
        OpenVocabulary,
    )
}


def protocol_named(name: str, n_classes: int | None, seed: int = 0) -> EvaluationProtocol:
    """Create a protocol for one method and one dataset.

    Args:
        name: One of `PROTOCOLS`.
        n_classes: C; None for annotators' regions.
        seed: Fixes random draws.

    Raises:
        GensegError: If the name is unknown, or the protocol needs classes that the dataset does not have.
    """
    check_protocols([name], has_classes=n_classes is not None, named=True)
    return PROTOCOLS[name](n_classes or 0, seed)


def check_protocols(names: Collection[str], *, has_classes: bool, named: bool = False) -> None:
    """Check that protocols fit the ground truth and masks, before a model is loaded.

    Args:
        names: Names of protocols.
        has_classes: Whether the ground truth has classes, not annotators' regions.
        named: Whether an embedder names masks.

    Raises:
        GensegError: If there is no name, a name is unknown, or a protocol does not fit the ground truth or masks.
    """
    if not names:
        raise GensegError(f"no protocol given; name one, such as {Oracle.name}")
    for name in names:
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
        if not has_classes and name != Oracle.name:
            raise GensegError(f"the protocol {name} needs classes and this dataset has none; choose oracle")
        if not named and name == OpenVocabulary.name:
            raise GensegError(
                f"the protocol {name} needs an embedder that names masks, such as maskclip; "
                "name one for 'genseg evaluate', or choose another protocol"
            )
