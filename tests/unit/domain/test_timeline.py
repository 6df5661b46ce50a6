"""Events of a timeline, each from the value that shows it, and the next poll as rows show it."""

from datetime import timedelta

import msgspec
import pytest

from bg_ingest.domain.changes import (
    Change,
    ChangeData,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
    UserErased,
)
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.polling import NextPollReason, Outcome, PollReport, PollResult
from bg_ingest.domain.readings import Origin, StoredReading
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.domain.timeline import (
    NextPoll,
    TimelineEvent,
    TimelineKind,
    change_event,
    grant_event,
    next_scheduled_poll,
    poll_event,
    stored_events,
    webhook_event,
)
from bg_ingest.domain.windows import Window
from tests.fakes.clock import NOON
from tests.harness.sample_values import USER, connection, grant, reading

MINUTE = timedelta(minutes=1)
STORED = (StoredReading(reading(0), NOON, 1), StoredReading(reading(1), NOON, 1))
GAP = Gap(after=NOON, before=None, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON)
RHYTHM = Rhythm(15 * MINUTE, 5 * MINUTE, MINUTE, jitter=0)


def test_a_poll_counts_new_and_revised_readings() -> None:
    report = PollReport(PollResult(Outcome.READ, 3, 2), NOON, origin=Origin.SWEEP)
    assert poll_event(report, NOON) == TimelineEvent(
        at=NOON, kind=TimelineKind.POLLED, origin=Origin.SWEEP, outcome="read", readings=5
    )


def test_a_webhook_without_a_result_is_a_duplicate() -> None:
    event = webhook_event(PollResult(Outcome.READ, 3, 2), NOON)
    assert (event.origin, event.outcome, event.readings) == (Origin.WEBHOOK, "read", 5)
    assert (webhook_event(None, NOON).outcome, webhook_event(None, NOON).readings) == ("duplicate", 0)


def test_a_grant_shows_its_renewal_or_its_refusal() -> None:
    renewed = grant_event(grant(), NOON + MINUTE)
    assert renewed == TimelineEvent(at=NOON, kind=TimelineKind.REFRESHED)
    refused = grant_event(grant(refusals=2, retry_at=NOON + 60 * MINUTE), NOON + MINUTE)
    assert refused == TimelineEvent(at=NOON + MINUTE, kind=TimelineKind.REFUSED, detail="2 times in a row")


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (
            ReadingsRecorded("acme", Origin.LIVE, STORED),
            TimelineEvent(at=NOON, kind=TimelineKind.RECORDED, origin=Origin.LIVE, readings=2),
        ),
        (
            ReadingsRevised("acme", Origin.SWEEP, STORED),
            TimelineEvent(at=NOON, kind=TimelineKind.REVISED, origin=Origin.SWEEP, readings=2),
        ),
        (
            ConnectionChanged("acme", ConnectionState.PAUSED, "by_operator"),
            TimelineEvent(at=NOON, kind=TimelineKind.STATE, outcome="paused", detail="by_operator"),
        ),
        (GapOpened("acme", GAP), TimelineEvent(at=NOON, kind=TimelineKind.GAP_OPENED, detail="throttled")),
        (GapHealed("acme", GAP), TimelineEvent(at=NOON, kind=TimelineKind.GAP_HEALED, detail="throttled")),
        (UserErased(), None),
    ],
)
def test_a_change_of_the_connection_is_an_event_and_that_of_another_is_none(
    data: ChangeData, event: TimelineEvent | None
) -> None:
    assert change_event(Change(USER, 7, NOON, data), "acme") == event
    assert change_event(Change(USER, 7, NOON, data), "other") is None


def test_rows_show_connect_last_outcome_renewal_and_refusal() -> None:
    polled = connection(last_outcome="read", outcome_at=NOON + 5 * MINUTE)
    refused = grant(refusals=1, retry_at=NOON + 14 * MINUTE)
    events = stored_events(polled, refused, seen=[])
    assert [(event.kind, event.at) for event in events] == [
        (TimelineKind.CONNECTED, NOON),
        (TimelineKind.POLLED, NOON + 5 * MINUTE),
        (TimelineKind.REFRESHED, NOON),
        (TimelineKind.REFUSED, NOON + 4 * MINUTE),
    ]
    assert [event.kind for event in stored_events(connection(), None, seen=[])] == [TimelineKind.CONNECTED]
    renewed_since = stored_events(connection(), grant(refusals=1), seen=[])
    assert TimelineKind.REFUSED not in {event.kind for event in renewed_since}


def test_rows_show_no_more_than_this_process_has_seen_unless_another_process_was_later() -> None:
    polled = connection(last_outcome="read", outcome_at=NOON + 5 * MINUTE)
    refused = grant(refusals=1, retry_at=NOON + 14 * MINUTE)
    seen = [
        TimelineEvent(at=NOON + timedelta(microseconds=900), kind=TimelineKind.REFRESHED),
        TimelineEvent(at=NOON + 4 * MINUTE, kind=TimelineKind.REFUSED),
        TimelineEvent(at=NOON + 9 * MINUTE, kind=TimelineKind.POLLED),
    ]
    events = stored_events(polled, refused, seen)
    assert [event.kind for event in events] == [TimelineKind.CONNECTED]
    earlier = [msgspec.structs.replace(event, at=event.at - 5 * MINUTE) for event in seen]
    assert stored_events(polled, refused, earlier) == stored_events(polled, refused, seen=[])


def test_the_next_poll_follows_from_the_row() -> None:
    slot = NextPoll(NOON + 16 * MINUTE, NextPollReason.SLOT)
    assert next_scheduled_poll(connection(), RHYTHM, NOON) == slot
    silent = next_scheduled_poll(connection(), RHYTHM, NOON + 16 * MINUTE)
    assert silent == NextPoll(NOON + 31 * MINUTE, NextPollReason.SILENCE)
    reading_back = connection(backfill=Window(NOON - 60 * MINUTE, NOON))
    assert next_scheduled_poll(reading_back, RHYTHM, NOON) == NextPoll(NOON, NextPollReason.MORE_TO_READ)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (ConnectionState.PAUSED, "paused"),
        (ConnectionState.DISCONNECTED, "disconnected"),
        (ConnectionState.REAUTHORIZATION_REQUIRED, "reauthorization_required"),
        (ConnectionState.PROVIDER_FORBIDDEN, "retry"),
    ],
)
def test_a_connection_without_a_due_time_shows_the_reason(state: ConnectionState, reason: str) -> None:
    assert next_scheduled_poll(connection(state), RHYTHM, NOON) == NextPoll(None, reason)
