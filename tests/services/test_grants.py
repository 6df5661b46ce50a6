from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.domain.connections import State
from bg_ingest.domain.grants import CLAIM_STALE_AFTER, REFUSAL_PLAN, Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending
from bg_ingest.errors import Conflicted, Fenced, GrantBusy, Outdated, StoreError, StoreUnavailable, Unsealable
from bg_ingest.services.grants import Grants
from bg_ingest.services.sealed import SealedGrants
from bg_ingest.simulator.faults import Failed, Fault, ReplyLost, Reset, Slow, Throttled
from tests.conftest import on
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import Faulty, InFront, at
from tests.home import ADA, Home

anyio_backend = on("asyncio", "trio")


def another_process(home: Home) -> Grants:
    """Grants as a second process has them: the same store and provider, no memory in common."""
    services = home.services
    return Grants(
        services.store.connections,
        services.grants._providers,
        services.budget,
        KeyRing([bytes(32)]),
        services.clock,
        "test",
    )


async def test_case_1_an_expired_access_token_is_refreshed_once_before_the_call(home: Home) -> None:
    before = await home.grant()
    await home.until_expired()
    assert (await home.turn()).outcome.ending is Ending.READ
    after = await home.grant()
    assert (after.version, after.generation) == (before.version + 1, before.generation)
    assert home.rotations == 1
    await home.turn(asked=True)
    assert home.rotations == 1


async def test_case_2_a_refused_data_call_is_repeated_once_with_a_fresh_token(home: Home) -> None:
    home.house.simulator.add_fault(Failed(endpoint="egvs", status=401, count=1))
    await anyio.sleep(1200)
    assert (await home.turn()).outcome.ending is Ending.READ
    assert home.rotations == 1


async def test_case_2_refused_again_it_is_counted_and_waits(home: Home) -> None:
    home.house.simulator.add_fault(Failed(endpoint="egvs", status=401))
    await anyio.sleep(1200)
    turn = await home.turn()
    assert turn.outcome.ending is Ending.REFUSED
    assert turn.due == home.house.clock.now() + REFUSAL_PLAN[0]
    assert home.rotations == 1
    assert (await home.turn(asked=True)).outcome.ending is Ending.REFUSED
    assert home.rotations == 1, "not before the wait is over, whoever asks"


async def test_case_2_data_refused_for_ever_ends_in_reauthorization(home: Home) -> None:
    home.house.simulator.add_fault(Failed(endpoint="egvs", status=401))
    await anyio.sleep(1200)
    turn = await home.turn()
    turn = await home.until_over(turn)
    assert (await home.connection()).state is State.REAUTHORIZATION_REQUIRED
    assert home.rotations == len(REFUSAL_PLAN) + 1


async def test_case_3_a_revoked_grant_is_believed_only_after_the_plan_of_retries(home: Home) -> None:
    home.house.simulator.revoke("SandboxUser1")
    await home.until_expired()
    started = home.house.clock.now()
    turn = await home.turn()
    for _ in REFUSAL_PLAN:
        assert (await home.connection()).state is State.ACTIVE
        turn = await home.due_turn(turn)
    assert turn.due is None
    connection = await home.connection()
    assert (connection.state, connection.reason) == (State.REAUTHORIZATION_REQUIRED, "grant_refused_by_provider")
    assert home.house.clock.now() - started == pytest.approx(sum(REFUSAL_PLAN, timedelta()), abs=timedelta(minutes=1))
    assert (await home.turn()).outcome.ending is Ending.INACTIVE


async def test_case_3_a_grant_refused_for_an_hour_in_the_night_is_used_on(home: Home) -> None:
    """Dexcom refused healthy tokens during its nightly backups."""
    await home.until_expired()
    wrong = home.house.clock.now() + timedelta(hours=1)
    home.house.simulator.add_fault(Failed(endpoint="token", status=401, until=wrong))
    turn = await home.turn()
    while turn.outcome.ending is not Ending.READ:
        turn = await home.due_turn(turn)
    assert (await home.connection()).state is State.ACTIVE
    await home.until_expired()
    await home.turn()
    assert (await home.grant()).refusals == 0, "forgotten with the next everyday refresh"


