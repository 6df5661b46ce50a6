"""List of users through the API."""

from typing import Any

import pytest

from tests.harness.api import ApiHarness, reading


async def get(api: ApiHarness, status: int = 200, **query: str) -> dict[str, Any]:
    answer = await api.http.get("/api/users", params=query)
    assert answer.status_code == status, answer.text
    fields: dict[str, Any] = answer.json()
    return fields


async def test_without_users_it_is_empty(api: ApiHarness) -> None:
    assert await get(api) == {"users": [], "after": "0.", "more": False}


async def test_it_has_ids_and_on_request_a_summary(api: ApiHarness) -> None:
    await api.add_readings(reading(-1))
    basic = await get(api)
    assert basic["users"] == [{"user_id": "ada"}]
    assert basic["after"].endswith(".ada")
    (row,) = (await get(api, view="full"))["users"]
    assert row == {"user_id": "ada", "change": 1, "newest_reading_at": "2026-03-02T11:55:00Z", "state": "live"}
    assert (await get(api, after=basic["after"]))["users"] == []


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ({"after": "ada"}, "invalid-after"),
        ({"after": "256.ada"}, "invalid-after"),
        ({"after": "1.a b"}, "invalid-after"),
        ({"after": "-1.ada"}, "invalid-after"),
        ({"limit": "0"}, "invalid-limit"),
        ({"limit": "1001"}, "invalid-limit"),
        ({"view": "wide"}, "invalid-view"),
    ],
)
async def test_a_parameter_outside_its_limits_is_refused(api: ApiHarness, query: dict[str, str], slug: str) -> None:
    assert (await get(api, 400, **query))["type"] == slug
