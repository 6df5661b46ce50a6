"""The ledger of what is missing: opened when it should have been here, healed when it comes, told as changes."""

from datetime import datetime, timedelta
from itertools import pairwise

import anyio
import pytest

from bg_ingest.domain.connections import Defaults, State
from bg_ingest.domain.events import GapHealed, GapOpened
from bg_ingest.domain.gaps import Cause, Gap, missing
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.sweeps import Reach
from bg_ingest.domain.turns import Plan
from bg_ingest.ports import Pending
from bg_ingest.services.gaps import EVER
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Fault, Html, Late, Throttled
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import Faulty
from tests.home import ADA, Home
from tests.house import START, house

MINUTE, HOUR, HALF_A_DAY, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(hours=12), timedelta(days=1)
FEW = Defaults(backfill_days=1)


async def live_on(home: Home, until: timedelta) -> None:
    end = home.house.clock.now() + until
    turn = await home.turn()
    while turn.due is not None and turn.due < end:
        turn = await home.due_turn(turn)
    await anyio.sleep((end - home.house.clock.now()).total_seconds())


async def ledger(home: Home) -> list[Gap]:
    ledgers = await home.services.store.gaps.ledgers(ADA, EVER.start, EVER.end)
    return [gap for each in ledgers for gap in each.gaps]


async def still_open(home: Home) -> list[Gap]:
    return [gap for gap in await ledger(home) if gap.healed_at is None]


