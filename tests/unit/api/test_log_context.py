"""Context of log lines: connection, shard and epoch of a poll; id and route of a request."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from litestar import Litestar, get

from bg_ingest.api.dependencies import User
from bg_ingest.api.log_context import RequestContext, add_request
from bg_ingest.observability.logs import configure_logging
from tests.unit.observability.test_logs import restored

__all__ = ["restored"]


Lines = Callable[[], list[dict[str, Any]]]


def capture_log_lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Log as production does; return a function that reads the new lines."""
    configure_logging("INFO", "json", [add_request])
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def test_what_a_request_logs_names_its_id_and_route_but_not_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    lines = capture_log_lines(capsys)

    @get("/{user_id:str}", sync_to_thread=False)
    def handler(user_id: User) -> None:
        structlog.get_logger().warning("noticed", action="noticed")

    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/a-user",
        "raw_path": b"/a-user",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"x-request-id", b"req-1")],
        "state": {},
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None: ...

    app: Any = RequestContext(Litestar([handler], logging_config=None, openapi_config=None))
    await app(scope, receive, send)
    (noticed,) = lines()
    assert {"request_id": "req-1", "route": "/{user_id}", "action": "noticed"}.items() <= noticed.items()
    assert "a-user" not in str(noticed)
    structlog.get_logger().warning("later", action="later")
    assert "request_id" not in lines()[0]
