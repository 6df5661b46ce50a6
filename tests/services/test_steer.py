from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.connections import State
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending
from bg_ingest.errors import NotPossible, Unknown
from bg_ingest.simulator.faults import Failed
from tests.fakes.faults import Conflicting
from tests.home import ADA, Home
from tests.house import PROVIDER, START

DAY = timedelta(days=1)


async def test_a_paused_connection_is_not_polled_and_goes_on_where_it_was(home: Home) -> None:
    status = await home.services.steering.change(ADA, paused=True)
    assert status.connection.state is State.PAUSED
    assert status.next_poll_at is None
    assert (await home.turn()).outcome.ending is Ending.INACTIVE
    await anyio.sleep(DAY.total_seconds() / 4)
    status = await home.services.steering.change(ADA, paused=False)
    assert status.connection.state is State.ACTIVE
    await home.turn(asked=True)
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", stored[0][0], home.house.clock.now())  # type: ignore[arg-type]


async def test_another_interval_holds_from_the_next_turn_on(home: Home) -> None:
    status = await home.services.steering.change(ADA, poll_interval_seconds=3600)
    assert status.poll_interval_seconds == 3600
    await anyio.sleep(1200)
    turn = await home.at_rest(await home.turn(asked=True))
    newest = (await home.connection()).newest_reading_at
    assert newest is not None
    assert turn.due is not None
    assert timedelta(0) <= turn.due - newest - timedelta(hours=1) < timedelta(minutes=2)
    assert (await home.services.steering.change(ADA, poll_interval_seconds=None)).poll_interval_seconds == 900


async def test_more_past_is_read_when_more_is_wanted_and_less_when_less(home: Home) -> None:
    status = await home.services.steering.change(ADA, backfill_days=10)
    assert status.backfill_done == pytest.approx(0.1, abs=0.01)
    await home.read_past()
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - 11 * DAY, START)[-len(stored) :]
    assert len(stored) > 9 * 280
    assert (await home.services.steering.status(ADA)).backfill_done == 1

    await home.services.steering.change(ADA, backfill_days=90)
    status = await home.services.steering.change(ADA, backfill_days=5)
    assert (status.connection.backfill, status.backfill_done) == (None, 1)


async def test_no_past_is_wanted_with_zero_days(home: Home) -> None:
    await home.services.steering.change(ADA, backfill_days=90)
    status = await home.services.steering.change(ADA, backfill_days=0)
    assert (status.connection.backfill, status.backfill_done) == (None, None)


async def test_disconnecting_ends_polls_and_forgets_the_credentials_but_no_reading(home: Home) -> None:
    before = await home.measured()
    await home.services.steering.disconnect(ADA)
    connection, grant = await home.services.store.connections.with_grant(ADA)
    assert connection is not None
    assert (connection.state, grant) == (State.DISCONNECTED, None)
    assert (await home.turn()).outcome.ending is Ending.INACTIVE
    assert await home.measured() == before
    await home.services.steering.disconnect(ADA)


async def test_disconnecting_during_a_poll_writes_nothing_after_it(home: Home) -> None:
    await anyio.sleep(1200)
    readings = home.services.store.readings
    known = readings.known

    async def slow(*given: object) -> object:
        answer = await known(*given)  # type: ignore[arg-type]
        await home.services.steering.disconnect(ADA)
        return answer

    readings.known = slow  # type: ignore[method-assign, assignment]
    before = await home.measured()
    assert (await home.turn()).outcome.ending is Ending.FENCED
    assert await home.measured() == before


async def test_what_is_not_there_is_unknown(home: Home) -> None:
    nobody = ConnectionId(UserId("nobody"), PROVIDER)
    steering = home.services.steering
    for asked in (
        steering.status(nobody),
        steering.change(nobody),
        steering.poll_now(nobody),
        steering.disconnect(nobody),
    ):
        with pytest.raises(Unknown):
            await asked
    with pytest.raises(Unknown):
        await steering.of_user(nobody.user)


async def test_a_look_now_is_refused_with_the_remedy_while_paused(home: Home) -> None:
    await home.services.steering.change(ADA, paused=True)
    with pytest.raises(NotPossible, match="set paused to false"):
        await home.services.steering.poll_now(ADA)


@pytest.mark.parametrize("days", [0, 5, 10])
async def test_another_wish_for_the_past_forgets_nothing_that_came_since_the_connect(home: Home, days: int) -> None:
    await anyio.sleep(40 * DAY.total_seconds())
    await home.turn()
    assert (await home.connection()).backfill is not None, "what was missed in the silence"
    await home.services.steering.change(ADA, backfill_days=days)
    await home.read_past()
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - 11 * DAY, home.house.clock.now())[-len(stored) :]
    assert len(stored) > 39 * 280


async def test_a_wish_for_less_past_during_a_turn_leaves_a_connection_that_can_be_read(home: Home) -> None:
    await home.services.steering.change(ADA, backfill_days=90)
    readings = home.services.store.readings
    known = readings.known

    async def meanwhile(*given: object) -> object:
        readings.known = known  # type: ignore[method-assign]
        await home.services.steering.change(ADA, backfill_days=20)
        return await known(*given)  # type: ignore[arg-type]

    readings.known = meanwhile  # type: ignore[method-assign, assignment]
    await home.turn()
    await home.read_past()
    assert (await home.services.steering.status(ADA)).backfill_done == 1


async def test_a_forbidden_connection_that_is_paused_stays_so_once_it_is_allowed_again(home: Home) -> None:
    number = home.house.simulator.add_fault(Failed(endpoint="egvs", status=403))
    await home.turn(asked=True)
    assert (await home.connection()).state is State.PROVIDER_FORBIDDEN
    await home.services.steering.change(ADA, paused=True)
    connection = await home.connection()
    assert (connection.state, connection.reason) == (State.PAUSED, None)
    home.house.simulator.faults.remove(number)
    assert (await home.turn(asked=True)).outcome.ending is Ending.INACTIVE
    await home.services.steering.change(ADA, paused=False)
    assert (await home.turn(asked=True)).outcome.ending in {Ending.READ, Ending.NOTHING_NEW}


async def test_a_change_of_settings_survives_another_transaction_on_the_connection(home: Home) -> None:
    home.services.steering._connections = Conflicting(home.services.store.connections, 1)
    assert (await home.services.steering.change(ADA, poll_interval_seconds=300)).poll_interval_seconds == 300