def true_gaps(home: Home, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """What the simulator shows of them: neighbours further apart than its cadence."""
    at = [at for at, _ in home.house.truth("SandboxUser1", since, until)]
    return [(a, b) for a, b in pairwise(at) if missing(a, b, 300)]


async def told(home: Home) -> list[GapOpened | GapHealed]:
    head = await home.services.store.readings.head(ADA.user)
    assert head is not None
    pending = [Pending(0, ADA.user, number) for number in range(1, head.last_change + 1)]
    changes = await home.services.store.outbox.changes(pending)
    assert len(changes) == head.last_change
    found = [changes[each].what for each in pending]
    return [each for each in found if isinstance(each, GapOpened | GapHealed)]


def replayed(events: list[GapOpened | GapHealed]) -> list[Gap]:
    """What a consumer has open: what was opened by where it begins, less what has healed."""
    open_by: dict[datetime, Gap] = {}
    for each in events:
        if isinstance(each, GapOpened):
            open_by[each.gap.after] = each.gap
        else:
            del open_by[each.gap.after]
    return [open_by[after] for after in sorted(open_by)]


async def test_after_the_past_is_read_every_true_gap_of_it_is_open_and_no_other() -> None:
    async with house(defaults=Defaults(backfill_days=40)) as opened:
        home = Home(opened)
        await opened.connect("ada")
        await live_on(home, MINUTE)
        stored = await home.measured()
        expected = true_gaps(home, stored[0][0], START - 2 * HOUR)  # type: ignore[arg-type]
        assert len(expected) > 20
        gaps = await still_open(home)
        assert [(gap.after, gap.before) for gap in gaps] == expected
        assert {gap.cadence_seconds for gap in gaps} == {300}
        warm_ups = [gap for gap in gaps if gap.cause is Cause.SENSOR_WARM_UP]
        assert {gap.cause for gap in gaps} == {Cause.SENSOR_WARM_UP, Cause.PROVIDER_HAS_NOTHING}
        assert all(115 * MINUTE < gap.before - gap.after < 150 * MINUTE for gap in warm_ups if gap.before)
        assert 3 <= len(warm_ups) <= 4
        assert replayed(await told(home)) == gaps


async def test_what_is_missing_between_readings_is_opened_once_it_is_overdue_and_healed_when_it_comes(
    home: Home,
) -> None:
    await live_on(home, MINUTE)
    before = len(await ledger(home))
    begins = home.house.clock.now() + HOUR
    shown_at = begins + 5 * HOUR
    home.house.simulator.add_fault(Late(start=begins, end=begins + HOUR / 2, shown_at=shown_at))
    await live_on(home, 2 * HOUR)
    assert not [gap for gap in (await ledger(home))[before:] if gap.start >= begins - 5 * MINUTE]
    await live_on(home, 2 * HOUR)
    (gap,) = [gap for gap in await still_open(home) if begins <= gap.start < begins + 6 * MINUTE]
    assert gap.missing == 6
    assert gap.cause is Cause.PROVIDER_HAS_NOTHING
    assert gap.opened_at > gap.start + HOUR
    await live_on(home, DAY + 2 * HOUR)
    (healed,) = [each for each in await ledger(home) if each.after == gap.after]
    assert healed.healed_at is not None
    assert shown_at < healed.healed_at < shown_at + 4 * HOUR + 20 * MINUTE, "a repair after four hours finds it"
    assert replayed(await told(home)) == await still_open(home)


@pytest.mark.parametrize(("first", "last"), [(0, 30), (30, 60), (20, 40)])
async def test_late_readings_that_fill_a_part_shrink_or_split_it(home: Home, first: int, last: int) -> None:
    begins = home.house.clock.now() + 10 * MINUTE
    home.house.simulator.add_fault(Late(start=begins, end=begins + HOUR, shown_at=START + 90 * DAY))
    await live_on(home, 3 * HOUR)
    (whole,) = [gap for gap in await still_open(home) if begins <= gap.start < begins + 6 * MINUTE]
    home.house.simulator.clear_faults()
    for start, end in ((0, first), (last, 60)):
        if start < end:
            home.house.simulator.add_fault(
                Late(start=begins + start * MINUTE, end=begins + end * MINUTE, shown_at=START + 90 * DAY)
            )
    await live_on(home, HOUR)
    gaps = [gap for gap in await still_open(home) if begins <= gap.start < begins + HOUR]
    expected = [
        pair
        for pair in true_gaps(home, begins - HOUR, begins + 2 * HOUR)
        if begins - 5 * MINUTE <= pair[0] < begins + HOUR
    ]
    assert [(gap.after, gap.before) for gap in gaps] == expected
    assert len(gaps) == (first > 0) + (last < 60)
    assert {gap.opened_at for gap in gaps} == {whole.opened_at}, "what is left has been missing as long"
    assert replayed(await told(home)) == await still_open(home)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Late(start=START + HOUR, end=START + 9 * HOUR, shown_at=START + 9 * HOUR), Cause.PROVIDER_HAS_NOTHING),
        (Failed(endpoint="egvs"), Cause.PROVIDER_FAILING),
        (Html(endpoint="egvs"), Cause.PROVIDER_FAILING),
        (Throttled(endpoint="egvs", retry_after=600), Cause.THROTTLED),
        (Failed(endpoint="egvs", status=403), Cause.PROVIDER_FORBIDDEN),
        (Failed(endpoint="token", status=400), Cause.PROVIDER_FAILING),
    ],
)
async def test_a_silence_is_one_open_gap_with_its_cause_and_heals_when_all_has_come(
    home: Home, fault: Fault, cause: Cause
) -> None:
    await live_on(home, HOUR - MINUTE)
    settled = await still_open(home)
    home.house.simulator.add_fault(fault)
    await live_on(home, 7 * HOUR)
    (gap,) = [gap for gap in await still_open(home) if gap not in settled and gap.before is None]
    assert (gap.cause, gap.missing) == (cause, None)
    assert gap.after == (await home.connection()).newest_reading_at
    assert gap.opened_at - gap.after < (8 if cause is Cause.PROVIDER_FORBIDDEN else 3) * HOUR
    assert [each.gap for each in await told(home) if each.gap.after == gap.after] == [gap], "told once"
    home.house.simulator.clear_faults()
    await live_on(home, 10 * HOUR)
    (healed,) = [each for each in await ledger(home) if each.after == gap.after]
    assert healed.healed_at is not None
    assert not [each for each in await still_open(home) if each.before is None]
    assert replayed(await told(home)) == await still_open(home)


