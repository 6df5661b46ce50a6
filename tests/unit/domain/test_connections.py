"""Windows of a connection's backfill and sweeps, from its settings and the defaults."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults, WorkerSettings
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.domain.windows import Window
from tests.fakes.clock import NOON
from tests.harness.sample_values import connection

DAY = timedelta(days=1)
DEFAULTS = PollDefaults(backfill_days=90)
AVAILABLE = Window(NOON - 400 * DAY, NOON)


def connected(**others: Any) -> Connection:
    return connection(available=AVAILABLE, **others)


@pytest.mark.parametrize(
    ("state", "accepts"),
    [
        (ConnectionState.ACTIVE, True),
        (ConnectionState.PAUSED, True),
        (ConnectionState.CONNECTING, False),
        (ConnectionState.REAUTHORIZATION_REQUIRED, False),
        (ConnectionState.PROVIDER_FORBIDDEN, False),
        (ConnectionState.DISCONNECTED, False),
    ],
)
def test_pushes_are_accepted_while_active_or_paused(state: ConnectionState, accepts: bool) -> None:  # noqa: FBT001
    assert connection(state).accepts_pushes is accepts


def test_the_grid_of_polls_begins_at_the_connect_and_then_at_the_newest_reading() -> None:
    assert connected().anchor == NOON
    assert connected(newest_reading_at=NOON + DAY).anchor == NOON + DAY


def test_a_connections_own_interval_precedes_the_default() -> None:
    assert DEFAULTS.interval(WorkerSettings()) == timedelta(minutes=15)
    assert DEFAULTS.interval(WorkerSettings(poll_interval_seconds=60)) == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("days", "start"), [(None, NOON - 90 * DAY), (7, NOON - 7 * DAY), (3_650, AVAILABLE.start)], ids=str
)
def test_the_backfill_counts_back_from_the_newer_end(days: int | None, start: object) -> None:
    window = DEFAULTS.initial_backfill(connected(worker=WorkerSettings(backfill_days=days)))
    assert window == Window(start, NOON)  # type: ignore[arg-type]


def test_without_days_or_without_data_there_is_no_backfill() -> None:
    assert DEFAULTS.initial_backfill(connected(worker=WorkerSettings(backfill_days=0))) is None
    assert DEFAULTS.initial_backfill(connection()) is None


def test_a_due_sweep_reads_its_depth_again() -> None:
    due = DEFAULTS.sweep(connected(swept_at=NOON), NOON + 2 * DAY)
    assert due in {Window(NOON - DAY, NOON + 2 * DAY), Window(NOON - 28 * DAY, NOON + 2 * DAY)}
    assert DEFAULTS.sweep(connected(swept_at=NOON + 2 * DAY), NOON + 2 * DAY) is None


def test_a_sweep_never_begins_before_the_initial_backfill() -> None:
    deep = msgspec.structs.replace(DEFAULTS, sweep_depth=SweepDepth(daily=200 * DAY, weekly=200 * DAY))
    now = NOON + 8 * DAY
    assert deep.sweep(connected(), now) == Window(NOON - 90 * DAY, now)
    assert deep.sweep(connection(), now) == Window(NOON, now), "without a backfill at the connect"
