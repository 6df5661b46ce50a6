"""Hostile texts of the API in each view: shown as text, without a policy report or an element of their own."""

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;"
NAMES = {
    "user_id", "device", "sensor", "provider", "region", "cause", "trend", "state", "owner", "id", "name", "because",
    "last_outcome", "why", "outcome",
}  # fmt: skip
"""Fields that hold texts of users, devices, keys, providers and replicas."""

VIEWS = {
    "/#/ada": ".weeks[aria-busy=false]",
    "/#/people?users=ada": ".panel-value",
    "/#/connect?user=ada": ".connection",
    "/#/service": ".service-facts",
}
"""Addresses, each with an element that its data bring."""


def poison(value: Any) -> Any:
    """Replace the texts of an answer by a hostile one; the id of the shown user stays, so that it is found."""
    if isinstance(value, list):
        return [poison(element) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        name: HOSTILE if name in NAMES and isinstance(content, str) and content != "ada" else poison(content)
        for name, content in value.items()
    }


@pytest.mark.parametrize("address", VIEWS)
def test_texts_of_the_api_are_no_markup(page: Page, address: str) -> None:
    def answer(route: Route) -> None:
        if route.request.url.endswith("/changes"):
            return route.fulfill(status=503, json={"type": "store-unavailable", "status": 503, "detail": HOSTILE})
        response = route.fetch()
        return route.fulfill(response=response, json=poison(response.json()))

    page.route("**/api/**", answer)
    page.goto(address)
    expect(page.locator(VIEWS[address]).first).to_be_attached()
    assert page.locator("main img, main script, main a[href^='javascript:']").count() == 0
    if address != "/#/ada":  # it shows no name of a device or a provider
        expect(page.get_by_text("<img src=x").first).to_be_attached()
