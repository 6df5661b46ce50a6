"""Replay of a Clarity export: its own values, dates and gaps."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bg_ingest.domain.readings import Flag
from bg_ingest.simulator import REPLAY_USER, ReplayUnreadable
from bg_ingest.simulator.replay import ReplayedWearer
from tests.harness.simulator_visitor import SetClock, bare
from tests.unit.simulator.conftest import Visit

HEADER = (
    "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value ({unit}),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),"
    "Glucose Rate of Change ({unit}/min),Transmitter Time (Long Integer)"
)


def export(folder: Path, *rows: tuple[str, str], unit: str = "mg/dL", device: str = "iPhone G6") -> Path:
    lines = [
        HEADER.format(unit=unit),
        "1,,FirstName,,Joe,,,,,,,,",
        f"2,,Alert,Low,,,{device},80,,,,,",
        *(f"{index},{at},EGV,,,,{device},{value},,,,," for index, (at, value) in enumerate(rows, 3)),
        f"99,2026-03-01T08:00:00,Carbs,,,,{device},,,30,,,",
    ]
    path = folder / "export.csv"
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def replayed(path: Path, zone: str = "Europe/Berlin") -> list[tuple[str, int, Flag]]:
    wearer = ReplayedWearer(path, zone)
    readings = wearer.readings(wearer.first, wearer.last)
    return [(reading.measured_at.isoformat(), reading.glucose_mg_dl, reading.flag) for reading in readings]


def test_rows_become_readings_on_their_own_dates(tmp_path: Path) -> None:
    path = export(tmp_path, ("2016-10-24T11:24:17", "103"), ("2016-10-24T11:29:18", "101"))
    assert replayed(path) == [
        ("2016-10-24T09:24:17+00:00", 103, Flag.OK),
        ("2016-10-24T09:29:18+00:00", 101, Flag.OK),
    ]
    assert replayed(path, "UTC")[0][0] == "2016-10-24T11:24:17+00:00"


def test_words_become_the_sides_of_the_display(tmp_path: Path) -> None:
    path = export(tmp_path, ("2026-03-01T08:00:00", "Low"), ("2026-03-01T08:05:00", "High"))
    assert [row[1:] for row in replayed(path)] == [(39, Flag.LOW), (401, Flag.HIGH)]


def test_exports_in_mmol_are_served_in_mg(tmp_path: Path) -> None:
    path = export(tmp_path, ("2026-03-01T08:00:00", "7.8"), unit="mmol/L")
    assert [row[1:] for row in replayed(path)] == [(141, Flag.OK)]


def test_the_hour_that_autumn_repeats_is_distinguished_by_order(tmp_path: Path) -> None:
    times = ("02:50:00", "02:55:00", "02:00:00", "02:05:00", "03:00:00")
    path = export(tmp_path, *((f"2016-10-30T{time}", "100") for time in times))
    assert [row[0][11:16] for row in replayed(path)] == ["00:50", "00:55", "01:00", "01:05", "02:00"]


def test_trend_follows_from_the_values_and_is_unknown_after_a_gap(tmp_path: Path) -> None:
    times = ("08:00:00", "08:05:00", "08:10:00", "08:15:00", "12:00:00")
    values = ("100", "110", "121", "130", "90")
    path = export(tmp_path, *((f"2026-03-01T{time}", value) for time, value in zip(times, values, strict=True)))
    wearer = ReplayedWearer(path, "UTC")
    trends = [(reading.trend, reading.trend_rate) for reading in wearer.readings(wearer.first, wearer.last)]
    assert trends[0] == ("none", None)
    assert trends[3] == ("fortyFiveUp", 2.0)
    assert trends[4] == ("none", None)


@pytest.mark.parametrize(
    ("device", "trends"),
    [("iPhone G6", ("iOS", "g6")), ("Android G7", ("android", "g7")), ("Dexcom Receiver", ("receiver", "g6"))],
)
def test_the_device_is_read_from_its_name(tmp_path: Path, device: str, trends: tuple[str, str]) -> None:
    wearer = ReplayedWearer(export(tmp_path, ("2026-03-01T08:00:00", "100"), device=device), "UTC")
    (reading,) = wearer.readings(wearer.first, wearer.last)
    assert (reading.display_device, reading.generation) == trends


async def test_the_replay_is_a_user_whose_api_serves_the_file(visit: Visit, clock: SetClock, tmp_path: Path) -> None:
    begins = datetime(2016, 10, 24, 9, 24, 17, tzinfo=UTC)
    instants = [begins + timedelta(minutes=5 * step) for step in range(500) if not 100 < step < 180]
    rows = [(bare(at + timedelta(hours=2)), str(90 + index % 60)) for index, at in enumerate(instants)]
    visitor = visit(replay=export(tmp_path, *rows), zone="Europe/Berlin", users=1)
    page = await visitor.login()
    assert f'value="{REPLAY_USER}"' in page.text
    await visitor.connect(REPLAY_USER)
    ends = (await visitor.get("dataRange")).json()["egvs"]
    assert ends["start"] == {"systemTime": "2016-10-24T09:24:17Z", "displayTime": "2016-10-24T11:24:17+02:00"}
    assert datetime.fromisoformat(ends["end"]["systemTime"]) == instants[-1]
    records = await visitor.records(begins, begins + timedelta(days=30))
    trends = [(record["displayTime"][:19], str(record["value"])) for record in reversed(records)]
    assert trends == rows
    assert await visitor.records(clock.at - timedelta(days=30), clock.at) == []


@pytest.mark.parametrize(
    ("text", "zone", "says"),
    [
        (None, "UTC", "cannot be read"),
        ("Name,Value\nx,1\n", "UTC", "is no Clarity export"),
        ("", "UTC", "is no Clarity export"),
        (HEADER.format(unit="mg/dL") + "\n", "UTC", "has no EGV row"),
        (HEADER.format(unit="mg/dL") + "\n1,soon,EGV,,,,x,100,,,,,\n", "UTC", r"no readable reading. .* \(line 2\)\.$"),
        (HEADER.format(unit="mg/dL") + "\n", "Berlin", "zone 'Berlin' is unknown"),
        (HEADER.format(unit="mg/dL") + "\n", "../UTC", "zone '../UTC' is unknown"),
        (HEADER.format(unit="mg/dL") + "\n", "Europe", "zone 'Europe' is unknown"),
        (HEADER.format(unit="mg/dL") + "\n", "", "zone '' is unknown"),
        (HEADER.format(unit="mg/dL") + "\n1,6/7/2025 8:00,EGV,,,,x,100,,,,,\n", "UTC", "the day or the month is first"),
        ("PK\x03\x04", "UTC", "is a ZIP archive or an Excel workbook: export the readings as CSV"),
    ],
)
def test_an_unreadable_export_names_its_error(tmp_path: Path, text: str | None, zone: str, says: str) -> None:
    path = tmp_path / "some.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReplayUnreadable, match=says):
        ReplayedWearer(path, zone)


def test_f13_f14_the_report_names_every_row_that_is_left_out(tmp_path: Path) -> None:
    rows = (("2026-03-01T08:00:00", "100"), ("2026-03-01T08:05:00", "Low "), ("2026-03-01T08:10:00", ""))
    path = export(tmp_path, *rows, ("soon", "101"), *[("2014-03-01T08:00:00", "102")] * 7)
    path.write_text(path.read_text() + "\n\n7,2026-03-01T08:15:00\n")
    wearer = ReplayedWearer(path, "UTC")
    assert [reading.glucose_mg_dl for reading in wearer.readings(wearer.first, wearer.last)] == [100, 39]
    assert wearer.report == (
        "export.csv: 2 readings from 2026-03-01 08:00 to 2026-03-01 08:05 UTC. 10 rows left out: "
        "1 without a value (line 6); 1 with a time that cannot be read or does not exist in the zone (line 7); "
        "7 older than 2015 (lines 8, 9, 10, 11, 12 and others); 1 cut or shifted (line 18)."
    )


def test_the_report_of_a_whole_file_says_nothing_more(tmp_path: Path) -> None:
    wearer = ReplayedWearer(export(tmp_path, ("2026-03-01T08:00:00", "100")), "UTC")
    assert wearer.report == "export.csv: 1 reading from 2026-03-01 08:00 to 2026-03-01 08:00 UTC."


def test_the_report_counts_uncertain_times(tmp_path: Path) -> None:
    wearer = ReplayedWearer(export(tmp_path, ("2016-10-30T02:30:00", "100")), "Europe/Berlin")
    assert wearer.report.endswith(
        " UTC. 1 reading may be from the first or the second pass of an hour that a clock change repeats; "
        "the first is assumed."
    )


def test_f16_a_clock_that_was_not_set_forward_loses_no_reading(tmp_path: Path) -> None:
    times = {"02:00": 7200, "02:05": 7500, "03:00": 10_800, "03:05": 11_100}
    path = export(tmp_path, *((f"2025-03-09T{time}:00", "100") for time in times))
    lines = path.read_text().splitlines()
    for time, ticks in times.items():
        lines = [line + str(ticks) if f"T{time}:00,EGV" in line else line for line in lines]
    path.write_text("\n".join(lines))
    assert [row[0][11:16] for row in replayed(path, "America/New_York")] == ["07:00", "07:05", "08:00", "08:05"]


async def test_f16b_two_displays_in_one_second_are_served_as_two_records(visit: Visit, tmp_path: Path) -> None:
    at = datetime(2026, 2, 1, 8, tzinfo=UTC)
    path = export(tmp_path, (bare(at), "100"), (bare(at + timedelta(minutes=5)), "101"))
    phone = [line for line in path.read_text().splitlines() if "EGV" in line]
    others = [line.replace("iPhone G6", device) for line in phone for device in ("Dexcom Receiver", "iOS Watch")]
    path.write_text("\n".join((path.read_text(), *others)))
    visitor = visit(replay=path, users=0)
    await visitor.connect(REPLAY_USER)
    records = await visitor.records(at, at + timedelta(days=1))
    assert len({record["recordId"] for record in records}) == len(records) == 6
    assert {record["displayDevice"] for record in records} == {"iOS", "receiver", "watch"}
    assert len({record["transmitterId"] for record in records}) == 1
