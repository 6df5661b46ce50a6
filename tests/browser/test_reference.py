"""Reference of the API: search, and requests that are sent from it."""

import re
from collections.abc import Callable
from datetime import timedelta

from playwright.sync_api import Locator, Page, expect

from bg_ingest.adapters.clock import SystemClock
from tests.browser.conftest import KEY, SIZES, Served, Tab


def open_form(page: Page, anchor: str) -> Locator:
    article = page.locator(f"#{anchor}")
    article.get_by_text("Try it").click()
    return article


def test_the_search_shows_the_routes_with_all_words(page: Page) -> None:
    page.goto("/schema/page")
    page.get_by_label("Search routes").fill("change poll settings")
    expect(page.get_by_role("status").first).to_have_text(re.compile(r"^1 of \d\d routes$"))
    expect(page.locator("article:visible h3")).to_have_count(1)
    expect(page.locator("#patch-api-users-user-id-connections-provider-worker")).to_be_visible()
    expect(page.locator("nav a:visible")).to_have_count(1)
    page.evaluate("location.hash = '#get-health-live'")
    expect(page.locator("#get-health-live")).to_be_visible()
    expect(page.get_by_label("Search routes")).to_have_value("")


def test_a_request_is_sent_as_the_form_states_and_its_answer_is_shown(page: Page, demo: Served) -> None:
    page.goto("/schema/page")
    article = open_form(page, "get-api-bg-user-id")
    expect(article.get_by_label("user_id path, required")).to_have_value("ada")
    first, last = (SystemClock().now().date() - timedelta(days=days) for days in (2, 1))
    article.get_by_label("from query").fill(str(first))
    article.get_by_label("to query", exact=True).fill(str(last))
    article.get_by_label("Form of the answer").select_option("text/csv")
    page.keyboard.press("Tab")
    path = f"/api/bg/ada?from={first}&to={last}"
    expect(article.locator(".curl")).to_have_text(f"curl -s -H 'Accept: text/csv' '{demo.url}{path}'")
    article.get_by_role("button", name="Send").press("Enter")
    expect(article.locator(".status")).to_contain_text("Status 200")
    answer = demo.get(path, headers={"Accept": "text/csv"}).text
    assert article.get_by_label("Answer", exact=True).inner_text().split() == answer.split()
    article.get_by_label("from query").fill("<img src=x onerror=alert(1)>")
    article.get_by_role("button", name="Send").click()
    expect(article.locator(".status")).to_contain_text("Status 400")
    expect(article.get_by_label("Answer", exact=True)).to_contain_text('"type": "invalid-time"')


def test_a_stream_is_shown_while_it_lasts(page: Page) -> None:
    page.goto("/schema/page")
    article = open_form(page, "post-api-changes")
    article.get_by_label("Form of the answer").select_option("text/event-stream")
    expect(article.get_by_label("Body")).to_have_value('{"after":{"ada":0,"ben":null}}')
    article.get_by_label("Body").fill('{"after":{"ada":null}}')
    article.get_by_role("button", name="Send").click()
    expect(article.get_by_label("Answer", exact=True)).to_contain_text("event: snapshot")
    article.get_by_role("button", name="Stop").click()
    expect(article.locator(".status")).to_contain_text("Stopped")


def test_a_request_sent_again_replaces_the_one_in_progress(page: Page) -> None:
    page.goto("/schema/page")
    article = open_form(page, "post-api-changes")
    article.get_by_label("Form of the answer").select_option("text/event-stream")
    article.get_by_label("Body").fill('{"after":{"ada":null}}')
    for _ in range(2):
        article.get_by_role("button", name="Send").click()
        expect(article.get_by_label("Answer", exact=True)).to_contain_text("event: snapshot")
        expect(article.get_by_role("button", name="Stop")).to_be_visible()
    article.get_by_role("button", name="Stop").click()
    expect(article.locator(".status")).to_contain_text("Stopped")


def test_a_deletion_is_confirmed_before_it_is_sent(page: Page) -> None:
    page.goto("/schema/page")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.route("**/api/users/*", lambda route: route.fulfill(json={"readings": 1}))
    article = open_form(page, "delete-api-users-user-id")
    send = article.get_by_role("button", name="Send")
    send.click()
    expect(page.get_by_role("dialog")).to_contain_text("DELETE /api/users/ada?")
    page.keyboard.press("Escape")
    expect(send).to_be_focused()
    assert sent == []
    send.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(article.get_by_label("Answer", exact=True)).to_contain_text('"readings": 1')
    assert sent == ["DELETE"]


def test_the_key_of_the_tab_is_sent_and_shown_nowhere(closed_page: Tab) -> None:
    page, _ = closed_page
    page.goto("/schema/page")
    article = open_form(page, "get-api-latest")
    article.get_by_role("button", name="Send").click()
    expect(article.get_by_label("Answer", exact=True)).to_contain_text('"type": "not-authenticated"')
    page.goto(f"/#key={KEY}")
    page.get_by_role("link", name="API").click()
    article = open_form(page, "get-api-latest")
    expect(article.locator(".curl")).to_contain_text("Bearer $BG_INGEST_KEY")
    article.get_by_role("button", name="Send").click()
    expect(article.locator(".status")).to_contain_text("Status 200")
    assert KEY not in page.content()
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_role("link", name="sign in on the start page")).to_be_visible()


def test_the_reference_is_accessible_and_fits_the_narrowest_screen(
    page: Page, assert_accessible: Callable[[Page], None]
) -> None:
    page.set_viewport_size(SIZES["phone"])
    page.goto("/schema/page")
    page.get_by_label("Search routes").fill("dataset")
    open_form(page, "post-api-dataset")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]
    assert_accessible(page)
