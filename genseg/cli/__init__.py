"""The command line: ``genseg segment``, ``evaluate``, ``compare``, ``calibrate`` and what goes with them.

Importing this takes no time: `main` answers signals before anything else is imported.
"""

from __future__ import annotations

from typing import Any


def main() -> None:
    """The console entry point."""
    from genseg.cli.signals import install

    install()
    from genseg.cli.application import app

    app(prog_name="genseg")


def __getattr__(name: str) -> Any:
    if name == "app":
        from genseg.cli.application import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
