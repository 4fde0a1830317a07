"""What all commands begin with: options of a backend, and errors in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from genseg.errors import GensegError, NothingLeftError

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
