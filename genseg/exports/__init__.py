"""Runs in the formats that other tools read: a module for each format, and `genseg.export_run` over them."""
