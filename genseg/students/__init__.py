"""Students: fast segmenters of transformers, trained on the masks of a run."""
