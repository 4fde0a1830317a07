"""Datasets with ground truth, in their published layouts."""

from genseg.evaluation.datasets.base import Dataset as Dataset
from genseg.evaluation.datasets.base import DatasetInfo as DatasetInfo
from genseg.evaluation.datasets.base import Sample as Sample
from genseg.evaluation.datasets.catalogue import list_datasets as list_datasets
from genseg.evaluation.datasets.catalogue import load_dataset as load_dataset
from genseg.evaluation.datasets.rows import from_rows as from_rows