async def test_a_silence_after_the_grant_was_taken_back_says_so_and_heals_after_another_connect(home: Home) -> None:
    await live_on(home, HOUR - MINUTE)
    settled = await still_open(home)
    home.house.simulator.revoke("SandboxUser1")
    await live_on(home, 7 * HOUR)
    (gap,) = [gap for gap in await still_open(home) if gap not in settled and gap.before is None]
    assert (gap.cause, gap.missing) == (Cause.REAUTHORIZATION_REQUIRED, None)
    await live_on(home, 40 * HOUR)
    assert (await home.connection()).state is State.REAUTHORIZATION_REQUIRED
    assert gap in await still_open(home)
    await home.connect()
    home.plan = Plan()
    await live_on(home, 10 * HOUR)
    assert not [each for each in await still_open(home) if each.before is None]
    assert replayed(await told(home)) == await still_open(home)


async def test_a_silence_that_ends_with_readings_missing_is_a_gap_with_an_end(home: Home) -> None:
    now = home.house.clock.now()
    home.house.simulator.add_fault(Late(start=now, end=now + 8 * HOUR, shown_at=START + 90 * DAY))
    await live_on(home, 7 * HOUR)
    (silence,) = [gap for gap in await still_open(home) if gap.before is None]
    await live_on(home, 3 * HOUR)
    (gap,) = [gap for gap in await still_open(home) if gap.after == silence.after]
    assert gap.before is not None
    assert now + 8 * HOUR <= gap.before < now + 8 * HOUR + 6 * MINUTE
    assert gap.opened_at == silence.opened_at
    assert [type(each) for each in await told(home) if each.gap.after == gap.after] == [GapOpened, GapOpened]


async def test_what_is_missing_because_we_were_down_says_so(home: Home) -> None:
    await live_on(home, HOUR)
    await anyio.sleep((12 * HOUR).total_seconds())
    home.plan = Plan()
    home.house.simulator.add_fault(Failed(endpoint="egvs"))
    await live_on(home, HOUR)
    (gap,) = [gap for gap in await still_open(home) if gap.before is None]
    assert gap.cause is Cause.SERVICE_DOWN


async def test_coming_back_from_being_down_opens_nothing_that_a_look_brings(home: Home) -> None:
    await live_on(home, HOUR)
    settled = len(await told(home))
    await anyio.sleep((12 * HOUR).total_seconds())
    home.plan = Plan()
    await live_on(home, 2 * HOUR)
    assert all(each.gap.before is not None for each in (await told(home))[settled:])
    stored = await home.measured()
    end = home.house.clock.now() - 90 * MINUTE
    assert [(gap.after, gap.before) for gap in await still_open(home) if gap.before and gap.before < end] == true_gaps(
        home,
        stored[0][0],  # type: ignore[arg-type]
        end,
    )


async def test_readings_of_one_minute_are_judged_by_the_minute() -> None:
    async with house(simulated=SimulatorOptions(cadence_minutes=1), defaults=FEW) as opened:
        home = Home(opened)
        await home.connect()
        await live_on(home, MINUTE)
        gaps = await still_open(home)
        assert {gap.cadence_seconds for gap in gaps} == {60}
        assert min(gap.before - gap.after for gap in gaps if gap.before) < 4 * MINUTE


async def test_surveying_again_after_each_start_tells_nothing_twice() -> None:
    """Each event once: a consumer's replay would fail on a second healing."""
    async with house(defaults=Defaults(backfill_days=10)) as opened:
        home = Home(opened)
        await home.connect()
        for _ in range(5):
            home.plan = Plan()
            await live_on(home, HOUR)
        events = await told(home)
        assert len({(type(each), each.gap.after, each.gap.before) for each in events}) == len(events)
        assert replayed(events) == await still_open(home)


