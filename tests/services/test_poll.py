from datetime import timedelta
from typing import Any, cast

import anyio
import msgspec
import pytest

from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.domain.connections import Defaults, State
from bg_ingest.domain.events import ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin, Unreadable
from bg_ingest.domain.turns import Plan
from bg_ingest.domain.windows import Window
from bg_ingest.ports import Clock, Page, Pending, Priority, Provider
from bg_ingest.services.poll import FORBIDDEN_WAIT
from bg_ingest.services.sealed import SealedGrants
from bg_ingest.services.shelve import MOST_SET_ASIDE, Shelving
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import (
    Damaged,
    Duplicated,
    Failed,
    Fault,
    Html,
    Late,
    ReplyLost,
    Reset,
    Revised,
    Shuffled,
    Throttled,
    Truncated,
)
from tests.fakes.faults import Fault as StoreFault
from tests.fakes.faults import Faulty, every
from tests.home import ADA, Home
from tests.house import START, house

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


async def whats(home: Home) -> list[object]:
    """What happened to Ada, by number."""
    outbox = home.services.store.outbox
    head = await home.services.store.readings.head(ADA.user)
    assert head is not None
    pending = [Pending(0, ADA.user, number) for number in range(1, head.last_change + 1)]
    changes = await outbox.changes(pending)
    return [changes[each].what for each in pending]


async def test_polls_lie_on_the_sensors_grid_and_bring_each_reading_once(home: Home) -> None:
    turn = await home.turn()
    for _ in range(20):
        turn = await home.due_turn(turn)
        while turn.origin is not Origin.LIVE:  # a repair, a survey: due at once
            turn = await home.due_turn(turn)
        assert turn.outcome.ending is Ending.READ
        assert turn.outcome.recorded == 3
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - DAY, home.house.clock.now())[-len(stored) :]
    assert len(stored) == len(set(stored))


async def test_case_17_late_readings_are_found_by_the_overlap_and_do_not_move_the_watermark_back(home: Home) -> None:
    now = home.house.clock.now()
    shown = now + 2 * HOUR
    home.house.simulator.add_fault(Late(start=now + 20 * MINUTE, end=now + 50 * MINUTE, shown_at=shown))
    turn = await home.turn()
    while home.house.clock.now() < shown:
        turn = await home.due_turn(turn)
    before = (await home.connection()).watermark
    turn = await home.due_turn(turn)
    after = (await home.connection()).watermark
    assert before is not None
    assert after is not None
    assert after >= before
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - DAY, home.house.clock.now())[-len(stored) :]


async def test_case_15_a_reading_on_the_boundary_of_two_windows_is_stored_and_told_once(home: Home) -> None:
    polling = home.services.polling
    boundary, _ = home.house.truth("SandboxUser1", START - 4 * DAY, START - 3 * DAY)[100]
    connection, grant = await home.connection(), await home.grant()
    for window in (Window(boundary, boundary + HOUR), Window(boundary - HOUR, boundary)):

        async def ask(credentials: Credentials, asked: Window = window) -> Page:
            return await home.house.provider.readings(connection.region, credentials, asked, Priority.BACKFILL)

        page = await home.services.grants.use(connection, grant, ask)
        assert boundary in [each.measured_at for each in page.readings], "both windows bring it"
        await polling._looks._ingest.keep(connection, page, origin=Origin.BACKFILL)
    assert [at for at, _ in await home.measured()].count(boundary) == 1
    told = [each for what in await whats(home) if isinstance(what, ReadingsRecorded) for each in what.readings]
    assert [each.reading.measured_at for each in told].count(boundary) == 1
    assert not [what for what in await whats(home) if isinstance(what, ReadingsRevised)]


async def test_late_readings_alone_are_told_as_the_overlaps() -> None:
    async with house(defaults=Defaults(backfill_days=1)) as other:
        late = Home(other)
        other.simulator.add_fault(Late(start=START - HOUR, end=START - HOUR / 2, shown_at=START + MINUTE))
        await late.connect()
        await anyio.sleep(61)
        assert (await late.turn(asked=True)).outcome.recorded == 6
        told = (await whats(late))[-1]
        assert isinstance(told, ReadingsRecorded)
        assert told.origin is Origin.OVERLAP


async def test_case_18_the_same_again_writes_and_tells_nothing(home: Home) -> None:
    before = await whats(home)
    home.house.simulator.add_fault(Duplicated())
    home.house.simulator.add_fault(Shuffled())
    assert (await home.turn(asked=True)).outcome.recorded == 0
    assert await whats(home) == before


