"""What was set aside, once more: listed, shown, translated again after a fix and released, or dropped."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import datetime
from enum import StrEnum

import msgspec
import structlog

from bg_ingest.domain.commits import Commit, Head, readings_commit
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import decide, segment_start
from bg_ingest.errors import NotFound, StaleRead
from bg_ingest.ports import Clock, Provider, Sealer, Wakeups
from bg_ingest.services.polling.commit import commit_with_retries
from bg_ingest.services.polling.quarantine import hash_record, record_seal_data
from bg_ingest.services.retrying import retrying
from bg_ingest.store.segments import ReadingStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ReviewedRecord(msgspec.Struct, frozen=True):
    """A record on its shelf."""

    user: UserId
    key: QuarantineKey
    record: QuarantinedRecord

    @property
    def segment(self) -> datetime | None:
        """The start of the segment it belongs to, if its time could be read."""
        return None if isinstance(self.key, int) else self.key


class RetryResult(StrEnum):
    """What came of translating a record again."""

    RELEASED = "released"
    """It is a reading now: stored, told, and off its shelf."""
    ALREADY_STORED = "known"
    """The same reading was stored meanwhile: the record is off its shelf."""
    CONTRADICTED = "contradicted"
    """The reading was stored meanwhile with another value, which is newer: the record stays, to be dropped."""
    UNREADABLE = "unreadable"
    TRUNCATED = "cut"
    """Only its beginning was kept: it can never be translated again."""
    NO_PROVIDER = "nobodys"
    """It does not say whose it is, or its provider is not among ours."""


class QuarantineReview:
    """Never logs a record, and reads one only to translate or to show it."""

    def __init__(
        self,
        readings: ReadingStore,
        sealer: Sealer,
        providers: Mapping[str, Provider],
        clock: Clock,
        wakeups: Wakeups,
        table: str,
    ) -> None:
        self._readings = readings
        self._sealer = sealer
        self._providers = providers
        self._clock = clock
        self._wakeups = wakeups
        self._table = table

    async def iter_records(self, user: UserId) -> AsyncGenerator[ReviewedRecord]:
        """Yield a user's records that were neither released nor dropped, by segment, the timeless ones last."""
        async with aclosing(self._readings.iter_pages(user)) as pages:
            async for page in pages:
                for record in page.records:
                    if record.sealed:
                        yield ReviewedRecord(user, page.key, record)

    async def find(self, user: UserId, name: str) -> ReviewedRecord:
        """Return the one record whose digest begins so, in hexadecimal; Unknown when there is none or more."""
        found = [each async for each in self.iter_records(user) if each.record.digest.hex().startswith(name)]
        if len(found) != 1:
            raise NotFound(
                f"{len(found) or 'None'} of the records set aside for this user begin with {name!r}: list them, and "
                "give enough of one's name."
            )
        return found[0]

    def open_record(self, reviewed: ReviewedRecord) -> bytes:
        """Return the record as it came, or what was kept of it; Unsealable without its key."""
        digest = reviewed.record.digest
        return self._sealer.open(reviewed.record.sealed, record_seal_data(self._table, reviewed.user, digest))

    def is_truncated(self, reviewed: ReviewedRecord) -> bool:
        return hash_record(self.open_record(reviewed)) != reviewed.record.digest

    async def retry(self, reviewed: ReviewedRecord) -> RetryResult:
        """Translate a record again, as if it came when it was noticed, and release it if it is a reading now.

        A clock that was wrong then is not right because its time has come. What is released adds a reading; it
        never revises one, because the record is older than what was stored since.
        """
        raw, record = self.open_record(reviewed), reviewed.record
        if hash_record(raw) != record.digest:
            return RetryResult.TRUNCATED
        provider = self._providers.get(record.provider)
        if provider is None:
            return RetryResult.NO_PROVIDER
        found = provider.translate_record(record.provider_account, raw, record.noticed_at)
        if isinstance(found, Unreadable):
            return RetryResult.UNREADABLE
        result = await self._release(reviewed, found)
        log.info("retried a record", action="record_retried", user=reviewed.user, reason=record.reason, ended=result)
        return result

    @retrying(StaleRead)
    async def drop(self, reviewed: ReviewedRecord) -> None:
        """Forget a record for good: sent again, it is not set aside again."""
        head, page = await self._read_head(reviewed.user), await self._read_page(reviewed)
        after = page.with_dropped(reviewed.record.digest)
        await self._commit(Commit(before=head, head=head, quarantine_pages=(after,)))
        log.info("dropped a record", action="record_dropped", user=reviewed.user, reason=reviewed.record.reason)

    @retrying(StaleRead)
    async def _release(self, reviewed: ReviewedRecord, reading: Reading) -> RetryResult:
        head, known = await self._readings.read(reviewed.user, [segment_start(reading.measured_at)])
        if head is None or head.erased:
            raise _user_not_found()
        at = head.next_recorded_at(self._clock.now())
        decision = decide(known, [reading], at=at, last_change=head.last_change)
        if decision.revised or decision.rejected:
            return RetryResult.CONTRADICTED
        page = await self._read_page(reviewed)
        provider = reviewed.record.provider
        commit = readings_commit(head, known, decision, provider=provider, origin=Origin.QUARANTINE, at=at)
        await self._commit(msgspec.structs.replace(commit, quarantine_pages=(page.without(reviewed.record.digest),)))
        return RetryResult.RELEASED if decision.recorded else RetryResult.ALREADY_STORED

    async def _commit(self, commit: Commit) -> None:
        await commit_with_retries(self._readings, commit)
        self._wakeups.wake_relay(commit.changes)

    async def _read_head(self, user: UserId) -> Head:
        head = await self._readings.head(user)
        if head is None or head.erased:
            raise _user_not_found()
        return head

    async def _read_page(self, reviewed: ReviewedRecord) -> QuarantinePage:
        """Return the record's shelf as it is now; Unknown when somebody took the record off it."""
        page = (await self._readings.read_pages(reviewed.user, [reviewed.key])).get(reviewed.key)
        record = page.find(reviewed.record.digest) if page else None
        if page is None or record is None or not record.sealed:
            raise NotFound("The record is not set aside any more: list them again.")
        return page


def _user_not_found() -> NotFound:
    return NotFound("There is no such user: connect the user to a provider first.")
