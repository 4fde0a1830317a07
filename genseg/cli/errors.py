"""What all commands begin with: options of a backend, and errors in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from genseg.errors import GensegError, NothingLeftError

OFFLINE = "Use only what has been downloaded before."
OWN_OPTIONS = {key: f"--{key}" for key in ("model", "revision", "device", "dtype")} | {"name": "--backend"}
"""What a backend is loaded by that is no `--load`, and what to give instead."""


EXIT_CODES = """Exit codes:

0  all is done

1  something failed, an image, a model of a comparison or a promise of a backend; the rest is done

2  refused: a mistake in the command, or a model, data set or folder that cannot be used

130  stopped by Ctrl-C; finished files are kept"""


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Turn what users can do something about into a sentence on stderr and an exit code: see `EXIT_CODES`."""
    try:
        yield
    except KeyboardInterrupt:
        code, sentence = 130, "stopped; finished files are kept"
    except (GensegError, MemoryError, RuntimeError) as error:
        code, sentence = 1 if isinstance(error, NothingLeftError) else 2, sentence_of(error)
    else:
        return
    typer.echo(f"genseg: {sentence}", err=True)
    raise typer.Exit(code)


def sentence_of(error: Exception) -> str:
    """What users are told of an error; one that they can do nothing about is raised again."""
    if isinstance(error, GensegError):
        return str(error)
    from genseg.batches import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    return (
        "out of memory, although batches are halved until they fit; choose a smaller size, such as size=256, "
        "or, on a small graphics card, --load offload=true"
    )


def load_options(load: Sequence[str], revision: str | None = None) -> dict[str, Any]:
    """What the backend's factory is given besides model, device and dtype."""
    from omegaconf import OmegaConf

    problem = "is not KEY=VALUE with a single YAML value, such as offload=true"
    given: dict[str, Any] = {"revision": revision}
    for option in load:
        key, equals, _ = option.partition("=")
        if key in OWN_OPTIONS:
            raise GensegError(f"--load {option} is refused; give {OWN_OPTIONS[key]} instead")
        try:
            values = OmegaConf.to_container(OmegaConf.from_dotlist([option]))
        except Exception as error:  # the YAML parser's own
            raise GensegError(f"--load {option} {problem}") from error
        assert isinstance(values, dict)
        if not equals or not isinstance(values.get(key, ()), str | int | float | None):
            raise GensegError(f"--load {option} {problem}")
        given[key] = values[key]
    return given


def go_offline(wanted: bool) -> None:
    """Let nothing be asked of the hub, by the variable that its client goes by; before that is imported."""
    if wanted:
        os.environ["HF_HUB_OFFLINE"] = "1"