async def test_case_18_another_value_is_a_revision_that_keeps_the_earlier_one(home: Home) -> None:
    now = home.house.clock.now()
    old = dict(await home.measured())
    home.house.simulator.add_fault(Revised(start=now - HOUR, end=now - HOUR / 2, revised_at=now, by=7))
    turn = await home.turn(asked=True)
    assert turn.outcome.revised == 6
    told = (await whats(home))[-1]
    assert isinstance(told, ReadingsRevised)
    assert [each.reading.glucose_mg_dl - each.earlier[-1].glucose_mg_dl for each in told.readings] == [7] * 6
    assert [each.earlier[-1].glucose_mg_dl for each in told.readings] == [
        old[each.reading.measured_at] for each in told.readings
    ]
    assert (await home.turn(asked=True)).outcome.revised == 0


async def test_case_35_a_bad_record_is_set_aside_and_the_rest_of_its_page_is_stored(home: Home) -> None:
    home.house.simulator.add_fault(Damaged(every=3, ways=("no_value", "unknown_unit")))
    await anyio.sleep(3600)
    turn = await home.turn()
    assert turn.outcome.quarantined > 0
    assert turn.outcome.recorded > 0
    assert (await home.turn(asked=True)).outcome.quarantined == 0, "the same record again is known"
    home.house.simulator.clear_faults()
    await home.turn(asked=True)
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - DAY, home.house.clock.now())[-len(stored) :]


async def test_bad_records_all_over_a_month_are_set_aside_in_as_many_commits_as_they_need() -> None:
    async with house() as opened:
        home = Home(opened)
        opened.simulator.add_fault(Damaged(every=30, ways=("no_value",)))
        await opened.connect("ada")
        turn = await home.turn()
        assert turn.outcome.ending is Ending.READ
        assert turn.outcome.quarantined > 250
        assert turn.outcome.recorded > 8_000


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        (Failed(endpoint="egvs"), Ending.UNAVAILABLE),
        (Reset(endpoint="egvs"), Ending.UNAVAILABLE),
        (ReplyLost(endpoint="egvs"), Ending.UNAVAILABLE),
        (Html(endpoint="egvs"), Ending.MISBEHAVED),
        (Truncated(endpoint="egvs"), Ending.MISBEHAVED),
    ],
)
async def test_case_22_and_38_trouble_moves_nothing_and_is_tried_again_soon_then_at_the_slots(
    home: Home, fault: Fault, ending: Ending
) -> None:
    number = home.house.simulator.add_fault(fault)
    await anyio.sleep(1200)
    before = await home.connection()
    turn = await home.turn()
    waits = []
    for _ in range(5):
        assert turn.outcome.ending is ending
        assert turn.due is not None
        waits.append((turn.due - home.house.clock.now()).total_seconds())
        turn = await home.due_turn(turn)
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[4] > 60
    after = await home.connection()
    assert after.watermark == before.watermark
    assert after.last_outcome == ending
    home.house.simulator.faults.remove(number)
    turn = await home.due_turn(turn)
    assert turn.outcome.ending is Ending.READ
    assert turn.plan.failures == 0


async def test_case_36_throttled_it_stays_away_as_long_as_it_was_asked_to(home: Home) -> None:
    home.house.simulator.add_fault(Throttled(endpoint="egvs", retry_after=90, count=1))
    turn = await home.turn(asked=True)
    assert turn.outcome.ending is Ending.THROTTLED
    assert turn.due is not None
    assert 90 <= (turn.due - home.house.clock.now()).total_seconds() <= 90 * 1.25


async def test_case_40_a_forbidden_connection_says_so_looks_seldom_and_heals_by_itself(home: Home) -> None:
    number = home.house.simulator.add_fault(Failed(endpoint="egvs", status=403))
    turn = await home.turn(asked=True)
    assert turn.outcome.ending is Ending.FORBIDDEN
    assert turn.due == home.house.clock.now() + FORBIDDEN_WAIT
    assert (await home.connection()).state is State.PROVIDER_FORBIDDEN
    assert (await home.due_turn(turn)).outcome.ending is Ending.FORBIDDEN
    home.house.simulator.faults.remove(number)
    assert (await home.turn(asked=True)).outcome.ending is Ending.READ
    assert (await home.connection()).state is State.ACTIVE


async def test_the_first_backfill_takes_as_few_calls_as_the_provider_allows_newest_first() -> None:
    async with house() as opened:
        home = Home(opened)
        await opened.connect("ada")
        first = await home.turn()
        assert first.outcome.ending is Ending.READ
        newest = await home.measured()
        assert newest[-1] == opened.truth("SandboxUser1", START - HOUR, START)[-1]
        await home.read_past()
        calls = {endpoint: number for (endpoint, status), number in opened.simulator.calls.items() if status == 200}
        assert calls == {"token": 1, "dataRange": 1, "egvs": 3}
        assert await home.measured() == opened.truth("SandboxUser1", newest[-1][0] - 90 * DAY, START)


