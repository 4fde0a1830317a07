"""Build, load and read the stand-in for CUDA that `standin.cpp` describes. Torch is imported after it, never before."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SOURCE = Path(__file__).with_name("standin.cpp")
FLAGS = ("-std=c++20", "-O1", "-shared", "-fPIC", "-w")


def obstacle() -> str:
    """Why the stand-in cannot be used here; an empty string if it can."""
    if sys.platform != "linux":
        return "the stand-in for CUDA is built on Linux only"
    if "torch" in sys.modules:
        return "torch is imported already; run tests/device by itself, as 'make test-device' does"
    if (_torch() / "lib" / "libtorch_cuda.so").exists():
        return "this torch is built with CUDA, whose kernels the stand-in would replace"
    if shutil.which("g++") is None:
        return "there is no g++ to build the stand-in for CUDA with"
    return ""


def load(folder: Path) -> None:
    """Load the stand-in into this process, built into a folder unless it is there.

    Args:
        folder: Where libraries are kept, by torch's version and the source.

    Raises:
        subprocess.CalledProcessError: If it does not compile.
    """
    text = "\n".join((version("torch"), *FLAGS, SOURCE.read_text(encoding="utf-8")))
    library = folder / f"standin-{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        torch, unfinished = _torch(), library.with_suffix(f".{os.getpid()}")
        links = (f"-L{torch}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib")
        subprocess.run(["g++", *FLAGS, f"-I{torch}/include", SOURCE, "-o", unfinished, *links], check=True)
        unfinished.replace(library)
    ctypes.CDLL(str(library))  # ahead of torch, which looks for hooks of CUDA once
    _name_operators_that_take_scalars()
    _replace_functions_of_torch_cuda()


@contextmanager
def counted() -> Iterator[Mapping[str, int]]:
    """Count what happens on the card within the block; the counts are there when it ends.

    Yields:
        ``launches``, ``to_card`` and ``to_host`` for copies, ``synchronizations`` (each copy to the host is one),
        ``float64`` for tensors of this dtype on the card, and ``refused`` for allocations for which memory was too
        little.
    """
    counts: dict[str, int] = {}
    before = _ops().counts()
    yield counts
    counts.update({name: count - before[name] for name, count in _ops().counts().items()})


@contextmanager
def memory_left(size: int) -> Iterator[None]:
    """Let the card have ``size`` bytes of memory beside what is in use."""
    used, _, limit = _ops().memory()
    _ops().limit_memory(used + size)
    try:
        yield
    finally:
        _ops().limit_memory(limit)


def memory_taken(run: Any) -> int:
    """Bytes that a function takes at its peak, beside what is in use before."""
    _ops().reset_peak()
    before = _ops().memory()[0]
    run()
    return int(_ops().memory()[1] - before)


def _torch() -> Path:
    spec = importlib.util.find_spec("torch")  # imports nothing
    assert spec is not None
    return Path(str(spec.origin)).parent


def _ops() -> Any:
    import torch

    return torch.ops.standin


def _name_operators_that_take_scalars() -> None:
    """Name the operators whose device check torch's code generator leaves out, as its own list has them."""
    functions = _torch().parent / "torchgen" / "packaged" / "ATen" / "native" / "native_functions.yaml"
    for function in functions.read_text(encoding="utf-8").split("\n- func: ")[1:]:
        if re.search(r"^  device_check: NoCheck", function, re.MULTILINE):
            _ops().take_scalars(f"aten::{function.split('(')[0]}")


def _replace_functions_of_torch_cuda() -> None:
    """Let `torch.cuda` answer for a card of the H100's kind, though torch is built without CUDA."""
    import torch

    ops, cuda = torch.ops.standin, torch.cuda
    card = SimpleNamespace(name="stand-in", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132)
    functions: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,  # noqa: ARG005
        "get_device_properties": lambda device=None: card,  # noqa: ARG005
        "get_device_name": lambda device=None: card.name,  # noqa: ARG005
        "get_device_capability": lambda device=None: (card.major, card.minor),  # noqa: ARG005
        "is_bf16_supported": lambda including_emulation=True: True,  # noqa: ARG005
        "synchronize": lambda device=None: ops.synchronize(),  # noqa: ARG005
        "empty_cache": lambda: None,
        "mem_get_info": lambda device=None: (ops.memory()[2] - ops.memory()[0], ops.memory()[2]),  # noqa: ARG005
        "memory_allocated": lambda device=None: ops.memory()[0],  # noqa: ARG005
        "memory_reserved": lambda device=None: ops.memory()[0],  # noqa: ARG005
        "max_memory_allocated": lambda device=None: ops.memory()[1],  # noqa: ARG005
        "reset_peak_memory_stats": lambda device=None: ops.reset_peak(),  # noqa: ARG005
    }
    for name, function in functions.items():
        setattr(cuda, name, function)
