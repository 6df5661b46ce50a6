"""Series that a plain consumer derives from the events, compared with the service's answers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import msgspec

from bg_ingest.adapters.memory import Event
from tests.harness.web import web
from tests.long.chaos.checks import LONG_AGO, ServedReading, truth
from tests.long.chaos.processes import Process
from tests.long.chaos.report import Report
from tests.long.chaos.users import SimulatedUser

FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)


def write_event_file(events: Sequence[Event], ledger: Path) -> Path:
    """Write the published events in their order, in the format of ``check_events``."""
    lines = (f"{each.message_id} {blake2b(each.body, digest_size=8).hexdigest()}\n" for each in events)
    ledger.write_text("".join(lines))
    return ledger


def get_readings(
    service: Process, person: SimulatedUser, start: datetime = LONG_AGO, end: datetime = FAR_FUTURE
) -> list[ServedReading]:
    """Return the readings that the API streams for [start, end)."""
    answer = web.get(
        f"{service.url}/api/bg/{person.user}",
        params={"from": start.isoformat(), "to": end.isoformat(), "view": "full"},
        headers={"accept": "application/x-ndjson"},
        timeout=60,
    ).raise_for_status()
    return msgspec.json.Decoder(ServedReading).decode_lines(answer.content)


def check_polled(
    report: Report,
    service: Process,
    simulated: Process,
    users: Sequence[SimulatedUser],
    window: tuple[datetime, datetime],
) -> None:
    """Compare the served readings of a window with the simulator's."""
    start, end = window
    compared = lacking = surplus = 0
    for person in users:
        true = {each for each in truth(simulated, person, end) if each.timestamp >= start}
        found = set(get_readings(service, person, start, end))
        compared, lacking, surplus = compared + len(true), lacking + len(true - found), surplus + len(found - true)
    report.check("polled readings compared", compared, holds=compared > 0, expected="some")
    report.check("polled readings missing or different", lacking, holds=not lacking, expected="0")
    report.check("polled readings too many or different", surplus, holds=not surplus, expected="0")


def check_pushed(
    report: Report,
    service: Process,
    pushed: Mapping[SimulatedUser, Sequence[ServedReading]],
    start: datetime,
    end: datetime,
) -> None:
    """Compare the readings accepted with 202 with the served readings of the same times."""
    lacking = surplus = 0
    for person, readings in pushed.items():
        found, expected = set(get_readings(service, person, start, end)), set(readings)
        lacking, surplus = lacking + len(expected - found), surplus + len(found - expected)
    report.figure("pushed readings", sum(map(len, pushed.values())))
    report.check("pushed readings missing or different", lacking, holds=not lacking, expected="0")
    report.check("pushed readings without a push", surplus, holds=not surplus, expected="0")


def check_series(
    report: Report,
    events: Sequence[Event],
    shown: Mapping[SimulatedUser, Sequence[ServedReading]],
    before: datetime = FAR_FUTURE,
) -> None:
    """Compare the series derived from the events alone with the readings served at the end.

    A run that continues polls while one user after the other is read compares the readings measured ``before``.
    """
    changes: dict[str, dict[int, list[ServedReading]]] = {}
    for event in events:
        data = msgspec.json.decode(event.body)["data"]
        changes.setdefault(data["user_id"], {})[data["change"]] = msgspec.convert(
            data.get("readings", []), list[ServedReading]
        )
    differing = 0
    for person, expected in shown.items():
        series = {each.timestamp: each for _, some in sorted(changes.get(person.user, {}).items()) for each in some}
        differing += sum(each.timestamp < before for each in set(series.values()) ^ set(expected))
    report.check("readings that differ between events and API", differing, holds=not differing, expected="0")
