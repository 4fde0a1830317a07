"""Result of a segmentation: its labels, masks and merge tree, and how to use them."""

from genseg.segmentation.masks import Mask
from genseg.segmentation.result import Segmentation

__all__ = ["Mask", "Segmentation"]
