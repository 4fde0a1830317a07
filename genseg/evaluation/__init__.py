"""How good segments are, against ground truth and against each other."""
