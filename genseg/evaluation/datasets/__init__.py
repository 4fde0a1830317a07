"""Data sets with ground truth, in the layouts in which they are published."""

from genseg.evaluation.datasets.base import Dataset as Dataset
from genseg.evaluation.datasets.base import Sample as Sample
