"""What DynamoDB says that calls cost is told on, by kind."""

from collections import Counter

import pytest

from bg_ingest.adapters.dynamodb import open_table
from bg_ingest.adapters.dynamodb.codec import encode_item
from bg_ingest.ports.table import Put
from bg_ingest.store import LAYOUT, keys
from tests.fakes.dynamodb import AWS, REGION, RecordedRequest, Reply, scripted


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_units_are_reported_by_kind_whether_an_answer_has_one_or_many() -> None:
    asked: list[RecordedRequest] = []

    def answer(question: RecordedRequest) -> Reply:
        asked.append(question)
        one = {"CapacityUnits": 1.5}
        several = question.operation in {"TransactWriteItems", "BatchGetItem"}
        cost = {"ConsumedCapacity": [one, one] if several else one}
        items = {"Item": encode_item(keys.META, LAYOUT)} if question.operation == "GetItem" else {"Responses": {}}
        return cost | items | {"Items": []}

    units: Counter[str] = Counter()

    def consumed(kind: str, number: float) -> None:
        units[kind] += int(number * 2)

    async with (
        scripted(answer) as server,
        open_table(server.endpoint, REGION, "readings", aws=AWS, consumed=consumed) as table,
    ):
        units.clear()
        await table.get(keys.META)
        await table.batch_get([keys.META])
        assert units == {"read": 3 + 6}
        assert [page async for page in table.query("a", "b", "c")] == [page async for page in table.scan(0, 1)] == []
        assert units == {"read": 3 + 6 + 3 + 3}
        units.clear()
        await table.write(Put(("a", "b"), {"v": 1}))
        await table.transact([Put(("a", "b"), {"v": 1})])
        assert units == {"write": 3 + 6}
    assert len(asked) > 4
