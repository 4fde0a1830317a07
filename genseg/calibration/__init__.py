"""Search for a model's recipe, with or without ground truth."""
