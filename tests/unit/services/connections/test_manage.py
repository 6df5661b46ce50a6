from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome
from bg_ingest.errors import Conflict, NotFound, TransactionConflict
from bg_ingest.ports.table import Table
from bg_ingest.simulator.faults import Failed
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.connected_user import ADA, ConnectedUser, open_connected_user
from tests.harness.service import PROVIDER, START

DAY = timedelta(days=1)


async def test_a_paused_connection_is_not_polled_and_goes_on_where_it_was(ada: ConnectedUser) -> None:
    status = await ada.services.connections.update_worker(ADA, paused=True)
    assert status.connection.state is ConnectionState.PAUSED
    assert status.next_poll_at is None
    assert (await ada.poll()).result.outcome is Outcome.INACTIVE
    await anyio.sleep(DAY.total_seconds() / 4)
    status = await ada.services.connections.update_worker(ADA, paused=False)
    assert status.connection.state is ConnectionState.ACTIVE
    await ada.poll(requested=True)
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", stored[0][0], ada.service.clock.now())  # type: ignore[arg-type]


async def test_another_interval_holds_from_the_next_poll_on(ada: ConnectedUser) -> None:
    status = await ada.services.connections.update_worker(ADA, poll_interval_seconds=3600)
    assert status.poll_interval_seconds == 3600
    await anyio.sleep(1200)
    report = await ada.poll_until_idle(await ada.poll(requested=True))
    newest = (await ada.connection()).newest_reading_at
    assert newest is not None
    assert report.due is not None
    assert timedelta(0) <= report.due - newest - timedelta(hours=1) < timedelta(minutes=2)
    assert (await ada.services.connections.update_worker(ADA, poll_interval_seconds=None)).poll_interval_seconds == 900


@pytest.mark.slow
async def test_a_longer_backfill_reads_more_and_a_shorter_one_less(ada: ConnectedUser) -> None:
    status = await ada.services.connections.update_worker(ADA, backfill_days=10)
    assert status.backfill_done == pytest.approx(0.1, abs=0.01)
    await ada.read_backfill()
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - 11 * DAY, START)[-len(stored) :]
    assert len(stored) > 9 * 280
    assert (await ada.services.connections.status(ADA)).backfill_done == 1

    await ada.services.connections.update_worker(ADA, backfill_days=90)
    status = await ada.services.connections.update_worker(ADA, backfill_days=5)
    assert (status.connection.backfill, status.backfill_done) == (None, 1)


async def test_zero_days_mean_no_backfill(ada: ConnectedUser) -> None:
    await ada.services.connections.update_worker(ADA, backfill_days=90)
    status = await ada.services.connections.update_worker(ADA, backfill_days=0)
    assert (status.connection.backfill, status.backfill_done) == (None, None)


async def test_disconnecting_ends_polls_and_forgets_the_credentials_but_no_reading(ada: ConnectedUser) -> None:
    before = await ada.measured_values()
    await ada.services.connections.disconnect(ADA)
    connection, grant = await ada.services.store.connections.get_with_grant(ADA)
    assert connection is not None
    assert (connection.state, grant) == (ConnectionState.DISCONNECTED, None)
    assert (await ada.poll()).result.outcome is Outcome.INACTIVE
    assert await ada.measured_values() == before
    await ada.services.connections.disconnect(ADA)


async def test_disconnecting_during_a_poll_writes_nothing_after_it(ada: ConnectedUser) -> None:
    await anyio.sleep(1200)
    connections = ada.services.store.connections
    known = connections.get_for_poll

    async def slow(*given: object) -> object:
        answer = await known(*given)  # type: ignore[arg-type]
        connections.get_for_poll = known  # type: ignore[method-assign]  # only the poll's read is hooked
        await ada.services.connections.disconnect(ADA)
        return answer

    connections.get_for_poll = slow  # type: ignore[method-assign, assignment]
    before = await ada.measured_values()
    assert (await ada.poll()).result.outcome is Outcome.FENCED
    assert await ada.measured_values() == before


async def test_what_is_not_there_is_unknown(ada: ConnectedUser) -> None:
    nobody = ConnectionId(UserId("nobody"), PROVIDER)
    steering = ada.services.connections
    for asked in (
        steering.status(nobody),
        steering.update_worker(nobody),
        steering.poll_now(nobody),
        steering.disconnect(nobody),
    ):
        with pytest.raises(NotFound):
            await asked
    with pytest.raises(NotFound):
        await steering.list_statuses(nobody.user)


async def test_a_requested_poll_is_refused_with_the_remedy_while_paused(ada: ConnectedUser) -> None:
    await ada.services.connections.update_worker(ADA, paused=True)
    with pytest.raises(Conflict, match="set paused to false"):
        await ada.services.connections.poll_now(ADA)


@pytest.mark.slow
@pytest.mark.parametrize("days", [0, 5, 10])
async def test_another_backfill_request_forgets_no_reading_since_the_connect(ada: ConnectedUser, days: int) -> None:
    await anyio.sleep(40 * DAY.total_seconds())
    await ada.poll()
    assert (await ada.connection()).backfill is not None, "the readings that were missed in the silence"
    await ada.services.connections.update_worker(ADA, backfill_days=days)
    await ada.read_backfill()
    stored = await ada.measured_values()
    assert stored == ada.service.true_values("SandboxUser1", START - 11 * DAY, ada.service.clock.now())[-len(stored) :]
    assert len(stored) > 39 * 280


@pytest.mark.slow
async def test_a_shorter_backfill_during_a_poll_leaves_a_connection_that_can_be_read(ada: ConnectedUser) -> None:
    await ada.services.connections.update_worker(ADA, backfill_days=90)
    readings = ada.services.store.readings
    known = readings.read

    async def meanwhile(*given: object) -> object:
        readings.read = known  # type: ignore[method-assign]
        await ada.services.connections.update_worker(ADA, backfill_days=20)
        return await known(*given)  # type: ignore[arg-type]

    readings.read = meanwhile  # type: ignore[method-assign, assignment]
    await ada.poll()
    await ada.read_backfill()
    assert (await ada.services.connections.status(ADA)).backfill_done == 1


async def test_a_forbidden_connection_that_is_paused_stays_so_once_it_is_allowed_again(ada: ConnectedUser) -> None:
    number = ada.service.simulator.add_fault(Failed(endpoint="egvs", status=403))
    await ada.poll(requested=True)
    assert (await ada.connection()).state is ConnectionState.PROVIDER_FORBIDDEN
    await ada.services.connections.update_worker(ADA, paused=True)
    connection = await ada.connection()
    assert (connection.state, connection.reason) == (ConnectionState.PAUSED, None)
    ada.service.simulator.faults.remove(number)
    assert (await ada.poll(requested=True)).result.outcome is Outcome.INACTIVE
    await ada.services.connections.update_worker(ADA, paused=False)
    assert (await ada.poll(requested=True)).result.outcome in {Outcome.READ, Outcome.NOTHING_NEW}


async def test_a_change_of_settings_survives_another_transaction_on_the_connection() -> None:
    conflicts: list[Fault] = []

    def around(table: Table) -> FaultyCalls:
        writes = {"write", "transact"}
        return FaultyCalls(
            table, lambda _: conflicts.pop() if conflicts else None, error=TransactionConflict, only=writes
        )

    async with open_connected_user(around=around) as ada:
        conflicts.append(Fault.BEFORE)
        status = await ada.services.connections.update_worker(ADA, poll_interval_seconds=300)
        assert status.poll_interval_seconds == 300
        assert not conflicts
