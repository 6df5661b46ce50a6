"""Failures and recoveries in the log of the service."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.long.chaos.report import Report

RECOVERIES = {
    "poll_failed": "poll_recovered",
    "relay_stopped": "relay_recovered",
    "actor_crashed": "actor_recovered",
    "events_refused": "events_accepted",
}
"""Action of the recovery by action of the failure."""

FAILURES = {recovery: failure for failure, recovery in RECOVERIES.items()}


class LogLine(NamedTuple):
    """Line of the log, reduced; ``subject`` is the connection or the actor."""

    action: str
    subject: str
    level: str


class Transitions(NamedTuple):
    """Failures without a recovery, and lines that repeat the state of their subject."""

    unrecovered: set[tuple[str, str]]
    repeated: list[LogLine]


def read_log(file: Path) -> list[LogLine]:
    """Return the lines of failures and recoveries, and all others from warnings up."""
    found = []
    for text in file.read_text().splitlines():
        if not text.startswith("{"):
            continue
        fields = msgspec.json.decode(text, type=dict[str, object])
        subject = str(fields.get("connection") or fields.get("actor") or "")
        line = LogLine(str(fields.get("action")), subject, str(fields.get("level")))
        if line.action in RECOVERIES or line.action in FAILURES or line.level in {"warning", "error", "critical"}:
            found.append(line)
    return found


def follow(lines: Iterable[LogLine]) -> Transitions:
    """Return the transitions of all subjects.

    ``shards_lost`` ends all failures of polls, because a process that drops its shards also drops the state of their
    polls.
    """
    unrecovered: set[tuple[str, str]] = set()
    repeated = []
    for line in lines:
        failure = FAILURES.get(line.action, line.action), line.subject
        if line.action == "shards_lost":
            unrecovered = {(action, subject) for action, subject in unrecovered if action != "poll_failed"}
        elif line.action in RECOVERIES:
            if failure in unrecovered:
                repeated.append(line)
            unrecovered.add(failure)
        elif line.action in FAILURES:
            if failure not in unrecovered:
                repeated.append(line)
            unrecovered.discard(failure)
    return Transitions(unrecovered, repeated)


def check_transitions(report: Report, lines: Sequence[LogLine]) -> None:
    """Check that failure and recovery alternate in the log of each subject, and that all have recovered at the end."""
    unrecovered, repeated = follow(lines)
    counts = Counter(line.action for line in lines)
    for failure, recovery in RECOVERIES.items():
        wrong = [each for each in unrecovered if each[0] == failure]
        wrong += [(line.action, line.subject) for line in repeated if line.action in (failure, recovery)]
        shown = {action: counts[action] for action in (failure, recovery)}
        report.check(
            f"{failure}, {recovery}", shown, holds=not wrong, expected=f"by turns, recovered at the end: {wrong}"
        )
    others = {action: count for action, count in counts.items() if action not in RECOVERIES and action not in FAILURES}
    report.figure("other warnings and errors", others)
