"""Several models on the same images, side by side."""
