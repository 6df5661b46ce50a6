"""Local days of the daily strips: their midnights follow from the daily statistics."""

from itertools import pairwise

import pytest
from playwright.sync_api import Page

# Europe/Berlin around 25 October 2026, the day of 25 hours: UTC+2 before it, UTC+1 after it.
START, END = "2026-10-23T10:07:13Z", "2026-10-27T09:00:00Z"
DAYS = [
    {"date": "2026-10-23", "seconds": 42_767},
    {"date": "2026-10-24", "seconds": 86_400},
    {"date": "2026-10-25", "seconds": 90_000},
    {"date": "2026-10-26", "seconds": 86_400},
    {"date": "2026-10-27", "seconds": 36_000},
]
MIDNIGHTS = [
    f"2026-10-{day}T{hour}:00:00.000Z" for day, hour in ((22, 22), (23, 22), (24, 22), (25, 23), (26, 23), (27, 23))
]
SCRIPT = """async ([days, from, to]) => {
  const { dayBounds } = await import("/page/daily.js");
  const bounds = dayBounds(days, Date.parse(from), Date.parse(to), 0);
  return bounds.map(({ start, end }) => [start, end].map((ms) => new Date(ms).toISOString()));
}"""


def test_the_days_of_a_clock_change_begin_and_end_at_their_midnights(page: Page) -> None:
    page.goto("/")
    bounds = page.evaluate(SCRIPT, [DAYS, START, END])
    assert bounds == [[start, end] for start, end in pairwise(MIDNIGHTS)]


STRIPS = """async ([days, from, to]) => {
  const { dailyPanel } = await import("/page/daily.js");
  const panel = dailyPanel();
  const empty = { active_percent: 0, mean_mg_dl: null, time_percent: null };
  const series = { bin_seconds: 900, t: [], n: [], min: [], mean: [], max: [] };
  panel.update({ from, to, days: days.map((day) => ({ ...day, ...empty })) }, series, 0);
  return [...panel.element.querySelectorAll(".strip")].toReversed().map((strip) =>
    [...strip.querySelectorAll(".chart-grid")].map((line) => line.getAttribute("x1") / strip.viewBox.baseVal.width));
}"""


def test_the_hours_of_a_strip_are_those_of_the_clock_after_its_change(page: Page) -> None:
    page.goto("/")
    ordinary, longer = page.evaluate(STRIPS, [DAYS, START, END])[1:3]
    assert ordinary == pytest.approx([6 / 24, 12 / 24, 18 / 24])
    assert longer == pytest.approx([7 / 25, 13 / 25, 19 / 25])
