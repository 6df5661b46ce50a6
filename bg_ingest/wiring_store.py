"""The store that the settings choose: a file in development, or DynamoDB."""
# ruff: noqa: PLC0415 - only the adapter that is chosen is imported: the start takes 2 seconds at most

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from bg_ingest.adapters.table.protocol import Table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.metrics.measures import Measures
from bg_ingest.metrics.table import MeasuredTable
from bg_ingest.ports import Clock, Store
from bg_ingest.settings import Settings


@asynccontextmanager
async def chosen_store(settings: Settings, clock: Clock, measures: Measures) -> AsyncIterator[Store]:
    """Open the store, and close it in the end."""
    async with chosen_table(settings, clock, measures) as table:
        yield TableStore(MeasuredTable(table, measures), clock)


def chosen_table(settings: Settings, clock: Clock, measures: Measures) -> AbstractAsyncContextManager[Table]:
    """Open the table alone."""
    if settings.dynamodb_table is None:
        from bg_ingest.adapters import sqlite

        return sqlite.open_table(settings.sqlite_file, clock)
    from bg_ingest.adapters import dynamodb

    endpoint, region, name = settings.dynamodb_endpoint, settings.aws_region, settings.dynamodb_table
    return dynamodb.open_table(endpoint, region, name, consumed=measures.consumed)
