"""Review of quarantined records: list, show, translate again after a fix, release or drop."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec
import structlog
from msgspec.structs import replace

from bg_ingest.domain.commits import Commit, readings_commit
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantineKey, QuarantinePage
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.segments import decide, segment_start
from bg_ingest.errors import NotFound, SealBroken, StaleRead
from bg_ingest.ports import Clock, Provider, Sealer
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.polling.quarantine import hash_record, record_seal_data
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ReviewedRecord(msgspec.Struct, frozen=True):
    """A quarantined record with its key."""

    user: UserId
    key: QuarantineKey
    record: QuarantinedRecord

    @property
    def segment(self) -> datetime | None:
        """Start of the record's segment, if its time is readable."""
        return None if isinstance(self.key, int) else self.key


class RetryResult(StrEnum):
    """Result of translating a record again."""

    RELEASED = "released"
    """The record is valid now: its reading is stored and published, and the record is removed from its page."""
    ALREADY_STORED = "already_stored"
    """The same reading was stored meanwhile: the record is removed from its page."""
    CONTRADICTED = "contradicted"
    """A reading with the same identity is stored with another value. The record stays until it is dropped."""
    NO_ROOM = "no_room"
    """The segment of the reading is full. The record stays."""
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    """Only the beginning of the record was stored, so that the record can never be translated again."""
    NO_PROVIDER = "no_provider"
    """The record names no provider, or a provider that is not configured."""
    NO_KEY = "no_key"
    """No configured key opens the record: add the key that sealed it to TOKEN_ENCRYPTION_KEYS."""


@dataclass(frozen=True)
class QuarantineReview:
    """Reads records only to translate or to show them, and never logs one."""

    store: Store
    committer: Committer
    sealer: Sealer
    providers: Mapping[str, Provider]
    clock: Clock
    table: str

    async def iter_records(self, user: UserId) -> AsyncGenerator[ReviewedRecord]:
        """Yield a user's records that were neither released nor dropped, by segment.

        Records without a time come last.
        """
        async with aclosing(self.store.quarantine.iter_pages(user)) as pages:
            async for page in pages:
                for record in page.records:
                    if record.sealed:
                        yield ReviewedRecord(user, page.key, record)

    async def find(self, user: UserId, name: str) -> ReviewedRecord:
        """Return the record with a hexadecimal digest that begins with ``name``.

        NotFound if no record matches, or more than one.
        """
        matches = [match async for match in self.iter_records(user) if match.record.digest.hex().startswith(name)]
        if len(matches) != 1:
            raise NotFound(
                f"{len(matches)} quarantined records of this user have names that begin with {name!r}: list the "
                "records, and give enough characters of one name."
            )
        return matches[0]

    def open_record(self, reviewed: ReviewedRecord) -> bytes:
        """Return the record as received, or its stored beginning; SealBroken without its key."""
        digest = reviewed.record.digest
        return self.sealer.open(reviewed.record.sealed, record_seal_data(self.table, reviewed.user, digest))

    def is_truncated(self, reviewed: ReviewedRecord) -> bool:
        return hash_record(self.open_record(reviewed)) != reviewed.record.digest

    async def retry(self, reviewed: ReviewedRecord) -> RetryResult:
        """Translate a record again, and release it if it is a reading now.

        The time of measurement is compared with ``noticed_at``, not with the present. A record that was dated in the
        future therefore stays invalid for ever. A release adds a reading and never revises one, because the stored
        value may be newer than the record.
        """
        record = reviewed.record
        try:
            raw = self.open_record(reviewed)
        except SealBroken:
            return RetryResult.NO_KEY
        if hash_record(raw) != record.digest:
            return RetryResult.TRUNCATED
        provider = self.providers.get(record.provider)
        if provider is None:
            return RetryResult.NO_PROVIDER
        translated = provider.translate_record(record.provider_account, raw, record.noticed_at)
        if isinstance(translated, Unreadable):
            return RetryResult.UNREADABLE
        result = await self._release(reviewed, translated)
        log.info("retried a record", action="record_retried", user=reviewed.user, reason=record.reason, ended=result)
        return result

    @retrying(StaleRead)
    async def drop(self, reviewed: ReviewedRecord) -> None:
        """Drop a record for good. The same record is not quarantined again."""
        head = await self.store.readings.head(reviewed.user)
        if head is None or head.erased:
            raise _user_not_found()
        page = await self._read_page(reviewed)
        after = page.with_dropped(reviewed.record.digest)
        await self.committer.commit(Commit(before=head, head=head, quarantine_pages=(after,)))
        log.info("dropped a record", action="record_dropped", user=reviewed.user, reason=reviewed.record.reason)

    @retrying(StaleRead)
    async def _release(self, reviewed: ReviewedRecord, reading: Reading) -> RetryResult:
        head, known, _ = await self.store.readings.read(reviewed.user, [segment_start(reading.measured_at)])
        if head is None or head.erased:
            raise _user_not_found()
        at = head.next_recorded_at(self.clock.now())
        decision = decide(known, [reading], at=at, last_change=head.last_change)
        if any(rejected.reason == "segment_full" for rejected in decision.rejected):
            return RetryResult.NO_ROOM
        if decision.revised or decision.rejected:
            return RetryResult.CONTRADICTED
        page = await self._read_page(reviewed)
        provider = reviewed.record.provider
        commit = readings_commit(head, known, decision, provider=provider, origin=Origin.QUARANTINE, at=at)
        await self.committer.commit(replace(commit, quarantine_pages=(page.without(reviewed.record.digest),)))
        return RetryResult.RELEASED if decision.recorded else RetryResult.ALREADY_STORED

    async def _read_page(self, reviewed: ReviewedRecord) -> QuarantinePage:
        """Return the current page of a record; NotFound if the record was removed from it."""
        page = (await self.store.quarantine.read_pages(reviewed.user, [reviewed.key])).get(reviewed.key)
        record = page.find(reviewed.record.digest) if page else None
        if page is None or record is None or not record.sealed:
            raise NotFound("The record is not in quarantine any more: list the records again.")
        return page


def _user_not_found() -> NotFound:
    return NotFound("There is no such user: connect the user to a provider first.")
