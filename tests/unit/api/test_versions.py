"""versions=all: every value of every device, from which each past answer can be derived."""

import csv
import json
from datetime import datetime, timedelta
from io import StringIO
from random import Random
from typing import Any

import msgspec
import pytest

from bg_ingest.domain.readings import Reading
from tests.harness.api import DEVICE, ApiHarness, reading

SPAN = {"from": "2026-03-01", "to": "2026-03-03"}
RECEIVER = msgspec.structs.replace(DEVICE, display="receiver")


async def get_rows(api: ApiHarness, **query: str) -> list[dict[str, Any]]:
    answer = await api.http.get("/api/bg/ada", params=SPAN | query)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


def valid_at(rows: list[dict[str, Any]], instant: str) -> list[dict[str, Any]]:
    """Return the rows of a past time by the published rule, without the columns that a range lacks."""
    return [
        {name: value for name, value in row.items() if not name.startswith("superseded")}
        for row in rows
        if row["recorded_at"] <= instant and (row["superseded_at"] is None or instant < row["superseded_at"])
    ]


async def test_earlier_values_are_rows_with_the_change_that_replaced_them(api: ApiHarness) -> None:
    await api.add_readings(reading(-2, 100), reading(-1, 101))
    api.clock.advance(timedelta(minutes=7, milliseconds=1))
    await api.add_readings(reading(-2, 90))
    rows = await get_rows(api, versions="all")
    assert [(row["glucose_mg_dl"], row["change"], row["superseded_at"], row["superseded_by"]) for row in rows] == [
        (100, 1, "2026-03-02T12:07:00Z", 2),
        (90, 2, None, None),
        (101, 1, None, None),
    ]
    assert await get_rows(api, versions="all", view="full", devices="all") == rows
    full = await get_rows(api, view="full")
    assert {*rows[0]} - {*full[0]} == {"superseded_at", "superseded_by"}
    assert await get_rows(api, versions="last") == await get_rows(api)


async def test_every_form_has_the_same_versions(api: ApiHarness) -> None:
    await api.add_readings(reading(-2, 100), reading(-1, 101))
    await api.add_readings(reading(-2, 90))
    rows = await get_rows(api, versions="all")
    query = SPAN | {"versions": "all"}
    lines = await api.http.get("/api/bg/ada", params=query, headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in lines.text.splitlines()] == rows
    table = await api.http.get("/api/bg/ada", params=query, headers={"Accept": "text/csv"})
    by_csv = list(csv.DictReader(StringIO(table.text)))
    assert [row["superseded_by"] for row in by_csv] == ["2", "", ""]
    assert [*by_csv[0]] == [*rows[0]]


@pytest.mark.parametrize("others", [{"versions": "some"}, {"view": "basic"}, {"devices": "one"}])
async def test_other_values_and_contradictions_are_refused(api: ApiHarness, others: dict[str, str]) -> None:
    await api.add_readings(reading(-1, 100))
    answer = await api.http.get("/api/bg/ada", params=SPAN | {"versions": "all"} | others)
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid-versions")


@pytest.mark.slow
async def test_the_rule_of_validity_gives_the_answer_of_every_past_time(api: ApiHarness) -> None:
    random = Random(7)
    began = api.clock.now()
    for _ in range(60):
        batch: list[Reading] = [
            msgspec.structs.replace(reading(-random.randint(1, 40), random.randint(80, 95)), device=device)
            for device in random.choices([DEVICE, RECEIVER], k=3)
        ]
        await api.add_readings(*batch)
        api.clock.advance(timedelta(milliseconds=random.choice([0, 300, 900, 20_000, 70_000])))
    length = api.clock.now() - began
    api.clock.advance(timedelta(minutes=2))
    rows = await get_rows(api, versions="all")
    assert any(row["superseded_by"] for row in rows)
    for _ in range(100):
        instant = (began + random.random() * length).replace(microsecond=0)
        text = datetime.strftime(instant, "%Y-%m-%dT%H:%M:%SZ")
        assert valid_at(rows, text) == await get_rows(api, as_of=text, devices="all", view="full")
        known = await get_rows(api, as_of=text, versions="all")
        assert valid_at(known, text) == valid_at(rows, text)
