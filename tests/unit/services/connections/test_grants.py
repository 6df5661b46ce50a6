from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.grants import CLAIM_STALE_AFTER, REFUSAL_RETRY_DELAYS, Credentials, Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome
from bg_ingest.errors import Fenced, GrantBusy, SealBroken, StaleRead, StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.ports import AccountData, Observer, Priority
from bg_ingest.providers.dexcom.tokens import parse_tokens
from bg_ingest.services.connections.grant_sealing import GrantSealer
from bg_ingest.services.connections.grants import Grants
from bg_ingest.simulator.faults import Failed, Fault, ReplyLost, Reset, Slow, Throttled
from tests.conftest import on
from tests.fakes.faults import CallWrapper, FaultyCalls, at
from tests.fakes.faults import Fault as StoreFault
from tests.harness.connected_user import ADA, ConnectedUser

anyio_backend = on("asyncio", "trio")


def another_process(
    ada: ConnectedUser, *, grant_store: Any = None, provider: Any = None, budget: Any = None, key: bytes = bytes(32)
) -> Grants:
    """Return the grants of a second process: the same parts unless others are given, and no memory in common."""
    services = ada.services
    return Grants(
        grant_store or services.store.grants,
        {ADA.provider: provider or ada.service.provider},
        budget or services.budget,
        AesGcmSealer([key]),
        services.clock,
        "test",
        Observer(),
    )


async def use(ada: ConnectedUser, grants: Grants) -> str:
    """Use the grant as it is stored; return the account that a data call named."""

    async def ask(credentials: Credentials) -> str:
        account: AccountData = await ada.service.provider.available("us", credentials, Priority.LIVE)
        return account.provider_account

    return await grants.use(await ada.connection(), await ada.grant(), ask)


async def test_case_1_an_expired_access_token_is_refreshed_once_before_the_call(ada: ConnectedUser) -> None:
    before = await ada.grant()
    await ada.sleep_until_expired()
    assert (await ada.poll()).result.outcome is Outcome.READ
    after = await ada.grant()
    assert (after.version, after.generation) == (before.version + 1, before.generation)
    assert ada.rotations == 1
    await ada.poll(requested=True)
    assert ada.rotations == 1


async def test_case_2_a_refused_data_call_is_repeated_once_with_a_fresh_token(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Failed(endpoint="egvs", status=401, count=1))
    await anyio.sleep(1200)
    assert (await ada.poll()).result.outcome is Outcome.READ
    assert ada.rotations == 1


async def test_case_2_refused_again_it_is_counted_and_waits(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Failed(endpoint="egvs", status=401))
    await anyio.sleep(1200)
    report = await ada.poll()
    assert report.result.outcome is Outcome.REFUSED
    assert report.due == ada.service.clock.now() + REFUSAL_RETRY_DELAYS[0]
    assert ada.rotations == 1
    assert (await ada.poll(requested=True)).result.outcome is Outcome.REFUSED
    assert ada.rotations == 1, "not before the wait is over, whoever asks"


async def test_case_2_data_refused_for_ever_ends_in_reauthorization(ada: ConnectedUser) -> None:
    ada.service.simulator.add_fault(Failed(endpoint="egvs", status=401))
    await anyio.sleep(1200)
    report = await ada.poll()
    report = await ada.poll_until_done(report)
    assert (await ada.connection()).state is ConnectionState.REAUTHORIZATION_REQUIRED
    assert ada.rotations == len(REFUSAL_RETRY_DELAYS) + 1


async def test_case_3_a_revoked_grant_is_believed_only_after_the_plan_of_retries(ada: ConnectedUser) -> None:
    ada.service.simulator.revoke("SandboxUser1")
    await ada.sleep_until_expired()
    started = ada.service.clock.now()
    report = await ada.poll()
    for _ in REFUSAL_RETRY_DELAYS:
        assert (await ada.connection()).state is ConnectionState.ACTIVE
        report = await ada.poll_when_due(report)
    assert report.due is None
    connection = await ada.connection()
    assert (connection.state, connection.reason) == (
        ConnectionState.REAUTHORIZATION_REQUIRED,
        "grant_refused_by_provider",
    )
    assert ada.service.clock.now() - started == pytest.approx(
        sum(REFUSAL_RETRY_DELAYS, timedelta()), abs=timedelta(minutes=1)
    )
    assert (await ada.poll()).result.outcome is Outcome.INACTIVE


