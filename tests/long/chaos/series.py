"""Comparison of the API's readings of many users with their sensors' readings."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import anyio
import httpx
import msgspec

from bg_ingest.simulator import SimulatorOptions, TrueReading
from tests.long.chaos.calls import Call
from tests.long.chaos.checks import ServedReading
from tests.long.chaos.lateness import measurements
from tests.long.chaos.report import Report
from tests.long.chaos.users import SimulatedUser

CONCURRENCY = 8


class SeriesComparison(msgspec.Struct):
    readings: int = 0
    lacking: int = 0
    surplus: int = 0
    differing: list[str] = msgspec.field(default_factory=list)


async def check_all_series(
    report: Report,
    url: str,
    options: SimulatorOptions,
    users: Sequence[SimulatedUser],
    calls: Mapping[str, Sequence[Call]],
    start: datetime,
) -> None:
    """Compare each user's readings from a start on with the truth, up to the newest reading shown to the last poll."""
    found, left = SeriesComparison(), list(users)

    async def compare() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            while left:
                person = left.pop()
                last = max((call.at for call in calls.get(person.login, ())), default=0.0)
                end = datetime.fromtimestamp(max(0.0, last - options.delay_seconds - 1), UTC).replace(microsecond=0)
                if end > start:  # otherwise the sensor had no reading in that time
                    true = [_served(each) for each in measurements(options, person, start, end)]
                    window = {"from": start.isoformat(), "to": (end + timedelta(seconds=1)).isoformat()}
                    _note(found, person, true, await _ask(client, person, window))

    async with anyio.create_task_group() as group:
        for _ in range(CONCURRENCY):
            group.start_soon(compare)
    report.check("readings compared with the truth", found.readings, holds=found.readings > 0, expected="some")
    report.check("readings missing or different", found.lacking, holds=not found.lacking, expected="0")
    report.check("readings too many, twice or different", found.surplus, holds=not found.surplus, expected="0")
    for user in found.differing[:10]:
        report.wrong(f"the readings of {user} differ")


async def _ask(client: httpx.AsyncClient, person: SimulatedUser, window: Mapping[str, str]) -> list[ServedReading]:
    answer = await client.get(
        f"/api/bg/{person.user}",
        params={**window, "view": "full"},
        headers={"accept": "application/x-ndjson"},
    )
    return msgspec.json.Decoder(ServedReading).decode_lines(answer.raise_for_status().content)


def _note(
    found: SeriesComparison, person: SimulatedUser, true: Sequence[ServedReading], served: Sequence[ServedReading]
) -> None:
    lacking, surplus = len(set(true) - set(served)), len(served) - len(set(true) & set(served))
    found.readings += len(true)
    found.lacking += lacking
    found.surplus += surplus
    if lacking or surplus:
        found.differing.append(person.user)


def _served(true: TrueReading) -> ServedReading:
    return ServedReading(
        true.measured_at, true.glucose_mg_dl, true.flag.value, true.trend, true.trend_rate, true.utc_offset_seconds
    )
