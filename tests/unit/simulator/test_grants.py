"""Grants: single-use codes and refresh tokens, expiry, revocation, unaltered tokens."""

import httpx
import pytest

from tests.harness.simulator_visitor import SetClock
from tests.unit.simulator.conftest import Visit


def refused(answer: httpx.Response, status: int, error: str) -> bool:
    return (answer.status_code, answer.json()) == (status, {"error": error})


async def test_a_code_is_valid_once(visit: Visit) -> None:
    visitor = visit()
    code = await visitor.code("SandboxUser1")
    assert (await visitor.exchange(code)).status_code == 200
    assert refused(await visitor.exchange(code), 400, "invalid_grant")


async def test_a_code_is_valid_for_a_minute_and_for_its_own_address(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    code = await visitor.code("SandboxUser1")
    clock.pass_time(seconds=60)
    assert refused(await visitor.exchange(code), 400, "invalid_grant")
    code = await visitor.code("SandboxUser1")
    assert refused(await visitor.exchange(code, "https://app.test/callback/"), 400, "invalid_grant")


async def test_a_refresh_token_is_valid_once_and_its_reuse_keeps_the_newer_one_valid(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect()
    first = visitor.refresh_token
    assert (await visitor.rotate()).status_code == 200
    assert visitor.refresh_token != first
    reused = await visitor.token(grant_type="refresh_token", refresh_token=first)
    assert refused(reused, 400, "invalid_grant")
    assert (await visitor.rotate()).status_code == 200


async def test_an_access_token_is_valid_for_two_hours_in_spite_of_rotations(visit: Visit, clock: SetClock) -> None:
    visitor = visit()
    await visitor.connect()
    old = visitor.access
    await visitor.rotate()
    visitor.access = old
    clock.pass_time(seconds=7199)
    assert (await visitor.get("dataRange")).status_code == 200
    clock.pass_time(seconds=1)
    expired = await visitor.get("dataRange")
    assert expired.status_code == 401
    assert "invalid_token" in expired.headers["www-authenticate"]


async def test_a_revoked_grant_is_invalid_until_the_next_login(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    assert (await visitor.http.post("/admin/users/SandboxUser1/revoke")).status_code == 204
    assert (await visitor.get("dataRange")).status_code == 401
    assert refused(await visitor.rotate(), 400, "invalid_grant")
    await visitor.connect("SandboxUser1")
    assert (await visitor.get("dataRange")).status_code == 200


async def test_a_revocation_affects_one_user_only(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser2")
    visitor.simulator.revoke("SandboxUser1")
    assert (await visitor.get("dataRange")).status_code == 200
    assert (await visitor.http.post("/admin/users/Nobody/revoke")).status_code == 404


@pytest.mark.parametrize("forge", ["", "nonsense", "refresh"])
async def test_only_an_access_token_opens_the_data(visit: Visit, forge: str) -> None:
    visitor = visit()
    await visitor.connect()
    visitor.access = visitor.refresh_token if forge == "refresh" else forge
    assert (await visitor.get("dataRange")).status_code == 401


async def test_a_token_altered_in_one_character_opens_nothing(visit: Visit) -> None:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    await visitor.connect("SandboxUser2")
    visitor.access = visitor.access.replace("access.2.", "access.1.")
    assert (await visitor.get("dataRange")).status_code == 401
