"""Connect: a new user by the simulator's login page, the controls of a connection, refusals in words."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import SIZES, Served

CONNECTIONS = "/api/users/{}/connections/dexcom"


def go_to(page: Page, target: Locator) -> None:
    """Move the focus to a control by Tab alone."""
    expect(target).to_be_visible()
    for _ in range(40):
        if target.evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"{target} is not reached by Tab")


def press(page: Page, name: str, key: str = "Enter") -> None:
    go_to(page, page.get_by_role("button", name=name))
    page.keyboard.press(key)


def state_of(demo: Served, user: str) -> str:
    return str(demo.get(CONNECTIONS.format(user)).json()["state"])


def test_a_new_user_connects_manages_and_disconnects_by_keyboard_alone(page: Page, demo: Served) -> None:
    page.goto("/#/connect")
    go_to(page, page.get_by_label("User id"))
    page.keyboard.type("zoe")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Not connected", exact=True)).to_be_visible()
    press(page, "Connect Dexcom")
    press(page, "SandboxUser4")
    go_to(page, page.get_by_role("link", name="Go to the connections of this service"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Connected", exact=True).first).to_be_visible()
    expect(page.get_by_label("User id")).to_have_value("zoe")
    expect(page.get_by_role("link", name="See the readings of zoe")).to_be_visible()

    press(page, "Poll now Dexcom", "Space")
    expect(page.get_by_role("status")).to_contain_text("A poll was requested")
    press(page, "Pause Dexcom")
    expect(page.get_by_text("Paused", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Dexcom")).to_be_focused()
    assert state_of(demo, "zoe") == "paused"
    press(page, "Resume Dexcom")
    expect(page.get_by_role("button", name="Poll now Dexcom")).to_be_visible()
    assert state_of(demo, "zoe") == "active"

    press(page, "Disconnect… Dexcom")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Disconnect… Dexcom")).to_be_focused()
    assert state_of(demo, "zoe") == "active"
    page.keyboard.press("Enter")
    go_to(page, page.get_by_role("dialog").get_by_role("button", name="Disconnect"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("Dexcom is disconnected.")
    expect(page.get_by_role("button", name="Connect again Dexcom")).to_be_visible()
    assert state_of(demo, "zoe") == "disconnected"


def test_the_shown_state_is_that_of_the_api(page: Page, demo: Served) -> None:
    connection = demo.get(CONNECTIONS.format("ben")).json()
    page.goto("/#/connect?user=ben")
    card = page.get_by_role("region", name="Dexcom")
    times = card.locator("time")
    expect(times).to_have_count(3)
    newest, due, connected = (times.nth(place).get_attribute("datetime") for place in range(3))
    assert connected == connection["connected_at"]
    latest = demo.get(CONNECTIONS.format("ben")).json()
    assert newest in (connection["newest_reading_at"], latest["newest_reading_at"])
    assert due in (connection["next_poll_at"], latest["next_poll_at"])


def test_a_declined_login_changes_nothing_and_leads_back(page: Page, demo: Served) -> None:
    page.goto("/#/connect?user=max")
    page.get_by_label("Region of the account").select_option("Outside the United States")
    page.get_by_role("button", name="Connect Dexcom").click()
    page.get_by_role("button", name="Decline").click()
    expect(page.get_by_role("heading", name="Not connected")).to_be_visible()
    page.get_by_role("link", name="Go to the connections of this service").click()
    expect(page.get_by_text("Login not finished")).to_be_visible()
    assert (state_of(demo, "max"), demo.get(CONNECTIONS.format("max")).json()["region"]) == ("connecting", "ou")


def test_a_refusal_is_shown_in_the_words_of_the_problem(page: Page, demo: Served) -> None:
    page.goto("/#/connect?user=eva")
    poll = page.get_by_role("button", name="Poll now Dexcom")
    expect(poll).to_be_visible()
    demo.patch(CONNECTIONS.format("eva") + "/worker", json={"paused": True})
    try:
        detail = demo.post(CONNECTIONS.format("eva") + "/poll").json()["detail"]
        poll.click()
        expect(page.get_by_role("alert")).to_have_text(detail)
        expect(page.get_by_text("Paused", exact=True)).to_be_visible()
    finally:
        demo.patch(CONNECTIONS.format("eva") + "/worker", json={"paused": False})


@pytest.mark.parametrize("user", ["..", "<img src=x onerror=alert(1)>", "a/b"])
def test_an_impossible_user_id_is_refused_without_a_request(page: Page, user: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/#/connect")
    page.get_by_label("User id").fill(user)
    page.get_by_role("button", name="Show connections").click()
    expect(page.get_by_role("alert")).to_contain_text("A user id has 1 to 128 letters")
    expect(page.get_by_label("User id")).to_have_value(user)
    assert not [url for url in asked if "/api/" in url]


def test_the_view_has_no_violation_of_accessibility_and_fits_the_narrowest_screen(
    page: Page, assert_accessible: Callable[[Page], None]
) -> None:
    page.set_viewport_size(SIZES["phone"])
    for user, control in (("new|user:" + "x" * 60, "Connect Dexcom"), ("ada", "Disconnect… Dexcom")):
        page.goto(f"/#/connect?user={user}")
        expect(page.get_by_role("button", name=control)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]
    assert_accessible(page)
    page.get_by_role("button", name="Disconnect… Dexcom").click()
    assert_accessible(page)


def test_the_simulated_login_has_no_violation_of_accessibility(
    page: Page, assert_accessible: Callable[[Page], None]
) -> None:
    page.set_viewport_size(SIZES["phone"])
    page.goto("/#/connect?user=kim")
    page.get_by_role("button", name="Connect Dexcom").click()
    expect(page).to_have_url(re.compile("/simulator/"))
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"]["width"]
    assert_accessible(page)
