"""Buffer of hints, between their arrival and their transmission or their use."""

from itertools import starmap

import anyio

from bg_ingest.domain.ids import UserId
from bg_ingest.ports import Hint

MAX_HINTED_USERS = 10_000
"""Users with a waiting hint, about 2 MB. Hints of further users are dropped."""


class HintBuffer:
    """Buffer of one hint per user, with the user's highest change number. Users are in order of arrival.

    A buffer has one reader.
    """

    def __init__(self) -> None:
        self._last_changes: dict[UserId, int] = {}
        self._added = anyio.Event()

    def put(self, hint: Hint) -> None:
        known = self._last_changes.get(hint.user)
        if known is None and len(self._last_changes) >= MAX_HINTED_USERS:
            return
        self._last_changes[hint.user] = max(hint.last_change, known or 0)
        self._added.set()

    async def get(self) -> Hint:
        """Wait for a hint and remove it."""
        await self._wait()
        user = next(iter(self._last_changes))
        return Hint(user, self._last_changes.pop(user))

    async def get_all(self) -> list[Hint]:
        """Wait for a hint, and remove all."""
        await self._wait()
        taken, self._last_changes = self._last_changes, {}
        return list(starmap(Hint, taken.items()))

    async def _wait(self) -> None:
        while not self._last_changes:
            self._added = anyio.Event()
            await self._added.wait()
