"""View of a person: values equal the API's, live updates, keyboard, gaps, statistics, as of a date, downloads."""

import csv
import json
import re
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import SIZES, Served, rounded


def open_person(page: Page, user: str, query: str = "") -> None:
    page.goto(f"/#/{user}{query}")
    expect(page.locator(".now-value")).to_have_text(re.compile(r"^(\d+(\.\d)?|LOW|HIGH)$"))
    expect(page.locator(".weeks")).to_have_attribute("aria-busy", "false")


def show_table(page: Page) -> Locator:
    """Show the table of the chart by its key, and return its rows."""
    page.locator(".line-chart .chart-plot").focus()
    page.keyboard.press("t")
    return page.locator(".line-chart tbody tr")


def days_ago(days: int) -> str:
    today = datetime.fromisoformat(time.strftime("%Y-%m-%d", time.gmtime()))
    return (today - timedelta(days=days)).date().isoformat()


def local_clock(reading: dict[str, Any]) -> str:
    at = datetime.fromisoformat(reading["timestamp"]) + timedelta(seconds=reading["utc_offset_seconds"])
    return at.strftime("%H:%M")


def percent(share: float) -> str:
    return f"{rounded(share, '0.1')} %"


def value_text(reading: dict[str, Any]) -> str:
    return str(reading["glucose_mg_dl"] if reading["flag"] == "ok" else reading["flag"].upper())


def test_the_values_of_the_table_equal_those_of_the_range(page: Page, demo: Served) -> None:
    open_person(page, "eva")
    rows = [row.split("\t")[:2] for row in show_table(page).all_inner_texts()]
    shown = [(time, value) for time, value in rows if re.search(r"\w", value)]
    readings = demo.get("/api/bg/eva", params={"view": "full"}).json()
    expected = [(local_clock(reading), value_text(reading)) for reading in readings]
    assert len(shown) > 50
    assert shown[-50:] == expected[-50:]


def test_the_newest_value_has_arrow_age_and_state_in_words(page: Page, demo: Served) -> None:
    open_person(page, "ada")
    latest = demo.get("/api/bg/ada/latest", params={"view": "full"}).json()
    card = page.locator(".now")
    expect(card.locator(".now-value")).to_have_text(str(latest["glucose_mg_dl"]))
    expect(card.locator(".now-time")).to_have_text(local_clock(latest))
    expect(card.locator(".now-trend")).to_have_text(re.compile("steady|rising|falling"))
    expect(card.locator(".now-age")).to_have_text(re.compile(r"^(just now|(\d+ h )?\d+ min ago|\d+ h ago)$"))
    expect(card).to_have_attribute("data-state", latest["state"])  # not live while the sensor is out of reach
    words = {"live": "Live", "late": "Late", "gap": "No readings"}
    expect(card.get_by_text(words[latest["state"]], exact=True)).to_be_visible()
    expect(card.get_by_text("Live updates.")).to_be_visible()
    assert card.locator(".now-age").evaluate("(age) => age.closest('[aria-live], [role=status]')") is None


def event_of(number: int, reading: dict[str, Any]) -> str:
    data = {"user_id": "ada", "change": number, "provider": "dexcom", "origin": "live", "readings": [reading]}
    event = {"specversion": "1.0", "id": f"ada/{number}", "type": "bg.readings.recorded.v1", "data": data}
    return f"event: bg.readings.recorded.v1\nid: {number}\ndata: {json.dumps(event)}\n\n"


