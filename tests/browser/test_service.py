"""View of the service: figures as the API has them, reasons of late users, refusals, refresh, keyboard."""

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import SIZES, Served

DEXCOM = "/api/users/{}/connections/dexcom"
HOSTILE = "<img src=x onerror=alert(1)>"


def open_service(page: Page) -> None:
    page.goto("/#/service")
    expect(page.get_by_text("read again every 10 seconds")).to_be_visible()


def fact(page: Page, term: str) -> Locator:
    return page.locator(".service-facts div").filter(has=page.get_by_text(term, exact=True)).locator("dd").first


def part(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def test_figures_of_the_replica_equal_those_of_the_api(page: Page, demo: Served) -> None:
    open_service(page)
    status = demo.get("/api/workers").json()
    expect(fact(page, "Replica")).to_have_text(status["owner"])
    expect(fact(page, "State")).to_have_text("running, ready")
    expect(fact(page, "Shards")).to_have_text(f"{status['shards']['owned']} owned, 0 loading")
    expect(fact(page, "Actors")).to_have_text(f"{len(status['actors'])} of {len(status['actors'])} running")
    expect(fact(page, "Unreadable records since the start")).to_have_text("0")
    expect(part(page, "All replicas").locator("tbody tr")).to_have_count(len(status["owners"]))
    expect(part(page, "Call budgets").locator("tbody tr")).to_have_count(len(status["budgets"]))


def test_late_users_come_with_the_reason_of_their_timeline(page: Page, demo: Served) -> None:
    open_service(page)
    listed = demo.get("/api/users", params={"view": "full"}).json()["users"]
    # Other tests leave users of the shared service disconnected; the view lists connections in use.
    users = [user for user in listed if demo.get(DEXCOM.format(user["user_id"])).json()["state"] == "active"]
    users.sort(key=lambda user: user["newest_reading_at"])
    rows = part(page, "Users by the age of their newest reading").locator("tbody tr")
    assert rows.locator("th").all_inner_texts() == [user["user_id"] for user in users]
    for index, user in enumerate(users):
        timeline = demo.get(DEXCOM.format(user["user_id"]) + "/timeline").json()
        expect(rows.nth(index)).to_contain_text(timeline["next"]["because"])


def test_faults_are_shown_as_text(page: Page) -> None:
    workers: dict[str, Any] = {
        "owner": HOSTILE, "state": "running", "unready": ["shards"], "degraded": ["broker:queue_refused"],
        "shards": {"owned": 1, "loading": 2}, "connections": {"polled": 0, "polls_running": 0, "next_polls": []},
        "owners": [{"id": HOSTILE, "shards": 1, "leaving": True}], "budgets": [],
        "relay": {"backlog_shards": 3, "failures": 4}, "actors": [{"name": "relay", "running": False, "crashes": 5}],
    }  # fmt: skip
    quarantined = 'bg_ingest_quarantined_records_total{provider="dexcom",reason="bad_value"} 7.0\n'
    page.route("**/api/workers", lambda route: route.fulfill(json=workers))
    page.route("**/metrics", lambda route: route.fulfill(body=quarantined, content_type="text/plain"))
    open_service(page)
    expect(fact(page, "Replica")).to_have_text(HOSTILE)
    expect(fact(page, "State")).to_have_text("running, not ready: shards")
    expect(fact(page, "Broker")).to_have_text("broker:queue_refused")
    expect(part(page, "Actors that stopped or crashed")).to_contain_text("stopped")
    expect(part(page, "Unreadable records").locator("tbody")).to_have_text("bad valuedexcom7")
    assert page.locator("main img").count() == 0


def test_a_refusal_is_a_sentence_and_the_other_parts_stay(page: Page) -> None:
    problem = {"type": "insufficient-scope", "status": 403, "detail": "…"}
    page.route("**/api/workers", lambda route: route.fulfill(status=403, json=problem))
    page.route("**/metrics", lambda route: route.fulfill(status=401, json=problem))
    open_service(page)
    expect(page.get_by_text("it needs the scope admin")).to_be_visible()
    expect(page.get_by_text("The metrics of this service are on another port")).to_be_visible()
    expect(page.get_by_role("link", name="ada")).to_be_visible()


def test_it_is_read_again_every_ten_seconds_and_focus_stays(clocked_page: Page) -> None:
    page = clocked_page
    page.clock.install()
    open_service(page)
    link = page.get_by_role("link", name="eva")
    link.focus()
    with page.expect_response("**/api/workers"):
        page.clock.fast_forward(10_000)
    page.wait_for_load_state("networkidle")
    expect(link).to_be_focused()


def test_a_hidden_page_reads_nothing(clocked_page: Page) -> None:
    page = clocked_page
    page.clock.install()
    open_service(page)
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.clock.fast_forward(60_000)
    page.evaluate("new Promise((resolve) => requestAnimationFrame(resolve))")
    assert addresses == []


def test_it_is_accessible_and_fits_the_screen(page: Page, assert_accessible: Callable[[Page], None]) -> None:
    open_service(page)
    assert_accessible(page)
    for size in SIZES.values():
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
