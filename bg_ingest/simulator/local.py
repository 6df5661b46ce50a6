"""The simulator as a server of its own. It answers only this machine, because its admin routes need no credentials."""

from typing import Any

from litestar.types import ASGIApp, Receive, Send

from bg_ingest.domain.local_access import LocalAccess, parse_request

_LOCAL_ACCESS = LocalAccess((), proxied=False)


class LocalSimulator:
    """ASGI application that refuses requests of other machines and of pages of other origins with 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401 - type of the server
        if scope["type"] == "http":
            request = parse_request(scope["method"], scope["headers"], scope.get("client"))
            if _LOCAL_ACCESS.find_refusal(request, navigable=True) is not None:
                await send({"type": "http.response.start", "status": 403, "headers": []})
                text = b"The simulator answers only requests to localhost from programs and pages of this machine.\n"
                await send({"type": "http.response.body", "body": text, "more_body": False})
                return
        await self._app(scope, receive, send)
