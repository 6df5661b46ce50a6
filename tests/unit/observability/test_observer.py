from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Self, cast

import pytest

from bg_ingest.domain.changes import Change, ReadingsRecorded
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollReport, PollResult
from bg_ingest.domain.readings import Origin, StoredReading
from bg_ingest.errors import BrokerUnavailable
from bg_ingest.observability.observed_table import ObservedTable
from bg_ingest.observability.observer import Metrics, Observers
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports import Observation, Observer, OutboxPass
from tests.fakes.clock import NOON, SetClock
from tests.fakes.observer import RecordingObserver
from tests.harness.sample_values import grant, reading

ADA = ConnectionId(UserId("ada"), "acme")
REPORT = PollReport(PollResult(Outcome.READ, recorded=2), NOON, origin=Origin.LIVE)
STORED = tuple(StoredReading(reading(number), NOON, 1) for number in range(2))
CHANGE = Change(ADA.user, 1, NOON, ReadingsRecorded("acme", Origin.LIVE, STORED))

EVENTS: dict[str, Callable[[Observer], Any]] = {
    "committed": lambda observer: observer.committed([CHANGE]),
    "ingested": lambda observer: observer.ingested(ADA, Origin.LIVE, REPORT.result),
    "quarantined": lambda observer: observer.quarantined("acme", [], 3),
    "webhook": lambda observer: observer.webhook(ADA, None),
    "webhook_rejected": lambda observer: observer.webhook_rejected("invalid-body"),
    "grant_stored": lambda observer: observer.grant_stored(grant()),
    "stream_event": lambda observer: observer.stream_event(NOON, live=True),
    "stream_wakeup": lambda observer: observer.stream_wakeup("hint"),
    "stream_reread": lambda observer: observer.stream_reread(),
    "outbox_pass": lambda observer: observer.outbox_pass(OutboxPass(7)),
}
OPERATIONS: dict[str, Callable[[Observer], Observation[Any]]] = {
    "poll": lambda observer: observer.poll(ADA, 4),
    "provider_call": lambda observer: observer.provider_call("acme", "us", "readings"),
    "store_call": lambda observer: observer.store_call("get"),
    "publish": lambda observer: observer.publish(CHANGE),
    "stream": lambda observer: observer.stream(),
}


