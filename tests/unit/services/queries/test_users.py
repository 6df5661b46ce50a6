"""List of users: pages while users are added and removed, and the upgrade of an older table."""

from collections.abc import AsyncIterator

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.commits import Commit, Head, plan_erasure
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.services.queries.users import UserCursor, UserQueries
from bg_ingest.store import Store, keys
from tests.fakes.clock import SetClock
from tests.fakes.counting_table import CountingTable
from tests.harness.sample_values import USER, commit_connection, reading, readings_commit_of


@pytest.fixture
async def table() -> AsyncIterator[CountingTable]:
    async with open_table(None, SetClock()) as plain:
        yield CountingTable(plain)


@pytest.fixture
def store(table: CountingTable) -> Store:
    return Store(table, SetClock())


@pytest.fixture
def user_list(store: Store) -> UserQueries:
    return UserQueries(store, SetClock())


async def add(store: Store, *names: str) -> None:
    for name in names:
        await store.commits.write(Commit(before=None, head=Head(UserId(name))))


async def erase(store: Store, name: str) -> None:
    user = UserId(name)
    await store.erasures.begin(plan_erasure(user, await store.readings.head(user), [], SetClock().now()))


async def walk(user_list: UserQueries, limit: int) -> list[str]:
    users: list[str] = []
    cursor, more = UserCursor(), True
    while more:
        page = await user_list.page(cursor, limit)
        assert len(page.users) <= limit
        assert page.users or not page.more
        users += page.users
        cursor, more = page.after, page.more
    return users


@pytest.mark.parametrize("limit", [1, 7, 100, 1_000])
async def test_every_user_is_listed_once_whatever_the_size_of_a_page(
    store: Store, user_list: UserQueries, limit: int
) -> None:
    names = [f"user-{number}" for number in range(150)]
    await add(store, *names)
    listed = await walk(user_list, limit)
    assert sorted(listed) == sorted(names)
    assert [shard_of(UserId(name)) for name in listed] == sorted(shard_of(UserId(name)) for name in names)


async def test_users_who_stay_are_listed_once_while_others_come_and_go(store: Store, user_list: UserQueries) -> None:
    stay, leave = [f"stay-{number}" for number in range(60)], [f"leave-{number}" for number in range(30)]
    await add(store, *stay, *leave)
    listed: list[str] = []
    cursor, more = UserCursor(), True
    for number in range(200):
        page = await user_list.page(cursor, 5)
        listed += page.users
        cursor, more = page.after, page.more
        if not more:
            break
        await add(store, f"new-{number}")
        if number < len(leave):
            await erase(store, leave[number])
    assert not more
    assert sorted(name for name in listed if name.startswith("stay")) == sorted(stay)
    assert len(listed) == len(set(listed))


@pytest.mark.slow
async def test_a_walk_over_5000_users_lists_each_once_while_500_come_and_100_go(
    store: Store, user_list: UserQueries
) -> None:
    stay, leave = [f"stay-{number}" for number in range(5_000)], [f"leave-{number}" for number in range(100)]
    await add(store, *stay, *leave)
    listed: list[str] = []
    cursor, more, pages = UserCursor(), True, 0
    while more:
        page = await user_list.page(cursor, 100)
        listed += page.users
        cursor, more, pages = page.after, page.more, pages + 1
        if pages <= 50:
            await add(store, *(f"new-{number}" for number in range(10 * pages - 10, 10 * pages)))
            for number in (2 * pages - 2, 2 * pages - 1):
                await erase(store, leave[number])
    assert pages >= 50
    assert sorted(name for name in listed if name.startswith("stay")) == sorted(stay)
    assert len(listed) == len(set(listed))


async def test_an_erased_user_is_not_listed_and_is_again_after_a_new_connect(
    store: Store, user_list: UserQueries
) -> None:
    await add(store, "ada", "ben")
    await erase(store, "ada")
    assert await walk(user_list, 10) == ["ben"]
    pending = await store.erasures.pending_for(UserId("ada"))
    assert pending is not None
    while await store.erasures.delete_next(pending):
        pass
    tombstone = await store.readings.head(UserId("ada"))
    assert tombstone is not None
    await store.commits.write(Commit(before=tombstone, head=Head(UserId("ada"), tombstone.last_change)))
    assert sorted(await walk(user_list, 10)) == ["ada", "ben"]


async def test_the_full_view_has_state_and_newest_reading(store: Store, user_list: UserQueries) -> None:
    await commit_connection(store)
    await store.commits.write(await readings_commit_of(store.readings, [reading(-1)]))
    await add(store, "ben")
    rows = {row.user_id: row for row in await user_list.describe([USER, UserId("ben"), UserId("zoe")])}
    assert set(rows) == {"ada", "ben"}
    assert (rows[USER].newest_reading_at, rows[USER].state) == (reading(-1).measured_at, "live")
    assert (rows[UserId("ben")].newest_reading_at, rows[UserId("ben")].state) == (None, None)


async def test_an_upgrade_lists_the_users_of_an_older_table_and_can_be_repeated(
    table: CountingTable, store: Store, user_list: UserQueries
) -> None:
    await add(store, "ada", "ben", "eva")
    await erase(store, "eva")
    await table.delete([keys.listed_user(UserId(name)) for name in ("ada", "ben")])
    assert await walk(user_list, 10) == []
    steps: list[int] = []
    for _ in range(2):
        assert await user_list.upgrade(lambda done, _: steps.append(done)) == 2
        assert sorted(await walk(user_list, 10)) == ["ada", "ben"]
    assert len(steps) == 2 * max(steps)


async def test_few_users_take_few_rounds_of_reads(user_list: UserQueries, store: Store) -> None:
    await add(store, "ada")
    with anyio.fail_after(5):
        assert (await user_list.page(UserCursor(), 100)).users == ["ada"]
