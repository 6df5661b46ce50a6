"""Implementation of the port ``Table`` on DynamoDB."""

import random
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import anyio

from bg_ingest.adapters.dynamodb.codec import decode_item, encode_key, encode_write
from bg_ingest.adapters.dynamodb.errors import translate_errors
from bg_ingest.adapters.dynamodb.transport import Answer, Transport
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports.table import MAX_KEYS, MAX_WRITES, Check, Delete, Item, Key, Put, SingleWrite, Update, Write

MAX_BATCH_DELETE = 25
"""DynamoDB's limit of items in one BatchWriteItem."""

MAX_BATCH_TRIES, FIRST_WAIT_SECONDS = 6, 0.05
"""Maximum number of tries of a batch. If capacity is short, DynamoDB does only a part of a batch. The waits between
tries double, and last at most 1.55 s in total."""

_SINGLE_OPERATIONS = {Put: "PutItem", Update: "UpdateItem", Delete: "DeleteItem"}
_TRANSACTION_OPERATIONS = {Put: "Put", Update: "Update", Delete: "Delete", Check: "ConditionCheck"}


class DynamoTable:
    """Implements ``Table``, over either transport."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self.name = name

    async def get(self, key: Key) -> Item | None:
        with translate_errors(self.name):
            answer = await self._transport.call(
                "GetItem", TableName=self.name, Key=encode_key(key), ConsistentRead=True
            )
        return decode_item(answer["Item"])[1] if "Item" in answer else None

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        unique_keys = list(dict.fromkeys(keys))
        items: dict[Key, Item] = {}
        for start in range(0, len(unique_keys), MAX_KEYS):
            batch = [encode_key(key) for key in unique_keys[start : start + MAX_KEYS]]
            request = {self.name: {"Keys": batch, "ConsistentRead": consistent}}
            for answer in await self._batch("BatchGetItem", request):
                items.update(map(decode_item, answer["Responses"].get(self.name, ())))
        return items

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        request = {self.name: {"Keys": list(map(encode_key, keys)), "ConsistentRead": True}}
        with translate_errors(self.name):
            answer = await self._transport.call("BatchGetItem", RequestItems=request)
        items: dict[Key, Item] = dict(map(decode_item, answer["Responses"].get(self.name, ())))
        unprocessed = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", ())
        left_out = {decode_item(wire)[0] for wire in unprocessed}
        return {key: items.get(key) for key in keys if key not in left_out}

    async def query(
        self,
        pk: str,
        low: str,
        high: str,
        *,
        consistent: bool = True,
        page: int = 100,
        descending: bool = False,
        attributes: Collection[str] = (),
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        if low > high:
            return  # DynamoDB refuses this range
        request: dict[str, Any] = {
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :low AND :high",
            "ExpressionAttributeValues": {":pk": {"S": pk}, ":low": {"S": low}, ":high": {"S": high}},
            "ConsistentRead": consistent,
            "Limit": page,
        }
        if descending:
            request["ScanIndexForward"] = False
        if attributes:
            names = {f"#{number}": name for number, name in enumerate(("pk", "sk", *attributes))}
            request |= {"ProjectionExpression": ",".join(names), "ExpressionAttributeNames": names}
        async with aclosing(self._pages("Query", request)) as pages:
            async for items in pages:
                yield items

    def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        request: dict[str, Any] = {"Segment": part, "TotalSegments": parts, "ConsistentRead": True}
        if kinds:
            prefixes = {f":{number}": {"S": kind} for number, kind in enumerate(kinds)}
            request["FilterExpression"] = " OR ".join(f"begins_with(sk, {name})" for name in prefixes)
            request["ExpressionAttributeValues"] = prefixes
        return self._pages("Scan", request)

    async def _pages(self, operation: str, request: dict[str, Any]) -> AsyncGenerator[list[tuple[Key, Item]]]:
        while True:
            with translate_errors(self.name):
                answer = await self._transport.call(operation, TableName=self.name, **request)
            if answer["Items"]:
                yield [decode_item(wire) for wire in answer["Items"]]
            if not answer.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def write(self, one: SingleWrite) -> None:
        with translate_errors(self.name):
            await self._transport.call(_SINGLE_OPERATIONS[type(one)], **encode_write(self.name, one))

    async def transact(self, writes: Sequence[Write]) -> None:
        if len(writes) > MAX_WRITES or len({write.key for write in writes}) < len(writes):
            raise ValueError(f"a transaction holds at most {MAX_WRITES} writes, each with a different key")
        steps = [{_TRANSACTION_OPERATIONS[type(write)]: encode_write(self.name, write)} for write in writes]
        with translate_errors(self.name):
            await self._transport.call("TransactWriteItems", TransactItems=steps, ClientRequestToken=str(uuid4()))

    async def delete(self, keys: Collection[Key]) -> None:
        deletes = [{"DeleteRequest": {"Key": encode_key(key)}} for key in dict.fromkeys(keys)]
        for start in range(0, len(deletes), MAX_BATCH_DELETE):
            await self._batch("BatchWriteItem", {self.name: deletes[start : start + MAX_BATCH_DELETE]})

    async def _batch(self, operation: str, requested: dict[str, Any]) -> list[Answer]:
        """Repeat a batch until all of it is done, and return the answers."""
        answers: list[Answer] = []
        for tries in range(MAX_BATCH_TRIES):
            if tries:  # with jitter, because other callers hit the same limit at the same time
                max_wait = FIRST_WAIT_SECONDS * 2.0 ** (tries - 1)
                await anyio.sleep(random.uniform(max_wait / 2, max_wait))
            with translate_errors(self.name):
                answer = await self._transport.call(operation, RequestItems=requested)
            answers.append(answer)
            requested = answer.get("UnprocessedKeys") or answer.get("UnprocessedItems") or {}
            if not requested:
                return answers
        raise StoreUnavailable("DynamoDB leaves a part of a batch undone: it has no capacity.")
