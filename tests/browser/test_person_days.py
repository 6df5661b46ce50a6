"""Local days of the daily strips: their midnights follow from the daily statistics."""

from itertools import pairwise

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
