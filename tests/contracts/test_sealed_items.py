"""Sealed items: all are found in the parts of the table, and each is replaced only if unchanged since the read."""

import pytest

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.quarantine import QuarantinedRecord, QuarantinePage
from bg_ingest.errors import StaleRead
from bg_ingest.store import Store
from bg_ingest.store.sealed_items import AuditKey, SealedItem, SealedQuarantinePage
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER, commit_connection, connection, replaced_fields

BEN = UserId("ben")
RECORD = QuarantinedRecord("no value", b"digest", b"sealed record", NOON)


@pytest.fixture
async def filled(store: Store) -> Store:
    """Grants of two users, a quarantine page and the audit key."""
    await commit_connection(store)
    await commit_connection(store, connection(id=ConnectionId(BEN, "acme"), provider_account="ben"))
    head = await store.readings.head(USER)
    assert head is not None
    page = QuarantinePage(3, 1, (RECORD,))
    await store.commits.write(Commit(before=head, head=head, quarantine_pages=(page,)))
    await store.audit.hash_key(b"sealed key")
    return store


async def read_all(store: Store, parts: int = 1) -> list[SealedItem]:
    pages = [page for part in range(parts) async for page in store.sealed.iter_items(part, parts)]
    return [item for page in pages for item in page]


async def stored_grant(store: Store) -> Grant:
    (grant,) = [item for item in await read_all(store) if isinstance(item, Grant) and item.id.user == USER]
    return grant


@pytest.mark.parametrize("parts", [1, 3])
async def test_each_sealed_item_is_in_one_part(filled: Store, parts: int) -> None:
    items = await read_all(filled, parts)
    assert {item.id.user for item in items if isinstance(item, Grant)} == {USER, BEN}
    assert [item for item in items if not isinstance(item, Grant)] in (
        [SealedQuarantinePage(USER, QuarantinePage(3, 1, (RECORD,))), AuditKey(b"sealed key")],
        [AuditKey(b"sealed key"), SealedQuarantinePage(USER, QuarantinePage(3, 1, (RECORD,)))],
    )
    assert len(items) == 4


async def test_only_the_sealed_bytes_of_a_grant_are_replaced(filled: Store) -> None:
    seen = await stored_grant(filled)
    await filled.sealed.replace(seen, replaced_fields(seen, sealed=b"again"))
    assert await stored_grant(filled) == replaced_fields(seen, sealed=b"again")
    with pytest.raises(StaleRead):
        await filled.sealed.replace(seen, replaced_fields(seen, sealed=b"late"))


async def test_a_grant_that_was_claimed_since_is_not_replaced(filled: Store) -> None:
    seen = await stored_grant(filled)
    await filled.grants.claim(seen, "claim")
    with pytest.raises(StaleRead):
        await filled.sealed.replace(seen, replaced_fields(seen, sealed=b"late"))
    claimed = await stored_grant(filled)
    await filled.sealed.replace(claimed, replaced_fields(claimed, sealed=b"again"))
    assert (await stored_grant(filled)).claim == "claim"


async def test_a_page_and_the_audit_key_are_replaced_only_as_seen(filled: Store) -> None:
    page = QuarantinePage(3, 2, (replaced_fields(RECORD, sealed=b"again"),))
    seen = SealedQuarantinePage(USER, QuarantinePage(3, 1, (RECORD,)))
    await filled.sealed.replace(seen, SealedQuarantinePage(USER, page))
    assert await filled.quarantine.read_pages(USER, [3]) == {3: page}
    await filled.sealed.replace(AuditKey(b"sealed key"), AuditKey(b"again"))
    assert await filled.audit.hash_key(b"fresh") == b"again"
    for before, after in ((seen, SealedQuarantinePage(USER, page)), (AuditKey(b"sealed key"), AuditKey(b"late"))):
        with pytest.raises(StaleRead):
            await filled.sealed.replace(before, after)


async def test_an_item_keeps_its_kind(filled: Store) -> None:
    with pytest.raises(ValueError, match="one of its kind"):
        await filled.sealed.replace(await stored_grant(filled), AuditKey(b"sealed key"))
