"""Methods that segment an image, with the same input, resolution and number of segments.

`METHODS` has them by name. All use the same features unless a method says otherwise, and the embedding of a segment is
always the mean of the features over it (`pooling`).
"""

from __future__ import annotations

from genseg.errors import unknown
from genseg.evaluation.baselines.attention import kl_merge
from genseg.evaluation.baselines.ncut import ncut
from genseg.evaluation.baselines.simple import grid, random, rgb_kmeans, slic
from genseg.evaluation.baselines.upsampling import (
    clusters_by,
    feature_upsampling,
    features_by,
    modulation,
    modulation_by,
    naive,
)
from genseg.evaluation.method import Method
from genseg.registry import UPSAMPLERS

GUIDED = ("jbu", "upsample-anything", "pamr")
"""Upsamplers that see the image, of `genseg.upsample`; each is a method, and another one after modulation."""

METHODS: dict[str, Method] = {
    "modulation": modulation,
    "naive": naive,
    "feature-upsampling": feature_upsampling,
    **{name: clusters_by(name) for name in GUIDED},
    **{f"modulation+{name}": modulation_by(name) for name in GUIDED},
    "ncut": ncut,
    "kl-merge": kl_merge,
    "rgb-kmeans": rgb_kmeans,
    "slic": slic,
    "grid": grid,
    "random": random,
}

WITHOUT_MODEL = ("rgb-kmeans", "slic", "grid", "random")


def method_named(name: str) -> Method:
    """Return a method by name: one of `METHODS`, or a plug-in's upsampler, alone or after ``modulation+``.

    Raises:
        GensegError: If there is no such method; the message suggests the closest name.
    """
    if name in METHODS:
        return METHODS[name]
    upsamplers = UPSAMPLERS.plugins.names()
    upsampler = name.removeprefix("modulation+")
    if upsampler not in upsamplers:
        raise unknown("method", name, [*METHODS, *upsamplers])
    return features_by(upsampler) if upsampler == name else modulation_by(upsampler)


def needs_model(name: str) -> bool:
    """Return whether a method reads the features of a model or encoder.

    Raises:
        GensegError: If there is no such method.
    """
    method_named(name)
    return name not in WITHOUT_MODEL


def needs_modulation(name: str) -> bool:
    """Return whether a method perturbs a model, which an encoder cannot be."""
    return name.partition("+")[0] == "modulation"