async def test_case_21_a_backfill_that_is_cut_off_goes_on_where_it_was() -> None:
    async with house() as opened:
        home = Home(opened)
        await opened.connect("ada")
        await home.turn()
        home.plan = Plan()  # a new process knows nothing
        await home.read_past()
        assert opened.simulator.calls["egvs", 200] == 3
        assert len(await home.measured()) == len(set(await home.measured()))


async def test_a_process_that_starts_looks_at_once_where_a_slot_was_missed_and_else_at_the_slot(home: Home) -> None:
    home.plan = Plan()
    turn = await home.turn()
    assert turn.outcome.ending is Ending.NOT_DUE
    assert turn.due is not None
    await anyio.sleep(DAY.total_seconds())
    home.plan = Plan()
    assert (await home.turn()).outcome.ending is Ending.READ


async def test_after_a_silence_longer_than_a_window_the_past_is_read_after_what_is_new(home: Home) -> None:
    await anyio.sleep((40 * DAY).total_seconds())
    first = await home.turn()
    assert first.outcome.ending is Ending.READ
    assert first.due == home.house.clock.now(), "there is more to read"
    await home.read_past()
    stored = await home.measured()
    assert stored == home.house.truth("SandboxUser1", START - DAY, home.house.clock.now())[-len(stored) :]


async def test_a_sensor_long_silent_costs_one_more_call_a_day_not_one_at_each_look() -> None:
    async with house(defaults=Defaults(backfill_days=1)) as opened:
        home = Home(opened)
        opened.simulator.add_fault(Late(start=START, end=START + 400 * DAY, shown_at=START + 800 * DAY))
        await home.connect()
        await anyio.sleep((60 * DAY).total_seconds())
        turn = await home.turn()
        for _ in range(30):  # catch up
            if turn.due == opened.clock.now():
                turn = await home.turn()
        opened.provider.asked.clear()
        for _ in range(24):
            turn = await home.due_turn(turn)
            while turn.origin is not Origin.LIVE:
                turn = await home.due_turn(turn)
        kinds = [each.priority for each in opened.provider.asked]
        assert kinds.count(Priority.LIVE) == 24
        assert kinds.count(Priority.BACKFILL) <= 1
        assert kinds.count(Priority.REPAIR) <= 6, "a sweep, and what is missing from before the silence"


async def test_case_28_readings_from_the_future_do_not_blind_the_polls(home: Home) -> None:
    before = await home.connection()
    ahead = msgspec.structs.replace(before, watermark=home.house.clock.now() + 5 * HOUR)
    await home.services.store.connections.note(before, ahead)
    await anyio.sleep(1200)
    assert (await home.turn()).outcome.recorded == 4


