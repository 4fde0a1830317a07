"""Errors of commands: one sentence on stderr, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from genseg.errors import GensegError, NothingLeftError, in_one_line, is_out_of_memory, user_message

EXIT_CODES = """Exit codes:

0  all is done

1  something failed: an image, a model of a comparison or a check of a backend; the rest is done

2  refused: a mistake in the command, or a model, dataset or folder that cannot be used

130  stopped by Ctrl-C, 143 by SIGTERM; finished files are kept"""


def complain(message: str) -> None:
    """Say on stderr, in one line, what is wrong."""
    typer.echo(f"genseg: {in_one_line(message)}", err=True)


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn errors that users can do something about into a sentence on stderr and an exit code: see `EXIT_CODES`."""
    try:
        yield
    except KeyboardInterrupt:
        code, message = 130, "stopped; finished files are kept"
    except (GensegError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, GensegError) or is_out_of_memory(error)):
            raise
        code, message = 1 if isinstance(error, NothingLeftError) else 2, user_message(error)
    else:
        return
    complain(message)
    raise typer.Exit(code)
