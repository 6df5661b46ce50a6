"""Renewed grants that are not stored yet, and the seal of credentials."""

from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.grants import Credentials, Grant, SecretBytes
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import SealBroken, StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.services.connections.grant_storage import GrantSealer
from tests.conftest import on
from tests.fakes.faults import Fault, FaultyCalls, at
from tests.harness.granted_user import GrantedUser, open_granted_user
from tests.harness.sample_values import ACME, grant

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
async def test_case_7_a_pair_is_stored_after_any_first_error_of_the_store(
    ada: GrantedUser, error: type[StoreError]
) -> None:
    broken = FaultyCalls(ada.store.grants, at(1, Fault.BEFORE), error=error, only={"store"})
    await ada.use(ada.process(grant_store=broken))
    assert ada.provider.renewals == 1
    assert (await ada.grant()).version == 2


CONTENT = b"access and refresh token"
SEALER = GrantSealer(AesGcmSealer([bytes(32)]), "test")


def sealed_grant() -> Grant:
    return SEALER.seal(grant(), Credentials(SecretBytes(CONTENT)))


def test_what_is_sealed_opens_again() -> None:
    assert SEALER.open(sealed_grant()) == SecretBytes(CONTENT)
    assert CONTENT not in sealed_grant().sealed
    assert sealed_grant().sealed != sealed_grant().sealed, "a nonce is used once"


@pytest.mark.parametrize(
    "moved",
    [
        {"id": ConnectionId(UserId("ben"), ACME.provider)},
        {"id": ConnectionId(ACME.user, "other")},
        {"generation": "other"},
    ],
)
def test_what_is_sealed_opens_nowhere_else(moved: dict[str, object]) -> None:
    with pytest.raises(SealBroken):
        SEALER.open(msgspec.structs.replace(sealed_grant(), **moved))


@pytest.mark.parametrize(
    "other",
    [GrantSealer(AesGcmSealer([bytes(32)]), "another table"), GrantSealer(AesGcmSealer([bytes([1] * 32)]), "test")],
)
def test_what_is_sealed_opens_in_no_other_table_and_with_no_other_key(other: GrantSealer) -> None:
    with pytest.raises(SealBroken):
        other.open(sealed_grant())


def test_the_next_version_is_sealed_to_the_same_row() -> None:
    assert SEALER.open(msgspec.structs.replace(sealed_grant(), version=2)) == SecretBytes(CONTENT)


def test_no_bit_of_what_is_sealed_can_be_flipped() -> None:
    own = sealed_grant()
    for bit in range(8 * len(own.sealed)):
        altered = bytearray(own.sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            SEALER.open(msgspec.structs.replace(own, sealed=bytes(altered)))
