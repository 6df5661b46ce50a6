"""Datasets: the readings of many users as known at a given second, with a manifest and a digest."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.columns import (
    FULL_COLUMNS,
    VERSION_COLUMNS,
    Column,
    ColumnValues,
    full_columns,
    version_columns,
)
from bg_ingest.domain.datasets import MANIFEST_KEY, DatasetDigest, DatasetRequest, DatasetUser, Manifest, describe
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.reading_filter import AsOf, ReadingFilter
from bg_ingest.domain.readings import StoredReading
from bg_ingest.services.pauses import pause
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.store.segments import ReadingStore


class UserRows(NamedTuple):
    """Rows of one user: ``ReadingVersion`` if all versions are requested, else ``StoredReading``."""

    user: UserId
    rows: Sequence[Any]


class Dataset:
    """One pass over the rows of a request. The manifest is complete after the last row."""

    def __init__(self, reader: ReadingQueries, request: DatasetRequest, made_by: str) -> None:
        self._reader = reader
        self.request = request
        self.manifest: Manifest = describe(request, made_by)

    async def batches(self) -> AsyncGenerator[UserRows]:
        """Yield the rows by user, those of a user in batches of one stored segment each."""
        digest = DatasetDigest(all_versions=self.request.all_versions)
        users: list[DatasetUser] = []
        total = 0
        for user in self.request.users:
            count, change = 0, 0
            async with aclosing(self._read(user)) as batches:
                async for rows in batches:
                    values: Sequence[StoredReading] = (
                        [version.stored for version in rows] if self.request.all_versions else rows
                    )
                    digest.add_rows(values)
                    count += len(rows)
                    change = max(change, *(value.change for value in values))
                    yield UserRows(user, rows)
                    await pause()  # a segment of a 1-minute sensor has 360 rows
            digest.end_user(user, count)
            users.append(DatasetUser(user, count, change or None))
            total += count
        self.manifest = replace(self.manifest, rows=total, users=tuple(users), digest=digest.text())

    @property
    def columns(self) -> tuple[Column, ...]:
        return VERSION_COLUMNS if self.request.all_versions else FULL_COLUMNS

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of a columnar file: the manifest as known before the first row."""
        return {MANIFEST_KEY: msgspec.json.encode(self.manifest).decode()}

    async def column_batches(self) -> AsyncGenerator[ColumnValues]:
        """Make the same pass as ``batches``, and yield each batch as values of ``columns``."""
        to_columns = version_columns if self.request.all_versions else full_columns
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                yield to_columns(batch.user, batch.rows)

    def _read(self, user: UserId) -> AsyncGenerator[Sequence[Any]]:
        request = self.request
        reading_filter = ReadingFilter(AsOf.at(request.as_of), request.all_devices)
        read = self._reader.versions if request.all_versions else self._reader.readings
        return read(user, request.window, reading_filter)


class DatasetQueries:
    """Reads stored data only."""

    def __init__(self, readings: ReadingStore, reader: ReadingQueries, made_by: str) -> None:
        self._readings = readings
        self._reader = reader
        self.made_by = made_by

    async def find_unknown(self, users: Collection[UserId]) -> list[UserId]:
        """Return the users that never connected or were erased, in the order of ``users``."""
        heads = await self._readings.heads(users)
        return [user for user in users if (head := heads.get(user)) is None or head.erased]

    def open(self, request: DatasetRequest) -> Dataset:
        return Dataset(self._reader, request, self.made_by)
