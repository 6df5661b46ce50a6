"""Changes that wait for the relay: in memory while there is room, else to be read."""

from bg_ingest.domain.changes import Change, ConnectionChanged
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.ids import UserId
from tests.conftest import on
from tests.fakes.clock import NOON
from workers.waiting_changes import MAX_CACHED_CHANGES, WaitingChanges

ADA, BEN = UserId("ada"), UserId("ben")

anyio_backend = on("asyncio", "trio")


def changes(user: UserId, *numbers: int) -> list[Change]:
    data = ConnectionChanged("acme", ConnectionState.ACTIVE, None)
    return [Change(user, number, NOON, data) for number in numbers]


def numbers_in(waiting: WaitingChanges, shard: int) -> dict[UserId, list[int]]:
    return {user: [each.change.number for each in committed] for user, committed in waiting.take(shard).items()}


async def test_commits_of_a_user_are_kept_in_order_and_taken_once() -> None:
    waiting = WaitingChanges()
    waiting.add(7, changes(ADA, 1, 2))
    waiting.add(7, changes(ADA, 3))
    waiting.add(8, changes(BEN, 1))
    assert waiting.shards == {7, 8}
    assert numbers_in(waiting, 7) == {ADA: [1, 2, 3]}
    assert numbers_in(waiting, 7) == {}
    assert waiting.shards == {8}


async def test_a_user_to_be_read_has_no_change_in_memory_until_taken() -> None:
    waiting = WaitingChanges()
    waiting.add(7, changes(ADA, 1))
    waiting.add_users(7, [ADA, BEN])
    waiting.add(7, changes(ADA, 2))
    assert numbers_in(waiting, 7) == {ADA: [], BEN: []}


async def test_without_room_changes_are_to_be_read_and_taking_makes_room() -> None:
    waiting = WaitingChanges()
    waiting.add(7, changes(ADA, *range(1, MAX_CACHED_CHANGES + 1)))
    waiting.add(8, changes(BEN, 1))
    assert numbers_in(waiting, 8) == {BEN: []}
    assert len(numbers_in(waiting, 7)[ADA]) == MAX_CACHED_CHANGES
    waiting.add(8, changes(BEN, 2))
    assert numbers_in(waiting, 8) == {BEN: [2]}
