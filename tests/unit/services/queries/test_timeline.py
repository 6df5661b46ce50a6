"""Memory of recent events, and the timeline that joins it with stored rows."""

from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import NextPollReason, Outcome, PollReport, PollResult
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.domain.timeline import NextPoll, TimelineKind
from bg_ingest.errors import NotFound
from bg_ingest.services.polling.poll import Poller
from bg_ingest.services.queries import timeline
from bg_ingest.services.queries.timeline import MAX_CHANGES, MAX_EVENTS_EACH, RecentEvents, TimelineQueries
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import ACME, commit_connection, connection, grant, reading, readings_commit_of

MINUTE = timedelta(minutes=1)
RHYTHM = Rhythm(15 * MINUTE, 5 * MINUTE, MINUTE, jitter=0)
BEN, CYD = ConnectionId(UserId("ben"), "acme"), ConnectionId(UserId("cyd"), "acme")


class World:
    """Timeline queries over a store, with one fixed rhythm."""

    def __init__(self, store: Store, clock: SetClock) -> None:
        self.store = store
        self.clock = clock
        self.events = RecentEvents(clock)
        poller = cast("Poller", SimpleNamespace(rhythm=lambda _: RHYTHM))
        self.queries = TimelineQueries(store, poller, self.events, clock)

    def add_poll(self, connection: ConnectionId = ACME, outcome: Outcome = Outcome.READ) -> None:
        with self.events.poll(connection, 1) as observation:
            observation.finish(PollReport(PollResult(outcome, 1), None, origin=Origin.LIVE))

    async def kinds(self) -> list[TimelineKind]:
        shown = await self.queries.read(ACME, lambda _: None)
        return [event.kind for event in shown.events]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = SetClock()
    async with open_table(None, clock) as table:
        yield World(Store(table, clock), clock)


async def test_without_a_connection_there_is_no_timeline(world: World) -> None:
    with pytest.raises(NotFound):
        await world.queries.read(ACME, lambda _: None)


async def test_events_of_rows_changes_and_memory_are_joined_latest_first(world: World) -> None:
    await commit_connection(world.store)
    await world.store.commits.write(await readings_commit_of(world.store.readings, [reading(0)]))
    world.clock.advance(MINUTE)
    world.add_poll()
    world.clock.advance(MINUTE)
    world.events.webhook(ACME, None)
    assert (await world.kinds())[:2] == [TimelineKind.WEBHOOK, TimelineKind.POLLED]
    assert sorted((await world.kinds())[2:]) == [
        TimelineKind.CONNECTED,
        TimelineKind.RECORDED,
        TimelineKind.REFRESHED,
        TimelineKind.STATE,
    ]


async def test_events_from_before_the_connect_are_left_out(world: World) -> None:
    """Events may belong to a user who has been erased since."""
    world.add_poll()
    world.clock.advance(timedelta(seconds=1))
    await commit_connection(world.store, connection(connected_at=world.clock.now()))
    assert TimelineKind.POLLED not in await world.kinds()
    world.add_poll()
    assert TimelineKind.POLLED in await world.kinds()


async def test_the_replica_that_polls_shows_its_own_next_poll(world: World) -> None:
    await commit_connection(world.store)
    own = NextPoll(NOON + MINUTE, NextPollReason.RETRY, failures=2)
    shown = await world.queries.read(ACME, lambda _: own)
    assert (shown.next, shown.polled_here) == (own, True)
    elsewhere = await world.queries.read(ACME, lambda _: None)
    assert elsewhere.next == NextPoll(NOON + 16 * MINUTE, NextPollReason.SLOT)
    assert not elsewhere.polled_here


async def test_the_number_of_changes_in_an_answer_is_bounded(world: World) -> None:
    await commit_connection(world.store)
    for number in range(MAX_CHANGES + 5):
        await world.store.commits.write(await readings_commit_of(world.store.readings, [reading(number)]))
    kinds = await world.kinds()
    assert kinds.count(TimelineKind.RECORDED) == MAX_CHANGES
    assert TimelineKind.STATE not in kinds, "the oldest changes are left out"


async def test_polls_without_a_request_and_crashes_are_no_events(world: World) -> None:
    world.add_poll(outcome=Outcome.NOT_DUE)
    world.add_poll(outcome=Outcome.INACTIVE)
    with pytest.raises(ValueError, match="a crash"), world.events.poll(ACME, 1):
        raise ValueError("a crash")
    assert world.events.list_for(ACME) == []


async def test_a_grant_is_an_event_after_each_write(world: World) -> None:
    world.events.grant_stored(grant())
    world.events.grant_stored(grant(refusals=1, retry_at=NOON + MINUTE))
    assert [event.kind for event in world.events.list_for(ACME)] == [TimelineKind.REFRESHED, TimelineKind.REFUSED]


async def test_each_connection_keeps_its_latest_events(world: World) -> None:
    for _ in range(MAX_EVENTS_EACH + 5):
        world.add_poll()
        world.clock.advance(MINUTE)
    events = world.events.list_for(ACME)
    assert len(events) == MAX_EVENTS_EACH
    assert events[-1].at == world.clock.now() - MINUTE


async def test_beyond_the_bound_connections_in_trouble_replace_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_CONNECTIONS", 2)
    world.add_poll(ACME)
    world.add_poll(BEN, Outcome.UNAVAILABLE)
    world.add_poll(CYD)
    assert not world.events.list_for(CYD), "without trouble there is no room for another connection"
    world.add_poll(CYD, Outcome.UNAVAILABLE)
    assert not world.events.list_for(ACME)
    assert world.events.list_for(BEN)
    assert world.events.list_for(CYD)
