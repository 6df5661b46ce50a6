"""Translation of records of every kind: kept, pinned, converted and quarantined values."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.readings import MIN_MEASURED_AT, AsSent, Device, Flag, Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.ports import AccountData
from bg_ingest.providers.dexcom.translate import FUTURE_TOLERANCE, decode_data_range
from tests.fakes.clock import NOON
from tests.harness.dexcom_answers import ABSENT, EARLY, TRANSMITTER, USER, decode_page, egvs, record


def only_reading(**changed: Any) -> Reading:
    found = decode_page(egvs(record(**changed)), NOON)
    assert not found.unreadable
    return found.readings[0]


def quarantined(each: Any) -> Unreadable:
    found = decode_page(egvs(each, record(recordId="sound", systemTime="2026-03-02T06:05:00Z")), NOON)
    assert len(found.readings) == 1
    return found.unreadable[0]


def test_a_record_becomes_a_reading() -> None:
    assert only_reading() == Reading(
        measured_at=EARLY,
        glucose_mg_dl=120,
        flag=Flag.OK,
        device=Device("dexcom", USER, TRANSMITTER, "iOS", "g7"),
        trend="flat",
        trend_rate_mg_dl_min=0.1,
        utc_offset_seconds=-28_800,
        sent=None,
    )


def test_the_least_that_a_record_must_say() -> None:
    least = {"systemTime": "2026-03-02T06:00:00", "value": 120, "unit": "mg/dL"}
    assert decode_page(egvs(least), NOON).readings == (
        Reading(EARLY, 120, Flag.OK, Device("dexcom", USER, None, "unknown")),
    )


# Time


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(ABSENT, "no_time"), (None, "no_time"), ("", "no_time"), ("soon", "bad_time"), (1714557600, "bad_time")],
)
def test_case_24_a_record_without_a_time_is_quarantined(sent: Any, reason: str) -> None:
    assert quarantined(record(systemTime=sent)) == Unreadable(reason, json.dumps(record(systemTime=sent)).encode())


def test_case_25_two_readings_may_show_the_same_hour_on_the_clock() -> None:
    shown = "2024-11-03T01:30:00"
    found = decode_page(
        egvs(
            record(systemTime="2024-11-03T09:30:00", displayTime=shown),
            record(systemTime="2024-11-03T08:30:00", displayTime=shown),
        ),
        NOON,
    )
    assert [(each.measured_at.hour, each.utc_offset_seconds) for each in found.readings] == [(8, -25_200), (9, -28_800)]


def test_case_26_a_travellers_readings_are_in_order_of_system_time() -> None:
    found = decode_page(
        egvs(
            record(systemTime="2026-03-02T06:05:00Z", displayTime="2026-03-02T11:50:00+05:45"),
            record(systemTime="2026-03-02T06:00:00Z", displayTime="2026-03-02T14:00:00+08:00"),
        ),
        NOON,
    )
    assert [each.utc_offset_seconds for each in found.readings] == [28_800, 20_700]


@pytest.mark.parametrize("shown", [ABSENT, None, "", "noon", 7])
def test_case_27_an_unstated_offset_is_none(shown: Any) -> None:
    assert only_reading(displayTime=shown).utc_offset_seconds is None


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (NOON + timedelta(hours=3), "future"),
        (NOON + FUTURE_TOLERANCE + timedelta(seconds=1), "future"),
        (NOON.replace(year=2009), "ancient"),
        (MIN_MEASURED_AT - timedelta(seconds=1), "ancient"),
    ],
)
def test_case_28_a_record_of_a_device_with_a_wrong_clock_is_quarantined(at: Any, reason: str) -> None:
    sent = quarantined(record(systemTime=at.isoformat()))
    assert (sent.reason, sent.measured_at) == (reason, at)


@pytest.mark.parametrize("at", [NOON + FUTURE_TOLERANCE, MIN_MEASURED_AT])
def test_case_28_a_clock_a_little_off_is_tolerated(at: Any) -> None:
    assert only_reading(systemTime=at.isoformat()).measured_at == at


# Values


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_value"),
        (ABSENT, "no_value"),
        (0, "bad_value"),
        (-3, "bad_value"),
        (5000, "bad_value"),
        (1000.5, "bad_value"),
        (10**400, "bad_value"),
        ("", "bad_value"),
        ("120", "bad_value"),
        ("NaN", "bad_value"),
        (float("nan"), "no_value"),
        (float("inf"), "no_value"),
        (True, "bad_value"),
        ([120], "not_a_record"),
    ],
)
def test_case_30_a_record_without_a_value_is_quarantined_alone(value: Any, reason: str) -> None:
    assert quarantined(record(value=value)).reason == reason


@pytest.mark.parametrize("constant", [float("nan"), float("inf"), -float("inf")])
def test_case_30_a_constant_that_is_no_json_names_nothing(constant: float) -> None:
    (found,) = decode_page(egvs(record(transmitterId=constant, displayDevice=constant, trend=constant)), NOON).readings
    assert (found.device.transmitter, found.device.display, found.trend) == (None, "unknown", None)


def test_case_30_a_record_with_a_number_beyond_any_type_is_quarantined_alone() -> None:
    content = egvs(record(value="here"), record(systemTime="2026-03-02T06:05:00Z")).replace(b'"here"', b"1e999")
    found = decode_page(content, NOON)
    assert ([each.reason for each in found.unreadable], len(found.readings)) == (["not_a_record"], 1)


@pytest.mark.parametrize(
    ("value", "mg_dl", "flag", "sent"),
    [
        (142.0, 142, Flag.OK, None),
        (142.4, 142, Flag.OK, AsSent(142.4, "mg/dL")),
        ("LOW", 39, Flag.LOW, None),
        ("Low", 39, Flag.LOW, None),
        ("HIGH", 401, Flag.HIGH, None),
    ],
)
def test_case_30_floats_and_words_are_understood(value: Any, mg_dl: int, flag: Flag, sent: AsSent | None) -> None:
    reading = only_reading(value=value)
    assert (reading.glucose_mg_dl, reading.flag, reading.sent) == (mg_dl, flag, sent)


@pytest.mark.parametrize(
    ("value", "status", "mg_dl", "flag"),
    [
        (39, "low", 39, Flag.LOW),
        (40, "low", 39, Flag.LOW),
        (40, "ok", 40, Flag.OK),
        (39, "ok", 39, Flag.LOW),
        (38, None, 39, Flag.LOW),
        (1, None, 39, Flag.LOW),
        (401, "high", 401, Flag.HIGH),
        (400, "high", 401, Flag.HIGH),
        (400, "ok", 400, Flag.OK),
        (401, "ok", 401, Flag.HIGH),
        (1000, "ok", 401, Flag.HIGH),
        (120, "low", 120, Flag.OK),
        (120, "high", 120, Flag.OK),
        (120, "brandNew", 120, Flag.OK),
        (39, "high", 39, Flag.LOW),
    ],
)
def test_case_31_low_and_high_are_pinned_and_the_original_is_kept(
    value: int, status: str | None, mg_dl: int, flag: Flag
) -> None:
    reading = only_reading(value=value, status=status)
    assert (reading.glucose_mg_dl, reading.flag) == (mg_dl, flag)
    assert reading.sent == (None if value == mg_dl else AsSent(float(value), "mg/dL"))


@pytest.mark.parametrize(
    ("value", "mg_dl", "flag"),
    [(7.8, 141, Flag.OK), (2.2, 40, Flag.OK), (2.1, 39, Flag.LOW), (22.2, 400, Flag.OK), (22.3, 401, Flag.HIGH)],
)
def test_case_32_mmol_is_converted_once_and_the_original_kept(value: float, mg_dl: int, flag: Flag) -> None:
    reading = only_reading(value=value, unit="mmol/L")
    assert (reading.glucose_mg_dl, reading.flag, reading.sent) == (mg_dl, flag, AsSent(value, "mmol/L"))


def test_case_32_a_value_in_mg_called_mmol_is_quarantined() -> None:
    assert quarantined(record(value=120, unit="mmol/L")).reason == "bad_value"


@pytest.mark.parametrize("unit", ["unknown", "", None, ABSENT, "g/l", 3])
def test_case_32_an_unknown_unit_is_quarantined(unit: Any) -> None:
    assert quarantined(record(unit=unit)).reason == "unit_unknown"


@pytest.mark.parametrize(
    ("rate", "unit", "converted"),
    [
        (0.1, "mg/dL/min", 0.1),
        (-2, "mg/dL/min", -2.0),
        (0.05, "mmol/L/min", 0.9),
        (-0.0, "mg/dL/min", 0.0),
        (-0.0001, "mmol/L/min", 0.0),
        (None, "mg/dL/min", None),
        (ABSENT, "mg/dL/min", None),
        (0.1, "unknown", None),
        (0.1, None, None),
        ("0.1", "mg/dL/min", None),
        (1e300, "mg/dL/min", None),
        (True, "mg/dL/min", None),
    ],
)
def test_case_32_the_rate_is_converted_by_its_own_unit(rate: Any, unit: Any, converted: float | None) -> None:
    assert repr(only_reading(trendRate=rate, rateUnit=unit).trend_rate_mg_dl_min) == repr(converted)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("fortyFiveUp", "fortyFiveUp"),
        ("notComputable", "notComputable"),
        ("sideways", "sideways"),
        *((word, None) for word in ("none", "unknown", "", None, ABSENT, 4)),
    ],
)
def test_case_33_a_new_trend_is_kept_and_no_trend_is_none(sent: Any, kept: str | None) -> None:
    assert only_reading(trend=sent).trend == kept


def test_case_33_new_words_cost_no_reading() -> None:
    reading = only_reading(
        transmitterGeneration="g6 pro", displayDevice="smartwatch", status="fine", brandNew={"a": [1]}
    )
    assert (reading.device.generation, reading.device.display) == ("g6 pro", "smartwatch")


@pytest.mark.parametrize("transmitter", ["", None, ABSENT])
def test_case_34_without_a_transmitter_it_is_none(transmitter: Any) -> None:
    assert only_reading(transmitterId=transmitter).device.transmitter is None


def test_case_34_records_without_an_id_are_readings_of_the_same_identity() -> None:
    nameless = record(recordId=ABSENT, value=110)
    assert only_reading(recordId=ABSENT) == only_reading()
    for records in ([nameless, record()], [record(), nameless]):
        assert [each.glucose_mg_dl for each in decode_page(egvs(*records), NOON).readings] == [120]


def test_case_35_one_bad_record_among_288_costs_only_itself() -> None:
    records: list[Any] = [
        record(recordId=str(slot), systemTime=(EARLY - timedelta(minutes=5 * slot)).isoformat()) for slot in range(288)
    ]
    spoilt: list[Any] = ["a string", 5, None, [], {"value": []}]
    for bad in spoilt:
        records[100] = bad
        found = decode_page(egvs(*records), NOON)
        assert len(found.readings) == 287
        assert found.unreadable[0].raw == json.dumps(bad).encode()


def test_case_35_bytes_that_are_no_text_cost_only_their_record() -> None:
    content = egvs(record(trend="garbled"), record(systemTime="2026-03-02T06:05:00Z")).replace(b"garbled", b"\xff\xfe")
    found = decode_page(content, NOON)
    assert ([each.reason for each in found.unreadable], len(found.readings)) == (["not_a_record"], 1)


def test_of_one_identity_the_larger_record_id_wins_in_any_order() -> None:
    records = [record(recordId=name, value=value) for name, value in (("b", 1), ("c", 130), ("c", 140), ("a", 150))]
    records[0]["value"] = 100
    for order in (records, records[::-1], records[2:] + records[:2]):
        assert [each.glucose_mg_dl for each in decode_page(egvs(*order), NOON).readings] == [140]


def test_case_19_two_display_devices_at_one_time_are_two_readings() -> None:
    found = decode_page(egvs(record(), record(displayDevice="receiver", value=118)), NOON)
    assert [(each.device.display, each.glucose_mg_dl) for each in found.readings] == [("iOS", 120), ("receiver", 118)]


# Anything

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(record().values())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(list(record())), anything) | anything)
def test_an_arbitrary_record_affects_only_itself(odd: Any) -> None:
    sound = record(recordId="sound", systemTime="2026-03-02T06:05:00Z", displayDevice="sound")
    found = decode_page(egvs(odd, sound), NOON)
    assert len(found.readings) + len(found.unreadable) == 2
    assert [each.device.display for each in found.readings].count("sound") == 1


@pytest.mark.slow
@given(st.binary() | anything.map(lambda each: json.dumps(each).encode()))
def test_an_arbitrary_page_is_decoded_or_misbehaviour(content: bytes) -> None:
    for answer in (content, b'{"userId":"u","records":[' + content + b"]}", b'{"records":[NaN,' + content):
        with suppress(ProviderMisbehaved):
            decode_page(answer, NOON)
        with suppress(ProviderMisbehaved):
            decode_data_range(answer, NOON)


# Pages


@pytest.mark.parametrize("trend", ["flat", float("nan")])
def test_case_22_a_byte_order_mark_costs_nothing(trend: Any) -> None:
    assert len(decode_page(b"\xef\xbb\xbf" + egvs(record(trend=trend)), NOON).readings) == 1


def test_case_22_an_empty_page_is_a_page() -> None:
    found = decode_page(egvs(), NOON)
    assert (found.provider_account, found.readings, found.unreadable) == (USER, (), ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"<!doctype html><title>Sign in</title>",
        egvs(record())[:-40],
        egvs(records=ABSENT),
        egvs(records=None),
        egvs(records={}),
        egvs(record(), userId=ABSENT),
        egvs(record(), userId=None),
        egvs(record(), userId=""),
        egvs(record(), recordType="alert"),
    ],
)
def test_case_22_what_is_no_page_is_misbehaviour(content: bytes) -> None:
    with pytest.raises(ProviderMisbehaved):
        decode_page(content, NOON)


# dataRange


def available_range(**changed: Any) -> AccountData:
    envelope: dict[str, Any] = {"recordType": "dataRange", "userId": USER, "calibrations": None, "events": {}}
    return decode_data_range(json.dumps(envelope | changed).encode(), NOON)


def data_range(start: Any, end: Any) -> dict[str, Any]:
    return {
        name: None if at is None else {"systemTime": at, "displayTime": at}
        for name, at in (("start", start), ("end", end))
    }


def test_what_there_is_ends_after_the_newest_reading() -> None:
    past = Window(EARLY - timedelta(days=60), EARLY + timedelta(seconds=1))
    sent = data_range((EARLY - timedelta(days=60)).isoformat(), "2026-03-02T06:00:00.5")
    assert available_range(egvs=sent) == AccountData(USER, past)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        {},
        data_range(None, None),
        data_range("", ""),
        data_range("2026-03-02T06:00:00Z", "2026-03-01T06:00:00Z"),
        data_range("2026-03-05T06:00:00Z", "2026-03-06T06:00:00Z"),
        data_range("2009-01-01T00:00:00Z", "2010-01-01T00:00:00Z"),
        data_range("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ],
)
def test_case_16_no_readings_are_nothing_available(sent: Any) -> None:
    assert available_range(egvs=sent) == AccountData(USER, None)


def test_case_16_a_missing_block_is_nothing_available() -> None:
    assert available_range() == AccountData(USER, None)


@pytest.mark.parametrize(
    ("start", "end", "window"),
    [
        ("2026-03-01T00:00:00Z", "2026-03-03T12:00:00Z", (NOON.replace(day=1, hour=0), NOON)),
        ("2009-01-01T00:00:00Z", "2026-03-02T06:00:00Z", (MIN_MEASURED_AT, EARLY)),
        (None, "2026-03-02T06:00:00Z", (MIN_MEASURED_AT, EARLY)),
        ("2026-03-02T06:00:00Z", "", (EARLY, NOON)),
        ("2026-03-02T06:00:00Z", "2026-03-02T06:00:00Z", (EARLY, EARLY)),
    ],
)
def test_case_16_an_end_that_cannot_be_is_moved_to_where_it_can(start: Any, end: Any, window: Any) -> None:
    assert available_range(egvs=data_range(start, end)).data_range == Window(
        window[0], window[1] + timedelta(seconds=1)
    )


@pytest.mark.parametrize("content", [b"{}", b"<html>", b'{"userId":"u","egvs":[]}', b'{"egvs":null}'])
def test_what_is_no_data_range_is_misbehaviour(content: bytes) -> None:
    with pytest.raises(ProviderMisbehaved):
        decode_data_range(content, NOON)
