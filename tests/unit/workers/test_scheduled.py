"""Scheduled connections are found by connection and by shard."""

from datetime import UTC, datetime

import pytest

from bg_ingest.domain.ids import ConnectionId, UserId
from workers.scheduled import Scheduled, ScheduledConnections

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADA, BEN, CLEO = (ConnectionId(UserId(name), "acme") for name in ("ada", "ben", "cleo"))


@pytest.fixture
def scheduled() -> ScheduledConnections:
    """Ada and Ben in shard 1, Cleo in shard 2."""
    connections = ScheduledConnections()
    for connection, shard in ((ADA, 1), (BEN, 1), (CLEO, 2)):
        connections.add(connection, Scheduled(shard, epoch=1, due=NOW))
    return connections


def test_connections_are_found_by_shard(scheduled: ScheduledConnections) -> None:
    assert set(scheduled.in_shards([1])) == {ADA, BEN}
    assert set(scheduled.in_shards([1, 2])) == {ADA, BEN, CLEO}
    assert scheduled.in_shards([3]) == []


def test_a_removed_connection_is_in_no_shard(scheduled: ScheduledConnections) -> None:
    removed = scheduled.remove(ADA)
    assert removed.shard == 1
    assert ADA not in scheduled.all
    assert scheduled.in_shards([1]) == [BEN]
    scheduled.remove(BEN)
    assert scheduled.in_shards([1]) == []
    assert scheduled.all.keys() == {CLEO}
