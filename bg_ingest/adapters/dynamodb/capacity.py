"""What calls cost, as DynamoDB says it with each answer."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from bg_ingest.adapters.dynamodb.client import Answer, Client

Consumed: TypeAlias = Callable[[str, float], None]
"""Told a kind, read or write, and so many units."""

READS = {"GetItem", "BatchGetItem", "Query", "Scan"}


class Metered:
    """A Client whose every call asks what it costs."""

    def __init__(self, client: Client, consumed: Consumed) -> None:
        self._client = client
        self._consumed = consumed

    async def call(self, operation: str, **request: object) -> Answer:
        answer = await self._client.call(operation, ReturnConsumedCapacity="TOTAL", **request)
        told = answer.get("ConsumedCapacity", ())
        for each in (told,) if isinstance(told, Mapping) else told:
            self._consumed("read" if operation in READS else "write", float(each.get("CapacityUnits", 0)))
        return answer
