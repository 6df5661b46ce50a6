"""Checks after the kills, each against the records of the other side."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from bg_ingest.domain.ids import UserId
from tests.harness.web import web
from tests.long.chaos.processes import Process
from tests.long.chaos.report import Report
from tests.long.chaos.store_dump import StoredUser, change_numbers, count_unpublished, head_number, open_items
from tests.long.chaos.users import SimulatedUser

ANSWER_DELAY = timedelta(seconds=3)
"""Largest delay of a token call at the provider after the kill of its client."""

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Kill(msgspec.Struct, frozen=True):
    """Time of the end of all processes of the service, and the stored state by user."""

    at: datetime
    remaining: Mapping[str, StoredUser]


class ServedReading(msgspec.Struct, frozen=True, order=True):
    """A reading of the API, with the fields that come from the provider."""

    timestamp: datetime
    glucose_mg_dl: int
    flag: str
    trend: str | None
    trend_rate_mg_dl_min: float | None
    utc_offset_seconds: int | None


class TrueReading(msgspec.Struct, frozen=True):
    """A reading of the simulator's sensor."""

    measured_at: datetime
    glucose_mg_dl: int
    flag: str
    trend: str
    trend_rate: float | None
    utc_offset_seconds: int

    @property
    def served(self) -> ServedReading:
        return ServedReading(
            self.measured_at, self.glucose_mg_dl, self.flag, self.trend, self.trend_rate, self.utc_offset_seconds
        )


def check_readings(
    report: Report, service: Process, simulated: Process, users: Sequence[SimulatedUser], end: datetime
) -> None:
    """Compare the API's range with the truth, reading by reading; both until ``end``, exclusive."""
    compared = missing = surplus = 0
    for person in users:
        true, served = truth(simulated, person, end), _served(service, person, end)
        lacking, extra = Counter(true) - Counter(served), Counter(served) - Counter(true)
        compared, missing, surplus = compared + len(true), missing + lacking.total(), surplus + extra.total()
        if differing := sorted(each.timestamp for each in lacking + extra):
            report.wrong(f"{person.user} differs from {differing[0]} to {differing[-1]}")
        if served != sorted(served, key=lambda each: each.timestamp):
            report.wrong(f"the readings of {person.user} are not ascending")
    report.check("readings compared", compared, holds=compared > 0, expected="some")
    report.check("readings missing or different", missing, holds=not missing, expected="0")
    report.check("readings too many or different", surplus, holds=not surplus, expected="0")


def check_store(report: Report, data: Path, users: Sequence[SimulatedUser]) -> dict[str, int]:
    """Check after a clean stop that changes are contiguous and published; return each user's last number."""
    with open_items(data) as items:
        last = {each.user: head_number(items, UserId(each.user)) for each in users}
        broken = [user for user, number in last.items() if change_numbers(items, user) != list(range(1, number + 1))]
        report.figure("changes", sum(last.values()))
        report.check("users whose changes are not 1 to n", len(broken), holds=not broken, expected="0")
    left = count_unpublished(data)
    report.check("unpublished changes", left, holds=not left, expected="0")
    return last


def check_events(report: Report, ledger: Path, last: Mapping[str, int]) -> None:
    """Check that every change was published, under its own id with one content, first deliveries in order."""
    contents: dict[str, set[str]] = defaultdict(set)
    times: Counter[str] = Counter()
    first_times: dict[str, list[int]] = defaultdict(list)
    for line in ledger.read_text().splitlines():
        identity, content = line.split()
        user, _, number = identity.rpartition("/")
        if identity not in contents:
            first_times[user].append(int(number))
        contents[identity].add(content)
        times[identity] += 1
    expected = {f"{user}/{number}" for user, newest in last.items() for number in range(1, newest + 1)}
    report.check(
        "changes never published", len(expected - contents.keys()), holds=expected <= contents.keys(), expected="0"
    )
    report.check(
        "published ids without a change",
        len(contents.keys() - expected),
        holds=contents.keys() <= expected,
        expected="0",
    )
    several = sum(len(each) > 1 for each in contents.values())
    report.check("ids published with several contents", several, holds=not several, expected="0")
    unordered = sum(each != sorted(each) for each in first_times.values())
    report.check("users with events out of order", unordered, holds=not unordered, expected="0")
    report.figure("published once", sum(each == 1 for each in times.values()))
    report.figure("published more than once", sum(each > 1 for each in times.values()))


def check_grants(
    report: Report,
    rotations: Sequence[Mapping[str, Any]],
    kills: Sequence[Kill],
    left: Mapping[str, StoredUser],
    reconnected: Mapping[str, datetime],
) -> None:
    """Check that tokens were lost only by kills between the provider's answer and its storing."""
    spent = {each["old"]: datetime.fromisoformat(each["at"]) for each in rotations}
    at_kills: dict[str, set[str]] = {}
    for kill in kills:
        for user, stored in kill.remaining.items():
            if stored.grant and stored.grant.claimed and _spent_by(kill, spent.get(stored.grant.refresh)):
                at_kills.setdefault(user, set()).add(stored.grant.refresh)
    under_way = sum(bool(each.grant and each.grant.claimed) for kill in kills for each in kill.remaining.values())
    lost_now = {user for user, stored in left.items() if stored.grant is None or stored.grant.refresh in spent}
    lost = lost_now | reconnected.keys()
    unexcused = lost_now | (reconnected.keys() - at_kills.keys())
    report.figure("rotations answered", len(rotations))
    report.figure("grants seen claimed at a kill", under_way)
    report.figure("grants lost between answer and storing", len(lost))
    report.check("grants lost otherwise", len(unexcused), holds=not unexcused, expected="0")


def _spent_by(kill: Kill, at: datetime | None) -> bool:
    return at is not None and at <= kill.at + ANSWER_DELAY


def truth(simulated: Process, person: SimulatedUser, end: datetime) -> list[ServedReading]:
    last = end - timedelta(seconds=1)  # the simulator's windows include their end
    asked = {"user": person.login, "start": _parse_time(LONG_AGO), "end": _parse_time(last), "shown": "true"}
    answer = web.get(f"{simulated.url}/admin/truth", params=asked, timeout=120).raise_for_status()
    return [each.served for each in msgspec.json.decode(answer.content, type=list[TrueReading])]


def _served(service: Process, person: SimulatedUser, end: datetime) -> list[ServedReading]:
    answer = web.get(
        f"{service.url}/api/bg/{person.user}",
        params={"from": LONG_AGO.isoformat(), "to": end.isoformat(), "view": "full"},
        headers={"accept": "application/x-ndjson"},
        timeout=120,
    ).raise_for_status()
    return msgspec.json.Decoder(ServedReading).decode_lines(answer.content)


def _parse_time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")
