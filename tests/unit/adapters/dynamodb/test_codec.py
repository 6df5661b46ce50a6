"""Encoded requests, and a mistake that only AWS itself would refuse."""

import pytest

from bg_ingest.ports.table import Exists, Update, Write
from tests.fakes.dynamodb import in_sequence, scripted
from tests.unit.adapters.dynamodb.conftest import TableOn

KEY = ("user#ada", "head")


async def test_an_attribute_is_set_or_removed_not_both(table_on: TableOn) -> None:
    both: list[Write] = [Update(KEY, {"v": 1, "claim": "x"}, ("claim",), ())]
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        with pytest.raises(ValueError, match="not both"):
            await table.transact(both)


async def test_no_word_is_reserved_in_what_is_asked(table_on: TableOn) -> None:
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        await table.write(Update(KEY, {"name": "x", "value": 1}, ("size",), (Exists(),)))
    body = server.asked[0].body
    assert body["UpdateExpression"] == "SET #a0 = :v0, #a1 = :v1 REMOVE #a2"
    assert body["ConditionExpression"] == "attribute_exists(pk)"
    assert body["ExpressionAttributeNames"] == {"#a0": "name", "#a1": "value", "#a2": "size"}
