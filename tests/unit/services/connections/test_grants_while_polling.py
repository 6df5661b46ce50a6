"""Grants in polls of the simulated provider: outcomes, due times and states of the connection."""

from datetime import timedelta
from typing import Any

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.grants import CLAIM_STALE_AFTER, REFUSAL_RETRY_DELAYS
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome
from bg_ingest.errors import Fenced
from bg_ingest.ports import Observer
from bg_ingest.services.connections.grants import Grants
from bg_ingest.simulator.faults import Failed, Fault, ReplyLost, Reset, Slow, Throttled
from tests.conftest import on
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import FaultyCalls
from tests.harness.connected_user import ADA, ConnectedUser, open_connected_user

anyio_backend = on("asyncio", "trio")


def another_process(
    ada: ConnectedUser, *, grant_store: Any = None, provider: Any = None, budget: Any = None, key: bytes = bytes(32)
) -> Grants:
    """Return the grants of a second process: the same parts unless others are given, and no shared memory."""
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
    assert ada.rotations == 1, "no caller sends a request before the wait is over"


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
    assert (await ada.grant()).refusals == 0, "removed by the next regular refresh"


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


async def test_a_claim_of_a_dead_process_is_taken_over_once_unchanged_for_long_on_our_own_clock(
    ada: ConnectedUser,
) -> None:
    await ada.sleep_until_expired()
    grant = await ada.grant()
    await ada.services.store.grants.claim(grant, "of the dead")
    report = await ada.poll()
    assert report.result.outcome is Outcome.GRANT_BUSY
    assert report.due == ada.service.clock.now() + CLAIM_STALE_AFTER
    assert (await ada.poll_when_due(report)).result.outcome is Outcome.READ


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


async def test_a_store_that_is_away_is_an_outcome() -> None:
    is_down = False
    async with open_connected_user(
        around=lambda table: FaultyCalls(table, lambda _: StoreFault.BEFORE if is_down else None)
    ) as ada:
        is_down = True
        report = await ada.poll()
        assert report.result.outcome is Outcome.STORE_UNAVAILABLE
        assert report.due == ada.service.clock.now() + timedelta(seconds=2)
