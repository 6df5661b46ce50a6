"""Commits: repeated after a lost race, completed after a cancellation, announced after a success."""

from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.commits import plan_erasure
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.errors import Fenced, StaleRead, StoreUnavailable
from bg_ingest.services.polling.commit import COMMIT_TIMEOUT, Committer
from bg_ingest.store import Store
from tests.conftest import on
from tests.fakes.clock import NOON, SetClock
from tests.fakes.faults import Fault, FaultyCalls, at, every
from tests.fakes.observer import RecordingObserver
from tests.fakes.wakeups import RecordingWakeups
from tests.harness.sample_values import USER, connection, connection_commit, replaced_fields

anyio_backend = on("asyncio", "trio")


class World:
    """A store, and all announcements of its commits."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.observer = RecordingObserver()
        self.wakeups = RecordingWakeups()
        self.committer = Committer(store, self.observer, self.wakeups)

    def committer_over(self, commits: Any) -> Committer:
        """Return a committer whose store fails in the way of a wrapper around the commits."""
        store = cast("Any", type("FaultyStore", (), {"commits": commits}))
        return Committer(store, self.observer, self.wakeups)

    @property
    def announced(self) -> list[int]:
        """Numbers of the changes that both the observer and the relay got."""
        observed = [change.number for (changes,) in self.observer.named("committed") for change in changes]
        assert observed == [change.number for change in self.wakeups.changes]
        return observed


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_table(None, SetClock(NOON)) as table:
        yield World(Store(table, SetClock(NOON)))


async def test_changes_are_announced_after_their_commit(world: World) -> None:
    await world.committer.commit(connection_commit(None, None, connection()))
    assert world.announced == [1]


async def test_a_commit_that_is_not_written_announces_nothing(world: World) -> None:
    first = connection_commit(None, None, connection())
    await world.store.commits.write(first)
    with pytest.raises((StaleRead, Fenced)):
        await world.committer.commit(first)
    faulty = FaultyCalls(world.store.commits, every(1, Fault.BEFORE))
    with pytest.raises(StoreUnavailable):
        await world.committer_over(faulty).commit(connection_commit(first.head, connection(), connection()))
    assert world.announced == []


async def test_a_commit_without_changes_announces_nothing(world: World) -> None:
    first = connection_commit(None, None, connection())
    await world.store.commits.write(first)
    await world.committer.commit(replaced_fields(first, before=first.head, changes=(), connection_update=None))
    assert world.announced == []
    assert not world.observer.events


async def test_a_cancelled_commit_ends_and_is_announced(world: World) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await world.committer.commit(connection_commit(None, None, connection()))
    assert world.announced == [1]


async def test_a_commit_without_an_answer_ends_with_an_error(world: World) -> None:
    began = anyio.current_time()
    with pytest.raises(StoreUnavailable):
        await world.committer_over(FaultyCalls(world.store.commits, at(1, Fault.HANG))).commit(
            connection_commit(None, None, connection())
        )
    assert anyio.current_time() - began == COMMIT_TIMEOUT
    assert world.announced == []
    assert world.wakeups.checked == [USER]


@pytest.mark.parametrize("again", [False, True])
async def test_the_relay_looks_for_a_commit_whose_answer_is_lost(world: World, *, again: bool) -> None:
    """A repetition by the client of the store meets the change of the first attempt: the error is then StaleRead."""
    commit = connection_commit(None, None, connection())
    if again:
        await world.store.commits.write(commit)
    faulty = FaultyCalls(world.store.commits, at(1, Fault.AFTER))
    with pytest.raises((StoreUnavailable, StaleRead, Fenced)):
        await world.committer_over(faulty).commit(commit)
    assert (world.announced, world.wakeups.checked) == ([], [USER])


async def test_the_start_of_an_erasure_is_announced(world: World) -> None:
    first = connection_commit(None, None, connection())
    await world.committer.commit(first)
    erasure = plan_erasure(USER, await world.store.readings.head(USER), [connection()], NOON)
    await world.committer.begin_erasure(erasure)
    observed = [change.number for (changes,) in world.observer.named("committed") for change in changes]
    assert (observed, world.wakeups.checked) == ([1, 2], [USER]), "the relay reads it, because it has an outbox row"


async def test_a_commit_without_a_connection_is_to_be_read_because_it_has_an_outbox_row(world: World) -> None:
    first = connection_commit(None, None, connection())
    await world.committer.commit(first)
    gone = replaced_fields(connection(), state=ConnectionState.DISCONNECTED)
    head = await world.store.readings.head(USER)
    await world.committer.commit(connection_commit(head, connection(), gone, drop_grant=True))
    assert ([change.number for change in world.wakeups.changes], world.wakeups.checked) == ([1], [USER])
