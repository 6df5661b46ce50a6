from datetime import timedelta

import pytest

from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollReport, PollResult
from bg_ingest.domain.timeline import TimelineKind
from bg_ingest.services.queries.timeline import MAX_CONNECTIONS, MAX_EVENTS_EACH, RecentEvents
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import ACME, grant


def connection(number: int) -> ConnectionId:
    return ConnectionId(UserId(f"user-{number}"), "acme")


def poll(events: RecentEvents, whose: ConnectionId, outcome: Outcome = Outcome.READ) -> None:
    with events.poll(whose, 1) as observation:
        observation.result = PollReport(PollResult(outcome), None)


def test_polls_webhooks_and_refreshes_are_kept_in_order() -> None:
    events = RecentEvents(SetClock(NOON))
    poll(events, ACME)
    events.webhook(ACME, None)
    events.grant_stored(grant())
    events.grant_stored(grant(retry_at=NOON + timedelta(minutes=10)))
    kinds = [event.kind for event in events.list_for(ACME)]
    assert kinds == [TimelineKind.POLLED, TimelineKind.WEBHOOK, TimelineKind.REFRESHED, TimelineKind.REFUSED]


@pytest.mark.parametrize("outcome", [Outcome.NOT_DUE, Outcome.INACTIVE])
def test_a_poll_without_a_request_is_no_event(outcome: Outcome) -> None:
    events = RecentEvents(SetClock(NOON))
    poll(events, ACME, outcome)
    assert not events.list_for(ACME)


def test_a_poll_that_crashes_is_no_event() -> None:
    events = RecentEvents(SetClock(NOON))
    with pytest.raises(ValueError, match="bug"), events.poll(ACME, 1):
        raise ValueError("bug")
    assert not events.list_for(ACME)


def test_the_memory_keeps_the_newest_events_of_a_connection() -> None:
    events = RecentEvents(SetClock(NOON))
    for _ in range(MAX_EVENTS_EACH):
        poll(events, ACME)
    poll(events, ACME, Outcome.UNAVAILABLE)
    kept = events.list_for(ACME)
    assert len(kept) == MAX_EVENTS_EACH
    assert kept[-1].outcome == Outcome.UNAVAILABLE


def test_in_a_full_memory_connections_in_trouble_replace_others() -> None:
    events = RecentEvents(SetClock(NOON))
    for number in range(MAX_CONNECTIONS):
        poll(events, connection(number))
    poll(events, ACME)
    assert not events.list_for(ACME)
    poll(events, ACME, Outcome.UNAVAILABLE)
    assert events.list_for(ACME)
    assert not events.list_for(connection(0))
