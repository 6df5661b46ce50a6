"""Faults of a call, as seen by the client, and the login page."""

import re
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.simulator.faults import Slow
from tests.harness.simulator_visitor import SetClock, Visitor, answer_of
from tests.unit.simulator.conftest import Visit


@pytest.fixture
async def visitor(visit: Visit) -> Visitor:
    visitor = visit()
    await visitor.connect("SandboxUser1")
    return visitor


@pytest.mark.slow
async def test_throttled_with_and_without_retry_after(visitor: Visitor, clock: SetClock) -> None:
    await visitor.add_fault(kind="throttled", count=1)
    plain = await visitor.get("dataRange")
    assert (plain.status_code, "retry-after" in plain.headers) == (429, False)
    await visitor.add_fault(kind="throttled", count=1, retry_after=7)
    assert (await visitor.get("dataRange")).headers["retry-after"] == "7"
    await visitor.add_fault(kind="throttled", count=1, retry_after=90, as_date=True)
    dated = (await visitor.get("dataRange")).headers["retry-after"]
    assert parsedate_to_datetime(dated) == clock.at + timedelta(seconds=90)
    assert (await visitor.get("dataRange")).status_code == 200


@pytest.mark.parametrize(("fault", "status"), [({"kind": "failed"}, 503), ({"kind": "failed", "status": 502}, 502)])
async def test_a_failed_call_returns_an_error_page(visitor: Visitor, fault: dict[str, Any], status: int) -> None:
    await visitor.add_fault(**fault)
    answer = await visitor.get("dataRange")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")


async def test_a_web_page_can_replace_readings(visitor: Visitor) -> None:
    await visitor.add_fault(kind="html")
    answer = await visitor.get("dataRange")
    assert answer.status_code == 200
    assert answer.text.startswith("<!doctype html>")


async def test_a_slow_call_is_executed_late(visitor: Visitor) -> None:
    visitor.simulator.add_fault(Slow(seconds=45))
    began = anyio.current_time()
    assert (await visitor.get("dataRange")).status_code == 200
    assert anyio.current_time() - began == pytest.approx(45)


@pytest.mark.parametrize("kind", ["reset", "reply_lost"])
async def test_a_broken_connection_is_a_transport_error_to_the_client(visitor: Visitor, kind: str) -> None:
    await visitor.add_fault(kind=kind, count=1)
    with pytest.raises(httpx.TransportError):
        await visitor.get("dataRange")
    assert (await visitor.get("dataRange")).status_code == 200


async def test_a_truncated_body_is_no_json(visitor: Visitor) -> None:
    whole = (await visitor.get("dataRange")).content
    await visitor.add_fault(kind="truncated")
    cut = (await visitor.get("dataRange")).content
    assert cut == whole[: len(whole) // 2]


@pytest.mark.parametrize("kind", ["reset", "failed", "throttled", "html"])
async def test_a_token_call_that_was_not_executed_spends_nothing(visitor: Visitor, kind: str) -> None:
    await visitor.add_fault(kind=kind, endpoint="token", count=1)
    try:
        await visitor.token(grant_type="refresh_token", refresh_token=visitor.refresh_token)
    except httpx.TransportError:
        assert kind == "reset"
    assert (await visitor.rotate()).status_code == 200


@pytest.mark.parametrize("kind", ["reply_lost", "truncated"])
async def test_a_lost_token_reply_spends_the_token_and_is_recorded(visitor: Visitor, kind: str) -> None:
    await visitor.add_fault(kind=kind, endpoint="token", count=1)
    try:
        answer = await visitor.token(grant_type="refresh_token", refresh_token=visitor.refresh_token)
        assert kind == "truncated"
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(answer.content)
    except httpx.TransportError:
        assert kind == "reply_lost"
    assert [rotated.answered for rotated in visitor.simulator.grants.rotations] == [False]
    assert (await visitor.rotate()).json() == {"error": "invalid_grant"}


async def test_the_page_offers_every_user_and_runs_no_script(visit: Visit) -> None:
    page = await visit().login()
    assert page.status_code == 200
    offered = re.findall(r'name="user" value="(\w+)"', page.text)
    assert offered == [f"SandboxUser{number}" for number in range(1, 8)]
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' https://app.test;" in policy, "browsers hold the redirect to this as well"


async def test_only_the_first_users_are_listed_and_all_can_log_in(visit: Visit) -> None:
    visitor = visit(users=500)
    page = await visitor.login()
    assert page.text.count('name="user"') == 50
    assert "450 more" in page.text
    assert "code" in answer_of(await visitor.login(user="SandboxUser499"))
