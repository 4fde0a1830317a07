"""Protocols: how segments, which have no classes, are measured against a truth that has. docs/protocols.md."""

from __future__ import annotations

from collections.abc import Collection

from genseg.errors import GensegError, unknown
from genseg.evaluation.protocols.base import Contingency, EvaluationProtocol
from genseg.evaluation.protocols.rules import (
    Concept,
    OpenVocabulary,
    Oracle,
    PerImageHungarian,
    PerImageManyToOne,
    Traditional,
)
from genseg.evaluation.protocols.score import Record, Score, measured, paired_interval
from genseg.evaluation.protocols.statistics import GroundTruth, SegmentStatistics

__all__ = [
    "PROTOCOLS",
    "Contingency",
    "EvaluationProtocol",
    "GroundTruth",
    "Record",
    "Score",
    "SegmentStatistics",
    "check_protocols",
    "measured",
    "paired_interval",
    "protocol_named",
]

PROTOCOLS: dict[str, type[EvaluationProtocol]] = {
    protocol.name: protocol
    for protocol in (Traditional, Concept, PerImageHungarian, PerImageManyToOne, Oracle, OpenVocabulary)
}


def protocol_named(name: str, n_classes: int | None, seed: int = 0) -> EvaluationProtocol:
    """A fresh protocol for one method and one set.

    Args:
        name: One of `PROTOCOLS`.
        n_classes: C; None for a set of annotators' regions.
        seed: Fixes random draws.

    Raises:
        GensegError: For an unknown name, or one that a set without classes cannot have.
    """
    check_protocols([name], has_classes=n_classes is not None, named=True)
    return PROTOCOLS[name](n_classes or 0, seed)


def check_protocols(names: Collection[str], *, has_classes: bool, named: bool = False) -> None:
    """Refuse what masks could not be measured by, before a model is loaded to make them.

    Args:
        names: Of protocols.
        has_classes: Whether the truths are maps of classes, and not annotators' regions.
        named: Whether masks are given classes by name.

    Raises:
        GensegError: For an unknown name, one that these truths or masks cannot have, or none at all.
    """
    if not names:
        raise GensegError(f"no protocol given; name one, such as {Oracle.name}")
    for name in names:
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
        if not has_classes and name != Oracle.name:
            raise GensegError(f"the protocol {name} needs classes and this data set has none; choose oracle")
        if not named and name == OpenVocabulary.name:
            raise GensegError(
                f"the protocol {name} needs an embedder that names masks, such as maskclip; "
                "name one for 'genseg evaluate', or choose another protocol"
            )