def test_a_reading_of_the_stream_joins_the_chart_without_a_shift_of_the_layout(page: Page, demo: Served) -> None:
    latest = demo.get("/api/bg/ada/latest", params={"view": "full"}).json()
    change = demo.get("/api/bg/ada/changes", params={"limit": 1}).json()["last"]
    new = {**latest, "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "glucose_mg_dl": 333}
    snapshot = {"user_id": "ada", "change": change, "latest": latest, "missed": None}
    bodies = {
        None: f"event: snapshot\nid: {change}\ndata: {json.dumps(snapshot)}\n\n",
        str(change): event_of(change + 1, new),
    }
    is_sent = False

    def answer(route: Route) -> None:
        cursor = route.request.headers.get("last-event-id")
        body = bodies.get(cursor, ":\n\n") if is_sent or cursor is None else ":\n\n"
        route.fulfill(content_type="text/event-stream", body=body)

    page.route("**/api/bg/ada/changes", answer)
    page.route("**/api/bg/ada/latest?*", lambda route: route.fulfill(json=new if is_sent else latest))
    open_person(page, "ada")
    page.evaluate(
        "new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shift = (window.shift ?? 0) + "
        "(entry.hadRecentInput ? 0 : entry.value); })).observe({type: 'layout-shift'})"
    )
    rows = show_table(page)
    expect(rows).not_to_have_count(0)
    page.wait_for_timeout(600)  # a shift after that is not one by input
    page.evaluate("window.shift = 0")
    is_sent = True
    expect(page.locator(".now-value")).to_have_text("333")
    expect(rows.filter(has_text="333")).to_have_count(1)
    assert page.evaluate("window.shift") < 0.01


def test_a_chart_is_one_stop_whose_cursor_is_spoken(page: Page, demo: Served) -> None:
    open_person(page, "eva")
    newest = demo.get("/api/bg/eva", params={"view": "full"}).json()[-1]
    plot = page.locator(".line-chart .chart-plot")
    spoken = page.locator(".line-chart [aria-live=polite]")
    page.locator(".hours input:checked").focus()
    page.keyboard.press("Tab")
    expect(plot).to_be_focused()
    page.keyboard.press("End")
    expect(spoken).to_have_text(re.compile(f"^{local_clock(newest)}, {value_text(newest)} mg/dL, "))
    newer = spoken.inner_text()
    page.keyboard.press("ArrowLeft")
    expect(spoken).not_to_have_text(newer)
    page.keyboard.press("t")
    expect(page.locator(".line-chart table")).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator(".line-chart table")).to_be_hidden()
    page.keyboard.press("Tab")
    expect(page.locator(".agp-chart .chart-plot")).to_be_focused()


def test_every_control_is_reached_by_tab_and_hours_are_chosen_by_arrows(page: Page) -> None:
    open_person(page, "ada", f"?as_of={days_ago(3)}")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"as-of", "as-of-known", "Back to now", "CSV", "Parquet"} <= reached
    page.locator(".hours input:checked").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("12 h")).to_be_checked()
    expect(page).to_have_url(re.compile("hours=12"))


def test_a_gap_is_drawn_with_its_cause_and_a_flag_as_such(page: Page, demo: Served) -> None:
    latest = demo.get("/api/bg/ada/latest").json()["timestamp"]
    end = datetime.fromisoformat(latest)
    gap = {
        "provider": "dexcom",
        "from": (end - timedelta(hours=3)).isoformat(),
        "to": (end - timedelta(hours=1)).isoformat(),
        "cause": "sensor_warm_up",
        "healed_at": None,
    }
    page.route("**/api/bg/ada/gaps?*", lambda route: route.fulfill(json=[gap]))
    readings = demo.get("/api/bg/ada", params={"view": "full"}).json()
    readings[-1] |= {"glucose_mg_dl": 401, "flag": "high"}
    page.route("**/api/bg/ada?*", lambda route: route.fulfill(json=readings))
    open_person(page, "ada", "?hours=6")
    assert page.locator(".chart-gap").text_content() == "No readings: sensor warm-up"
    expect(page.locator(".chart-gap-label")).to_have_text("sensor warm-up")
    expect(page.locator(".chart-flag")).to_have_text("HIGH")
    expect(show_table(page).filter(has_text="no readings: sensor warm-up")).to_have_count(1)


