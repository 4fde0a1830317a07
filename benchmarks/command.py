"""How every benchmark ends on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import genseg


def run(main: Callable[[], None]) -> None:
    """Call ``main``; what the user can do something about ends it in one sentence."""
    try:
        main()
    except genseg.GensegError as error:
        sys.exit(f"error: {error}")
