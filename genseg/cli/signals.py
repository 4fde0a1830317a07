"""Ctrl-C and SIGTERM at any time: finished files are kept, and no traceback is shown."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

MESSAGE = "genseg: stopped; finished files are kept"
SHOW_CURSOR = "\x1b[?25h"


def install() -> None:
    """Answer both signals by `_stop`, unless whoever started the process has them ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    """End a command by an exception, which it cleans up after.

    Where none is running yet, or something is being imported, nothing needs cleaning up and the exception would be
    lost: libraries make others of it, and Python ignores it in places. The process then ends at once.
    """
    names = []
    while frame is not None:
        names.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    is_importing = any(name.startswith("importlib._bootstrap") for name in names)
    if is_importing or not any(name.startswith("genseg.cli.commands.") for name in names):
        print(SHOW_CURSOR * sys.stderr.isatty() + MESSAGE, file=sys.stderr, flush=True)
        os._exit(128 + number)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
