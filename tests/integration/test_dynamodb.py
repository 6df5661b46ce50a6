"""DynamoDB-compatible server: creation of the table, and many processes that write concurrently."""

import sys
from random import Random

import anyio
import pytest

from bg_ingest.adapters.dynamodb.admin import create_table
from bg_ingest.errors import StoreError
from bg_ingest.ports.table import Put
from bg_ingest.store import LAYOUT, Store, keys
from tests.contracts.test_races import assert_nothing_lost, batches_of
from tests.fakes.clock import SetClock
from tests.harness.sample_values import commit_connection
from tests.integration.servers import REGION, DynamoServer, make_table

PROCESSES, WRITERS = 4, 8
"""Writers of each process: 32 in total."""


async def test_a_table_is_made_once_and_made_again_changes_nothing(dynamodb: DynamoServer) -> None:
    made = await create_table(dynamodb.endpoint, REGION, "made", dynamodb.aws)
    again = await create_table(dynamodb.endpoint, REGION, "made", dynamodb.aws)
    assert "was created" in made[0]
    assert "already exists" in again[0]
    assert not [step for step in again if "now" in step.split()]
    async with dynamodb.open_table("made") as table:
        assert await table.get(keys.META) == LAYOUT


async def test_without_its_table_the_store_does_not_open(dynamodb: DynamoServer) -> None:
    with pytest.raises(StoreError, match="no table nowhere: run `bg-ingest tables create`"):
        async with dynamodb.open_table("nowhere"):
            pass


@pytest.mark.parametrize(("other", "expected_detail"), [({"shards": 16}, "shards 16"), ({"v": 2}, "schema version 2")])
async def test_a_table_of_another_layout_is_refused(
    dynamodb: DynamoServer, other: dict[str, int], expected_detail: str
) -> None:
    async with dynamodb.client() as client:
        name = await make_table(client)
    async with dynamodb.open_table(name) as table:
        await table.write(Put(keys.META, LAYOUT | other))
    with pytest.raises(StoreError, match=expected_detail):
        async with dynamodb.open_table(name):
            pass


async def test_32_writers_in_4_processes_lose_and_double_nothing_of_one_user(dynamodb: DynamoServer) -> None:
    async with dynamodb.new_table() as table:
        store = Store(table, SetClock())
        await commit_connection(store)

        async def write(part: int) -> None:
            command = [sys.executable, "-m", "tests.integration.writer", dynamodb.endpoint, table.name, str(part)]
            await anyio.run_process(command, stderr=None)

        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:
                for part in range(PROCESSES):
                    group.start_soon(write, part)
        await assert_nothing_lost(store, batches_of(Random(0)))
