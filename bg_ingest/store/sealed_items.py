"""All sealed values of the table, for the rotation of encryption keys."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeAlias

import msgspec

from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinePage
from bg_ingest.ports.table import Equals, Exists, Item, Key, Put, SingleWrite
from bg_ingest.store import keys
from bg_ingest.store.grants import decode_grant
from bg_ingest.store.items import VERSION_OK, ItemStore, update_existing, value_condition, write_if_current
from bg_ingest.store.quarantine import decode_quarantine_page, encode_quarantine_page

SEALED_PREFIXES = (keys.GRANTS, keys.QUARANTINE, keys.AUDIT_KEY[1])


class SealedQuarantinePage(msgspec.Struct, frozen=True):
    """Quarantine page with its user."""

    user: UserId
    page: QuarantinePage


class AuditKey(msgspec.Struct, frozen=True):
    """Sealed key of the audit's hashes."""

    sealed: bytes


SealedItem: TypeAlias = Grant | SealedQuarantinePage | AuditKey


class SealedItemStore(ItemStore):
    """Sealed items of all users."""

    async def iter_items(self, part: int, parts: int) -> AsyncGenerator[Sequence[SealedItem]]:
        """Yield the sealed items of one part of the table; all parts together have all items.

        Reading all parts reads the whole table, which takes minutes if it is large.
        """
        async with aclosing(self._table.scan(part, parts, SEALED_PREFIXES)) as pages:
            async for page in pages:
                yield [sealed for key, item in page if (sealed := _decode(key, item))]

    async def replace(self, seen: SealedItem, after: SealedItem) -> None:
        """Replace a sealed item; StaleRead if it has changed since ``seen``.

        A grant keeps its version and its claim.
        """
        await write_if_current(self._table, _replacement(seen, after))


def _decode(key: Key, item: Item) -> SealedItem | None:
    if key == keys.AUDIT_KEY:
        sealed = item["sealed"]
        return AuditKey(sealed) if isinstance(sealed, bytes) else None
    user = keys.parse_user(key)
    if user is None:
        return None
    if key[1].startswith(keys.GRANTS):
        return decode_grant(keys.parse_connection(user, key), item)
    return SealedQuarantinePage(user, decode_quarantine_page(keys.parse_quarantine(key), item))


def _replacement(seen: SealedItem, after: SealedItem) -> SingleWrite:
    match seen, after:
        case Grant(), Grant():
            as_seen = (Equals("version", seen.version), Equals("generation", seen.generation))
            same_seal, claim = Equals("sealed", seen.sealed), value_condition("claim", seen.claim)
            return update_existing(keys.grant(seen.id), {"sealed": after.sealed}, (*as_seen, same_seal, claim))
        case SealedQuarantinePage(), SealedQuarantinePage():
            same_version = (Exists(), VERSION_OK, Equals("version", seen.page.version))
            return Put(keys.quarantine(seen.user, seen.page.key), encode_quarantine_page(after.page), same_version)
        case AuditKey(), AuditKey():
            return update_existing(keys.AUDIT_KEY, {"sealed": after.sealed}, [Equals("sealed", seen.sealed)])
        case _:
            raise ValueError("a sealed item can only be replaced by one of its kind")
