"""Seal everything anew, by the key that seals now, while everything goes on."""

from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio
import msgspec
import structlog

from bg_ingest.domain.grants import CLAIM_STALE_AFTER, Grant
from bg_ingest.errors import SealBroken, StaleRead, TransactionConflict
from bg_ingest.ports import Sealer
from bg_ingest.services.access.audit import audit_key_seal_data
from bg_ingest.services.polling.quarantine import record_seal_data
from bg_ingest.store.sealed_items import AuditKey, SealedItem, SealedItemStore, SealedQuarantinePage

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SCAN_PARTS = 64
"""In which the store is read, one after the other: steps for who watches."""

MAX_PASSES = 3


class RotationResult(msgspec.Struct):
    """What one pass over the store found."""

    sealed: int = 0
    """How many things are sealed at all."""
    resealed: int = 0
    busy: int = 0
    """Grants that are being refreshed, and what changed under our hands: another pass finds them."""
    unreadable: int = 0
    """What none of the keys opens."""

    complete: bool = False
    """Whether a whole pass found everything sealed by the key that seals now."""


class KeyRotation:
    """Goes over the store; stopped anywhere, the next pass does what is left."""

    def __init__(self, items: SealedItemStore, sealer: Sealer, table: str) -> None:
        self._items = items
        self._sealer = sealer
        self._table = table

    async def run(self, on_progress: Callable[[int, int], None]) -> RotationResult:
        """Seal anew until a pass finds nothing left to do; return that pass, with all that was sealed anew.

        ``step`` hears how many parts of a pass are done, and of how many. A grant under a claim is left alone, unless
        the claim stands still for as long as makes it a dead process's.
        """
        found, resealed = RotationResult(), 0
        claims: dict[Grant, float] = {}
        for attempt in range(MAX_PASSES):
            if attempt and claims:
                await anyio.sleep(CLAIM_STALE_AFTER.total_seconds() + 1)
            found = await self._pass(on_progress, claims)
            found.complete = not (found.resealed or found.busy or found.unreadable)
            found.resealed, resealed = found.resealed + resealed, found.resealed + resealed
            if found.complete:
                break
        return found

    async def _pass(self, on_progress: Callable[[int, int], None], claims: dict[Grant, float]) -> RotationResult:
        found = RotationResult()
        for part in range(SCAN_PARTS):
            async with aclosing(self._items.iter_items(part, SCAN_PARTS)) as pages:
                async for page in pages:
                    await self._reseal_page(page, found, claims)
            on_progress(part + 1, SCAN_PARTS)
        return found

    async def _reseal_page(self, page: Sequence[SealedItem], found: RotationResult, claims: dict[Grant, float]) -> None:
        for each in page:
            seals = _sealed_values(each)
            found.sealed += len(seals)
            if all(map(self._sealer.is_current, seals)):
                continue
            if isinstance(each, Grant) and each.claim and not _is_stale(each, claims):
                found.busy += 1
                continue
            try:
                await self._items.replace(each, self._reseal_item(each))
                found.resealed += 1
            except (StaleRead, TransactionConflict):
                found.busy += 1
            except SealBroken:
                found.unreadable += 1
                log.warning("no key opens what is sealed", action="rotation_unreadable", kind=type(each).__name__)

    def _reseal_item(self, item: SealedItem) -> SealedItem:
        match item:
            case Grant():
                associated = item.associated_data(self._table)
                return msgspec.structs.replace(item, sealed=self._reseal(item.sealed, associated))
            case SealedQuarantinePage(user, page):
                records = [
                    msgspec.structs.replace(
                        each, sealed=self._reseal(each.sealed, record_seal_data(self._table, user, each.digest))
                    )
                    if each.sealed
                    else each
                    for each in page.records
                ]
                return SealedQuarantinePage(
                    user, msgspec.structs.replace(page, version=page.version + 1, records=tuple(records))
                )
            case AuditKey():
                return AuditKey(self._reseal(item.sealed, audit_key_seal_data(self._table)))

    def _reseal(self, sealed: bytes, associated: bytes) -> bytes:
        return self._sealer.seal(self._sealer.open(sealed, associated), associated)


def _sealed_values(item: SealedItem) -> list[bytes]:
    if isinstance(item, SealedQuarantinePage):
        return [each.sealed for each in item.page.records if each.sealed]
    return [item.sealed]


def _is_stale(grant: Grant, claims: dict[Grant, float]) -> bool:
    """Tell whether the claim stood still for long on our own clock, as ``Grants`` does before it takes one over."""
    since = claims.setdefault(grant, anyio.current_time())
    return anyio.current_time() - since >= CLAIM_STALE_AFTER.total_seconds()
