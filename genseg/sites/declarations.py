"""Declarations of a backend, as data: where it can be read and edited, what it can do, and facts about its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FeatureTap:
    """Location at which features are read: an input or output of one module as a map [channels, h, w].

    The module works on maps [N, C, h, w], or on tokens [N, L, C] of which h·w, in row order, are the image's.

    Attributes:
        module: Dotted path of the torch module inside the model.
        channels: Number of feature channels C: the first C where the module has more.
        stride: Image pixels per grid cell, along each side.
        grid: (h, w) at the backend's own image size.
        side: ``"output"`` or ``"input"`` of the module.
        item: Index of the tensor, if the module has several inputs or outputs.
        first: Position of the image's first token: text or class tokens stand before it.
    """

    module: str
    channels: int
    stride: int
    grid: tuple[int, int]
    side: Literal["output", "input"] = "output"
    item: int = 0
    first: int = 0

    def grid_for(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of an image of ``height`` × ``width`` pixels."""
        return height // self.stride, width // self.stride


@dataclass(frozen=True)
class ModulationPoint(FeatureTap):
    """Location at which an offset is added: to all channels of an input or output of one module, within a mask.

    Do not place a point before a normalization over channels: it would cancel a constant offset.
    """


@dataclass(frozen=True)
class AttentionSite:
    """An attention whose maps can be read: how much each position of the image attends to each key.

    Attributes:
        module: Dotted path of the torch module.
        keys: Which keys: the prompt's tokens or the image's positions.
        stride: Image pixels per grid cell, along each side.
        layout: Order of the tokens where text, or a class token, is in one sequence with the image.
        padding: The image's tokens are padded to a multiple of this where text stands behind them.
    """

    module: str
    keys: Literal["text", "image"]
    stride: int
    layout: Literal["text-image", "image-text"] = "text-image"
    padding: int = 1

    def grid_for(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of an image of ``height`` × ``width`` pixels."""
        return height // self.stride, width // self.stride

    def image_start(self, length: int, cells: int) -> int:
        """Position of the image's first token among ``length``, where the image has ``cells``."""
        return length - cells if self.layout == "text-image" else 0

    def columns(self, length: int, cells: int, tokens: int) -> slice:
        """The keys, of ``length``, that are meant, where the image has ``cells`` and the prompt ``tokens``."""
        if self.keys == "image":
            first = self.image_start(length, cells)
            return slice(first, first + cells)
        if length == tokens:
            return slice(0, tokens)
        behind = -(-cells // self.padding) * self.padding
        first = length - cells - tokens if self.layout == "text-image" else behind
        return slice(first, first + tokens)


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of a backend, as data.

    Attributes:
        reconstructs: How well `Backend.regenerate` with a zero offset gives the image back.
        generates: Whether `Backend.generate` makes images.
        noise_axis: Whether the recipe's timesteps mean anything to the model.
        deterministic: Same image, recipe, seed and device give the same result.
        max_batch: Largest number of rows in one model evaluation; None if memory is the only bound.
    """

    reconstructs: Literal["exact", "approximate", "no"] = "exact"
    generates: bool = False
    noise_axis: bool = True
    deterministic: bool = True
    max_batch: int | None = None


@dataclass(frozen=True)
class ModelCard:
    """Facts about a backend's model before it is loaded: the attribute ``card`` of its factory.

    The factory may have a function ``has_weights()`` too, which says whether those of ``model`` are on this machine.

    Attributes:
        family: What kind of model it is, such as ``"SD3"``.
        licence: Licence of the weights.
        model: The hub id that is loaded when the caller names none; empty where the weights are part of a package.
        revision: The commit of ``model`` that is loaded; None for its main branch.
        parameters: Number of parameters of the generative network; None where not known.
        calibration: Where the backend's recipe comes from: ``"paper"``, ``"calibrated"`` on the real weights, or
            ``"derived"`` from the paper's noise levels and from where others found semantics in the model.
        access: How the hub has ``model``: ``"open"``, ``"gated"`` by its terms, or as ``"pickles"``, which are refused.
    """

    family: str
    licence: str
    model: str = ""
    revision: str | None = None
    parameters: int | None = None
    calibration: Literal["paper", "calibrated", "derived"] = "derived"
    access: Literal["open", "gated", "pickles"] = "open"


@dataclass
class Meter:
    """Counts what a backend spends; the segmenter reads it before and after.

    Attributes:
        evaluations: Rows sent through the generative network or a part of it, each at one timestep.
        decodes: Images decoded to pixels.
        listener: Called after every `count`.
    """

    evaluations: int = 0
    decodes: int = 0
    listener: Callable[[], None] | None = None

    def count(self, *, evaluations: int = 0, decodes: int = 0) -> None:
        """Add to the counts, and call the listener."""
        self.evaluations += evaluations
        self.decodes += decodes
        if self.listener is not None:
            self.listener()
