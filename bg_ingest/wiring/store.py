"""The store that the settings select: an SQLite file in development, or DynamoDB."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.errors import StoreError, TableMissing
from bg_ingest.observability.observed_table import ObservedTable
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Clock
from bg_ingest.ports.table import Table
from bg_ingest.services.access.authenticate import ApiKeys
from bg_ingest.settings import Settings
from bg_ingest.store import Store, check_layout, keys, remove_all_owners
from bg_ingest.store.api_keys import ApiKeyStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@asynccontextmanager
async def open_for_inspection(settings: Settings) -> AsyncIterator[tuple[Table, Store]]:
    """Open only the table and the store, to check that both can be used."""
    clock = SystemClock()
    async with open_table(settings, clock, MetricsRegistry()) as table:
        yield table, Store(table, clock)


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock, metrics: Metrics) -> AsyncIterator[Store]:
    """Open the store. In development, a missing table of an emulator is created."""
    async with open_table(settings, clock, metrics.registry, may_create=creates_table(settings)) as table:
        yield Store(ObservedTable(table, metrics), clock)


@asynccontextmanager
async def open_api_keys(settings: Settings) -> AsyncIterator[ApiKeys]:
    """Open only the API keys. A running service may use the same store; it reads changed keys within 30 s."""
    clock = SystemClock()
    async with open_table(settings, clock, MetricsRegistry(), exclusive=False) as table:
        yield ApiKeys(ApiKeyStore(table), clock)


@asynccontextmanager
async def open_table(
    settings: Settings, clock: Clock, registry: MetricsRegistry, *, may_create: bool = False, exclusive: bool = True
) -> AsyncIterator[Table]:
    """Open the table and check its layout. StoreError gives the reason of a failure in one sentence.

    SQLite's file is opened for this process alone, unless ``exclusive`` is False.
    """
    if settings.dynamodb_table is None:
        from bg_ingest.adapters import sqlite

        async with sqlite.open_table(settings.sqlite_file, clock, exclusive=exclusive) as file_table:
            await check_layout(file_table)
            if exclusive:
                await remove_all_owners(file_table)  # of ended processes
            yield file_table
        return
    from bg_ingest.adapters.aws.session import get_session
    from bg_ingest.adapters.dynamodb.table import DynamoTable
    from bg_ingest.adapters.dynamodb.transport import MeteredTransport, open_transport

    endpoint = settings.dynamodb_endpoint
    # ``open_transport`` of ``aioboto3_transport`` can replace this one.
    async with open_transport(endpoint, settings.aws_region, get_session()) as transport:
        table = DynamoTable(MeteredTransport(transport, registry.add_store_units), settings.dynamodb_table)
        try:
            await check_layout(table)
        except TableMissing:
            if not may_create:
                raise
            await create_table(settings)
            line = f"Table {settings.dynamodb_table} was missing at {endpoint} and has been created."
            log.info(line, action="settings")
        if await table.get(keys.META) is None:  # the server accepts writes without storing them
            raise StoreError(f"{endpoint} does not store written items: is it DynamoDB?")
        yield table


def creates_table(settings: Settings) -> bool:
    """Return True if the start creates a missing table: in development, in the emulator of DYNAMODB_ENDPOINT."""
    return settings.environment == "development" and settings.dynamodb_endpoint is not None


async def create_table(settings: Settings) -> list[str]:
    """Create the table that the settings name, or correct its layout. Returns a sentence for each step."""
    from bg_ingest.adapters.aws.session import get_session
    from bg_ingest.adapters.dynamodb import admin

    name = settings.dynamodb_table or "bg-ingest"
    report = await admin.create_table(settings.dynamodb_endpoint, settings.aws_region, name, get_session())
    async with open_table(settings, SystemClock(), MetricsRegistry()):
        return report
