"""A quick recipe for runs, and what is compared of their rows."""

from genseg.runs.rows import Row

FAST = {"n_clusters": 4, "draws": 1, "size": 64, "n_init": 1}
KEYS = [f"{key}={value}" for key, value in FAST.items()]


def told(row: Row) -> tuple:
    """All of a row but what it cost."""
    masks = [(mask.label, mask.rle, mask.embedding.tobytes()) for mask in row.masks]
    return row.key, row.source, row.status, row.error, row.labels_png, row.confidence_png, row.recipe_hash, masks
