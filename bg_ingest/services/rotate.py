"""Seal everything anew, by the key that seals now, while everything goes on."""

from collections.abc import Callable, Sequence
from contextlib import aclosing

import anyio
import msgspec
import structlog

from bg_ingest.domain.grants import CLAIM_STALE_AFTER, Grant
from bg_ingest.errors import Conflicted, Outdated, Unsealable
from bg_ingest.ports import AuditKey, SealedItem, SealedItems, Sealer, Shelved
from bg_ingest.services.audit import bound_to
from bg_ingest.services.shelve import sealed_with

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PARTS = 64
"""In which the store is read, one after the other: steps for who watches."""

TRIES = 3


class Rotated(msgspec.Struct):
    """What one pass over the store found."""

    sealed: int = 0
    """How many things are sealed at all."""
    resealed: int = 0
    busy: int = 0
    """Grants that are being refreshed, and what changed under our hands: another pass finds them."""
    unopened: int = 0
    """What none of the keys opens."""

    complete: bool = False
    """Whether a whole pass found everything sealed by the key that seals now."""


class Rotation:
    """Goes over the store; stopped anywhere, the next pass does what is left."""

    def __init__(self, items: SealedItems, sealer: Sealer, table: str) -> None:
        self._items = items
        self._sealer = sealer
        self._table = table

    async def run(self, step: Callable[[int, int], None]) -> Rotated:
        """Seal anew until a pass finds nothing left to do; return that pass, with all that was sealed anew.

        ``step`` hears how many parts of a pass are done, and of how many. A grant under a claim is left alone, unless
        the claim stands still for as long as makes it a dead process's.
        """
        found, resealed = Rotated(), 0
        claims: dict[Grant, float] = {}
        for attempt in range(TRIES):
            if attempt and claims:
                await anyio.sleep(CLAIM_STALE_AFTER.total_seconds() + 1)
            found = await self._pass(step, claims)
            found.complete = not (found.resealed or found.busy or found.unopened)
            found.resealed, resealed = found.resealed + resealed, found.resealed + resealed
            if found.complete:
                break
        return found

    async def _pass(self, step: Callable[[int, int], None], claims: dict[Grant, float]) -> Rotated:
        found = Rotated()
        for part in range(PARTS):
            async with aclosing(self._items.found(part, PARTS)) as pages:
                async for page in pages:
                    await self._reseal_page(page, found, claims)
            step(part + 1, PARTS)
        return found

    async def _reseal_page(self, page: Sequence[SealedItem], found: Rotated, claims: dict[Grant, float]) -> None:
        for each in page:
            seals = _seals(each)
            found.sealed += len(seals)
            if all(map(self._sealer.seals_now, seals)):
                continue
            if isinstance(each, Grant) and each.claim and not _stale(each, claims):
                found.busy += 1
                continue
            try:
                await self._items.reseal(each, self._anew(each))
                found.resealed += 1
            except (Outdated, Conflicted):
                found.busy += 1
            except Unsealable:
                found.unopened += 1
                log.warning("no key opens what is sealed", action="rotation_unsealable", kind=type(each).__name__)

    def _anew(self, item: SealedItem) -> SealedItem:
        match item:
            case Grant():
                associated = item.associated_data(self._table)
                return msgspec.structs.replace(item, sealed=self._again(item.sealed, associated))
            case Shelved(user, shelf):
                records = [
                    msgspec.structs.replace(
                        each, sealed=self._again(each.sealed, sealed_with(self._table, user, each.digest))
                    )
                    if each.sealed
                    else each
                    for each in shelf.records
                ]
                return Shelved(user, msgspec.structs.replace(shelf, version=shelf.version + 1, records=tuple(records)))
            case AuditKey():
                return AuditKey(self._again(item.sealed, bound_to(self._table)))

    def _again(self, sealed: bytes, associated: bytes) -> bytes:
        return self._sealer.seal(self._sealer.open(sealed, associated), associated)


def _seals(item: SealedItem) -> list[bytes]:
    if isinstance(item, Shelved):
        return [each.sealed for each in item.shelf.records if each.sealed]
    return [item.sealed]


def _stale(grant: Grant, claims: dict[Grant, float]) -> bool:
    """Tell whether the claim stood still for long on our own clock, as ``Grants`` does before it takes one over."""
    since = claims.setdefault(grant, anyio.current_time())
    return anyio.current_time() - since >= CLAIM_STALE_AFTER.total_seconds()
