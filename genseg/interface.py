"""The contract between the algorithm and a generative model.

A backend turns an image into a state it can regenerate, lets its features be read (feature tap), lets an
offset be added inside (modulation point), and turns what it regenerates into pixels (decoder). The algorithm in
`genseg.segmenter` uses these methods and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from genseg.errors import GensegError
from genseg.recipe import Recipe, RecipeLike, load_recipe
from genseg.sites.declarations import AttentionSite as AttentionSite
from genseg.sites.declarations import Capabilities as Capabilities
from genseg.sites.declarations import FeatureTap as FeatureTap
from genseg.sites.declarations import Meter as Meter
from genseg.sites.declarations import ModelCard as ModelCard
from genseg.sites.declarations import ModulationPoint as ModulationPoint
from genseg.sites.intermediates import ReadableSites

if TYPE_CHECKING:  # names of plug-ins are completed in the shell, which does not wait for torch
    import torch
    from torch import Tensor


class Backend(ReadableSites):
    """One generative model behind genseg's contract. Subclass it, or one of a family's shared bases.

    Attributes:
        name: The name under which results are reported.
        taps: Feature taps by name, declared before any forward pass; the first is the default.
        points: Modulation points by name, declared before any forward pass; the first is the default.
        image_size: Side of the square image that the model was made for, in pixels.
        size_multiple: Both sides of an image must be multiples of this, in pixels.
        recipe: The backend's own calibration: recipe keys and values laid over the preset; under a preset's name, a
            mapping of those for that preset alone.
        preset: The preset used when the caller names none.
        capabilities: What the backend can do.
        meter: Running count of model evaluations and decodes.
    """

    taps: Mapping[str, FeatureTap]
    points: Mapping[str, ModulationPoint]
    image_size: int
    size_multiple: int
    recipe: Mapping[str, Any] = MappingProxyType({})
    preset: str = "paper"
    capabilities: Capabilities = Capabilities()

    def __init__(self, name: str) -> None:
        self.name = name
        self.meter = Meter()

    def resolve(self, recipe: RecipeLike | None = None, options: Sequence[str] = (), **overrides: Any) -> Recipe:
        """The recipe with this backend's calibration laid over it.

        Args:
            recipe: See `genseg.load_recipe`; None for `preset`.
            options: Recipe keys as ``key=value``, as on the command line.
            **overrides: Recipe keys, such as ``n_clusters=25``.

        Raises:
            GensegError: For an unknown recipe or key, or a value that a key cannot have.
        """
        return load_recipe(recipe or self.preset, calibration=self.recipe, options=options, **overrides)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the model's weights."""

    @abstractmethod
    def encode(self, image: Tensor, recipe: Recipe, seed: int) -> Any:
        """Turn an image into a state from which the model regenerates it.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`. It is taken at
                its own size: resizing is the segmenter's job.
            recipe: The resolved recipe.
            seed: Fixes every random draw made here.

        Returns:
            A state, opaque to the algorithm.
        """

    @abstractmethod
    def features(self, state: Any, tap: FeatureTap, recipe: Recipe) -> Tensor:
        """Read the model's features of the encoded image: float32 [C, h, w], as ``tap`` declares."""

    @abstractmethod
    def regenerate(self, state: Any, point: ModulationPoint, offsets: Tensor, recipe: Recipe) -> Tensor:
        """Regenerate the image once per offset.

        Args:
            state: What `encode` returned.
            point: Where to add the offset.
            offsets: float32 [N, h, w] on the point's grid, in the recipe's `strength_unit`; added to all channels.
            recipe: The resolved recipe.

        Returns:
            Estimates [N, ...] that `decode` understands. Row n depends on offset n alone, and a zero offset
            gives the reconstruction.
        """

    @abstractmethod
    def decode(self, estimates: Tensor) -> Tensor:
        """Turn estimates into images: float32 [N, 3, H, W], nominally in [-1, 1], **not** clamped."""

    def preview(self, estimates: Tensor, decoder: str) -> Tensor:  # noqa: ARG002
        """Turn estimates into cheaper images than `decode` does, for difference maps.

        Args:
            estimates: What `regenerate` returned.
            decoder: The recipe's `decoder`: ``"latent"`` or ``"tiny"``.

        Returns:
            float32 [N, C, h, w], C channels of any meaning, at most as large as the image.

        Raises:
            GensegError: If the backend has no such decoder.
        """
        raise GensegError(f"backend {self.name!r} has no decoder={decoder}; use decoder=full")

    def steps(self, recipe: Recipe) -> int:  # noqa: ARG002
        """Number of network evaluations of `regenerate` for one offset, the unit of progress."""
        return 1

    def generate(self, prompt: str, seed: int, recipe: Recipe) -> Any:  # noqa: ARG002
        """Make an image and return its state, to be segmented without inversion.

        Args:
            prompt: What the image shows; ``""`` for anything.
            seed: Fixes every random draw made here.
            recipe: The resolved recipe that the state will be used with.

        Raises:
            GensegError: If the model cannot generate (see `Capabilities.generates`).
        """
        raise GensegError(f"backend {self.name!r} cannot generate images; give segment() an image instead")


class Embedder(ABC):
    """A model whose embeddings of pixels and of texts can be compared by their cosine. Subclass it for another one.

    Its licence and checkpoint stand in the attribute ``card``, a `genseg.ModelCard`, of the factory that loads it.

    Attributes:
        name: The name under which results are reported.
        image_size: Side of the square, in pixels, whose area an image is scaled to.
        size_multiple: Both sides of an image must be multiples of this, in pixels.
    """

    image_size: int
    size_multiple: int

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def pixels(self, image: Tensor) -> Tensor:
        """Embed the parts of an image.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`.

        Returns:
            float32 [D, h, w] on the CPU, of any length: cell (i, j) is the part of the image that lies there when h × w
            cells of equal size cover it.
        """

    @abstractmethod
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Embed texts: float32 [N, D] on the CPU, of any length."""


class Encoder(ABC):
    """A vision model that gives a feature for each patch. Subclass it for another one.

    Attributes:
        name: The name under which results are reported.
        image_size: Side of the square image that the model was made for, in pixels.
        size_multiple: Both sides of an image must be multiples of this, in pixels: the side of a patch.
        card: Facts about the model; None if there are none.
    """

    name: str
    image_size: int
    size_multiple: int
    card: ModelCard | None = None

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """Features of an image.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1]; H and W are multiples of `size_multiple`.

        Returns:
            float32 [C, h, w], one feature a patch.
        """


class Upsampler(ABC):
    """A model that brings features to the resolution of their image. Subclass it for another one.

    Attributes:
        name: The name under which results are reported.
        card: Facts about the model; None if there are none.
    """

    name: str
    card: ModelCard | None = None

    @abstractmethod
    def __call__(self, image: Tensor, features: Tensor) -> Tensor:
        """Upsample features.

        Args:
            image: float32 [1, 3, H, W] in [-1, 1].
            features: float32 [C, h, w] with any number of channels, on the image's device.

        Returns:
            float32 [C, H, W], on the same device.
        """
