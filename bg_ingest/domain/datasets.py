"""Manifest and digest of a dataset. Both describe the data alone and are the same for every file format."""

import sys
from array import array
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec
from msgspec import UNSET, UnsetType

from bg_ingest.domain.columns import SCHEMA_VERSION
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.reading_filter import FINAL_AFTER
from bg_ingest.domain.readings import Flag, StoredReading
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.domain.windows import Window

MANIFEST_KEY = "bg_ingest"
"""Key of the manifest in the metadata of Parquet and Arrow."""

_FLAG_NUMBERS = {Flag.OK: 0, Flag.LOW: 1, Flag.HIGH: 2}


class DatasetRequest(msgspec.Struct, frozen=True):
    """Request for the readings of many users as of a final second.

    A second is final a minute after its start: no further change can be recorded in it. The same request therefore
    gives the same rows, except after an erasure.
    """

    users: tuple[UserId, ...]
    """Distinct, ascending: the order of the rows."""
    window: Window
    """Both ends are whole seconds."""
    as_of: datetime
    """A whole second, all of which is included."""
    all_versions: bool = False
    all_devices: bool = False
    """Always true if ``all_versions`` is true."""


class DatasetUser(msgspec.Struct, frozen=True):
    """Number of a user's rows, and the largest change number among them (null without rows).

    Both are absent in a manifest that is written before the rows.
    """

    user_id: UserId
    rows: int | UnsetType = UNSET
    change: int | UnsetType | None = UNSET


class Manifest(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Description of a dataset.

    A manifest that is written before the rows lacks ``rows``, ``digest`` and all numbers in ``users``.
    """

    schema: int
    made_by: str
    as_of: datetime
    from_: datetime
    to: datetime
    versions: str
    devices: str
    rows: int | UnsetType
    users: tuple[DatasetUser, ...]
    digest: str | UnsetType


def describe(request: DatasetRequest, made_by: str) -> Manifest:
    """Return the manifest as known before the first row."""
    return Manifest(
        SCHEMA_VERSION,
        made_by,
        request.as_of,
        request.window.start,
        request.window.end,
        "all" if request.all_versions else "last",
        "all" if request.all_devices else "one",
        UNSET,
        tuple(map(DatasetUser, request.users)),
        UNSET,
    )


def newest_final_second(now: datetime) -> datetime:
    """Return the newest final second (see ``DatasetRequest``)."""
    return (now - FINAL_AFTER).replace(microsecond=0)


def ceil_to_second(instant: datetime) -> datetime:
    """Return the first whole second that is not before an instant: readings lie on whole seconds."""
    whole = instant.replace(microsecond=0)
    return whole if whole == instant else whole + timedelta(seconds=1)


class DatasetDigest:
    """SHA-256 over several SHA-256 digests. The first covers one line per user, each further one a column of all rows.

    Numbers in columns are little-endian.
    """

    def __init__(self, *, all_versions: bool) -> None:
        self._users = sha256()
        self._columns = [sha256() for _ in range(5 if all_versions else 3)]

    def add_rows(self, rows: Sequence[StoredReading]) -> None:
        readings = [row.reading for row in rows]
        columns = [
            array("q", [to_epoch_seconds(reading.measured_at) for reading in readings]),
            array("h", [reading.glucose_mg_dl for reading in readings]),
            array("B", [_FLAG_NUMBERS[reading.flag] for reading in readings]),
        ]
        if len(self._columns) > len(columns):
            columns.append(array("q", [to_epoch_seconds(row.recorded_at) for row in rows]))
            columns.append(array("q", [row.change for row in rows]))
        for column, digest in zip(columns, self._columns, strict=True):
            if sys.byteorder == "big":
                column.byteswap()
            digest.update(column.tobytes())

    def end_user(self, user: UserId, rows: int) -> None:
        """Add the line of a user, after all rows of the user."""
        self._users.update(f"{user}\t{rows}\n".encode())

    def text(self) -> str:
        digests = [self._users, *self._columns]
        return "sha256:" + sha256(b"".join(digest.digest() for digest in digests)).hexdigest()
