"""Public forms of readings and gaps, and the body of an event; tests/snapshots has every type byte by byte."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.changes import (
    Change,
    ChangeData,
    ConnectionChanged,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
    UserErased,
)
from bg_ingest.domain.cloud_events import encode_cloud_event, public_gap, public_reading
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import Origin, StoredReading
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, USER, reading

MINUTE = timedelta(minutes=1)
FIRST = StoredReading(reading(0, 100), NOON + timedelta(milliseconds=1_500), 1)
REVISED = StoredReading(reading(0, 105), NOON + MINUTE, 2, (FIRST.version,))
GAP = Gap(after=NOON, before=NOON + 20 * MINUTE, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON)


def body(data: ChangeData) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(encode_cloud_event(Change(USER, 7, NOON, data), "/bg-ingest"))
    return decoded


@pytest.mark.parametrize(("mg_dl", "mmol_l"), [(39, 2.2), (100, 5.6), (180, 10.0), (401, 22.3)])
def test_a_value_is_shown_in_both_units(mg_dl: int, mmol_l: float) -> None:
    public = public_reading(StoredReading(reading(0, mg_dl), NOON, 1))
    assert (public.glucose_mg_dl, public.glucose_mmol_l) == (mg_dl, mmol_l)


def test_a_public_reading_has_whole_seconds_and_a_short_name_of_the_sensor() -> None:
    public = public_reading(FIRST)
    assert public.recorded_at == NOON + timedelta(seconds=1)
    assert (public.device, public.sensor) == ("g7/iOS", DEVICE.sensor_name)
    assert DEVICE.transmitter is not None
    assert DEVICE.transmitter not in msgspec.json.encode(public).decode()


def test_only_the_event_of_a_revision_has_the_previous_value() -> None:
    (revised,) = body(ReadingsRevised("acme", Origin.SWEEP, (REVISED,)))["data"]["readings"]
    assert (revised["glucose_mg_dl"], revised["previous_glucose_mg_dl"]) == (105, 100)
    (recorded,) = body(ReadingsRecorded("acme", Origin.LIVE, (REVISED,)))["data"]["readings"]
    assert "previous_glucose_mg_dl" not in recorded


def test_a_public_gap_begins_with_the_first_missing_reading() -> None:
    public = public_gap("acme", GAP)
    assert (public.from_, public.to, public.missing) == (NOON + 5 * MINUTE, NOON + 20 * MINUTE, 3)
    silence = public_gap("acme", msgspec.structs.replace(GAP, before=None, healed_at=None))
    assert (silence.to, silence.missing, silence.healed_at) == (None, None, None)


def test_the_envelope_names_the_change_its_user_and_the_service() -> None:
    event = body(UserErased())
    assert event == {
        "specversion": "1.0",
        "id": "ada/7",
        "source": "/bg-ingest",
        "type": "bg.user.erased.v1",
        "subject": "ada",
        "time": "2026-03-02T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"user_id": "ada", "change": 7},
    }


def test_the_data_of_a_connection_and_of_a_gap_name_the_provider() -> None:
    changed = body(ConnectionChanged("acme", ConnectionState.PAUSED, "by_operator"))["data"]
    assert changed == {
        "user_id": "ada",
        "change": 7,
        "provider": "acme",
        "state": "paused",
        "reason": "by_operator",
    }
    opened = body(GapOpened("acme", GAP))["data"]
    assert (opened["provider"], opened["from"], opened["cause"]) == ("acme", "2026-03-02T12:05:00Z", "throttled")