class Leading:
    """A provider whose newest reading is of a sensor ten minutes ahead."""

    def __init__(self, inner: Any, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def readings(self, *asked: Any) -> Page:
        page: Page = await self._inner.readings(*asked)
        ahead = msgspec.structs.replace(page.readings[-1], measured_at=self._clock.now() + 10 * MINUTE)
        return msgspec.structs.replace(page, readings=(*page.readings, ahead))


async def test_case_28_a_sensor_that_is_ahead_does_not_take_the_watermark_into_the_future(home: Home) -> None:
    provider, clock = home.house.provider, home.house.clock
    provider._inner = cast("Provider", Leading(provider._inner, clock))
    await anyio.sleep(1200)
    assert (await home.turn()).outcome.ending is Ending.READ
    connection = await home.connection()
    assert connection.watermark == clock.now()
    assert connection.newest_reading_at == clock.now() + 10 * MINUTE
    await anyio.sleep(60)
    await home.turn(asked=True)
    assert (await home.connection()).watermark == clock.now(), "and it goes on from there"


async def test_another_persons_answer_is_not_stored(home: Home) -> None:
    connection = await home.connection()
    await home.services.store.connections.note(
        connection, msgspec.structs.replace(connection, provider_account="f" * 64)
    )
    await anyio.sleep(1200)
    before = await home.measured()
    assert (await home.turn()).outcome.ending is Ending.MISBEHAVED
    assert await home.measured() == before


@pytest.mark.parametrize("when", [StoreFault.BEFORE, StoreFault.AFTER])
@pytest.mark.parametrize("number", [3, 4, 5, 7])
async def test_a_store_that_fails_at_every_nth_call_loses_and_doubles_nothing(when: StoreFault, number: int) -> None:
    broken: list[Faulty] = []

    def breaking(table: object) -> Faulty:
        broken.append(Faulty(table, lambda _: None))
        return broken[0]

    async with house(defaults=Defaults(backfill_days=3), around=breaking) as opened:
        home = Home(opened)
        await opened.connect("ada")
        broken[0]._plan = every(number, when)
        for _ in range(40):
            await home.turn()
            await anyio.sleep(120)
        broken[0]._plan = lambda _: None
        await home.read_past()
        await home.turn(asked=True)
        stored = await home.measured()
        assert stored == opened.truth("SandboxUser1", stored[0][0], opened.clock.now())  # type: ignore[arg-type]
        assert stored[0][0] <= START - 3 * DAY + HOUR  # type: ignore[operator]
        told = [each for what in await whats(home) if isinstance(what, ReadingsRecorded) for each in what.readings]
        assert sorted(each.reading.measured_at for each in told) == [at for at, _ in stored]


async def test_a_cadence_of_one_minute_is_learned_and_polled_by() -> None:
    simulated = SimulatorOptions(cadence_minutes=1)
    async with house(simulated=simulated, defaults=Defaults(2 * MINUTE, backfill_days=1)) as opened:
        home = Home(opened)
        await home.connect()
        assert (await home.connection()).cadence_seconds == 60
        turn = await home.due_turn(await home.turn())
        assert turn.outcome.recorded == 2


async def test_case_23_a_catch_up_that_is_cut_off_leaves_nothing_unread() -> None:
    """After a silence longer than a window, the watermark rises only together with the note of what is before it."""
    broken: list[Faulty] = []

    def breaking(table: object) -> Faulty:
        broken.append(Faulty(table, lambda _: None, only={"transact"}))
        return broken[0]

    async with house(defaults=Defaults(backfill_days=1), around=breaking) as opened:
        home = Home(opened)
        await home.connect()
        await anyio.sleep((40 * DAY).total_seconds())
        second = broken[0].calls + 2
        broken[0]._plan = lambda call: StoreFault.BEFORE if call == second else None
        turn = await home.turn()
        assert turn.outcome.ending is Ending.STORE_UNAVAILABLE
        home.plan = Plan()  # the next process knows nothing of it
        await home.due_turn(turn)
        await home.read_past()
        stored = await home.measured()
        assert stored == opened.truth("SandboxUser1", START - DAY, opened.clock.now())[-len(stored) :]
        assert len(stored) > 40 * 280


async def test_a_look_that_was_asked_for_and_failed_is_tried_again_soon(home: Home) -> None:
    await home.due_turn(await home.turn())
    await anyio.sleep(400)
    home.house.simulator.add_fault(Failed(endpoint="egvs", count=1))
    turn = await home.turn(asked=True)
    assert turn.outcome.ending is Ending.UNAVAILABLE
    assert (await home.due_turn(turn)).outcome.ending is Ending.READ


async def test_a_connection_that_is_forbidden_and_allowed_in_turns_is_not_looked_at_in_a_hurry(home: Home) -> None:
    simulator = home.house.simulator
    async with home.house.running():
        await anyio.sleep(60)
        before = sum(simulator.calls.values())
        for _ in range(20):
            simulator.add_fault(Failed(endpoint="egvs", status=403, count=1))
            home.house.workers.look(ADA)
            await anyio.sleep(1)
        assert sum(simulator.calls.values()) - before <= 2 * 20


async def test_a_grant_that_cannot_be_opened_says_so(home: Home) -> None:
    home.services.grants._seals = SealedGrants(KeyRing([bytes([1] * 32)]), "test")
    await anyio.sleep(1200)
    assert (await home.turn()).outcome.ending is Ending.UNSEALABLE


async def test_records_of_any_size_are_set_aside_within_what_an_item_may_hold(home: Home) -> None:
    """DynamoDB's 400 KB: beyond it nothing of the page could ever be stored."""
    huge = tuple(Unreadable("not_a_record", b"%d" % number * 5_000, START) for number in range(300))
    shelving = Shelving(home.services.store.readings, KeyRing([bytes(32)]), home.services.clock, "test")
    ada = await home.connection()
    kept = Outcome(Ending.NOTHING_NEW, quarantined=MOST_SET_ASIDE, no_room=100)
    assert await shelving.keep(ada, huge) == kept
    assert await shelving.keep(ada, huge) == msgspec.structs.replace(kept, quarantined=0), "nothing is lost silently"
    shelves = await home.services.store.readings.shelves(ADA.user, [START])
    assert sum(len(each.sealed) for each in shelves[START].records) < 390_000