def test_the_figures_of_14_days_equal_the_statistics(page: Page) -> None:
    answers: dict[str, Any] = {}
    page.on("response", lambda response: answers.update({response.url.split("?")[0].rsplit("/", 1)[-1]: response}))
    open_person(page, "eva")
    figures = answers["statistics"].json()
    for name, share in figures["time_percent"].items():
        if name != "in_tight_range":
            expect(page.locator(f".range-row-{name} .range-percent")).to_have_text(percent(share))
    texts = [percent(figures[name]) for name in ("gmi_percent", "cv_percent", "active_percent")]
    mean = f"{rounded(figures['mean_mg_dl'], '1')} mg/dL"
    assert page.locator(".figure strong").all_inner_texts() == [mean, *texts]
    days = answers["daily"].json()["days"]
    rows = page.locator(".daily-table tbody tr")
    expect(rows).to_have_count(len(days))
    expect(rows.first.locator("[data-name='In range']")).to_have_text(percent(days[-1]["time_percent"]["in_range"]))
    page.locator(".agp-chart .chart-plot").focus()
    page.keyboard.press("t")
    first = answers["profile"].json()["profile"][0]
    expected = [first["time"], *(str(first[name]) for name in ("p5", "p25", "p50", "p75", "p95"))]
    assert page.locator(".agp-chart tbody tr").first.inner_text().split("\t") == expected


def test_data_that_do_not_suffice_are_named_in_a_sentence(page: Page) -> None:
    def answer(route: Route) -> None:
        body = route.fetch().json()
        route.fulfill(json={**body, "sufficient": False, "active_percent": 41.2})

    page.route("**/api/bg/ada/statistics?*", answer)
    open_person(page, "ada")
    expect(page.locator(".ranges .notice")).to_contain_text("readings cover 41.2 % of the time, and 70 % are needed")


def test_a_past_date_shows_its_day_and_only_what_was_known(page: Page, demo: Served) -> None:
    open_person(page, "ada")
    date = days_ago(2)
    page.get_by_label("As of", exact=True).fill(date)
    expect(page.locator(".now")).to_have_attribute("data-state", "as_of")
    expect(page).to_have_url(re.compile(f"as_of={date}"))
    offset = timedelta(seconds=demo.get("/api/bg/ada/latest", params={"view": "full"}).json()["utc_offset_seconds"])
    end = datetime.fromisoformat(f"{date}T00:00:00Z") + timedelta(days=1) - offset
    readings = demo.get("/api/bg/ada", params={"view": "full", "to": end.isoformat()}).json()
    expect(page.locator(".now-value")).to_have_text(value_text(readings[-1]))
    page.get_by_label("only what was known then").check()
    expect(page.locator(".now")).to_contain_text("No reading of that day was known then.")
    page.get_by_role("button", name="Back to now").click()
    state = demo.get("/api/bg/ada/latest", params={"view": "full"}).json()["state"]
    expect(page.locator(".now")).to_have_attribute("data-state", state)


def test_the_shown_14_days_are_downloaded(page: Page) -> None:
    open_person(page, "ada")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(saved.value.path().read_text("utf-8").splitlines()))
    assert saved.value.suggested_filename.startswith("ada_20")
    assert page.locator(".figure .muted").first.inner_text().endswith(f"; {len(rows):,} readings")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Parquet").click()
    assert saved.value.path().read_bytes()[:4] == b"PAR1"


def test_the_view_has_no_violation_of_accessibility_and_fits_a_phone(
    page: Page, assert_accessible: Callable[[Page], None]
) -> None:
    open_person(page, "eva", "?hours=3")  # a short table: axe checks each cell
    show_table(page)
    assert_accessible(page)
    page.set_viewport_size(SIZES["phone"])
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]


def test_the_command_of_a_share_link_names_the_person_as_one_word(page: Page) -> None:
    open_person(page, "ada")
    page.locator("summary", has_text="Share").click()
    page.get_by_label("The link ends after").select_option("1 day")
    expect(page.get_by_label("Command", exact=True)).to_have_text("bg-ingest keys create --link --user 'ada' --days 1")


def test_an_unknown_user_is_named_as_such(page: Page) -> None:
    page.goto("/#/nobody")
    expect(page.get_by_text("There is no such user here")).to_be_visible()
