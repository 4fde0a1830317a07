"""The sessions of all open tabs, as many as the machine has room for."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict

from genseg.app.session import Session
from genseg.web.engine import Engine

SESSIONS = 64
"""Upper bound of open tabs, each of which holds an image and its difference maps."""


class Sessions:
    """The sessions of all open tabs, by Gradio's key of each; `named` looks one up by its token."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: str, address: str = "") -> Session:
        """The session of a tab at a network address; a new one for a new tab."""
        with self._lock:
            session = self._open.setdefault(key, Session(self._engine, address))
            self._open.move_to_end(key)
            surplus = self._open.pop(self._most_dispensable()) if len(self._open) > SESSIONS else None
        if surplus is not None:
            surplus.close()
        return session

    def _most_dispensable(self) -> str:
        """The oldest tab of the address that has most, so that no address takes the tabs of others."""
        ((crowded, _),) = Counter(session.address for session in self._open.values()).most_common(1)
        return next(key for key, session in self._open.items() if session.address == crowded)

    def named(self, token: str) -> Session | None:
        """The session with this token; None if there is none."""
        with self._lock:
            return next((session for session in self._open.values() if session.token == token), None)

    def end(self, key: str) -> None:
        """Close the session of a tab that was closed."""
        with self._lock:
            session = self._open.pop(key, None)
        if session is not None:
            session.close()

    def __len__(self) -> int:
        return len(self._open)
