"""genseg's command line, run within the tests."""

from typer.testing import CliRunner

from genseg.cli import app

QUICK = ("size=32", "margin=0", "draws=1", "replay_steps=1", "n_init=1")


def run(*arguments: object, given: bytes | None = None):
    """One command line and its standard input; an exception that is no exit is raised, as a traceback would be."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], given, catch_exceptions=False)


def assert_refused(result, *parts: str, code: int = 2) -> None:
    """That a command ended with one sentence, which has all of the parts."""
    assert result.exit_code == code
    assert result.stderr.startswith("genseg: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts), result.stderr