async def test_case_10_reconnecting_after_a_revoke_goes_on_without_a_gap_or_a_duplicate(home: Home) -> None:
    home.house.simulator.revoke("SandboxUser1")
    await home.until_expired()
    turn = await home.turn()
    turn = await home.until_over(turn)
    await home.connect()
    home.plan = msgspec.structs.replace(home.plan, look_at=None)
    await home.turn(asked=True)
    stored = await home.measured()
    truth = home.house.truth("SandboxUser1", stored[0][0], home.house.clock.now())  # type: ignore[arg-type]
    assert stored == truth


@pytest.mark.parametrize("fault", [Failed(endpoint="token", count=1), Reset(endpoint="token", count=1)])
async def test_case_4_and_5_trouble_at_the_token_endpoint_does_not_count_against_the_user(
    home: Home, fault: Fault
) -> None:
    await home.until_expired()
    home.house.simulator.add_fault(fault)
    turn = await home.turn()
    assert turn.outcome.ending is Ending.UNAVAILABLE
    assert (await home.grant()).refusals == 0
    assert (await home.due_turn(turn)).outcome.ending is Ending.READ


async def test_case_4_throttling_at_the_token_endpoint_is_waited_for(home: Home) -> None:
    await home.until_expired()
    home.house.simulator.add_fault(Throttled(endpoint="token", retry_after=120, count=1))
    turn = await home.turn()
    assert turn.outcome.ending is Ending.THROTTLED
    assert (await home.due_turn(turn)).outcome.ending is Ending.READ
    assert (await home.grant()).claim is None


async def test_case_5_a_lost_reply_is_asked_for_again_and_the_loss_is_found_out_by_plan(home: Home) -> None:
    await home.until_expired()
    home.house.simulator.add_fault(ReplyLost(endpoint="token", count=1))
    turn = await home.turn()
    assert turn.outcome.ending is Ending.UNAVAILABLE
    turn = await home.due_turn(turn)
    assert turn.outcome.ending is Ending.REFUSED, "the token was spent, which could not be known"
    turn = await home.until_over(turn)
    assert (await home.connection()).state is State.REAUTHORIZATION_REQUIRED
    assert home.rotations == 1


async def test_case_6_of_many_who_refresh_at_once_one_sends_and_the_others_use_its_pair(home: Home) -> None:
    await home.until_expired()
    connection, grant = await home.connection(), await home.grant()
    home.house.simulator.add_fault(Slow(endpoint="token", seconds=3))
    got: list[int] = []

    async def refresh() -> None:
        process = another_process(home)
        for _ in range(30):
            try:
                got.append((await process.renewed(connection, grant)).version)
            except GrantBusy as busy:
                await anyio.sleep(min(1.0, busy.wait.total_seconds()))
            else:
                return

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(refresh)
    assert got == [grant.version + 1] * 5
    assert home.rotations == 1


async def test_a_claim_of_a_dead_process_is_taken_over_after_it_stood_still_on_our_own_clock(home: Home) -> None:
    await home.until_expired()
    grant = await home.grant()
    await home.services.store.connections.claim_grant(grant, "of the dead")
    turn = await home.turn()
    assert turn.outcome.ending is Ending.GRANT_BUSY
    assert turn.due == home.house.clock.now() + CLAIM_STALE_AFTER
    assert (await home.due_turn(turn)).outcome.ending is Ending.READ


async def test_who_slept_between_claim_and_sending_does_not_send(home: Home) -> None:
    await home.until_expired()
    connections = home.services.store.connections

    class Sleepy:
        def __getattr__(self, name: str) -> object:
            return getattr(connections, name)

        async def claim_grant(self, *given: object) -> None:
            await connections.claim_grant(*given)  # type: ignore[arg-type]
            await anyio.sleep(25)

    sleeper = another_process(home)
    sleeper._connections = Sleepy()  # type: ignore[assignment]
    with pytest.raises(GrantBusy):
        await sleeper.renewed(await home.connection(), await home.grant())
    assert home.rotations == 0


