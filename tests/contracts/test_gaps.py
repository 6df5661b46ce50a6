"""Stored gaps: one item per month, changed only in commits and only if unchanged since the read."""

from datetime import UTC, datetime, timedelta

import pytest

from bg_ingest.domain.changes import GapHealed, GapOpened
from bg_ingest.domain.commits import Commit
from bg_ingest.domain.gaps import Cause, Gap, GapMonth, month_start, update_months
from bg_ingest.domain.windows import Window
from bg_ingest.errors import StaleRead
from bg_ingest.store import Store
from tests.fakes.clock import NOON
from tests.harness.sample_values import (
    ACME,
    USER,
    commit_connection,
    reading,
    readings_commit_of,
    replaced_fields,
    unpublished_changes,
)

HOUR = timedelta(hours=1)
LONG_AGO = NOON - timedelta(days=400)


def gap(hour: int, **others: object) -> Gap:
    after = NOON + hour * HOUR
    known = {"before": after + HOUR, "cadence_seconds": 300, "cause": Cause.SENSOR_WARM_UP, "opened_at": NOON}
    return Gap(**{"after": after, **known, **others})  # type: ignore[arg-type]


async def read_months(store: Store) -> list[GapMonth]:
    return await store.gaps.read_months(ACME, LONG_AGO, NOON + timedelta(days=400))


async def commit_gaps(store: Store, *gaps: Gap, checked_until: datetime = NOON) -> Commit:
    """Return the commit of a gap check, based on the stored items."""
    head = await store.readings.head(USER)
    assert head is not None
    commit = Commit.of_changes(
        head, [GapHealed("acme", each) if each.healed_at else GapOpened("acme", each) for each in gaps], NOON
    )
    head = replaced_fields(commit.head, gaps_checked_until={"acme": checked_until})
    return replaced_fields(commit, head=head, gap_months=update_months(await read_months(store), "acme", gaps))


async def test_gaps_come_back_as_they_were_kept_by_the_month_they_begin_in(store: Store) -> None:
    await commit_connection(store)
    silence = gap(0, before=None)
    old, next_month = gap(-40 * 24), gap(40 * 24, cause=Cause.THROTTLED)
    await store.commits.write(await commit_gaps(store, old, silence, next_month))
    assert [each.gaps for each in await read_months(store)] == [(old,), (silence,), (next_month,)]
    month = month_start(NOON)
    assert await store.gaps.read_months(ACME, NOON, NOON) == [GapMonth("acme", month, 1, (silence,))]
    assert await store.gaps.read_months(replaced_fields(ACME, provider="ac"), LONG_AGO, NOON) == []
    healed = replaced_fields(silence, before=NOON + HOUR, healed_at=NOON + 2 * HOUR)
    await store.commits.write(await commit_gaps(store, healed))
    assert await store.gaps.read_months(ACME, NOON, NOON) == [GapMonth("acme", month, 2, (healed,))]


async def test_opened_and_healed_gaps_are_numbered_changes_like_all(store: Store) -> None:
    await commit_connection(store)
    healed = gap(3, healed_at=NOON + 9 * HOUR)
    await store.commits.write(await commit_gaps(store, gap(1, before=None), healed))
    changes = await unpublished_changes(store)
    assert [each.number for each in changes] == [1, 2, 3]
    assert [each.data for each in changes[1:]] == [GapOpened("acme", gap(1, before=None)), GapHealed("acme", healed)]


async def test_a_survey_of_an_older_ledger_or_head_is_outdated(store: Store) -> None:
    await commit_connection(store)
    first, second = await commit_gaps(store, gap(1)), await commit_gaps(store, gap(2))
    await store.commits.write(first)
    with pytest.raises(StaleRead):
        await store.commits.write(second)
    again = await commit_gaps(store, gap(2))
    with pytest.raises(StaleRead):
        await store.commits.write(replaced_fields(again, gap_months=second.gap_months))
    await store.commits.write(again)
    assert [each.gaps for each in await read_months(store)] == [(gap(1), gap(2))]


async def test_readings_that_did_not_see_how_far_gaps_are_checked_are_stale(store: Store) -> None:
    """Advancing the bound of the check takes no number. A reading could then come before a gap that never heals."""
    await commit_connection(store)
    late = await readings_commit_of(store.readings, [reading(1)])
    await store.commits.write(await commit_gaps(store))
    with pytest.raises(StaleRead):
        await store.commits.write(late)
    await store.commits.write(await readings_commit_of(store.readings, [reading(1)]))
    head = await store.readings.head(USER)
    assert head is not None
    assert head.gaps_checked_until == {"acme": NOON}
    assert month_start(datetime(2026, 3, 31, 23, 59, tzinfo=UTC)) == datetime(2026, 3, 1, tzinfo=UTC)


async def test_months_that_reach_into_a_window_are_its_own_and_the_last_one_before(store: Store) -> None:
    await commit_connection(store)
    for months in (-6, -3, 0, 1):
        await store.commits.write(await commit_gaps(store, gap(months * 31 * 24)))

    async def found(start: int, days: int) -> list[int]:
        window = Window(NOON + timedelta(days=start), NOON + timedelta(days=start + days))
        months = await store.gaps.read_overlapping(ACME, window)
        return [round((month.gaps[0].after - NOON) / timedelta(days=31)) for month in months]

    assert await found(-400, 1) == []
    assert await found(-31, 1) == [-3]
    assert await found(0, 1) == [-3, 0]
    assert await found(0, 60) == [-3, 0, 1]
    assert await found(200, 1) == [1]
    assert await found(-400, 1000) == [-6, -3, 0, 1]
