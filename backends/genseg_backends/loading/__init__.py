"""Checkpoints from folders, single files and the hub."""