async def test_case_7_a_pair_that_cannot_be_stored_is_tried_again_and_not_used_before(home: Home) -> None:
    await home.until_expired()
    grants, calls = home.services.grants, home.house.simulator.calls
    asked = sum(count for (endpoint, _), count in calls.items() if endpoint == "egvs")
    broken = Faulty(
        home.services.store.connections, lambda n: StoreFault.BEFORE if n <= 8 else None, only={"store_grant"}
    )
    grants._connections = broken
    connection, before = await home.connection(), await home.grant()
    renewed = await grants.renewed(connection, before)
    assert renewed.version == before.version + 1
    assert (await home.grant()).version == renewed.version
    assert broken.calls == 9
    assert sum(count for (endpoint, _), count in calls.items() if endpoint == "egvs") == asked


async def test_case_7_a_pair_not_stored_for_minutes_is_kept_and_stored_by_the_next_turn(home: Home) -> None:
    await home.until_expired()
    working = home.services.store.connections
    home.services.grants._connections = Faulty(working, lambda _: StoreFault.BEFORE, only={"store_grant"})
    turn = await home.turn()
    assert turn.outcome.ending is Ending.STORE_UNAVAILABLE
    home.services.grants._connections = working
    assert (await home.due_turn(turn)).outcome.ending is Ending.READ
    assert home.rotations == 1


async def test_case_7_a_lost_reply_to_the_store_of_a_pair_is_no_loss(home: Home) -> None:
    await home.until_expired()
    working = home.services.store.connections
    home.services.grants._connections = Faulty(working, at(1, StoreFault.AFTER), only={"store_grant"})
    assert (await home.turn()).outcome.ending is Ending.READ
    assert home.rotations == 1
    assert (await home.grant()).claim is None


async def test_case_9_a_cancelled_refresh_is_finished_and_stored(home: Home) -> None:
    await home.until_expired()
    before = await home.grant()
    home.house.simulator.add_fault(Slow(endpoint="token", seconds=5, count=1))
    with anyio.move_on_after(1):
        await home.turn()
    assert (await home.grant()).version == before.version + 1


async def test_a_process_about_to_end_begins_no_refresh(home: Home) -> None:
    await home.until_expired()
    home.services.grants.close(12)
    assert (await home.turn()).outcome.ending is Ending.GRANT_BUSY
    assert home.rotations == 0


async def test_a_process_that_is_told_to_end_while_it_claims_a_grant_sends_nothing_and_leaves_no_claim(
    home: Home,
) -> None:
    await home.until_expired()
    grants = home.services.grants
    grants._connections = Claiming(home.services.store.connections, lambda: grants.close(12))
    assert (await home.turn()).outcome.ending is Ending.GRANT_BUSY
    assert home.rotations == 0
    assert (await home.grant()).claim is None


async def test_who_waits_for_a_call_of_the_budget_keeps_nobody_from_refreshing_meanwhile(home: Home) -> None:
    await home.until_expired()
    connection, grant = await home.connection(), await home.grant()
    other, waiting = another_process(home), Waiting(home.services.budget)
    other._budget = waiting
    renewed: list[Grant] = []

    async def wait() -> None:
        renewed.append(await other.renewed(connection, grant))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(1)
        assert (await home.turn()).outcome.ending is Ending.READ
        waiting.over.set()
    assert home.rotations == 1, "it was sent once"
    assert renewed[0].version == grant.version + 1


