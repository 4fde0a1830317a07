"""Upsampling of features and maps by the image that they were computed from, a module for each method.

`genseg.upsampling.upsample` has them by name, beside those of plug-ins.
"""
