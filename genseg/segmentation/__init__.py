"""Result of a segmentation: its labels, masks and merge tree, and how to use them."""

from genseg.segmentation.result import Segmentation

__all__ = ["Segmentation"]