async def test_case_3_a_grant_refused_for_an_hour_in_the_night_is_used_on(ada: ConnectedUser) -> None:
    """Dexcom refused healthy tokens during its nightly backups."""
    await ada.sleep_until_expired()
    wrong = ada.service.clock.now() + timedelta(hours=1)
    ada.service.simulator.add_fault(Failed(endpoint="token", status=401, until=wrong))
    report = await ada.poll()
    while report.result.outcome is not Outcome.READ:
        report = await ada.poll_when_due(report)
    assert (await ada.connection()).state is ConnectionState.ACTIVE
    await ada.sleep_until_expired()
    await ada.poll()
    assert (await ada.grant()).refusals == 0, "forgotten with the next everyday refresh"


async def test_case_10_reconnecting_after_a_revoke_goes_on_without_a_gap_or_a_duplicate(ada: ConnectedUser) -> None:
    ada.service.simulator.revoke("SandboxUser1")
    await ada.sleep_until_expired()
    report = await ada.poll()
    report = await ada.poll_until_done(report)
    await ada.connect()
    ada.state = msgspec.structs.replace(ada.state, poll_at=None)
    await ada.poll(requested=True)
    stored = await ada.measured_values()
    truth = ada.service.true_values("SandboxUser1", stored[0][0], ada.service.clock.now())  # type: ignore[arg-type]
    assert stored == truth


@pytest.mark.parametrize("fault", [Failed(endpoint="token", count=1), Reset(endpoint="token", count=1)])
async def test_case_4_and_5_trouble_at_the_token_endpoint_does_not_count_against_the_user(
    ada: ConnectedUser, fault: Fault
) -> None:
    await ada.sleep_until_expired()
    ada.service.simulator.add_fault(fault)
    report = await ada.poll()
    assert report.result.outcome is Outcome.UNAVAILABLE
    assert (await ada.grant()).refusals == 0
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.READ


