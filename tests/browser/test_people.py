"""List of people: values as the API has them, live changes without a shift, order, requests, keyboard."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import SIZES, Served

USERS = ("ada", "ben", "eva")
READING = {
    "timestamp": "2026-11-30T12:00:00Z", "measured_at": "2026-11-30T12:00:00Z", "glucose_mg_dl": 110, "flag": "ok",
    "trend": "flat", "device": "g7/iOS", "sensor": "a", "age_seconds": 60, "state": "live",
    "late_at": None, "gap_at": None,
}  # fmt: skip
LATER = "2026-11-30T12:05:00Z"
BOXES = """() => [...document.querySelectorAll(".panel, .panel *")]
    .filter((element) => !element.matches("span, path, circle, .requests"))
    .map((element) => JSON.stringify(element.getBoundingClientRect()))"""
"""Positions of everything but texts within a line, and the line of the chart."""


def open_people(page: Page, address: str = "/#/people") -> None:
    page.goto(address)
    expect(page.get_by_role("status").first).to_contain_text("Live:")


def panel_of(page: Page, user: str) -> Any:
    return page.locator(f'.panel[data-user="{user}"]')


def shown_users(page: Page) -> list[str]:
    return page.locator(".panel h2").all_inner_texts()


class Simulation:
    """Answers of the API about people, and the events of its stream."""

    def __init__(self, page: Page, readings: dict[str, dict[str, Any]]) -> None:
        self.events: list[dict[str, Any]] = []
        self.latest = {user: READING | {"user_id": user} | reading for user, reading in readings.items()}
        rows = [{"user_id": user, "change": 1} for user in readings]
        page.route("**/api/users?*", lambda route: route.fulfill(json={"users": rows, "after": "", "more": False}))
        page.route("**/api/latest?*", self._answer_latest)
        page.route("**/api/bg/**", lambda route: route.fulfill(json=[]))
        page.route("**/api/changes", self._answer_stream)

    def record(self, user: str, **values: Any) -> None:
        """Let the next stream send a newer reading; a stream ends at once, so that the next one follows soon."""
        self.latest[user] |= {"measured_at": LATER, "timestamp": LATER, "age_seconds": 30} | values
        data = {"user_id": user, "change": 2, "readings": [self.latest[user]]}
        self.events.append({"type": "bg.readings.recorded.v1", "id": f"{user}/2", "data": data})

    def _answer_latest(self, route: Route) -> None:
        asked = httpx.URL(route.request.url).params["users"].split(",")
        route.fulfill(json={"readings": [self.latest[user] for user in asked], "missing": []})

    def _answer_stream(self, route: Route) -> None:
        events, self.events = self.events, []
        parts = [f"event: {event['type']}\nid: {event['id']}\ndata: {json.dumps(event)}\n\n" for event in events]
        route.fulfill(content_type="text/event-stream", body="".join(parts) or ":\n\n")


def test_values_on_screen_equal_those_of_the_api_in_both_units(page: Page, demo: Served) -> None:
    open_people(page)
    rows = demo.get("/api/latest", params={"users": ",".join(USERS), "view": "full"}).json()["readings"]
    for unit, field in (("mg/dL", "glucose_mg_dl"), ("mmol/L", "glucose_mmol_l")):
        expect(page.locator("#unit")).to_have_text(unit)
        for row in rows:
            expected = row["flag"].upper() if row["flag"] != "ok" else str(row[field])
            expect(panel_of(page, row["user_id"]).locator(".panel-value")).to_have_text(expected)
            expect(panel_of(page, row["user_id"]).locator(".panel-unit")).to_have_text(unit)
            expect(panel_of(page, row["user_id"])).to_have_attribute("data-state", row["state"])
        page.locator("#unit").click()


def test_the_sparkline_has_the_readings_of_the_last_three_hours_in_words(page: Page, demo: Served) -> None:
    with page.expect_request(lambda request: "/api/bg/eva?from=" in request.url) as request:
        open_people(page)
    count = len(demo.get(request.value.url).json())
    label = re.compile(f"^Last 3 hours: {count} readings, " if count else "no readings")
    expect(panel_of(page, "eva").get_by_role("img")).to_have_attribute("aria-label", label)


def test_a_change_is_shown_live_without_moving_anything(page: Page) -> None:
    simulation = Simulation(page, {"ada": {}, "ben": {}, "eva": {}})
    page.goto("/#/people")
    expect(panel_of(page, "eva").locator(".panel-value")).to_have_text("110")
    before = page.evaluate(BOXES)
    simulation.record("eva", glucose_mg_dl=39, flag="low", trend="double_down")
    expect(panel_of(page, "eva").locator(".panel-value")).to_have_text("LOW")
    expect(panel_of(page, "eva")).to_contain_text("falling fast")
    expect(panel_of(page, "eva")).to_contain_text("very low, live")
    assert len(before) > 20
    assert page.evaluate(BOXES) == before


def test_problems_come_first_then_values_out_of_range(page: Page) -> None:
    states: dict[str, dict[str, Any]] = {
        "calm10": {}, "calm9": {}, "high": {"glucose_mg_dl": 260}, "low": {"glucose_mg_dl": 60},
        "late": {"state": "late"}, "lost": {"state": "gap"}, "refused": {"state": "reauthorization_required"},
    }  # fmt: skip
    Simulation(page, states)
    page.goto("/#/people")
    expect(page.locator(".panel")).to_have_count(7)
    assert shown_users(page) == ["refused", "lost", "late", "low", "high", "calm9", "calm10"]
    expect(panel_of(page, "refused")).to_contain_text("must connect again")
    expect(panel_of(page, "lost")).to_contain_text("no readings for over an hour")


def test_the_order_is_reviewed_each_minute_and_not_while_the_list_is_in_use(clocked_page: Page) -> None:
    page = clocked_page
    page.clock.install()
    simulation = Simulation(page, {"ada": {}, "eva": {}})
    page.goto("/#/people")
    expect(page.locator(".panel")).to_have_count(2)
    simulation.record("eva", glucose_mg_dl=48)
    expect(panel_of(page, "eva").locator(".panel-value")).to_have_text("48")
    assert shown_users(page) == ["ada", "eva"]
    panel_of(page, "ada").locator("summary").focus()
    with page.expect_response("**/api/users?*"):
        page.clock.fast_forward(60_000)
    assert shown_users(page) == ["ada", "eva"]
    page.locator("#unit").focus()
    page.clock.fast_forward(60_000)
    expect(page.locator(".panel h2").first).to_have_text("eva")


def test_each_panel_shows_its_requests_and_copies_them(page: Page, demo: Served) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_people(page)
    summary = panel_of(page, "ada").locator("summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(panel_of(page, "ada").locator("code")).to_have_count(3)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(panel_of(page, "ada").get_by_text("Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"curl -s '{demo.url}/api/latest?users=ada&view=full'"
    value = demo.get(copied.split("'")[1]).json()["readings"][0]["glucose_mg_dl"]
    expect(panel_of(page, "ada").locator(".panel-value")).to_have_text(str(value))


def test_only_the_named_users_are_shown(page: Page) -> None:
    open_people(page)
    page.get_by_label("Only these users").fill("eva, nobody")
    page.keyboard.press("Enter")
    expect(page.locator(".panel")).to_have_count(2)
    expect(panel_of(page, "nobody")).to_contain_text("unknown, or not permitted")
    expect(panel_of(page, "eva").locator(".panel-value")).not_to_have_text("—")


def test_a_credential_for_single_users_is_asked_for_names(page: Page) -> None:
    problem = {"type": "insufficient-scope", "status": 403, "detail": "…"}
    page.route("**/api/users?*", lambda route: route.fulfill(status=403, json=problem))
    page.goto("/#/people")
    expect(page.get_by_text("This key is not valid for all users")).to_be_visible()
    page.get_by_label("Only these users").fill("ada")
    page.keyboard.press("Enter")
    expect(panel_of(page, "ada")).to_be_visible()


def test_the_list_is_accessible_and_fits_the_narrowest_screen(
    page: Page, assert_accessible: Callable[[Page], None]
) -> None:
    page.set_viewport_size(SIZES["phone"])
    open_people(page)
    panel_of(page, "ada").locator("summary").click()
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]


def test_every_control_is_reached_by_tab(page: Page) -> None:
    open_people(page)
    panel_of(page, "ada").locator("summary").click()
    page.locator("#skip").focus()
    controls = "a[href], button, input, summary"
    wanted = page.evaluate(f"[...document.querySelectorAll('{controls}')].filter((e) => e.offsetParent).length")
    reached = set()
    for _ in range(wanted + 1):
        reached.add(page.evaluate("document.activeElement.outerHTML"))
        page.keyboard.press("Tab")
    assert len(reached) >= wanted
