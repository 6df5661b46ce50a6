"""JSON, CSV and NDJSON hold the same content, and the client gets the requested format."""

import csv
import json
from io import StringIO
from typing import Any

import msgspec
import pytest

from bg_ingest.api import formats
from bg_ingest.domain.readings import Device
from tests.harness.api import ApiHarness, reading

SPAN = "/api/bg/ada?from=2026-02-20&to=2026-03-03"
JSON, CSV, NDJSON = "application/json", "text/csv", "application/x-ndjson"


async def get_in_format(api: ApiHarness, accept: str, view: str = "") -> str:
    answer = await api.http.get(f"{SPAN}&view={view}", headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == accept
    return answer.text


@pytest.mark.parametrize("view", ["basic", "full"])
async def test_all_formats_say_the_same(api: ApiHarness, view: str) -> None:
    odd = Device("acme", "account-1", None, 'the "left", upper\narm', "unknown")
    await api.add_readings(
        *(
            reading(-each, 60 + each % 200, trend="flat", trend_rate_mg_dl_min=-0.1 * (each % 7))
            for each in range(1, 900)
        ),
        *(msgspec.structs.replace(reading(-each), device=odd, trend=None) for each in (3, 500)),
    )
    from_json: list[dict[str, Any]] = json.loads(await get_in_format(api, JSON, view))
    assert len(from_json) == 901
    lines = (await get_in_format(api, NDJSON, view)).splitlines()
    assert [json.loads(line) for line in lines] == from_json
    rows = list(csv.DictReader(StringIO(await get_in_format(api, CSV, view), newline="")))
    as_text = [{name: "" if value is None else str(value) for name, value in each.items()} for each in from_json]
    assert rows == as_text


async def test_csv_has_a_header_row_and_says_so(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    answer = await api.http.get(SPAN, headers={"Accept": CSV})
    assert answer.headers["content-type"] == "text/csv; header=present; charset=utf-8"
    assert answer.text == "timestamp,glucose_mg_dl\r\n2026-03-02T11:55:00Z,110\r\n"


async def test_nothing_is_an_empty_answer_in_each_format(api: ApiHarness) -> None:
    await api.add_connection()
    assert await get_in_format(api, JSON) == "[]"
    assert await get_in_format(api, CSV) == "timestamp,glucose_mg_dl\r\n"
    assert await get_in_format(api, NDJSON) == ""


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("text/csv, */*;q=0.1", CSV),
        ("text/csv, */*", CSV),
        ("TEXT/CSV; charset=utf-8", CSV),
        ("application/json;q=0.4, application/x-ndjson;q=0.5", NDJSON),
        ("application/json;q=0, application/*", NDJSON),
        ("application/json;q=what", JSON),
    ],
)
async def test_the_accept_header_decides(api: ApiHarness, accept: str, media_type: str) -> None:
    await api.add_connection()
    answer = await api.http.get("/api/bg/ada", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == media_type


OTHERS = "text/html," * formats.MAX_RANGES
"""Ranges that leave no room for a further one."""


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/xml, text/plain", "application/json;q=0", "nonsense", f"{OTHERS}application/json"],
)
async def test_a_format_we_do_not_have_is_406_with_those_we_have(api: ApiHarness, accept: str) -> None:
    await api.add_connection()
    answer = await api.http.get("/api/bg/ada", headers={"Accept": accept})
    assert (answer.status_code, answer.json()["type"]) == (406, "not-acceptable")
    assert all(each in answer.json()["detail"] for each in (JSON, CSV, NDJSON))


class Cells(msgspec.Struct):
    text: str | None
    number: float


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('=HYPERLINK("http://x","y")', '"\'=HYPERLINK(""http://x"",""y"")"'),
        ("+cmd", "'+cmd"),
        ("-1+1", "'-1+1"),
        ("@x", "'@x"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "\"'\r'=1\""),
        ("a;\t=1", "a;'\t'=1"),
        ("a,\n=1", "\"a,'\n'=1\""),
        ("a;=1", "a;'=1"),
        ('a",=1', '"a"",\'=1"'),
        ("iPhone 15-Pro, a+b=c", '"iPhone 15-Pro, a+b=c"'),
        ("g7/iOS", "g7/iOS"),
        (None, ""),
    ],
)
def test_f28_s18_a_text_is_no_formula_of_a_spreadsheet_and_a_number_stays_one(text: str | None, cell: str) -> None:
    encoded = formats.csv_format(("text", "number")).encode([Cells(text, -1.5)])
    assert encoded.decode() == f"{cell},-1.5\r\n"


def test_f28_the_other_formats_keep_a_formula() -> None:
    assert formats.NDJSON.encode([Cells("=1", -1.5)]) == b'{"text":"=1","number":-1.5}\n'
