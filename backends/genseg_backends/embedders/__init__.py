"""Embedders: models by which segments are named."""