async def test_case_4_throttling_at_the_token_endpoint_is_waited_for(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    ada.service.simulator.add_fault(Throttled(endpoint="token", retry_after=120, count=1))
    report = await ada.poll()
    assert report.result.outcome is Outcome.THROTTLED
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.READ
    assert (await ada.grant()).claim is None


async def test_case_5_a_lost_reply_is_asked_for_again_and_the_loss_is_found_out_by_plan(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    ada.service.simulator.add_fault(ReplyLost(endpoint="token", count=1))
    report = await ada.poll()
    assert report.result.outcome is Outcome.UNAVAILABLE
    report = await ada.poll_when_due(report)
    assert report.result.outcome is Outcome.REFUSED, "the token was spent, which could not be known"
    report = await ada.poll_until_done(report)
    assert (await ada.connection()).state is ConnectionState.REAUTHORIZATION_REQUIRED
    assert ada.rotations == 1


async def test_case_6_of_many_who_refresh_at_once_one_sends_and_the_others_use_its_pair(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    connection, grant = await ada.connection(), await ada.grant()
    ada.service.simulator.add_fault(Slow(endpoint="token", seconds=3))
    got: list[int] = []

    async def refresh() -> None:
        process = another_process(ada)
        for _ in range(30):
            try:
                got.append((await process.refresh(connection, grant)).version)
            except GrantBusy as busy:
                await anyio.sleep(min(1.0, busy.wait.total_seconds()))
            else:
                return

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(refresh)
    assert got == [grant.version + 1] * 5
    assert ada.rotations == 1


async def test_a_claim_of_a_dead_process_is_taken_over_after_it_stood_still_on_our_own_clock(
    ada: ConnectedUser,
) -> None:
    await ada.sleep_until_expired()
    grant = await ada.grant()
    await ada.services.store.grants.claim(grant, "of the dead")
    report = await ada.poll()
    assert report.result.outcome is Outcome.GRANT_BUSY
    assert report.due == ada.service.clock.now() + CLAIM_STALE_AFTER
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.READ


async def test_who_slept_between_claim_and_sending_does_not_send(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    grants = ada.services.store.grants

    class Sleepy:
        def __getattr__(self, name: str) -> object:
            return getattr(grants, name)

        async def claim(self, *given: object) -> None:
            await grants.claim(*given)  # type: ignore[arg-type]
            await anyio.sleep(25)

    sleeper = another_process(ada, grant_store=Sleepy())
    with pytest.raises(GrantBusy):
        await sleeper.refresh(await ada.connection(), await ada.grant())
    assert ada.rotations == 0


async def test_case_7_a_pair_that_cannot_be_stored_is_tried_again_and_not_used_before(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    calls = ada.service.simulator.calls
    asked = sum(count for (endpoint, _), count in calls.items() if endpoint == "egvs")
    broken = FaultyCalls(ada.services.store.grants, lambda n: StoreFault.BEFORE if n <= 8 else None, only={"store"})
    connection, before = await ada.connection(), await ada.grant()
    renewed = await another_process(ada, grant_store=broken).refresh(connection, before)
    assert renewed.version == before.version + 1
    assert (await ada.grant()).version == renewed.version
    assert broken.calls == 9
    assert sum(count for (endpoint, _), count in calls.items() if endpoint == "egvs") == asked


async def test_case_7_a_pair_not_stored_for_minutes_is_kept_and_stored_by_the_next_use(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    working = ada.services.store.grants
    faults = [StoreFault.BEFORE]
    broken = FaultyCalls(working, lambda _: faults[0] if faults else None, only={"store"})
    grants = another_process(ada, grant_store=broken)
    with pytest.raises(StoreUnavailable):
        await use(ada, grants)
    faults.clear()
    assert await use(ada, grants)
    assert ada.rotations == 1


async def test_case_7_a_lost_reply_to_the_store_of_a_pair_is_no_loss(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    working = ada.services.store.grants
    unsure = FaultyCalls(working, at(1, StoreFault.AFTER), only={"store"})
    assert await use(ada, another_process(ada, grant_store=unsure))
    assert ada.rotations == 1
    assert (await ada.grant()).claim is None


async def test_case_9_a_cancelled_refresh_is_finished_and_stored(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    before = await ada.grant()
    ada.service.simulator.add_fault(Slow(endpoint="token", seconds=5, count=1))
    with anyio.move_on_after(1):
        await ada.poll()
    assert (await ada.grant()).version == before.version + 1


async def test_a_process_about_to_end_begins_no_refresh(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    ada.services.grants.close(12)
    assert (await ada.poll()).result.outcome is Outcome.GRANT_BUSY
    assert ada.rotations == 0


async def test_a_process_that_has_to_end_while_it_claims_a_grant_sends_nothing_and_leaves_no_claim(
    ada: ConnectedUser,
) -> None:
    await ada.sleep_until_expired()
    grants = another_process(ada, grant_store=ClaimListener(ada.services.store.grants, lambda: grants.close(12)))
    with pytest.raises(GrantBusy):
        await use(ada, grants)
    assert ada.rotations == 0
    assert (await ada.grant()).claim is None


async def test_who_waits_for_a_call_of_the_budget_keeps_nobody_from_refreshing_meanwhile(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    connection, grant = await ada.connection(), await ada.grant()
    waiting = SlowClaim(ada.services.budget)
    other = another_process(ada, budget=waiting)
    renewed: list[Grant] = []

    async def wait() -> None:
        renewed.append(await other.refresh(connection, grant))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        assert (await ada.poll()).result.outcome is Outcome.READ
        waiting.over.set()
    assert ada.rotations == 1, "it was sent once"
    assert renewed[0].version == grant.version + 1


class SlowClaim(CallWrapper):
    """A budget whose calls are to be had later."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.over = anyio.Event()

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self.over.wait()
        return await call()


class ClaimListener(CallWrapper):
    """A store that tells when a claim was written, before its answer is heard."""

    def __init__(self, inner: Any, on_claim: Callable[[], None]) -> None:
        super().__init__(inner)
        self._on_claim = on_claim

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "claim":
            self._on_claim()
        return answer


async def test_a_reconnect_during_a_refresh_wins(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    connection, grant = await ada.connection(), await ada.grant()
    ada.service.simulator.add_fault(Slow(endpoint="token", seconds=5, count=1))
    async with anyio.create_task_group() as group:

        async def late() -> None:
            with pytest.raises(Fenced):
                await another_process(ada).refresh(connection, grant)

        group.start_soon(late)
        await anyio.sleep(1)
        await ada.service.connect(ADA.user)
    now = await ada.grant()
    assert now.generation != grant.generation
    assert now.version == 1
    assert (await ada.poll(requested=True)).result.outcome in {Outcome.READ, Outcome.NOTHING_NEW}


async def test_what_is_sealed_opens_nowhere_else(ada: ConnectedUser) -> None:
    grant = await ada.grant()
    elsewhere = [
        msgspec.structs.replace(grant, id=ConnectionId(UserId("ben"), ADA.provider)),
        msgspec.structs.replace(grant, id=ConnectionId(ADA.user, "acme")),
        msgspec.structs.replace(grant, generation="other"),
    ]
    sealer = GrantSealer(AesGcmSealer([bytes(32)]), "test")
    for moved in elsewhere:
        with pytest.raises(SealBroken):
            sealer.open(moved)
    with pytest.raises(SealBroken):
        GrantSealer(AesGcmSealer([bytes(32)]), "another table").open(grant)
    tokens = parse_tokens(sealer.open(grant))
    assert tokens.refresh.reveal().encode() not in grant.sealed


async def test_no_bit_of_what_is_sealed_can_be_flipped(ada: ConnectedUser) -> None:
    grant, sealer = await ada.grant(), GrantSealer(AesGcmSealer([bytes(32)]), "test")
    for bit in range(8 * len(grant.sealed)):
        altered = bytearray(grant.sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            sealer.open(msgspec.structs.replace(grant, sealed=bytes(altered)))


async def test_anothers_tokens_put_into_a_row_are_never_sent(ada: ConnectedUser) -> None:
    await ada.service.connect("ben", "SandboxUser2")
    store = ada.services.store
    bens = await store.grants.get(ConnectionId(UserId("ben"), ADA.provider))
    own = await ada.grant()
    assert bens is not None
    await store.grants.store(msgspec.structs.replace(own, sealed=bens.sealed, version=own.version + 1))
    asked = sum(ada.service.simulator.calls.values())
    assert (await ada.poll(requested=True)).result.outcome is Outcome.UNSEALABLE
    assert sum(ada.service.simulator.calls.values()) == asked


async def test_claiming_what_was_refreshed_meanwhile_is_outdated(ada: ConnectedUser) -> None:
    grant = await ada.grant()
    await ada.sleep_until_expired()
    await ada.poll()
    with pytest.raises(StaleRead):
        await ada.services.store.grants.claim(grant, "late")


async def test_a_store_that_is_away_is_an_outcome(ada: ConnectedUser) -> None:
    ada.services.poller._connections = FaultyCalls(
        ada.services.store.connections, lambda _: StoreFault.BEFORE, error=StoreUnavailable
    )
    report = await ada.poll()
    assert report.result.outcome is Outcome.STORE_UNAVAILABLE
    assert report.due == ada.service.clock.now() + timedelta(seconds=2)


async def test_case_7_a_pair_that_two_polls_store_at_once_is_stored_once(ada: ConnectedUser) -> None:
    await ada.sleep_until_expired()
    working = ada.services.store.grants
    broken = FaultyCalls(working, lambda n: StoreFault.BEFORE if n <= 8 else None, only={"store"})
    grants = another_process(ada, grant_store=broken)
    connection, before = await ada.connection(), await ada.grant()
    got: list[int] = []

    async def renew() -> None:
        got.append((await grants.refresh(connection, before)).version)

    async with anyio.create_task_group() as group:
        group.start_soon(renew)
        await anyio.sleep(1)
        group.start_soon(renew)
    assert got == [before.version + 1] * 2
    assert ada.rotations == 1


@pytest.mark.parametrize("error", [TransactionConflict, StoreError])
async def test_case_7_a_pair_is_stored_whatever_the_store_says_at_first(
    ada: ConnectedUser, error: type[StoreError]
) -> None:
    await ada.sleep_until_expired()
    broken = FaultyCalls(ada.services.store.grants, at(1, StoreFault.BEFORE), error=error, only={"store"})
    assert await use(ada, another_process(ada, grant_store=broken))
    assert ada.rotations == 1
