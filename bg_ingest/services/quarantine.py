"""What was set aside, once more: listed, shown, translated again after a fix and released, or dropped."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from enum import StrEnum

import msgspec
import structlog

from bg_ingest.domain.commits import Commit, Head, Place, SetAside, Shelf, readings_commit
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import decide, segment_start
from bg_ingest.errors import Outdated, StoreUnavailable, Unknown
from bg_ingest.ports import Clock, Hints, Provider, Readings, Sealer
from bg_ingest.services.commit import TRIES, try_commit
from bg_ingest.services.shelve import digest_of, sealed_with

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Kept(msgspec.Struct, frozen=True):
    """A record on its shelf."""

    user: UserId
    place: Place
    record: SetAside

    @property
    def segment(self) -> datetime | None:
        """The start of the segment it belongs to, if its time could be read."""
        return None if isinstance(self.place, int) else self.place


class Retried(StrEnum):
    """What came of translating a record again."""

    RELEASED = "released"
    """It is a reading now: stored, told, and off its shelf."""
    KNOWN = "known"
    """The same reading was stored meanwhile: the record is off its shelf."""
    CONTRADICTED = "contradicted"
    """The reading was stored meanwhile with another value, which is newer: the record stays, to be dropped."""
    UNREADABLE = "unreadable"
    CUT = "cut"
    """Only its beginning was kept: it can never be translated again."""
    NOBODYS = "nobodys"
    """It does not say whose it is, or its provider is not among ours."""


class Quarantine:
    """Never logs a record, and reads one only to translate or to show it."""

    def __init__(
        self,
        readings: Readings,
        sealer: Sealer,
        providers: Mapping[str, Provider],
        clock: Clock,
        hints: Hints,
        table: str,
    ) -> None:
        self._readings = readings
        self._sealer = sealer
        self._providers = providers
        self._clock = clock
        self._hints = hints
        self._table = table

    async def kept(self, user: UserId) -> AsyncGenerator[Kept]:
        """Yield a user's records that were neither released nor dropped, by segment, the timeless ones last."""
        async with aclosing(self._readings.all_shelves(user)) as shelves:
            async for shelf in shelves:
                for record in shelf.records:
                    if record.sealed:
                        yield Kept(user, shelf.place, record)

    async def named(self, user: UserId, name: str) -> Kept:
        """Return the one record whose digest begins so, in hexadecimal; Unknown when there is none or more."""
        found = [each async for each in self.kept(user) if each.record.digest.hex().startswith(name)]
        if len(found) != 1:
            raise Unknown(
                f"{len(found) or 'None'} of the records set aside for this user begin with {name!r}: list them, and "
                "give enough of one's name."
            )
        return found[0]

    def raw(self, kept: Kept) -> bytes:
        """Return the record as it came, or what was kept of it; Unsealable without its key."""
        digest = kept.record.digest
        return self._sealer.open(kept.record.sealed, sealed_with(self._table, kept.user, digest))

    def is_cut(self, kept: Kept) -> bool:
        return digest_of(self.raw(kept)) != kept.record.digest

    async def retry(self, kept: Kept) -> Retried:
        """Translate a record again, as if it came when it was noticed, and release it if it is a reading now.

        A clock that was wrong then is not right because its time has come. What is released adds a reading; it
        never revises one, because the record is older than what was stored since.
        """
        raw, record = self.raw(kept), kept.record
        if digest_of(raw) != record.digest:
            return Retried.CUT
        provider = self._providers.get(record.provider)
        if provider is None:
            return Retried.NOBODYS
        found = provider.retranslate(record.provider_account, raw, record.noticed_at)
        if isinstance(found, Unreadable):
            return Retried.UNREADABLE
        ended = await self._release(kept, found)
        log.info("retried a record", action="record_retried", user=kept.user, reason=record.reason, ended=ended)
        return ended

    async def drop(self, kept: Kept) -> None:
        """Forget a record for good: sent again, it is not set aside again."""
        for _ in range(TRIES):
            head, shelf = await self._head(kept.user), await self._shelf(kept)
            after = shelf.with_dropped(kept.record.digest)
            if await self._committed(Commit(before=head, head=head, shelves=(after,))):
                log.info("dropped a record", action="record_dropped", user=kept.user, reason=kept.record.reason)
                return
        raise StoreUnavailable("too many writers at once")

    async def _release(self, kept: Kept, reading: Reading) -> Retried:
        for _ in range(TRIES):
            head, known = await self._readings.known(kept.user, [segment_start(reading.measured_at)])
            if head is None or head.erased:
                raise _no_such_user()
            at = head.next_instant(self._clock.now())
            decision = decide(known, [reading], at=at, last_change=head.last_change)
            if decision.revised or decision.refused:
                return Retried.CONTRADICTED
            shelf = await self._shelf(kept)
            provider = kept.record.provider
            commit = readings_commit(head, known, decision, provider=provider, origin=Origin.QUARANTINE, at=at)
            if await self._committed(msgspec.structs.replace(commit, shelves=(shelf.without(kept.record.digest),))):
                return Retried.RELEASED if decision.recorded else Retried.KNOWN
        raise StoreUnavailable("too many writers at once")

    async def _committed(self, commit: Commit) -> bool:
        try:
            await try_commit(self._readings, commit)
        except Outdated:
            return False
        self._hints.told(commit.changes)
        return True

    async def _head(self, user: UserId) -> Head:
        head = await self._readings.head(user)
        if head is None or head.erased:
            raise _no_such_user()
        return head

    async def _shelf(self, kept: Kept) -> Shelf:
        """Return the record's shelf as it is now; Unknown when somebody took the record off it."""
        shelf = (await self._readings.shelves(kept.user, [kept.place])).get(kept.place)
        record = shelf.found(kept.record.digest) if shelf else None
        if shelf is None or record is None or not record.sealed:
            raise Unknown("The record is not set aside any more: list them again.")
        return shelf


def _no_such_user() -> Unknown:
    return Unknown("There is no such user: connect the user to a provider first.")
