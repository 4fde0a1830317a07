"""Protocols: how segments, which have no classes, are measured against a truth that has. docs/protocols.md."""

from __future__ import annotations

from collections.abc import Callable

from genseg.errors import GensegError, unknown
from genseg.evaluation.protocols.base import Protocol, View
from genseg.evaluation.protocols.concept import Concept
from genseg.evaluation.protocols.open_vocabulary import OpenVocabulary
from genseg.evaluation.protocols.per_image import Oracle, PerImageHungarian, PerImageManyToOne
from genseg.evaluation.protocols.score import Record, Score, measured, paired_interval
from genseg.evaluation.protocols.seen import Seen, Truth
from genseg.evaluation.protocols.traditional import Traditional

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Record",
    "Score",
    "Seen",
    "Truth",
    "View",
    "measured",
    "paired_interval",
    "protocol_named",
]

PROTOCOLS: dict[str, Callable[[int, int], Protocol]] = {
    protocol.name: protocol
    for protocol in (Traditional, Concept, PerImageHungarian, PerImageManyToOne, Oracle, OpenVocabulary)
}


def protocol_named(name: str, n_classes: int | None, seed: int = 0) -> Protocol:
    """A fresh protocol for one method and one set.

    Args:
        name: One of `PROTOCOLS`.
        n_classes: C; None for a set of annotators' regions.
        seed: Fixes random draws.

    Raises:
        GensegError: For an unknown name, or one that a set without classes cannot have.
    """
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    if n_classes is None and name != Oracle.name:
        raise GensegError(f"the protocol {name} needs classes and this data set has none; choose oracle")
    return PROTOCOLS[name](n_classes or 0, seed)
