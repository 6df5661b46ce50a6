"""Batches, queries and transactions of a table over either transport; DynamoDB leaves work undone or breaks off."""

from collections.abc import Callable

import pytest

from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports.table import Absent, Check, Exists, Key, Put, Write
from tests.fakes.dynamodb import BrokenReply, RecordedRequest, Reply, in_sequence, scripted
from tests.unit.adapters.dynamodb.conftest import TableOn

KEY, OTHER = ("user#ada", "head"), ("user#ada", "grant")
WIRE_KEY = {"pk": {"S": "user#ada"}, "sk": {"S": "head"}}
WIRE = {**WIRE_KEY, "v": {"N": "1"}, "raw": {"B": "AP8="}, "yes": {"BOOL": True}}
ITEM = {"v": 1, "raw": b"\x00\xff", "yes": True}
WRITES: list[Write] = [Put(KEY, {"v": 1}, (Absent(),)), Check(OTHER, (Exists(),))]


async def test_repetitions_of_a_transaction_are_one_to_the_server_and_others_are_not(table_on: TableOn) -> None:
    async with scripted(in_sequence(BrokenReply.RESET, {}, {})) as server, table_on(server) as table:
        await table.transact(WRITES)
        await table.transact(WRITES)
    first, again, other = (each.body["ClientRequestToken"] for each in server.asked)
    assert first == again != other


def reading_some(most: int) -> Callable[[RecordedRequest], Reply]:
    """Answer a batch with at most this many of the requested items."""

    def answer(asked: RecordedRequest) -> Reply:
        (requested,) = asked.body["RequestItems"].values()
        keys = requested["Keys"]
        left = {"readings": {**requested, "Keys": keys[most:]}} if keys[most:] else {}
        return {"Responses": {"readings": [{**key, "v": {"N": "1"}} for key in keys[:most]]}, "UnprocessedKeys": left}

    return answer


def deleting_some(most: int) -> Callable[[RecordedRequest], Reply]:
    def answer(asked: RecordedRequest) -> Reply:
        unwanted = asked.body["RequestItems"]["readings"]
        return {"UnprocessedItems": {"readings": unwanted[most:]} if unwanted[most:] else {}}

    return answer


KEYS: list[Key] = [("pk", f"{number}") for number in range(130)]


async def test_case_41_what_a_batch_leaves_unread_is_asked_for_again_consistently(table_on: TableOn) -> None:
    async with scripted(reading_some(40)) as server, table_on(server) as table:
        assert await table.batch_get([*KEYS, KEYS[0]]) == {key: {"v": 1} for key in KEYS}
    requested = [each.body["RequestItems"]["readings"] for each in server.asked]
    assert [len(each["Keys"]) for each in requested] == [100, 60, 20, 30]
    assert all(each["ConsistentRead"] for each in requested)


async def test_case_41_a_batch_read_once_omits_unprocessed_keys_and_is_not_repeated(table_on: TableOn) -> None:
    async with scripted(reading_some(40)) as server, table_on(server) as table:
        assert await table.batch_get_once(KEYS[:60]) == {key: {"v": 1} for key in KEYS[:40]}
    (requested,) = (asked.body["RequestItems"]["readings"] for asked in server.asked)
    assert requested["ConsistentRead"]


async def test_case_41_what_a_batch_leaves_undeleted_is_deleted_again(table_on: TableOn) -> None:
    async with scripted(deleting_some(20)) as server, table_on(server) as table:
        await table.delete([*KEYS[:30], KEYS[0]])
    assert [len(each.body["RequestItems"]["readings"]) for each in server.asked] == [25, 5, 5]


async def test_a_batch_that_is_never_done_is_unavailable(table_on: TableOn) -> None:
    async with scripted(reading_some(0)) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="no capacity"):
            await table.batch_get(KEYS[:1])
    async with scripted(deleting_some(0)) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="no capacity"):
            await table.delete(KEYS[:1])


@pytest.mark.parametrize("consistent", [True, False])
async def test_a_query_goes_on_over_a_page_that_holds_nothing(table_on: TableOn, *, consistent: bool) -> None:
    pages: tuple[Reply, ...] = (
        {"Items": [WIRE], "LastEvaluatedKey": WIRE_KEY},
        {"Items": [], "LastEvaluatedKey": WIRE_KEY},
        {"Items": [WIRE]},
    )
    async with scripted(in_sequence(*pages)) as server, table_on(server) as table:
        assert [page async for page in table.query("user#ada", "a", "z", consistent=consistent, page=1)] == [
            [(KEY, ITEM)]
        ] * 2
    assert {(each.body["ConsistentRead"], each.body["Limit"]) for each in server.asked} == {(consistent, 1)}
    assert [each.body.get("ExclusiveStartKey") for each in server.asked] == [None, WIRE_KEY, WIRE_KEY]


async def test_a_query_for_some_attributes_leaves_out_the_others(table_on: TableOn) -> None:
    async with scripted(in_sequence({"Items": [WIRE]})) as server, table_on(server) as table:
        assert [page async for page in table.query("user#ada", "a", "z", attributes=["readings"])] == [[(KEY, ITEM)]]
    (asked,) = server.asked
    assert asked.body["ProjectionExpression"] == "#0,#1,#2"
    assert asked.body["ExpressionAttributeNames"] == {"#0": "pk", "#1": "sk", "#2": "readings"}


async def test_nothing_to_do_is_not_asked(table_on: TableOn) -> None:
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        assert await table.batch_get([]) == {}
        assert [page async for page in table.query("pk", "b", "a")] == []
        await table.delete([])
    assert server.asked == []
