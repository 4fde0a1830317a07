"""Images that kill whoever segments them, such as one too large for the machine's memory.

Ray does a shard again whose worker died, and would do so without end. So a shard that is done again notes each image
before it is begun, and one on which several attempts in turn have died is not tried any more.
"""

from __future__ import annotations

from genseg.runs.plan import shard_name
from genseg.runs.store import Store

MOST = 3  # deaths in turn on one image


class Deaths:
    """What is known of the attempts at a shard; a small file while it is not done.

    Args:
        store: The run's folder.
        shard: Its number.
    """

    def __init__(self, store: Store, shard: int) -> None:
        self._store, self._name = store, shard_name(shard).replace("shards/", "begun/").replace(".parquet", ".json")
        known = store.read_json(self._name)
        self._again = known is not None
        self._last, self._times = (known or {}).get("key"), (known or {}).get("times", 0)
        self._given_up = set((known or {}).get("given_up", ()))
        if self._last is not None and self._times >= MOST:
            self._given_up.add(self._last)
        self._note(self._last, self._times)

    def kills(self, key: str) -> bool:
        """Whether an image is not to be tried any more; else it is noted as the one that is begun."""
        if key in self._given_up:
            return True
        if self._again:  # the first attempt at a shard needs no notes, and nearly all have no second
            self._note(key, self._times + 1 if key == self._last else 1)
        return False

    def over(self) -> None:
        """The shard is done."""
        self._store.remove(self._name)

    def _note(self, key: str | None, times: int) -> None:
        self._store.write_json(self._name, {"key": key, "times": times, "given_up": sorted(self._given_up)})
