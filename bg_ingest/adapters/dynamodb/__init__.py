"""The store on DynamoDB, or any server that speaks its protocol."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aioboto3

from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.dynamodb.transport import Consumed, MeteredTransport, open_transport
from bg_ingest.errors import StoreError
from bg_ingest.ports import Clock
from bg_ingest.store import Store, check_layout, keys


@asynccontextmanager
async def open_store(
    endpoint: str | None, region: str | None, table: str, clock: Clock, *, aws: aioboto3.Session | None = None
) -> AsyncIterator[Store]:
    """Open the store in an existing table; StoreError says in one sentence why it cannot be used."""
    async with open_table(endpoint, region, table, aws=aws) as opened:
        yield Store(opened, clock)


@asynccontextmanager
async def open_table(
    endpoint: str | None,
    region: str | None,
    table: str,
    *,
    aws: aioboto3.Session | None = None,
    consumed: Consumed | None = None,
) -> AsyncIterator[DynamoTable]:
    """Open only the table below a store, agreed on its layout.

    Without an endpoint it is AWS's own; ``aws`` is the session to share with whoever else calls AWS. ``consumed`` is
    told what each call cost, where the server says so.
    """
    async with open_transport(endpoint, region, aws or aioboto3.Session()) as transport:
        opened = DynamoTable(MeteredTransport(transport, consumed) if consumed else transport, table)
        await check_layout(opened)
        if await opened.get(keys.META) is None:  # botocore takes whatever a web server answers for an empty answer
            raise StoreError(f"{endpoint} does not keep what it is given: is it DynamoDB?")
        yield opened
