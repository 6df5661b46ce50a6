"""Case 7: a renewed pair is stored whatever happens to the store, and never used before."""

from collections.abc import AsyncIterator

import anyio
import pytest

from bg_ingest.errors import StoreError, StoreUnavailable, TransactionConflict
from tests.conftest import on
from tests.fakes.faults import Fault, FaultyCalls, at
from tests.harness.granted_user import GrantedUser, open_granted_user

anyio_backend = on("asyncio", "trio")


@pytest.fixture
async def ada() -> AsyncIterator[GrantedUser]:
    """A user whose credentials have just expired."""
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        yield ada


def failing_stores(ada: GrantedUser, count: int) -> FaultyCalls:
    """Return the store of grants with this many failed attempts to store one."""
    return FaultyCalls(ada.store.grants, lambda n: Fault.BEFORE if n <= count else None, only={"store"})


async def test_case_7_a_pair_that_cannot_be_stored_is_tried_again_and_not_used_before(ada: GrantedUser) -> None:
    broken, before = failing_stores(ada, 8), await ada.grant()
    renewed = await ada.process(grant_store=broken).refresh(ada.connection, before)
    assert renewed.version == before.version + 1
    assert (await ada.grant()).version == renewed.version
    assert broken.calls == 9
    assert ada.calls("available") == 0


async def test_case_7_a_pair_not_stored_for_minutes_is_kept_and_stored_by_the_next_use(ada: GrantedUser) -> None:
    faults = [Fault.BEFORE]
    broken = FaultyCalls(ada.store.grants, lambda _: faults[0] if faults else None, only={"store"})
    grants = ada.process(grant_store=broken)
    with pytest.raises(StoreUnavailable, match="kept in memory"):
        await ada.use(grants)
    faults.clear()
    await ada.use(grants)
    assert (ada.provider.renewals, ada.calls("available")) == (1, 1)


async def test_case_7_a_lost_reply_to_the_store_of_a_pair_is_no_loss(ada: GrantedUser) -> None:
    unsure = FaultyCalls(ada.store.grants, at(1, Fault.AFTER), only={"store"})
    await ada.use(ada.process(grant_store=unsure))
    assert ada.provider.renewals == 1
    assert (await ada.grant()).claim is None


async def test_case_7_a_pair_that_two_polls_store_at_once_is_stored_once(ada: GrantedUser) -> None:
    grants, before = ada.process(grant_store=failing_stores(ada, 8)), await ada.grant()
    versions: list[int] = []

    async def renew() -> None:
        versions.append((await grants.refresh(ada.connection, before)).version)

    async with anyio.create_task_group() as group:
        group.start_soon(renew)
        await anyio.sleep(1)
        group.start_soon(renew)
    assert versions == [before.version + 1] * 2
    assert ada.provider.renewals == 1


@pytest.mark.parametrize("error", [TransactionConflict, StoreError])
async def test_case_7_a_pair_is_stored_whatever_the_store_says_at_first(
    ada: GrantedUser, error: type[StoreError]
) -> None:
    broken = FaultyCalls(ada.store.grants, at(1, Fault.BEFORE), error=error, only={"store"})
    await ada.use(ada.process(grant_store=broken))
    assert ada.provider.renewals == 1
    assert (await ada.grant()).version == 2
