"""Answers to requests that `LocalAccess` refuses, and protection of mounted applications by `LocalAccess`."""

from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Send

from bg_ingest.api.problems import MEDIA_TYPE, ProblemError, build_problem
from bg_ingest.domain.local_access import LocalAccess, LocalRefusal, parse_request

_UNKNOWN_HOST = (
    "Without credentials, send one Host header with localhost, an IP address or a name in ALLOWED_HOSTS: add the name "
    "of your Host header there, or create a key."
)
_OTHER_MACHINE = (
    "Without credentials, only requests of the service's own machine are answered, not those of a proxy or tunnel: "
    "create a key, or set API_OPEN=true if every client that reaches the service may read and change everything."
)
_FOREIGN_ORIGIN = "Without credentials, pages of other origins are refused: create a key and send it."


def check_local(local_access: LocalAccess, scope: Any, *, navigable: bool = False) -> None:  # noqa: ANN401 - an ASGI scope
    """Raise the problem of a request that is not local. A link of any site may open a ``navigable`` route."""
    request = parse_request(scope["method"], scope["headers"], scope.get("client"))
    refusal = local_access.find_refusal(request, navigable=navigable)
    match refusal:
        case LocalRefusal.UNKNOWN_HOST:
            raise build_problem(421, "unknown-host", _UNKNOWN_HOST)
        case LocalRefusal.OTHER_MACHINE:
            raise build_problem(421, "unknown-host", _OTHER_MACHINE)
        case LocalRefusal.FOREIGN_ORIGIN:
            raise build_problem(403, "foreign-origin", _FOREIGN_ORIGIN)


class LocalOnly:
    """ASGI application that passes local requests to another one, without credentials, and refuses all others."""

    def __init__(self, app: ASGIApp, local_access: LocalAccess) -> None:
        self._app = app
        self._local_access = local_access

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - type of the server
        try:
            if scope["type"] == "http":
                check_local(self._local_access, scope, navigable=True)
        except ProblemError as refused:
            body = msgspec.json.encode(refused.problem)
            headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": refused.problem.status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
        else:
            await self._app(scope, receive, send)
