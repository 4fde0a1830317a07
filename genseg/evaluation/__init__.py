"""Evaluation of segments against ground truth and against each other."""
