"""Methods that segment an image, with the same input, resolution and number of segments.

`METHODS` has them by name. All use the same features unless a method says otherwise, and the embedding of a segment is
always the mean of the features over it (`pooling`).
"""

from __future__ import annotations

from genseg.errors import unknown
from genseg.evaluation.baselines.attention import kl_merge
from genseg.evaluation.baselines.ncut import ncut
from genseg.evaluation.baselines.simple import grid, random, rgb_kmeans, slic
from genseg.evaluation.baselines.upsampling import feature_upsampling, modulation, naive
from genseg.evaluation.method import Method

METHODS: dict[str, Method] = {
    "modulation": modulation,
    "naive": naive,
    "feature-upsampling": feature_upsampling,
    "ncut": ncut,
    "kl-merge": kl_merge,
    "rgb-kmeans": rgb_kmeans,
    "slic": slic,
    "grid": grid,
    "random": random,
}

WITHOUT_MODEL = ("rgb-kmeans", "slic", "grid", "random")


def method_named(name: str) -> Method:
    """Return a method by name.

    Raises:
        GensegError: If there is no such method; the message suggests the closest name.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def needs_model(name: str) -> bool:
    """Return whether a method reads the features of a model or encoder.

    Raises:
        GensegError: If there is no such method.
    """
    method_named(name)
    return name not in WITHOUT_MODEL
