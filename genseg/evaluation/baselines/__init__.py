"""Ways to segment an image, ours among them, all given the same scene, resolution and number of segments.

`METHODS` has them by name. The pixels' features differ from method to method only where the method says so, and a
segment's embedding is in all of them the mean of the features over it (`pooling`).
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
    """The method called ``name``.

    Raises:
        GensegError: If there is none; the message names the nearest.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def needs_model(name: str) -> bool:
    """Whether the method called ``name`` reads a model's features, or an encoder's.

    Raises:
        GensegError: If there is no such method.
    """
    method_named(name)
    return name not in WITHOUT_MODEL
