"""The empty prompt's conditioning, kept on disk: text encoders such as T5 are then loaded once for a checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from genseg.errors import GensegError
from genseg.files import write_whole
from genseg.version import __version__
from genseg_backends.loading.hub import first_line, local_path

Conditioning = Mapping[str, Tensor]
COMMIT = re.compile(r"[0-9a-f]{40}")


def cache_folder() -> Path:
    """The folder ``prompts`` below ``$GENSEG_CACHE``, or below ``~/.cache/genseg`` without it."""
    return Path(os.environ.get("GENSEG_CACHE") or Path.home() / ".cache" / "genseg") / "prompts"


def cached_prompt(model: str, revision: str | None, maker: str, encode: Callable[[], Conditioning]) -> Conditioning:
    """Return the empty prompt's conditioning from the cache, or encode it and save it there.

    A folder is known by the names, sizes and times of its text files and encoders, and a hub id by its commit; at a
    branch or tag, which may move, nothing is cached. A cache that cannot be read or written is none.

    Args:
        model: The folder or hub id with the text encoders.
        revision: Branch, tag or commit on the hub.
        maker: What makes the conditioning: the family and dtype.
        encode: Loads the text encoders and encodes.
    """
    digest = _digest(model, revision, maker)
    if digest is None:
        return encode()
    path = cache_folder() / f"{digest}.safetensors"
    with suppress(OSError, SafetensorError):
        return load_file(path)
    conditioning = encode()
    with suppress(GensegError):  # a home that is not writable
        write_whole(path, lambda file: file.write(save({k: v.contiguous() for k, v in conditioning.items()})))
    return conditioning


def given_prompt(path: str, names: Iterable[str]) -> Conditioning:
    """Read a prompt's conditioning from a safetensors file.

    Args:
        path: The file.
        names: Names of its tensors: the network's inputs that depend on the prompt.

    Raises:
        GensegError: If the file is missing, no safetensors, or holds other tensors.
    """
    try:
        conditioning: Conditioning = load_file(Path(path).expanduser())
    except (OSError, SafetensorError) as error:
        raise GensegError(f"cannot read prompt_embeds={path} ({first_line(error)}); give a safetensors file") from error
    if conditioning.keys() != set(names):
        raise GensegError(
            f"prompt_embeds={path} holds {', '.join(conditioning) or 'nothing'}; "
            f"save what the backend's described(prompt) returns: {', '.join(names)}"
        )
    return conditioning


def _digest(model: str, revision: str | None, maker: str) -> str | None:
    """Identify a checkpoint's text encoders; None if they may change."""
    folder = local_path(model, revision)
    if folder is not None:
        parts = sorted(path for name in ("text_encoder*", "tokenizer*") for path in folder.glob(f"{name}/**/*"))
        stats = [(path, path.stat()) for path in [*parts, folder / "model_index.json"] if path.is_file()]
        facts = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
    elif COMMIT.fullmatch(revision or ""):
        facts = [[model, revision]]
    else:
        return None
    return hashlib.sha256(json.dumps([__version__, maker, facts]).encode()).hexdigest()[:32]
