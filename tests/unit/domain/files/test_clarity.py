"""Clarity exports in several languages and forms, against the readings that they hold."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bg_ingest.domain.files import FileRefused, ReadingFile, read_clarity
from bg_ingest.domain.readings import AsSent, Flag

GOLDEN = Path(__file__).parents[3] / "golden" / "files"
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text())

HEADER = (
    "Index,Timestamp (YYYY-MM-DDThh:mm:ss),Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,"
    "Glucose Value (mg/dL),Insulin Value (u),Carb Value (grams),Duration (hh:mm:ss),"
    "Glucose Rate of Change (mg/dL/min),Transmitter Time (Long Integer),Transmitter ID"
)
GERMAN = (
    "Index;Zeitstempel (JJJJ-MM-TTThh:mm:ss);Ereignisart;Ereignis-Unterart;Patienten-Info;Geräteinfo;Quellengerät-ID;"
    "Glukosewert (mmol/L);Insulinwert (E);Kohlenh.-Wert (Gramm);Dauer (hh:mm:ss);"
    "Glukose-Änderungsgeschwindigkeit (mmol/L/min);Transmitterzeit (Lange Ganzzahl);Transmitter-ID"
)


def row(time: str, value: str, *, number: int = 1, device: str = "iOS G7", ticks: str = "", id_: str = "8AM1EY") -> str:
    return f"{number},{time},EGV,,,,{device},{value},,,,,{ticks},{id_}"


def read(*lines: str, header: str = HEADER, zone: str = "UTC") -> ReadingFile:
    return read_clarity("\r\n".join((header, *lines, "")).encode(), ZoneInfo(zone))


def values(contents: ReadingFile) -> list[int]:
    return [reading.glucose_mg_dl for reading in contents.readings]


def left_out(contents: ReadingFile) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in contents.left_out]


def check(contents: ReadingFile, expected: dict[str, Any]) -> None:
    readings = [
        {
            "measured_at": f"{reading.measured_at:%Y-%m-%dT%H:%M:%SZ}",
            "glucose_mg_dl": reading.glucose_mg_dl,
            "flag": reading.flag,
            "utc_offset_seconds": reading.utc_offset_seconds,
            "display": reading.device.display,
            "transmitter": reading.device.transmitter,
        }
        for reading in contents.readings
    ]
    assert readings == expected["readings"]
    assert contents.ignored == expected["ignored"]
    assert left_out(contents) == [(row["line"], row["reason"]) for row in expected["left_out"]]


@pytest.mark.parametrize("name", EXPECTED)
def test_f13_exports_of_several_languages_are_read(name: str) -> None:
    check(read_clarity((GOLDEN / name).read_bytes(), ZoneInfo(EXPECTED[name]["timezone"])), EXPECTED[name])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("name", ["clarity-de.csv", "clarity-it.csv"])
def test_f13_the_encoding_has_no_effect(name: str, encoding: str) -> None:
    text = (GOLDEN / name).read_text(encoding="utf-8-sig")
    check(read_clarity(text.encode(encoding), ZoneInfo(EXPECTED[name]["timezone"])), EXPECTED[name])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "sep={}\n", "\n"])
def test_f13_separator_and_line_ends_have_no_effect(separator: str, end: str, start: str) -> None:
    text = (GOLDEN / "clarity-en-g7.csv").read_text(encoding="utf-8-sig")
    text = text.replace('","', f'"{separator}"').replace("\n", end)
    prefix = start.format(separator).replace("\n", end)
    contents = read_clarity((prefix + text.rstrip("\r\n")).encode(), ZoneInfo("America/New_York"))
    assert values(contents) == [101, 104, 104, 39, 401, 400, 40]
    assert left_out(contents) == [(23 + bool(start), "no_value")]


def test_f13_decimal_commas_and_words_with_spaces() -> None:
    lines = (
        "1;2025-11-18T07:00:05;EGV;;;;iOS G7;5,8;;;;;;8AM1EY",
        "2;2025-11-18T07:05:05;EGV;;;;iOS G7; Niedrig ;;;;;;",
    )
    contents = read(*lines, "3;2025-11-18T07:10:05;EGV;;;;iOS G7;hoch;;;;;;8AM1EY", header=GERMAN)
    assert values(contents) == [104, 39, 401]
    assert contents.readings[0].sent == AsSent(5.8, "mmol/L")
    assert [reading.flag for reading in contents.readings] == [Flag.OK, Flag.LOW, Flag.HIGH]


def test_a_decimal_comma_without_quotes_is_not_cut() -> None:
    header = HEADER.replace("mg/dL", "mmol/L")
    contents = read(row("2025-11-18T07:00:05", "5,8"), row("2025-11-18T07:05:05", "10,0"), header=header)
    assert values(contents) == [104, 180]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *[(word, 39) for word in ("Low", "LOW ", "Niedrig", "Basso", "Bajo", "Baixo", "Laag", "Lågt", "Düşük", "LO")],
        *[(word, 401) for word in ("High", " high", "Hoch", "Alto", "Élevé", "Hoog", "Høj", "Högt", "Wysoki", "HI")],
    ],
)
def test_f13_words_of_many_languages(word: str, value: int) -> None:
    assert values(read(row("2025-11-18T07:00:05", word), row("2025-11-18T07:05:05", "100"))) == [value, 100]


@pytest.mark.parametrize(
    "times",
    [
        ("11/18/2025 07:00:05", "11/18/2025 07:05:05"),
        ("18.11.2025 07:00:05", "18.11.2025 7:05:05"),
        ("18/11/2025 07:00:05", "18/11/2025 7:05:05"),
        ("11/18/25 7:00:05 AM", "11/18/25 7:05:05 am"),
        ("2025-11-18 7:00:05", "2025/11/18 07:05:05.000"),
        ("18-11-2025, 07:00:05", "18-11-2025 07.05.05"),
    ],
)
def test_f13_dates_in_every_order(times: tuple[str, str]) -> None:
    contents = read(*(row(f'"{time}"', "100") for time in times))
    assert [f"{reading.measured_at:%F %T}" for reading in contents.readings] == [
        "2025-11-18 07:00:05",
        "2025-11-18 07:05:05",
    ]


def test_midnight_shows_the_order_of_day_and_month() -> None:
    contents = read(row("6/5/2025 23:58:00", "100"), row("6/6/2025 0:03:00", "101"))
    assert [reading.measured_at.day for reading in contents.readings] == [5, 6]


def test_f13_an_order_that_the_file_does_not_show_is_refused_in_one_sentence() -> None:
    with pytest.raises(FileRefused, match=r"^does not show whether the day or the month is first: .*YYYY-MM-DD\.$"):
        read(row("6/7/2025 08:00", "100"), row("6/7/2025 08:05", "100"))


def without(column: int, *lines: str) -> list[str]:
    return [",".join(field for index, field in enumerate(line.split(",")) if index != column) for line in lines]


@pytest.mark.parametrize("column", [0, 3, 4, 5, 6, 9, 12, 13])
def test_f13_a_column_may_be_missing(column: int) -> None:
    header, *rows = without(column, HEADER, row("2025-11-18T07:00:05", "Low"), row("2025-11-18T07:05:05", "104"))
    contents = read(*rows, header=header)
    assert values(contents) == [39, 104]
    assert {reading.device.display for reading in contents.readings} == {"unknown" if column == 6 else "iOS G7"}


def test_f13_the_order_of_columns_has_no_effect() -> None:
    order = (6, 2, 13, 7, 1, 12, 0, 3, 4, 5, 8, 9, 10, 11)
    lines = (HEADER, row("2025-11-18T07:00:05", "Low", ticks="300"), row("2025-11-18T07:05:05", "104", ticks="600"))
    header, *rows = (",".join(line.split(",")[index] for index in order) for line in lines)
    contents = read(*rows, header=header)
    assert values(contents) == [39, 104]
    assert {(reading.device.display, reading.device.transmitter) for reading in contents.readings} == {
        ("iOS G7", "8AM1EY")
    }


def test_f13_f14_damaged_rows_are_left_out_with_their_line() -> None:
    contents = read(
        row("2025-11-18T07:00:05", "101"),
        row("2025-11-18T07:05:05", ""),
        "",
        "3,2025-11-18T07:10:05",
        "4,2025-11-18T07:15:05,EGV",
        "5",
        ",,,,,,,,,,,,,",
        row("", "102"),
        row("2025-13-18T07:20:05", "103"),
        row("2025-11-18T07:25:05", "Sconosciuto"),
        row("2025-11-18T07:30:05", "-5"),
        row("2025-11-18T07:35:05", "1001"),
        row("2014-12-31T23:59:59", "104"),
        "6,2025-11-18T07:40:05,EGV,,,,iOS G7,1",
        '7,2025-11-18T07:45:05,"EGV,,,,iOS G7,100,,,,,,',
        f"8,{row('2025-11-18T07:50:05', '105')}",
        row("2025-11-18T07:00:05", "106"),
        f"{row('2025-11-18T07:55:05', '107')},,,,,",
        "7,2025-11-18T08:00:05,Notes,,,,,,,,,,,",
    )
    assert values(contents) == [101, 107]
    assert contents.ignored == 2
    assert left_out(contents) == [
        (3, "no_value"),
        (5, "not_a_record"),
        (6, "no_value"),
        (9, "no_time"),
        (10, "bad_time"),
        (11, "bad_value"),
        (12, "bad_value"),
        (13, "bad_value"),
        (14, "ancient"),
        (15, "not_a_record"),
        (16, "not_a_record"),
        (17, "not_a_record"),
        (18, "repeated"),
    ]


def test_f16_a_clock_that_was_not_set_forward_loses_no_reading() -> None:
    times = ("02:00:00", "02:05:00", "03:00:00", "03:05:00")
    ticks = ("7200", "7500", "10800", "11100")
    rows = [row(f"2025-03-09T{time}", "100", ticks=tick) for time, tick in zip(times, ticks, strict=True)]
    contents = read(*rows, zone="America/New_York")
    assert [f"{reading.measured_at:%H:%M}" for reading in contents.readings] == ["07:00", "07:05", "08:00", "08:05"]
    assert {reading.utc_offset_seconds for reading in contents.readings} == {-5 * 3600}
    without_ticks = read(
        *(row.replace(tick, "") for row, tick in zip(rows, ticks, strict=True)), zone="America/New_York"
    )
    assert left_out(without_ticks) == [(2, "bad_time"), (3, "bad_time")]


def test_f16b_two_displays_in_one_second_are_two_readings() -> None:
    rows = [row("2025-11-18T07:00:05", "100", device=device) for device in ("iPhone G6", "Dexcom Receiver")]
    contents = read(*rows)
    assert [reading.device.display for reading in contents.readings] == ["Dexcom Receiver", "iPhone G6"]


def test_uncertain_times_of_the_repeated_hour_are_counted() -> None:
    contents = read(row("2025-11-02T01:30:00", "100"), row("2025-11-02T03:00:00", "100"), zone="America/New_York")
    assert contents.uncertain == 1
    assert contents.readings[0].measured_at == datetime(2025, 11, 2, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(("header", "value"), [(HEADER, "5.8"), (HEADER.replace("mg/dL", "mmol/L"), "120")])
def test_a_unit_that_every_value_contradicts_is_refused(header: str, value: str) -> None:
    with pytest.raises(FileRefused, match="doubtful unit"):
        read(row("2025-11-18T07:00:05", value), row("2025-11-18T07:05:05", "Low"), header=header)


def test_a_header_without_a_unit_is_read_by_its_values() -> None:
    header = HEADER.replace("(mg/dL)", "")
    assert values(read(row("2025-11-18T07:00:05", "5.8"), header=header)) == [104]
    assert values(read(row("2025-11-18T07:00:05", "58"), header=header)) == [58]
    with pytest.raises(FileRefused, match="doubtful unit"):
        read(row("2025-11-18T07:00:05", "5.8"), row("2025-11-18T07:05:05", "58"), header=header)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no Clarity export"),
        (b"Date,Payee,Amount\n2025-11-10,Shop,-10.50\n", "is no Clarity export"),
        (f"{HEADER}\n1,,FirstName,,Ada,,,,,,,,,\n".encode(), "has no EGV row"),
        (b"PK\x03\x04....", "is a ZIP archive or an Excel workbook"),
        (b"%PDF-1.7", "is a PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x1f\x8b\x08", "is a gzip"),
        (bytes(200), "is no text"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(FileRefused, match=says):
        read_clarity(content, UTC)


def test_a_header_that_is_damaged_does_not_matter() -> None:
    contents = read(row("2025-11-18T07:00:05", "101"), row("2025-11-18T07:05:05", "Low"), header="Ind")
    assert values(contents) == [101, 39]


def test_a_byte_that_is_no_utf_8_damages_its_line_alone() -> None:
    lines = [HEADER, row("2025-11-18T07:00:05", "Élevé"), row("2025-11-18T07:05:05", "100", device="\udcff")]
    contents = read_clarity("\n".join(lines).encode(errors="surrogateescape"), UTC)
    assert values(contents) == [401, 100]
