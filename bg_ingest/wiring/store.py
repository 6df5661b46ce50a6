"""The store that the settings choose: a file in development, or DynamoDB."""

# ruff: noqa: PLC0415 - see above: the start takes 2 seconds at most

from collections.abc import AsyncIterator

# ruff: noqa: PLC0415 - only the adapter that is chosen is imported: the start takes 2 seconds at most
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.observability.table import ObservedTable
from bg_ingest.ports import Clock
from bg_ingest.ports.table import Table
from bg_ingest.settings import Settings
from bg_ingest.store import Store


@asynccontextmanager
async def open_for_inspection(settings: Settings) -> AsyncIterator[tuple[Table, Store]]:
    """Open the store alone, for who wants to know whether it can be used."""
    clock = SystemClock()
    async with open_table(settings, clock, MetricsRegistry()) as table:
        yield table, Store(table, clock)


async def create_table(settings: Settings) -> list[str]:
    """Make the table of the settings; return a sentence for each thing found or done."""
    from bg_ingest.adapters.dynamodb import admin

    name = settings.dynamodb_table or "bg-ingest"
    return await admin.create_table(settings.dynamodb_endpoint, settings.aws_region, name)


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock, metrics: MetricsRegistry) -> AsyncIterator[Store]:
    """Open the store, and close it in the end."""
    async with open_table(settings, clock, metrics) as table:
        yield Store(ObservedTable(table, metrics), clock)


def open_table(settings: Settings, clock: Clock, metrics: MetricsRegistry) -> AbstractAsyncContextManager[Table]:
    """Open the table alone."""
    if settings.dynamodb_table is None:
        from bg_ingest.adapters import sqlite

        return sqlite.open_table(settings.sqlite_file, clock)
    from bg_ingest.adapters import dynamodb

    endpoint, region, name = settings.dynamodb_endpoint, settings.aws_region, settings.dynamodb_table
    return dynamodb.open_table(endpoint, region, name, consumed=metrics.add_store_units)