async def test_what_is_unread_is_not_missing() -> None:
    """While the past is being read, there are stretches nobody has asked for yet."""
    async with house(defaults=FEW) as opened:
        home = Home(opened)
        await home.connect()
        await live_on(home, MINUTE)
        await anyio.sleep((40 * DAY).total_seconds())
        home.plan = Plan()
        turn = await home.turn()  # the newest 30 days; the ten before them join the backfill
        connection = await home.connection()
        assert connection.backfill is not None
        opened.simulator.add_fault(Failed(endpoint="egvs"))
        rhythm = home.services.polling.rhythm(connection)
        await home.services.polling._surveying.survey(connection, rhythm, opened.provider.capabilities)
        assert not [gap for gap in await still_open(home) if gap.start >= START - 2 * HOUR]
        opened.simulator.clear_faults()
        while turn.due is not None and turn.due <= opened.clock.now():
            turn = await home.turn()
        stored = await home.measured()
        end = opened.clock.now() - 2 * HOUR
        gaps = [(gap.after, gap.before) for gap in await still_open(home) if gap.before and gap.before < end]
        assert gaps == true_gaps(home, stored[0][0], end)  # type: ignore[arg-type]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_gap_shows_though_its_beginning_is_not_read_again_by_the_time_it_is_overdue(*, restarted: bool) -> None:
    """Hourly looks at what comes an hour late: not silent for so long at any of them, and longer than the overlap."""
    options = SimulatorOptions(delay_seconds=3600)
    defaults = Defaults(HOUR, backfill_days=1, overlap=HOUR / 2, reach=Reach(timedelta(0), timedelta(0)))
    async with house(simulated=options, defaults=defaults) as opened:
        home = Home(opened)
        await home.connect()
        begins = opened.clock.now() - 30 * MINUTE
        opened.simulator.add_fault(Late(start=begins, end=begins + 70 * MINUTE, shown_at=START + 90 * DAY))
        await live_on(home, 3 * HOUR)
        if restarted:
            home.plan = Plan()
        await live_on(home, 2 * HOUR)
        (gap,) = [gap for gap in await still_open(home) if begins <= gap.start < begins + 6 * MINUTE]
        assert gap.before is not None
        assert gap.opened_at < gap.before + 3 * HOUR + 10 * MINUTE


async def test_a_gap_shows_though_the_page_that_had_it_was_stored_in_part_only() -> None:
    """That something is missing stands with the first commit of a page: the next page begins after it."""
    broken: list[Faulty] = []

    def breaking(table: object) -> Faulty:
        broken.append(Faulty(table, lambda _: None, only={"transact"}))
        return broken[0]

    options = SimulatorOptions(delay_seconds=60, cadence_minutes=1)
    defaults = Defaults(DAY, backfill_days=1, overlap=HOUR / 2, reach=Reach(timedelta(0), timedelta(0)))
    async with house(simulated=options, defaults=defaults, around=breaking) as opened:
        home = Home(opened)
        await home.connect()
        turn = await home.turn()
        while turn.due is not None and turn.due < opened.clock.now() + HOUR:
            turn = await home.due_turn(turn)
        begins = opened.clock.now() + HOUR
        opened.simulator.add_fault(Late(start=begins, end=begins + HOUR, shown_at=START + 90 * DAY))
        second = broken[0].calls + 2
        broken[0]._plan = lambda call: StoreFault.BEFORE if call == second else None
        turn = await home.due_turn(turn)
        assert turn.outcome.ending is Ending.STORE_UNAVAILABLE
        kept = await home.connection()
        assert kept.newest_reading_at is not None
        assert begins + HOUR < kept.newest_reading_at < opened.clock.now() - HALF_A_DAY
        assert kept.lacks_until is not None, "readings missing further on would have it looked at too, by chance"
        assert abs(kept.lacks_until - begins - HOUR) < 2 * MINUTE
        await live_on(home, 2 * HOUR)
        assert [gap for gap in await still_open(home) if begins <= gap.start < begins + 2 * MINUTE]
