"""Giving memory back, so that one model after another needs no more than the largest alone."""

from __future__ import annotations

import ctypes
import gc
import sys

import torch


def release() -> None:
    """Free what nothing refers to any more and hand it back: to the system, and to the graphics card."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":  # glibc keeps freed memory for itself; other C libraries have no such function
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
