"""Values on screen equal those of the API at 50 random states of a person, read from the accessible tables."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import Page

from bg_ingest.domain.readings import MG_DL_PER_MMOL_L
from tests.browser.conftest import Served, rounded

STATES = 50
UNITS = {"mg/dL": "glucose_mg_dl", "mmol/L": "glucose_mmol_l"}
OFFSETS = (-12_600, 0, 3_600, 20_700)
CAUSES = {"sensor_warm_up": "sensor warm-up", "throttled": "the provider limited the calls", "new_cause": "new cause"}
TRENDS = {"flat": "steady", "single_up": "rising", "double_down": "falling fast"}
RANGES = ((54, "very low"), (70, "low"), (181, "in range"), (251, "high"), (999, "very high"))
NOW = datetime(2026, 11, 30, 12, 0, 20, tzinfo=UTC)
EMPTY_SERIES = {"bin_seconds": 900, "t": [], "n": [], "min": [], "mean": [], "max": []}
"""Series are shown as pictures alone, beside the table of the days."""
BINS = [f"{minute // 60:02}:{minute % 60:02}" for minute in range(0, 1440, 15)]
NONE = "\N{EN DASH}"
NAMES = ("very_high", "high", "in_range", "low", "very_low")

SHOW = """async ([user, hours, unit, answers]) => {
  window.fetch = async (path) => {
    const name = path.match(/api\\/bg\\/[^/?]+([^?]*)/)[1];
    if (name === "/changes") return new Response(answers.stream, { headers: { "Content-Type": "text/event-stream" } });
    return new Response(JSON.stringify(answers[name] ?? {}), { status: name in answers ? 200 : 404 });
  };
  const { setUnit } = await import("/page/format.js");
  setUnit(unit);
  location.hash = `#/${user}?hours=${hours}`;
  const isShown = () => document.querySelector("h1")?.textContent === user
    && document.querySelector(".weeks")?.getAttribute("aria-busy") === "false";
  while (!isShown()) await new Promise((resolve) => requestAnimationFrame(resolve));
  for (const button of document.querySelectorAll(".chart-table-button")) button.click();
  const texts = (selector, root = document) => [...root.querySelectorAll(selector)].map((node) => node.textContent);
  const table = (selector) => [...document.querySelectorAll(selector)].map((row) => texts("th, td", row));
  return {
    now: texts(".now-value, .now-range, .now-trend, .now-time"),
    day: table(".line-chart tbody tr"),
    ranges: texts(".range-percent"),
    figures: texts(".figure strong"),
    profile: table(".agp-chart tbody tr"),
    days: table(".daily-table tbody tr"),
  };
}"""
"""Show a user by these answers of the API, and return the content of the accessible tables by rows."""


class State:
    """Random answers of the API about one user."""

    def __init__(self, number: int, base: dict[str, Any]) -> None:
        self.chance = random.Random(f"state {number}")
        self.user = f"user-{number}"
        self.unit = self.chance.choice([*UNITS])
        self.hours = self.chance.choice([3, 6, 12, 24])
        self.offset = self.chance.choice(OFFSETS)
        minutes = sorted(self.chance.sample(range(2, 1438), self.chance.choice([0, 1, 5, 60])), reverse=True)
        self.readings = [self._reading(NOW - timedelta(minutes=minute)) for minute in minutes]
        self.gaps = [self._gap(hour) for hour in (20, 11, 5, 1) if self.chance.random() < 0.4]
        self.statistics = base["statistics"] | self._figures() | {"days": 14.0}
        self.days = [day | self._figures() for day in base["statistics/daily"]["days"]]
        self.profile = {time: self._percentiles() for time in BINS if self.chance.random() < 0.9}
        self.answers: dict[str, Any] = {
            "": self.readings, "/gaps": self.gaps, "/statistics": self.statistics, "/series": EMPTY_SERIES,
            "/statistics/daily": base["statistics/daily"] | {"days": self.days},
            "/profile": base["profile"] | {"profile": [{"time": time} | row for time, row in self.profile.items()]},
        }  # fmt: skip
        if self.readings:
            age = (NOW - datetime.fromisoformat(self.readings[-1]["timestamp"])).total_seconds()
            self.answers["/latest"] = self.readings[-1] | {
                "age_seconds": int(age), "state": "live", "late_at": None, "gap_at": None,
            }  # fmt: skip
        snapshot = {"user_id": self.user, "change": 1, "latest": self.answers.get("/latest"), "missed": None}
        self.answers["stream"] = f"event: snapshot\nid: 1\ndata: {json.dumps(snapshot)}\n\n"

    def _reading(self, at: datetime) -> dict[str, Any]:
        value = self.chance.choice([39, 401, *range(40, 401, 7), 54, 69, 70, 180, 181, 250, 251])
        return {
            "timestamp": instant(at), "measured_at": instant(at), "glucose_mg_dl": value,
            "glucose_mmol_l": mmol_l(value), "flag": {39: "low", 401: "high"}.get(value, "ok"),
            "trend": self.chance.choice([*TRENDS, None]), "utc_offset_seconds": self.offset, "provider": "dexcom",
            "device": "g7/iOS", "sensor": "a",
        }  # fmt: skip

    def _gap(self, hours: int) -> dict[str, Any]:
        start = NOW - timedelta(hours=hours, minutes=7, seconds=20)
        end = None if hours == 1 else instant(start + timedelta(minutes=40))
        cause = self.chance.choice([*CAUSES])
        healed = self.chance.choice([None, instant(NOW)])
        return {"provider": "dexcom", "from": instant(start), "to": end, "cause": cause, "healed_at": healed}

    def _figures(self) -> dict[str, Any]:
        mean = round(self.chance.uniform(50, 300), 2)
        known = {
            "mean_mg_dl": mean, "mean_mmol_l": round(mean / MG_DL_PER_MMOL_L, 2), "active_percent": self._share(),
            "gmi_percent": self._share(), "gmi_mmol_mol": self._share(), "cv_percent": self._share(),
            "time_percent": {name: self._share() for name in NAMES}, "readings": 9, "sufficient": True,
        }  # fmt: skip
        unknown = dict.fromkeys(known) | {"active_percent": 0, "readings": 0, "sufficient": False}
        return known if self.chance.random() < 0.9 else unknown

    def _share(self) -> float:
        return self.chance.choice([0.0, 0.25, 100.0, round(self.chance.uniform(0, 100), 2)])

    def _percentiles(self) -> dict[str, int]:
        values = sorted(self.chance.randint(39, 401) for _ in range(5))
        return dict(zip(("p5", "p25", "p50", "p75", "p95"), values, strict=True))

    def expected(self) -> dict[str, Any]:
        start = instant(NOW - timedelta(hours=self.hours))
        shown = [reading for reading in self.readings if reading["timestamp"] >= start]
        rows = [(reading["timestamp"], self._row(reading)) for reading in shown]
        gaps = [gap for gap in self.gaps if not gap["healed_at"] and (gap["to"] or "~") > start]
        rows += [(middle(gap), self._gap_row(gap)) for gap in gaps]
        figures = self.statistics
        percents = figures["time_percent"] or {}
        mean = f"{self._mean(figures)} {self.unit}"
        return {
            "now": self._newest(),
            "day": [row for _, row in sorted(rows)],
            "ranges": [percent(percents.get(name)) for name in NAMES],
            "figures": [mean, *(percent(figures[name]) for name in ("gmi_percent", "cv_percent", "active_percent"))],
            "profile": [[time, *map(self._value, values.values())] for time, values in self.profile.items()],
            "days": [self._day(day) for day in reversed(self.days)],
        }

    def _newest(self) -> list[str]:
        if not self.readings:
            return [NONE, "", "", ""]
        newest = self.readings[-1]
        time, value, _ = self._row(newest)
        local, now = (
            datetime.fromisoformat(at) + timedelta(seconds=self.offset) for at in (newest["timestamp"], instant(NOW))
        )
        if local.date() != now.date():
            time = f"{day_name(local)}, {time}"
        return [value, words_of(newest["glucose_mg_dl"]), TRENDS.get(newest["trend"], ""), time]

    def _row(self, reading: dict[str, Any]) -> list[str]:
        value = reading["flag"].upper() if reading["flag"] != "ok" else str(reading[UNITS[self.unit]])
        words = [words_of(reading["glucose_mg_dl"]), TRENDS.get(reading["trend"], "")]
        return [self._clock(reading["timestamp"]), value, ", ".join(filter(None, words))]

    def _gap_row(self, gap: dict[str, Any]) -> list[str]:
        end = gap["to"] or instant(NOW)
        return [f"{self._clock(gap['from'])} to {self._clock(end)}", NONE, f"no readings: {CAUSES[gap['cause']]}"]

    def _clock(self, at: str) -> str:
        offset = self.offset if self.readings else 0
        return f"{datetime.fromisoformat(at) + timedelta(seconds=offset):%H:%M}"

    def _day(self, day: dict[str, Any]) -> list[str]:
        shares = day["time_percent"]
        groups = (("in_range",), ("very_low", "low"), ("high", "very_high"))
        sums = [percent(sum(shares[name] for name in names)) if shares else NONE for names in groups]
        date = day_name(datetime.fromisoformat(day["date"]))
        return [
            date,
            "",
            *sums,
            self._mean(day),
            f"{rounded(day['active_percent'], '1')} %",
        ]

    def _mean(self, figures: dict[str, Any]) -> str:
        name, digits = ("mean_mg_dl", "1") if self.unit == "mg/dL" else ("mean_mmol_l", "0.1")
        return NONE if figures[name] is None else rounded(figures[name], digits)

    def _value(self, mg_dl: int) -> str:
        return str(mg_dl if self.unit == "mg/dL" else mmol_l(mg_dl))


def day_name(at: datetime) -> str:
    return f"{at:%a} {at.day} {at:%b}"


def mmol_l(mg_dl: int) -> float:
    return round(mg_dl / MG_DL_PER_MMOL_L, 1)


def instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def middle(gap: dict[str, Any]) -> str:
    start, end = (datetime.fromisoformat(at) for at in (gap["from"], gap["to"] or instant(NOW)))
    return instant(start + (end - start) / 2)


def words_of(mg_dl: int) -> str:
    return next(words for bound, words in RANGES if mg_dl < bound)


def percent(value: float | None) -> str:
    return NONE if value is None else f"{rounded(value, '0.1')} %"


def test_values_on_screen_equal_those_of_the_api_at_random_states(clocked_page: Page, demo: Served) -> None:
    page = clocked_page
    names = ("statistics", "statistics/daily", "profile")
    base = {name: demo.get(f"/api/bg/eva/{name}").json() for name in names}
    states = [State(number, base) for number in range(STATES)]
    page.clock.set_fixed_time(NOW)
    page.goto("/#/connect")
    for state in states:
        shown = page.evaluate(SHOW, [state.user, state.hours, state.unit, state.answers])
        assert shown == state.expected(), state.user
    assert sum(len(state.expected()["day"]) for state in states) > 500
