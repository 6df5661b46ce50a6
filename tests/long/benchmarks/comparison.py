"""Requests to each side of the comparison, and the table of their figures."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from rich.table import Table

from tests.long.benchmarks.history import FORTNIGHT, OF_A_DAY, OF_AN_HOUR, QUARTER, START, Person
from tests.long.benchmarks.load import LoadResult
from tests.long.benchmarks.steady_sensor import DAY

CONCURRENCY, MANY = 8, 64
"""Concurrent requests, usually and in a crowd."""

SERVICE, COLD, BASELINE, FLOOR = "service", "nothing kept", "baseline", "floor"
SIDES = (SERVICE, COLD, BASELINE, FLOOR)
"""The requests repeat, so the service reuses the text of unchanged segments. The second side keeps none."""


class Case(msgspec.Struct, frozen=True):
    """One kind of request, repeated so often that each side works for a second or more."""

    name: str
    paths: tuple[str, ...]
    counts: dict[str, int]
    """Number of requests of each side that is measured."""
    person: Person
    """User of one request; all users cost the same."""
    at_once: int = CONCURRENCY


def _range(person: Person) -> str:
    return f"/api/bg/{person.user}?from={START:%Y-%m-%d}&to={START + person.days * DAY:%Y-%m-%d}"


def _ranges(users: Sequence[Person], name: str, service: int, baseline: int, floor: int) -> Case:
    counts = {SERVICE: service, COLD: service // 2, BASELINE: baseline, FLOOR: floor}
    return Case(name, tuple(map(_range, users)), counts, users[0])


def _latest(name: str, service: int, at_once: int) -> Case:
    counts = {SERVICE: service, BASELINE: 1200, FLOOR: 2 * service}
    paths = tuple(f"/api/bg/{person.user}/latest" for person in OF_AN_HOUR)
    return Case(name, paths, counts, OF_AN_HOUR[0], at_once)


LATEST = _latest("latest", 2400, CONCURRENCY)
LATEST_OF_MANY = _latest(f"latest, {MANY} at once", 4800, MANY)
DAILY = _ranges(OF_A_DAY, "range of 1 day", 1200, 200, 3000)
DAILY_ALONE = Case("range of 1 day, one client", DAILY.paths, {SERVICE: 1000, COLD: 1000}, DAILY.person, at_once=1)
QUARTERLY = _ranges([QUARTER], "range of 90 days", 120, 8, 200)
CASES = (
    LATEST,
    LATEST_OF_MANY,
    DAILY_ALONE,
    DAILY,
    _ranges([FORTNIGHT], "range of 14 days", 400, 24, 1000),
    QUARTERLY,
)

Measurements: TypeAlias = Mapping[tuple[str, str], LoadResult]
"""By case and side."""


Units: TypeAlias = Mapping[str, Mapping[str, float]]
"""Read units by case and side."""


def ratio(found: Measurements, case: Case, side: str = SERVICE) -> float:
    """Return the number of requests a side answers per request of the baseline, in equal processor time."""
    return found[case.name, side].per_cpu_second / found[case.name, BASELINE].per_cpu_second


def to_figures(found: Measurements, units: Units) -> dict[str, Any]:
    """Return the figures in machine-readable form."""
    return {
        case.name: {side: found[case.name, side] for side in case.counts}
        | {"times_baseline": {side: ratio(found, case, side) for side in _compared(case)}}
        | {"read_units": units[case.name]}
        for case in CASES
    }


def _compared(case: Case) -> list[str]:
    return [side for side in (SERVICE, COLD) if side in case.counts and BASELINE in case.counts]


def to_table(found: Measurements, units: Units) -> Table:
    rows = Table(
        "asked", "of", "CPU ms", "per CPU s", "per s", "p50 ms", "p99 ms", "of baseline", "units", title="Reading"
    )
    for case in CASES:
        for side in case.counts:
            each = found[case.name, side]
            figures = (each.cpu_ms, each.per_cpu_second, each.per_second, each.p50_ms, each.p99_ms)
            times = f"{ratio(found, case, side):.1f}" if side in _compared(case) else ""
            read = f"{units[case.name][side]:g}" if side in units[case.name] else ""
            rows.add_row(case.name if side == SERVICE else "", side, *map(_three_digits, figures), times, read)
    return rows


def _three_digits(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
