"""Shell of the page: first view, sign-in, the credential's hygiene, hostile texts, keyboard."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import KEY, SIZES, Served, Tab
from tests.harness.cli import run_bg_ingest

HOSTILE = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "javascript:alert(1)", "a'b\"c&amp;"]

USERS = re.compile(r"/api/users\?")


def sign_in(page: Page, credential: str) -> None:
    page.get_by_label("API key, token or share link").fill(credential)
    page.get_by_role("button", name="Sign in").click()


def test_the_open_service_asks_for_nothing_and_shows_the_users(page: Page) -> None:
    page.goto("/")
    for user in ("ada", "ben", "eva"):
        expect(page.get_by_text(user, exact=True).first).to_be_visible()
    expect(page.get_by_label("API key, token or share link")).to_have_count(0)
    expect(page.get_by_role("button", name="Forget key")).to_have_count(0)
    expect(page.get_by_text("Not a medical device. No alarms.")).to_be_visible()


def test_the_first_view_fits_the_narrowest_screen(page: Page) -> None:
    page.set_viewport_size(SIZES["phone"])
    page.goto("/")
    expect(page.get_by_text("ada", exact=True).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]


def test_the_sign_in_form_has_no_violation_of_accessibility(
    closed_page: Tab, assert_accessible: Callable[[Page], None]
) -> None:
    page, _ = closed_page
    page.goto("/")
    expect(page.get_by_label("API key, token or share link")).to_be_focused()
    assert_accessible(page)


def test_the_unit_is_changed_by_keyboard_and_kept(page: Page) -> None:
    page.goto("/")
    button = page.locator("#unit")
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_text("mmol/L")
    expect(button).to_be_focused()
    page.reload()
    expect(button).to_have_text("mmol/L")


def test_every_control_of_the_shell_is_reached_by_tab(page: Page) -> None:
    page.goto("/")
    expect(page.locator("#unit")).to_be_visible()
    wanted = page.evaluate("[...document.querySelectorAll('a[href], button')].filter((e) => e.offsetParent).length")
    reached = set()
    for _ in range(wanted):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.outerHTML"))
    assert len(reached) == wanted


def test_a_key_signs_in_and_is_forgotten(closed_page: Tab) -> None:
    page, _ = closed_page
    page.goto("/")
    sign_in(page, "bgi_wrong_" + "x" * 43)
    expect(page.get_by_role("alert")).to_contain_text("unknown, has expired or was revoked")
    sign_in(page, KEY)
    expect(page.get_by_text("ada", exact=True).first).to_be_visible()
    page.reload()
    expect(page.get_by_text("ada", exact=True).first).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("API key, token or share link")).to_be_visible()
    assert page.evaluate("Object.values({...sessionStorage, ...localStorage}).filter((v) => v.includes('bgi_'))") == []


def test_a_text_that_no_header_can_carry_is_refused_before_a_request(closed_page: Tab) -> None:
    page, _ = closed_page
    page.goto("/")
    sign_in(page, "ключ 🔑")
    expect(page.get_by_role("alert")).to_contain_text("no key")


@pytest.mark.parametrize("opened", ["address", "pasted", "while the page is open"])
def test_a_share_link_opens_its_user_and_leaves_the_address(closed_page: Tab, opened: str) -> None:
    page, _ = closed_page
    if opened != "address":
        page.goto("/")
        expect(page.get_by_label("API key, token or share link")).to_be_visible()
    if opened == "pasted":
        sign_in(page, f"{page.url}#key={KEY}&user=ada")
    else:
        page.goto(f"/#key={KEY}&user=ada")
    expect(page.get_by_role("button", name="Forget key")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/#/ada$"))
    entries = page.evaluate("navigation.entries().map(({ url }) => url ?? '')")
    assert not any(KEY in address for address in entries)


def test_a_share_link_of_the_running_service_opens_its_user_and_nothing_else(closed_page: Tab, closed: Served) -> None:
    page, _ = closed_page
    arguments = ("keys", "create", "--link", "--user", "ada", "--days", "14")
    made = run_bg_ingest(closed.log.parent, *arguments, PORT=str(closed.server.port), API_BOOTSTRAP_KEY=KEY)
    page.goto(made.stdout.strip())
    expect(page).to_have_url(re.compile(r"/#/ada$"))
    expect(page.locator(".now-value")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator("summary", has_text="Share")).to_have_count(0)
    page.goto("/#/ben")
    expect(page.get_by_text("There is no such user here")).to_be_visible()
    page.goto("/#/people")
    expect(page.get_by_text("This key is not valid for all users")).to_be_visible()
    page.goto("/#/service")
    expect(page.get_by_text("it needs the scope admin and must be valid for all users")).to_be_visible()
    expect(page.get_by_text("it needs readings:read and connections:read for all users")).to_be_visible()


def test_the_key_is_in_no_address_referer_lasting_storage_or_log_line(closed_page: Tab, closed: Served) -> None:
    page, watch = closed_page
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - Playwright takes no built-in method
    page.goto(f"/#key={KEY}")
    expect(page.get_by_text("ada", exact=True).first).to_be_visible()
    sent = [request.all_headers() for request in requests if "/api/" in request.url]
    assert any(headers.get("authorization") == f"Bearer {KEY}" for headers in sent)
    assert not any(KEY in address.partition("#")[0] for address in watch.addresses)
    assert not any("referer" in request.all_headers() for request in requests)
    assert page.context.cookies() == []
    assert KEY not in page.evaluate("JSON.stringify({...localStorage}) + document.documentElement.outerHTML")
    assert KEY not in closed.log.read_text("utf-8", "replace")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_user_of_the_address_is_shown_as_text(page: Page, text: str) -> None:
    page.goto("/")
    page.evaluate("(text) => { location.hash = '#/' + encodeURIComponent(text); }", text)
    expect(page).to_have_title(re.compile(re.escape(text)))
    assert page.locator("main img, main script").count() == 0


def test_hostile_users_of_the_answer_are_shown_as_text(page: Page) -> None:
    users = [{"user_id": text} for text in HOSTILE]
    page.route(USERS, lambda route: route.fulfill(json={"users": users, "after": "", "more": False}))
    page.route(re.compile(r"/api/latest\?"), lambda route: route.fulfill(json={"readings": [], "missing": HOSTILE}))
    page.goto("/")
    for text in HOSTILE:
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    assert page.locator("main img, main script, main a[href^='javascript:']").count() == 0


def test_a_service_that_does_not_answer_is_reported_and_tried_again(page: Page) -> None:
    page.route(USERS, lambda route: route.fulfill(status=503, json={"detail": "The store does not answer."}))
    page.goto("/")
    expect(page.get_by_role("alert")).to_have_text("The store does not answer.")
    page.unroute(USERS)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("ada", exact=True).first).to_be_visible()
