"""A connection over the API of a running service, and the notation of times in commands."""

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bg_ingest.commands.connection_target import ServiceTarget, parse_instant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.windows import Window
from bg_ingest.errors import IngestError

CONNECTION = ConnectionId(UserId("ada"), "acme")
START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
TIMES = {"from": START.isoformat(), "to": END.isoformat()}


class Service:
    """Answers each request with the same status and content, and records the requests."""

    def __init__(self, content: Any, status: int = 200) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self._content, self._status = content, status
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), base_url="http://localhost:5001")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, body))
        return httpx.Response(self._status, json=self._content)

    @property
    def target(self) -> ServiceTarget:
        return ServiceTarget(self.http, CONNECTION)


async def test_a_window_is_requested_and_its_rest_is_read() -> None:
    service = Service(TIMES)
    assert await service.target.backfill(START, None) == Window(START, END)
    path = "/api/users/ada/connections/acme"
    assert service.requests == [("POST", f"{path}/backfill", {"from": START.isoformat()})]
    assert await Service({"backfill_left": TIMES}).target.remaining_backfill() == Window(START, END)
    assert await Service({"backfill_left": None}).target.remaining_backfill() is None


async def test_a_comparison_is_read_and_may_be_empty() -> None:
    service = Service(TIMES | {"compared": 9, "unreadable": 1, "differences": []})
    verification = await service.target.verify(Window(START, END), values=True)
    assert verification is not None
    assert (verification.compared, verification.unreadable, [*verification.differences]) == (9, 1, [])
    assert service.requests[0][2] == TIMES | {"values": True}
    assert await Service({"from": None}).target.verify(Window(START, END), values=False) is None


async def test_a_refusal_is_quoted_and_a_missing_service_is_named() -> None:
    with pytest.raises(IngestError, match="The running service refuses: create a key first"):
        await Service({"detail": "create a key first"}, 401).target.remaining_backfill()

    def fail(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    http = httpx.AsyncClient(transport=httpx.MockTransport(fail), base_url="http://localhost:5001")
    with pytest.raises(IngestError, match="no service answers at http://localhost:5001: set its HOST and PORT"):
        await ServiceTarget(http, CONNECTION).remaining_backfill()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        (None, None),
        ("", None),
        ("2026-03-01", START),
        ("2026-03-01T01:00:00+01:00", START),
        ("2026-03-01T00:00:00Z", START),
    ],
)
def test_a_time_is_a_date_in_utc_or_has_an_offset(text: str | None, instant: datetime | None) -> None:
    assert parse_instant("--from", text) == instant
