"""Digest of a dataset by hand, and the seconds of a request."""

import hashlib
import struct
from datetime import timedelta

from bg_ingest.domain.datasets import DatasetDigest, ceil_to_second, newest_final_second
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import Flag, StoredReading
from tests.fakes.clock import NOON
from tests.harness.sample_values import reading

MS = timedelta(milliseconds=1)
ROWS = [StoredReading(reading(0, 100), NOON + 999 * MS, 3), StoredReading(reading(1, 401), NOON + 1000 * MS, 4)]
SECONDS = [int(row.reading.measured_at.timestamp()) for row in ROWS]


def expected(*parts: bytes) -> str:
    return "sha256:" + hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def test_the_digest_is_over_the_lines_of_the_users_and_the_columns() -> None:
    digest = DatasetDigest(all_versions=False)
    digest.add_rows(ROWS[:1])
    digest.end_user(UserId("ada"), 1)
    digest.end_user(UserId("ben"), 0)
    digest.add_rows(ROWS[1:])
    digest.end_user(UserId("eva"), 1)
    flags = bytes([Flag.OK, Flag.LOW, Flag.HIGH].index(row.reading.flag) for row in ROWS)
    columns = struct.pack("<2q", *SECONDS), struct.pack("<2h", 100, 401), flags
    assert digest.text() == expected(b"ada\t1\nben\t0\neva\t1\n", *columns)


def test_with_all_versions_it_covers_the_commits_in_whole_seconds() -> None:
    digest = DatasetDigest(all_versions=True)
    digest.add_rows(ROWS)
    digest.end_user(UserId("ada"), 2)
    flags = bytes([Flag.OK, Flag.LOW, Flag.HIGH].index(row.reading.flag) for row in ROWS)
    noon = int(NOON.timestamp())
    commits = struct.pack("<2q", noon, noon + 1), struct.pack("<2q", 3, 4)
    columns = struct.pack("<2q", *SECONDS), struct.pack("<2h", 100, 401), flags
    assert digest.text() == expected(b"ada\t2\n", *columns, *commits)


def test_the_newest_final_second_is_a_minute_ago_and_ends_are_rounded_up() -> None:
    assert newest_final_second(NOON + 999 * MS) == NOON - timedelta(minutes=1)
    assert ceil_to_second(NOON) == NOON
    assert ceil_to_second(NOON + MS) == NOON + timedelta(seconds=1)
