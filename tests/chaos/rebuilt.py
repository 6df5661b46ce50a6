"""What a plain consumer makes of the events, and whether it is what the service serves."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import msgspec

from bg_ingest.adapters.local.publisher import Event
from tests.chaos.people import Person
from tests.chaos.processes import Process
from tests.chaos.report import Report
from tests.chaos.verdict import LONG_AGO, Served, truth
from tests.web import web

FAR = datetime(2100, 1, 1, tzinfo=UTC)


def written(told: Sequence[Event], ledger: Path) -> Path:
    """Write down what was told, in its order, as ``judge_told`` reads it."""
    lines = (f"{each.message_id} {blake2b(each.body, digest_size=8).hexdigest()}\n" for each in told)
    ledger.write_text("".join(lines))
    return ledger


def served(service: Process, person: Person, start: datetime = LONG_AGO, end: datetime = FAR) -> list[Served]:
    """Return what the API streams of [start, end)."""
    answer = web.get(
        f"{service.url}/api/bg/{person.user}",
        params={"from": start.isoformat(), "to": end.isoformat(), "view": "full"},
        headers={"accept": "application/x-ndjson"},
        timeout=60,
    ).raise_for_status()
    return msgspec.json.Decoder(Served).decode_lines(answer.content)


def judge_truth(
    report: Report, service: Process, simulated: Process, people: Sequence[Person], window: tuple[datetime, datetime]
) -> None:
    """Compare what is served of a window with what the simulator measured in it."""
    start, end = window
    compared = lacking = surplus = 0
    for person in people:
        true = {each for each in truth(simulated, person, end) if each.timestamp >= start}
        found = set(served(service, person, start, end))
        compared, lacking, surplus = compared + len(true), lacking + len(true - found), surplus + len(found - true)
    report.check("polled readings compared", compared, holds=compared > 0, wanted="some")
    report.check("polled readings missing or different", lacking, holds=not lacking, wanted="0")
    report.check("polled readings too many or different", surplus, holds=not surplus, wanted="0")


def judge_pushed(
    report: Report, service: Process, pushed: Mapping[Person, Sequence[Served]], start: datetime, end: datetime
) -> None:
    """Compare what was answered with 202 with what is served of those times."""
    lacking = surplus = 0
    for person, readings in pushed.items():
        found, wanted = set(served(service, person, start, end)), set(readings)
        lacking, surplus = lacking + len(wanted - found), surplus + len(found - wanted)
    report.figure("pushed readings", sum(map(len, pushed.values())))
    report.check("pushed readings missing or different", lacking, holds=not lacking, wanted="0")
    report.check("pushed readings nobody pushed", surplus, holds=not surplus, wanted="0")


def judge_series(
    report: Report, told: Sequence[Event], shown: Mapping[Person, Sequence[Served]], before: datetime = FAR
) -> None:
    """Compare the series that the events alone make with what was served at the end.

    Whoever goes on polling while one person after the other is read compares what was measured ``before``.
    """
    changes: dict[str, dict[int, list[Served]]] = {}
    for event in told:
        data = msgspec.json.decode(event.body)["data"]
        changes.setdefault(data["user_id"], {})[data["change"]] = msgspec.convert(
            data.get("readings", []), list[Served]
        )
    differing = 0
    for person, wanted in shown.items():
        series = {each.timestamp: each for _, some in sorted(changes.get(person.user, {}).items()) for each in some}
        differing += sum(each.timestamp < before for each in set(series.values()) ^ set(wanted))
    report.check("readings that events and API tell differently", differing, holds=not differing, wanted="0")
