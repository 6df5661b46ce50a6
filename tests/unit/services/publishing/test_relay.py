"""Events of the relay for its observer, and replays; `workers/test_relay.py` has the deliveries."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import plan_erasure
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.errors import BrokerUnavailable, EventRefused, NotFound
from bg_ingest.services.publishing.relay import Relay, replay
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.fakes.faults import CallWrapper
from tests.fakes.observer import RecordingObserver
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.sample_values import USER, commit_connection

SHARD = shard_of(USER)


class ScriptedPublisher:
    """Confirms, refuses or fails."""

    def __init__(self) -> None:
        self.refused: Collection[UserId] = ()
        self.routable = True
        self.down = False

    async def publish(self, change: Change) -> bool:
        if self.down:
            raise BrokerUnavailable
        if change.user in self.refused:
            raise EventRefused
        return self.routable


class World:
    """A relay over a store with one unpublished change."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.publisher = ScriptedPublisher()
        self.observer = RecordingObserver()
        self.relay = Relay(store.outbox, self.publisher, self.observer)

    @property
    def outcomes(self) -> list[object]:
        return [arguments[-1] for arguments in self.observer.named("publish")]

    @property
    def passes(self) -> list[tuple[object, ...]]:
        """Shard, entries seen, entries settled, end of each reported pass."""
        return self.observer.named("outbox_pass")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_table(None, SetClock(NOON)) as table:
        store = Store(table, SetClock(NOON))
        await commit_connection(store)
        yield World(store)


async def test_a_pass_is_reported_at_its_start_after_each_page_and_at_its_end(world: World) -> None:
    await world.relay.publish_shard(SHARD, {USER: []})
    assert world.passes == [(SHARD, 0, 0, False), (SHARD, 1, 1, False), (SHARD, 1, 1, True)]
    assert world.outcomes == [True]


async def test_an_event_without_a_queue_is_reported_as_such(world: World) -> None:
    world.publisher.routable = False
    assert (await world.relay.publish_shard(SHARD, {USER: []})).unroutable == 1
    assert world.outcomes == [False]


async def test_a_refused_event_stays_in_the_counts_of_its_pass(world: World) -> None:
    world.publisher.refused = {USER}
    outbox_pass = await world.relay.publish_shard(SHARD, {USER: []})
    assert (outbox_pass.refused, outbox_pass.waiting, outbox_pass.oldest) == (1, 1, NOON)
    assert outbox_pass.complete
    assert world.outcomes == [EventRefused]


class ErasureDuringPass(CallWrapper):
    """Outbox of a shard whose user is erased after the entries were listed."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.outbox)
        self._store = store

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "list_waiting":
            head, connections = await self._store.readings.head(USER), await self._store.connections.list_for_user(USER)
            planned = plan_erasure(USER, head, connections, NOON)
            await self._store.erasures.begin(planned)
            while await self._store.erasures.delete_next(planned.pending):
                pass
        return answer


async def test_changes_of_a_user_who_is_erased_during_the_pass_do_not_wait(world: World) -> None:
    relay = Relay(ErasureDuringPass(world.store), world.publisher, world.observer)
    outbox_pass = await relay.publish_shard(SHARD, {USER: []})
    assert (outbox_pass.settled, outbox_pass.waiting, outbox_pass.oldest) == (0, 0, None)
    assert world.outcomes == []


async def test_a_pass_that_breaks_off_is_reported_as_incomplete(world: World) -> None:
    world.publisher.down = True
    with pytest.raises(BrokerUnavailable):
        await world.relay.publish_shard(SHARD, {USER: []})
    assert world.passes[-1] == (SHARD, 1, 0, True)
    assert world.outcomes == [BrokerUnavailable]


async def test_the_users_of_a_directory_with_unpublished_changes_are_found(world: World) -> None:
    directory = await world.store.outbox.read_directory(SHARD)
    assert await world.relay.find_waiting(SHARD, directory, taken=True) == {USER}
    await world.relay.publish_shard(SHARD, {USER: []})
    assert await world.relay.find_waiting(SHARD, directory, taken=False) == set()


async def test_a_shard_without_unpublished_changes_is_reported_as_such(world: World) -> None:
    world.relay.report_empty(SHARD)
    assert world.passes == [(SHARD, 0, 0, True)]


@pytest.mark.slow
async def test_changes_are_published_again_from_a_number_on(ada: ConnectedUser) -> None:
    async with ada.service.running():
        await anyio.sleep(3600)
        before = ada.service.event_numbers("ada")
        last = before[-1]
        again = await replay(ada.services.store, ADA.user, 3)
        await anyio.sleep(100)
        after = ada.service.event_numbers("ada")[len(before) :]
        assert again == last - 2
        assert after[:again] == list(range(3, last + 1))
        assert await replay(ada.services.store, ADA.user, 2, 4) == 3


async def test_expired_changes_are_not_published(ada: ConnectedUser) -> None:
    assert await replay(ada.services.store, ADA.user, 10_000) == 0
    with pytest.raises(NotFound):
        await replay(ada.services.store, UserId("nobody"), 1)
