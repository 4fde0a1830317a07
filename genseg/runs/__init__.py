"""Data-set runs: from a pile of images to shards of masks, and what is made of them."""
