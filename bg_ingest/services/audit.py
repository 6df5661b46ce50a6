"""Remember who read or changed whose data, beside the requests: none of them waits for it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import timedelta
from secrets import token_bytes, token_hex

import anyio
import msgspec
import structlog

from bg_ingest.domain.audit import HOUR, KEY_BYTES, Action, Record, hashed, hour_of
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StoreError
from bg_ingest.ports import Clock, Sealer, Trail

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MOST_WAITING = 10_000
"""Records kept in memory while the store takes none: 3 MB. What comes beyond is dropped, and counted."""

MOST_KNOWN = 50_000
"""Reads of the hour that are known to be on record; when there are more, some are written once more."""

AT_ONCE = 500

ASSOCIATED = "audit key"


class Auditing:
    """Takes notes and writes them down when it is told to; answers what is on record."""

    def __init__(self, trail: Trail, sealer: Sealer, clock: Clock, table: str, *, kept: timedelta) -> None:
        self._trail = trail
        self._sealer = sealer
        self._clock = clock
        self._associated = bound_to(table)
        self._kept = kept
        self._waiting: list[tuple[UserId, Record]] = []
        self._known: set[tuple[UserId, Record]] = set()
        self._key: bytes | None = None
        self._failing = False
        self._noted = anyio.Event()
        self.dropped = 0
        """Notes that found no room."""

    def note(self, user: UserId, credential: str, route: str, action: Action) -> None:
        """Note that it was done, now; never waits and never fails."""
        now = self._clock.now()
        at, mark = (now, token_hex(8)) if action is Action.CHANGE else (hour_of(now), "")
        noted = user, Record("", at, action, credential, route, mark)
        if action is not Action.CHANGE:
            if noted in self._known:
                return
            if len(self._known) >= MOST_KNOWN or any(each.at != at for _, each in self._first_known()):
                self._known.clear()
            self._known.add(noted)
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(noted)
            self._noted.set()
            return
        self._known.discard(noted)
        self.dropped += 1
        if self.dropped == 1:
            log.error("the audit has no room; records are lost", action="audit_full")

    def _first_known(self) -> Sequence[tuple[UserId, Record]]:
        return [next(iter(self._known))] if self._known else []

    async def noted(self) -> None:
        """Wait until something waits to be written."""
        if not self._waiting:
            self._noted = anyio.Event()
            await self._noted.wait()

    async def write(self) -> int:
        """Write what waits; return how much that was. Where the store does not take it, it waits on."""
        written = 0
        while some := self._waiting[:AT_ONCE]:
            try:
                await self._trail.add([await self._named(*each) for each in some], self._clock.now() + self._kept)
            except StoreError as error:
                if not self._failing:
                    log.warning("the audit waits", action="audit_waits", error=type(error).__name__)
                self._failing = True
                break
            del self._waiting[: len(some)]
            written += len(some)
        else:
            if self._failing:
                log.info("the audit is written again", action="audit_recovered", dropped=self.dropped)
            self._failing, self.dropped = False, 0
        return written

    async def of(self, user: UserId, window: Window) -> AsyncGenerator[Sequence[Record]]:
        """Yield what is on record of a user, erased or not, ascending, in batches."""
        person = hashed(await self._hash_key(), user)
        records = self._trail.of(person, Window(hour_of(window.start), window.end), self._clock.now())
        async with aclosing(records) as batches:
            async for batch in batches:
                if batch:
                    yield batch

    async def _named(self, user: UserId, record: Record) -> Record:
        """Put hashes in place of the user and of a token's user."""
        key = await self._hash_key()
        kind, _, name = record.credential.partition(":")
        credential = f"token:{hashed(key, name)}" if kind == "token" else record.credential
        return msgspec.structs.replace(record, person=hashed(key, user), credential=credential)

    async def _hash_key(self) -> bytes:
        if self._key is None:
            fresh = self._sealer.seal(token_bytes(KEY_BYTES), self._associated)
            self._key = self._sealer.open(await self._trail.key(fresh), self._associated)
        return self._key


def bound_to(table: str) -> bytes:
    """Return what the seal of the hashes' key is bound to."""
    return msgspec.json.encode([table, ASSOCIATED])


USUAL_LENGTH = 24 * 30 * HOUR
"""Of the window of who names no start."""
