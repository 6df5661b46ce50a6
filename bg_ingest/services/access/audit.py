"""Audit of reads and changes of user data. Writes happen outside of requests, so that no request waits for them."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from secrets import token_bytes, token_hex

import anyio
import structlog
from msgspec.structs import replace

from bg_ingest.domain.access import (
    AUDIT_KEY_BYTES,
    HOUR,
    AuditAction,
    AuditRecord,
    audit_key_seal_data,
    hash_user,
    hour_start,
)
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import SealBroken, StoreError
from bg_ingest.ports import Clock, Sealer
from bg_ingest.store.audit import AuditStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_WAITING_RECORDS = 10_000
"""Records kept in memory (3 MB) while writes to the store fail. Further records are dropped and counted."""

MAX_RECORDED_READS = 50_000
"""Records of the current hour, other than changes, that are kept in memory so that equal ones are written once. Beyond
this number, some are written again."""

MAX_REFUSALS, MAX_REFUSED_SENDERS = 20, 500
"""Largest number of refusals recorded per sender and hour, and of such senders per hour. Without these bounds,
anonymous clients could fill the store, because a request may name any user."""

BATCH_SIZE = 500


class AuditLog:
    """Collects audit records, writes them at each ``flush`` and reads them."""

    def __init__(self, trail: AuditStore, sealer: Sealer, clock: Clock, table: str, *, retention: timedelta) -> None:
        self._trail = trail
        self._sealer = sealer
        self._clock = clock
        self._seal_data = audit_key_seal_data(table)
        self._retention = retention
        self._pending: list[tuple[UserId, AuditRecord]] = []
        self._recorded_reads: set[tuple[UserId, AuditRecord]] = set()
        self._recorded_hour: datetime | None = None
        self._refusals = Counter[str]()
        self._refusals_hour: datetime | None = None
        self._key: bytes | None = None
        self._failing = False
        self._added = anyio.Event()
        self.dropped = 0
        """Records dropped for lack of room."""

    def add(self, user: UserId, credential: str, route: str, action: AuditAction) -> None:
        """Record an action at the current time; never waits and never fails."""
        now = self._clock.now()
        at, nonce = (now, token_hex(8)) if action is AuditAction.CHANGE else (hour_start(now), "")
        pending_record = user, AuditRecord("", at, action, credential, route, nonce)
        if action is not AuditAction.CHANGE:
            if pending_record in self._recorded_reads:
                return
            if at != self._recorded_hour or len(self._recorded_reads) >= MAX_RECORDED_READS:
                self._recorded_reads.clear()
                self._recorded_hour = at
            self._recorded_reads.add(pending_record)
        if len(self._pending) < MAX_WAITING_RECORDS:
            self._pending.append(pending_record)
            self._added.set()
            return
        self._recorded_reads.discard(pending_record)
        self.dropped += 1
        if self.dropped == 1:
            log.error("no room for audit records; they are dropped", action="audit_full")

    def add_refusal(self, user: UserId, sender: str, route: str) -> None:
        """Record a refused request, up to ``MAX_REFUSALS`` of a sender and hour."""
        hour = hour_start(self._clock.now())
        if hour != self._refusals_hour:
            self._refusals.clear()
            self._refusals_hour = hour
        has_room = sender in self._refusals or len(self._refusals) < MAX_REFUSED_SENDERS
        if has_room and self._refusals[sender] < MAX_REFUSALS:
            self._refusals[sender] += 1
            self.add(user, sender, route, AuditAction.REFUSED)

    async def wait(self) -> None:
        """Return once a record is pending."""
        if not self._pending:
            self._added = anyio.Event()
            await self._added.wait()

    async def flush(self) -> int:
        """Write pending records and return the number of written ones. Records whose write fails stay pending."""
        written = 0
        while batch := self._pending[:BATCH_SIZE]:
            try:
                records = [await self._pseudonymize(*pair) for pair in batch]
                await self._trail.add(records, self._clock.now() + self._retention)
            except (StoreError, SealBroken) as error:  # SealBroken: no encryption key opens the hash key
                if not self._failing:
                    log.warning(
                        "audit records cannot be written; they are kept",
                        action="audit_delayed",
                        error=type(error).__name__,
                    )
                self._failing = True
                break
            del self._pending[: len(batch)]
            written += len(batch)
        else:
            if self._failing:
                log.info("the audit can write records again", action="audit_recovered", dropped=self.dropped)
            self._failing, self.dropped = False, 0
        return written

    async def records(self, user: UserId, window: Window) -> AsyncGenerator[Sequence[AuditRecord]]:
        """Yield the records of a user in batches, ascending by time. Those of an erased user are included."""
        user_hash = hash_user(await self._load_hash_key(), user)
        records = self._trail.iter_records(user_hash, Window(hour_start(window.start), window.end), self._clock.now())
        async with aclosing(records) as batches:
            async for batch in batches:
                if batch:
                    yield batch

    async def _pseudonymize(self, user: UserId, record: AuditRecord) -> AuditRecord:
        """Replace the user, and the user of a token, by hashes."""
        key = await self._load_hash_key()
        kind, _, name = record.credential.partition(":")
        credential = f"token:{hash_user(key, name)}" if kind == "token" else record.credential
        return replace(record, user_hash=hash_user(key, user), credential=credential)

    async def _load_hash_key(self) -> bytes:
        if self._key is None:
            sealed_key = self._sealer.seal(token_bytes(AUDIT_KEY_BYTES), self._seal_data)
            self._key = self._sealer.open(await self._trail.hash_key(sealed_key), self._seal_data)
        return self._key


DEFAULT_WINDOW_LENGTH = 24 * 30 * HOUR
"""Length of the window of a query without a start."""
