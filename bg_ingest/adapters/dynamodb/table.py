"""A Table of DynamoDB."""

import random
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import anyio

from bg_ingest.adapters.dynamodb.client import Answer, Client
from bg_ingest.adapters.dynamodb.failures import translated
from bg_ingest.adapters.dynamodb.items import item_of, wire_key
from bg_ingest.adapters.dynamodb.requests import write_request
from bg_ingest.adapters.table.protocol import MOST_WRITES, Check, Delete, Item, Key, Put, SingleWrite, Update, Write
from bg_ingest.errors import StoreUnavailable, leaf

MOST_READ, MOST_DELETED = 100, 25
"""Items in one BatchGetItem and one BatchWriteItem, as DynamoDB allows."""

LOOKS_AT_ONCE = 8
"""Partitions that are looked into side by side: DynamoDB has no request for several."""

BATCH_TRIES, FIRST_WAIT = 6, 0.05
"""A batch is done in part where capacity is short. The waits double from so many seconds: up to 1.5 s together."""

_IN_TRANSACTION = {Put: "Put", Update: "Update", Delete: "Delete", Check: "ConditionCheck"}


class DynamoTable:
    """The protocol Table."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    async def get(self, key: Key) -> Item | None:
        with translated(self.name):
            answer = await self._client.call("GetItem", TableName=self.name, Key=wire_key(key), ConsistentRead=True)
        return item_of(answer["Item"])[1] if "Item" in answer else None

    async def batch_get(self, keys: Collection[Key]) -> dict[Key, Item]:
        wanted = list(dict.fromkeys(keys))
        found: dict[Key, Item] = {}
        for start in range(0, len(wanted), MOST_READ):
            some = [wire_key(key) for key in wanted[start : start + MOST_READ]]
            for answer in await self._read_all({self.name: {"Keys": some, "ConsistentRead": True}}):
                found.update(map(item_of, answer["Responses"].get(self.name, ())))
        return found

    async def query(
        self, pk: str, low: str, high: str, *, consistent: bool = True, page: int = 100
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        if low > high:
            return  # DynamoDB would call it an error
        request: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":low": {"S": low}, ":high": {"S": high}},
            "ConsistentRead": consistent,
            "Limit": page,
        }
        async with aclosing(self._pages("Query", request)) as pages:
            async for items in pages:
                yield items

    async def inhabited(self, pks: Collection[str], low: str, high: str) -> set[str]:
        found: set[str] = set()
        left = list(pks)

        async def look() -> None:
            while left:
                pk = left.pop()
                async with aclosing(self.query(pk, low, high, page=1)) as pages:
                    if await anext(pages, None):
                        found.add(pk)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(LOOKS_AT_ONCE, len(left))):
                    group.start_soon(look)
        except BaseExceptionGroup as failed:
            raise leaf(failed) from None
        return found

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        request: dict[str, Any] = {
            "TableName": self.name,
            "Segment": part,
            "TotalSegments": parts,
            "ConsistentRead": True,
        }
        if kinds:
            prefixes = {f":{number}": {"S": kind} for number, kind in enumerate(kinds)}
            request["FilterExpression"] = " OR ".join(f"begins_with(sk, {name})" for name in prefixes)
            request["ExpressionAttributeValues"] = prefixes
        async with aclosing(self._pages("Scan", request)) as pages:
            async for items in pages:
                yield items

    async def _pages(self, operation: str, request: dict[str, Any]) -> AsyncGenerator[list[tuple[Key, Item]]]:
        while True:
            with translated(self.name):
                answer = await self._client.call(operation, **request)
            if answer["Items"]:
                yield [item_of(wire) for wire in answer["Items"]]
            if not answer.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def write(self, one: SingleWrite) -> None:
        request = write_request(self.name, one)
        with translated(self.name):
            match one:
                case Put():
                    await self._client.call("PutItem", **request)
                case Update():
                    await self._client.call("UpdateItem", **request)
                case Delete():
                    await self._client.call("DeleteItem", **request)

    async def transact(self, writes: Sequence[Write]) -> None:
        if len(writes) > MOST_WRITES or len({write.key for write in writes}) < len(writes):
            raise ValueError(f"a transaction holds at most {MOST_WRITES} writes, each of another key")
        steps = [{_IN_TRANSACTION[type(write)]: write_request(self.name, write)} for write in writes]
        with translated(self.name):
            await self._client.call("TransactWriteItems", TransactItems=steps, ClientRequestToken=str(uuid4()))

    async def delete(self, keys: Collection[Key]) -> None:
        unwanted = [{"DeleteRequest": {"Key": wire_key(key)}} for key in dict.fromkeys(keys)]
        for start in range(0, len(unwanted), MOST_DELETED):
            await self._delete_all({self.name: unwanted[start : start + MOST_DELETED]})

    async def _read_all(self, asked: dict[str, Any]) -> list[Answer]:
        answers: list[Answer] = []
        for tries in range(BATCH_TRIES):
            await _give_way(tries)
            with translated(self.name):
                answers.append(await self._client.call("BatchGetItem", RequestItems=asked))
            asked = answers[-1].get("UnprocessedKeys", {})
            if not asked:
                return answers
        raise _left_undone()

    async def _delete_all(self, asked: dict[str, Any]) -> None:
        for tries in range(BATCH_TRIES):
            await _give_way(tries)
            with translated(self.name):
                answer = await self._client.call("BatchWriteItem", RequestItems=asked)
            asked = answer.get("UnprocessedItems", {})
            if not asked:
                return
        raise _left_undone()


async def _give_way(tries: int) -> None:
    """Wait before a repetition, between half and all of its time: others hit the same limit at the same moment."""
    if tries:
        longest = FIRST_WAIT * 2.0 ** (tries - 1)
        await anyio.sleep(random.uniform(longest / 2, longest))


def _left_undone() -> StoreUnavailable:
    return StoreUnavailable("DynamoDB leaves a part of a batch undone: it has no capacity.")
