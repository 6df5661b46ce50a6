"""Files with damaged rows: every other row is read, and no content of a file raises an unexpected error."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bg_ingest.domain.files import FileRefused, read_clarity
from tests.conftest import examples

GOLDEN = Path(__file__).parents[1] / "golden" / "files"
ZONE = ZoneInfo("Europe/Berlin")
HEADERS = {
    name: (GOLDEN / f"clarity-{name}.csv").read_text("utf-8-sig").split("\n")[0] for name in ("en-g7", "de", "it")
}
FIRST = datetime(2025, 11, 18)  # noqa: DTZ001 - a local time
STEP = timedelta(minutes=5)

Row = list[str]
positions = st.integers(0, 200)
texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)


def fields(index: int, value: int, date_format: str) -> Row:
    time = FIRST + index * STEP
    return [
        str(index),
        f"{time:{date_format}}",
        "EGV",
        "",
        "",
        "",
        "iOS G7",
        str(value),
        "",
        "",
        "",
        "",
        str(300 * index),
        "0123",
    ]


def replace(row: Row, column: int, text: str) -> Row:
    return [text if index == column % len(row) else field for index, field in enumerate(row)]


DAMAGES: dict[str, Callable[[str, Row, int, str], str]] = {
    "cut": lambda separator, row, position, _: separator.join(row)[:position],
    "insert": lambda separator, row, position, text: (line := separator.join(row))[:position] + text + line[position:],
    "replace": lambda separator, row, position, text: separator.join(replace(row, position, text)),
    "unclosed": lambda separator, row, position, text: separator.join(replace(row, position, f'"{text}')),
    "shift": lambda separator, row, position, text: separator.join([text, *row][: position + 1]),
    "drop": lambda separator, row, position, _: separator.join(row[: position % 14] + row[position % 14 + 1 :]),
    "noise": lambda separator, _, position, text: (text + separator) * (position % 30),
    "long": lambda separator, row, position, _: separator.join(replace(row, position, "x" * 140_000)),
    "null": lambda separator, row, position, _: separator.join(replace(row, position, "\0")),
    "blank": lambda *_: "",
}
damages = st.tuples(st.sampled_from(sorted(DAMAGES)), positions, texts)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.one_of(st.none(), damages), max_size=20),
    st.sampled_from(sorted(HEADERS)),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S"]),
)
@example([("shift", 14, "")] * 3, "de", ";", "utf-8", "%Y-%m-%dT%H:%M:%S")
@example([("noise", 29, ",")] * 3, "it", "\t", "utf-8", "%d.%m.%Y %H:%M:%S")
@example([("unclosed", 2, "")] * 3, "en-g7", ",", "utf-16", "%m/%d/%Y %H:%M:%S")
def test_f13_f14_every_undamaged_row_is_read(
    rows: list[tuple[str, int, str] | None], header: str, separator: str, encoding: str, date_format: str
) -> None:
    lines = [re.sub('"[,;]"', f'"{separator}"', HEADERS[header].strip())]
    undamaged: dict[datetime, int] = {}
    for index, damage in enumerate([None, *rows, None]):
        row = fields(index, 100 + index, date_format)
        if damage is None:
            undamaged[FIRST + index * STEP] = 100 + index
            lines.append(separator.join(row))
        else:
            name, position, text = damage
            lines.append(DAMAGES[name](separator, row, position, text))
    contents = read_clarity("\n".join(lines).encode(encoding, "replace"), ZONE)
    found = {reading.measured_at.astimezone(ZONE).replace(tzinfo=None): reading for reading in contents.readings}
    assert {at: found[at].glucose_mg_dl for at in undamaged if at in found} == undamaged
    assert all(found[at].device.display == "iOS G7" for at in undamaged)


@settings(max_examples=examples(50), deadline=None)
@given(
    st.sampled_from(sorted(path.name for path in GOLDEN.glob("*.csv"))),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 5), st.binary(max_size=4)), max_size=20),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC"]),
)
def test_a_file_with_changed_bytes_is_read_or_refused(
    name: str, changes: list[tuple[int, int, bytes]], zone: str
) -> None:
    content = (GOLDEN / name).read_bytes()
    for position, removed, inserted in changes:
        content = content[:position] + inserted + content[position + removed :]
    check_any(content, zone)


@settings(max_examples=examples(50), deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(texts).map(lambda lines: "\n".join(lines).encode())))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    check_any(content, "UTC")
    check_any(b"Index,Timestamp,Event Type,Glucose (mg/dL)\n1,2025-11-18T07:00:05,EGV,100\n" + content, "UTC")


def check_any(content: bytes, zone: str) -> None:
    try:
        contents = read_clarity(content, ZoneInfo(zone))
    except FileRefused as refused:
        assert re.fullmatch(r"(is|has|does) [^\n]+\.", str(refused))  # noqa: PT017
        return
    identities = [reading.identity for reading in contents.readings]
    assert len(set(identities)) == len(identities)
    assert [reading.measured_at for reading in contents.readings] == sorted(identity[-1] for identity in identities)
