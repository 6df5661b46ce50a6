"""Key rotation: re-sealing of all sealed values by the current key, during normal operation."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import anyio
import msgspec
import structlog
from msgspec.structs import replace

from bg_ingest.domain.access import audit_key_seal_data
from bg_ingest.domain.grants import CLAIM_STALE_AFTER, Grant
from bg_ingest.errors import SealBroken, StaleRead, TransactionConflict
from bg_ingest.ports import Sealer
from bg_ingest.services.polling.quarantine import record_seal_data
from bg_ingest.store.sealed_items import AuditKey, SealedItem, SealedItemStore, SealedQuarantinePage

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SCAN_PARTS = 64
"""Parts of the store, read one after another. Each finished part is one step of the reported progress."""

MAX_PASSES = 3
"""Passes of one run. A run that still finds something to do in the last one is not complete."""


class RotationResult(msgspec.Struct):
    """Counts of one pass over the store."""

    sealed: int = 0
    """Sealed values in total."""
    resealed: int = 0
    busy: int = 0
    """Grants that are being refreshed, and items changed since they were read. The next pass tries them again."""
    unreadable: int = 0
    """Values that none of the keys opens."""

    complete: bool = False
    """True if a whole pass found all values sealed by the current key."""


class KeyRotation:
    """Re-seals values in passes over the store. After an interruption, the next run re-seals the rest."""

    def __init__(self, items: SealedItemStore, sealer: Sealer, table: str) -> None:
        self._items = items
        self._sealer = sealer
        self._table = table

    async def run(self, on_progress: Callable[[int, int], None]) -> RotationResult:
        """Run passes until one finds nothing to do, at most ``MAX_PASSES``.

        Return the counts of the last pass; ``resealed`` is the sum of all. ``on_progress`` receives two numbers:
        finished parts of the pass, and all parts. A claimed grant is skipped, unless its claim has been unchanged for
        ``CLAIM_STALE_AFTER``. A value that no key opens causes no further pass, because no pass can open it.
        """
        result, resealed = RotationResult(), 0
        claims: dict[Grant, float] = {}
        for _ in range(MAX_PASSES):
            if result.busy and claims:
                await anyio.sleep(CLAIM_STALE_AFTER.total_seconds() + 1)
            result = await self._pass(on_progress, claims)
            resealed += result.resealed
            if not (result.resealed or result.busy):
                result.complete = not result.unreadable
                break
        result.resealed = resealed
        return result

    async def _pass(self, on_progress: Callable[[int, int], None], claims: dict[Grant, float]) -> RotationResult:
        result = RotationResult()
        for part in range(SCAN_PARTS):
            async with aclosing(self._items.iter_items(part, SCAN_PARTS)) as pages:
                async for page in pages:
                    await self._reseal_page(page, result, claims)
            on_progress(part + 1, SCAN_PARTS)
        return result

    async def _reseal_page(
        self, page: Sequence[SealedItem], result: RotationResult, claims: dict[Grant, float]
    ) -> None:
        for item in page:
            data_by_sealed = self._data_by_sealed(item)
            result.sealed += len(data_by_sealed)
            if all(map(self._sealer.is_current, data_by_sealed)):
                continue
            if isinstance(item, Grant) and item.claim and not _is_stale(item, claims):
                result.busy += 1
                continue
            resealed = self._reseal_values(item, data_by_sealed, result)
            if not resealed:
                continue
            try:
                await self._items.replace(item, _with_resealed(item, resealed))
                result.resealed += len(resealed)
            except (StaleRead, TransactionConflict):
                result.busy += 1

    def _reseal_values(
        self, item: SealedItem, data_by_sealed: dict[bytes, bytes], result: RotationResult
    ) -> dict[bytes, bytes]:
        """Re-seal values of other keys. Return new sealed values by old ones; values that no key opens are left out."""
        resealed: dict[bytes, bytes] = {}
        for sealed, associated in data_by_sealed.items():
            try:
                if not self._sealer.is_current(sealed):
                    resealed[sealed] = self._sealer.seal(self._sealer.open(sealed, associated), associated)
            except SealBroken:
                result.unreadable += 1
                log.warning("no key opens a sealed value", action="rotation_unreadable", kind=type(item).__name__)
        return resealed

    def _data_by_sealed(self, item: SealedItem) -> dict[bytes, bytes]:
        """Return the associated data of an item by sealed value. Sealed values are unique by their nonces."""
        match item:
            case Grant():
                return {item.sealed: item.associated_data(self._table)}
            case SealedQuarantinePage(user, page):
                return {
                    record.sealed: record_seal_data(self._table, user, record.digest)
                    for record in page.records
                    if record.sealed
                }
            case AuditKey():
                return {item.sealed: audit_key_seal_data(self._table)}


def _with_resealed(item: SealedItem, resealed: Mapping[bytes, bytes]) -> SealedItem:
    match item:
        case Grant():
            return replace(item, sealed=resealed[item.sealed])
        case SealedQuarantinePage(user, page):
            records = tuple(
                replace(record, sealed=resealed.get(record.sealed, record.sealed)) for record in page.records
            )
            return SealedQuarantinePage(user, replace(page, version=page.version + 1, records=records))
        case AuditKey():
            return AuditKey(resealed[item.sealed])


def _is_stale(grant: Grant, claims: dict[Grant, float]) -> bool:
    """Return True if the claim has been unchanged long enough, by the clock of this process, to be taken over."""
    since = claims.setdefault(grant, anyio.current_time())
    return anyio.current_time() - since >= CLAIM_STALE_AFTER.total_seconds()