class Waiting(InFront):
    """A budget whose calls are to be had later."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.over = anyio.Event()

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self.over.wait()
        return await call()


class Claiming(InFront):
    """A store that tells when a claim was written, before its answer is heard."""

    def __init__(self, inner: Any, told: Callable[[], None]) -> None:
        super().__init__(inner)
        self._told = told

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "claim_grant":
            self._told()
        return answer


async def test_a_reconnect_during_a_refresh_wins(home: Home) -> None:
    await home.until_expired()
    connection, grant = await home.connection(), await home.grant()
    home.house.simulator.add_fault(Slow(endpoint="token", seconds=5, count=1))
    async with anyio.create_task_group() as group:

        async def late() -> None:
            with pytest.raises(Fenced):
                await another_process(home).renewed(connection, grant)

        group.start_soon(late)
        await anyio.sleep(1)
        await home.house.connect(ADA.user)
    now = await home.grant()
    assert now.generation != grant.generation
    assert now.version == 1
    assert (await home.turn(asked=True)).outcome.ending in {Ending.READ, Ending.NOTHING_NEW}


async def test_what_is_sealed_opens_nowhere_else(home: Home) -> None:
    grant = await home.grant()
    elsewhere = [
        msgspec.structs.replace(grant, id=ConnectionId(UserId("ben"), ADA.provider)),
        msgspec.structs.replace(grant, id=ConnectionId(ADA.user, "acme")),
        msgspec.structs.replace(grant, generation="other"),
    ]
    for moved in elsewhere:
        with pytest.raises(Unsealable):
            home.services.grants._seals.opened(moved)
    with pytest.raises(Unsealable):
        SealedGrants(KeyRing([bytes(32)]), "another table").opened(grant)
    credentials = home.services.grants._seals.opened(grant)
    assert credentials.refresh.reveal().encode() not in grant.sealed


async def test_no_bit_of_what_is_sealed_can_be_flipped(home: Home) -> None:
    grant = await home.grant()
    for bit in range(8 * len(grant.sealed)):
        altered = bytearray(grant.sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Unsealable):
            home.services.grants._seals.opened(msgspec.structs.replace(grant, sealed=bytes(altered)))


async def test_anothers_tokens_put_into_a_row_are_never_sent(home: Home) -> None:
    await home.house.connect("ben", "SandboxUser2")
    connections = home.services.store.connections
    _, bens = await connections.with_grant(ConnectionId(UserId("ben"), ADA.provider))
    own = await home.grant()
    assert bens is not None
    await connections.store_grant(msgspec.structs.replace(own, sealed=bens.sealed, version=own.version + 1))
    asked = sum(home.house.simulator.calls.values())
    assert (await home.turn(asked=True)).outcome.ending is Ending.UNSEALABLE
    assert sum(home.house.simulator.calls.values()) == asked


async def test_claiming_what_was_refreshed_meanwhile_is_outdated(home: Home) -> None:
    grant = await home.grant()
    await home.until_expired()
    await home.turn()
    with pytest.raises(Outdated):
        await home.services.store.connections.claim_grant(grant, "late")


async def test_a_store_that_is_away_is_an_outcome(home: Home) -> None:
    home.services.polling._connections = Faulty(
        home.services.store.connections, lambda _: StoreFault.BEFORE, error=StoreUnavailable
    )
    turn = await home.turn()
    assert turn.outcome.ending is Ending.STORE_UNAVAILABLE
    assert turn.due == home.house.clock.now() + timedelta(seconds=2)


async def test_case_7_a_pair_that_two_turns_store_at_once_is_stored_once(home: Home) -> None:
    await home.until_expired()
    grants, working = home.services.grants, home.services.store.connections
    grants._connections = Faulty(working, lambda n: StoreFault.BEFORE if n <= 8 else None, only={"store_grant"})
    connection, before = await home.connection(), await home.grant()
    got: list[int] = []

    async def renew() -> None:
        got.append((await grants.renewed(connection, before)).version)

    async with anyio.create_task_group() as group:
        group.start_soon(renew)
        await anyio.sleep(1)
        group.start_soon(renew)
    assert got == [before.version + 1] * 2
    assert home.rotations == 1


@pytest.mark.parametrize("error", [Conflicted, StoreError])
async def test_case_7_a_pair_is_stored_whatever_the_store_says_at_first(home: Home, error: type[StoreError]) -> None:
    await home.until_expired()
    broken = Faulty(home.services.store.connections, at(1, StoreFault.BEFORE), error=error, only={"store_grant"})
    home.services.grants._connections = broken
    assert (await home.turn()).outcome.ending is Ending.READ
    assert home.rotations == 1