def events_of(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


def test_every_event_of_the_port_is_tested_here_and_passed_on() -> None:
    assert events_of(Observer) == EVENTS.keys() | OPERATIONS.keys() == events_of(Observers)


@pytest.mark.parametrize("name", EVENTS)
def test_each_observer_gets_an_event_with_the_same_arguments(name: str) -> None:
    single, first, second = RecordingObserver(), RecordingObserver(), RecordingObserver()
    for observer in (single, Observers(first, Observer(), second)):
        EVENTS[name](observer)
    assert single.events
    assert single.events == first.events == second.events
    assert single.events[0].name == name


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_observer_gets_the_result_of_an_operation_or_its_error(name: str) -> None:
    single, first, second = RecordingObserver(), RecordingObserver(), RecordingObserver()
    for observer in (single, Observers(first, Observer(), second), Observers(Observer())):
        with OPERATIONS[name](observer) as observation:
            observation.finish(REPORT)
        with pytest.raises(BrokerUnavailable), OPERATIONS[name](observer):
            raise BrokerUnavailable
    assert single.events == first.events == second.events
    assert [arguments[-1] for arguments in single.named(name)] == [REPORT, BrokerUnavailable]


class Nested(Observer):
    """Records the begin and the end of polls."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        del connection, epoch
        return NestedPoll(self)


class NestedPoll(Observation[PollReport]):
    def __init__(self, observer: Nested) -> None:
        super().__init__()
        self.observer = observer

    def __enter__(self) -> Self:
        self.observer.log.append(f"begin {self.observer.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.observer.log.append(f"end {self.observer.name}")


def test_operations_are_nested_in_the_order_of_the_observers() -> None:
    log: list[str] = []
    with Observers(Nested("outer", log), Nested("inner", log)).poll(ADA, 4):
        log.append("body")
    assert log == ["begin outer", "begin inner", "body", "end inner", "end outer"]


class World:
    """Metrics and their values."""

    def __init__(self) -> None:
        self.registry = MetricsRegistry()
        self.clock = SetClock(NOON)
        self.metrics = Metrics(self.registry, self.clock)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.registry.get_sample_value(f"bg_ingest_{name}", labels)


def test_a_store_call_goes_to_the_one_observer_of_store_calls_without_a_detour() -> None:
    world = World()
    call = Observers(Observer(), world.metrics, Nested("", [])).store_call("get")
    assert type(call) is type(world.metrics.store_call("get"))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError, "crashed"), (KeyboardInterrupt, "cancelled"), (BrokerUnavailable, "broker_unavailable")],
)
def test_a_poll_that_ends_with_an_error_has_no_origin(error: type[BaseException], outcome: str) -> None:
    world = World()
    with pytest.raises(error), world.metrics.poll(ADA, 4):
        raise error
    assert world.value("poll_seconds_count", provider="acme", origin="none", outcome=outcome) == 1


def test_a_poll_counts_by_the_origin_and_outcome_of_its_report() -> None:
    world = World()
    with world.metrics.poll(ADA, 4) as observation:
        observation.finish(REPORT)
    assert world.value("poll_seconds_count", provider="acme", origin="live", outcome="read") == 1


def test_an_event_that_was_not_confirmed_has_no_age() -> None:
    world = World()
    with pytest.raises(BrokerUnavailable), world.metrics.publish(CHANGE):
        raise BrokerUnavailable
    for confirmed in (True, False):
        with world.metrics.publish(CHANGE) as observation:
            observation.finish(confirmed)
    assert world.value("event_age_seconds_count") == 2
    for outcome in ("confirmed", "unroutable", "broker_unavailable"):
        assert world.value("event_seconds_count", type=CHANGE.type, outcome=outcome) == 1


def test_readings_of_a_page_are_counted_by_result() -> None:
    world = World()
    world.metrics.committed([CHANGE])
    world.metrics.ingested(ADA, Origin.LIVE, PollResult(Outcome.READ, recorded=2, duplicates=5, quarantined=1))
    world.metrics.ingested(ADA, Origin.SWEEP, PollResult(Outcome.NOTHING_NEW))
    counts = {"recorded": 2, "duplicate": 5, "quarantined": 1}
    for outcome, number in counts.items():
        assert world.value("readings_total", provider="acme", origin="live", outcome=outcome) == number
    assert world.value("readings_total", provider="acme", origin="sweep", outcome="duplicate") is None


class PagedTable:
    """Answers queries with pages, then fails or ends."""

    def __init__(self, pages: int, *, fails: bool = False) -> None:
        self.pages = pages
        self.fails = fails

    async def query(self, *_: Any, **__: Any) -> AsyncGenerator[list[Any]]:
        for _page in range(self.pages):
            yield []
        if self.fails:
            raise BrokerUnavailable


@pytest.mark.parametrize(("pages", "counted"), [(0, 1), (1, 1), (3, 3)])
async def test_each_page_of_a_query_is_a_call_and_the_end_is_none(pages: int, counted: int) -> None:
    world = World()
    table = ObservedTable(cast("Any", PagedTable(pages)), world.metrics)
    assert len([page async for page in table.query("pk", "a", "z")]) == pages
    assert world.value("store_call_seconds_count", call="query", outcome="ok") == counted


@pytest.mark.parametrize("pages", [0, 1, 3])
async def test_a_query_that_fails_at_any_page_counts_with_its_error(pages: int) -> None:
    world = World()
    table = ObservedTable(cast("Any", PagedTable(pages, fails=True)), world.metrics)
    with pytest.raises(BrokerUnavailable):
        async for _ in table.query("pk", "a", "z"):
            pass
    assert world.value("store_call_seconds_count", call="query", outcome="broker_unavailable") == 1
