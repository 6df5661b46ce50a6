"""Ledgers of gaps: kept by month, changed only in commits and only as read."""

from datetime import UTC, datetime, timedelta

import pytest

from bg_ingest.domain.commits import Commit, told
from bg_ingest.domain.events import GapHealed, GapOpened
from bg_ingest.domain.gaps import Cause, Gap, Ledger, month_of, rewritten
from bg_ingest.errors import Outdated
from bg_ingest.ports import Store
from tests.contracts.values import ACME, USER, altered, connect, deciding, reading, waiting
from tests.fakes.clock import NOON

HOUR = timedelta(hours=1)
LONG_AGO = NOON - timedelta(days=400)


def gap(hour: int, **others: object) -> Gap:
    after = NOON + hour * HOUR
    known = {"before": after + HOUR, "cadence_seconds": 300, "cause": Cause.SENSOR_WARM_UP, "opened_at": NOON}
    return Gap(**{"after": after, **known, **others})  # type: ignore[arg-type]


async def ledgers(store: Store) -> list[Ledger]:
    return await store.gaps.ledgers(ACME, LONG_AGO, NOON + timedelta(days=400))


async def surveyed(store: Store, *gaps: Gap, judged: datetime = NOON) -> Commit:
    """Return the commit of a survey, given what is stored now."""
    head = await store.readings.head(USER)
    assert head is not None
    commit = told(head, [GapHealed("acme", each) if each.healed_at else GapOpened("acme", each) for each in gaps], NOON)
    head = altered(commit.head, judged={"acme": judged})
    return altered(commit, head=head, ledgers=rewritten(await ledgers(store), "acme", gaps))


async def test_gaps_come_back_as_they_were_kept_by_the_month_they_begin_in(store: Store) -> None:
    await connect(store)
    silence = gap(0, before=None)
    old, next_month = gap(-40 * 24), gap(40 * 24, cause=Cause.THROTTLED)
    await store.readings.commit(await surveyed(store, old, silence, next_month))
    assert [each.gaps for each in await ledgers(store)] == [(old,), (silence,), (next_month,)]
    month = month_of(NOON)
    assert await store.gaps.ledgers(ACME, NOON, NOON) == [Ledger("acme", month, 1, (silence,))]
    assert await store.gaps.ledgers(altered(ACME, provider="ac"), LONG_AGO, NOON) == []
    healed = altered(silence, before=NOON + HOUR, healed_at=NOON + 2 * HOUR)
    await store.readings.commit(await surveyed(store, healed))
    assert await store.gaps.ledgers(ACME, NOON, NOON) == [Ledger("acme", month, 2, (healed,))]


async def test_opened_and_healed_gaps_are_numbered_changes_like_all(store: Store) -> None:
    await connect(store)
    healed = gap(3, healed_at=NOON + 9 * HOUR)
    await store.readings.commit(await surveyed(store, gap(1, before=None), healed))
    changes = await waiting(store)
    assert [each.number for each in changes] == [1, 2, 3]
    assert [each.what for each in changes[1:]] == [GapOpened("acme", gap(1, before=None)), GapHealed("acme", healed)]


async def test_a_survey_of_an_older_ledger_or_head_is_outdated(store: Store) -> None:
    await connect(store)
    first, second = await surveyed(store, gap(1)), await surveyed(store, gap(2))
    await store.readings.commit(first)
    with pytest.raises(Outdated):
        await store.readings.commit(second)
    again = await surveyed(store, gap(2))
    with pytest.raises(Outdated):
        await store.readings.commit(altered(again, ledgers=second.ledgers))
    await store.readings.commit(again)
    assert [each.gaps for each in await ledgers(store)] == [(gap(1), gap(2))]


async def test_readings_that_did_not_see_how_far_gaps_are_judged_are_outdated(store: Store) -> None:
    """Judging further takes no number: without this, a reading could come before a gap that nobody heals."""
    await connect(store)
    late = await deciding(store.readings, [reading(1)])
    await store.readings.commit(await surveyed(store))
    with pytest.raises(Outdated):
        await store.readings.commit(late)
    await store.readings.commit(await deciding(store.readings, [reading(1)]))
    head = await store.readings.head(USER)
    assert head is not None
    assert head.judged == {"acme": NOON}
    assert month_of(datetime(2026, 3, 31, 23, 59, tzinfo=UTC)) == datetime(2026, 3, 1, tzinfo=UTC)
