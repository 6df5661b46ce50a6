"""Execution of a call: counting, faults, work, complete or broken reply; also the pages for login and refusal."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime
from html import escape
from typing import TypeAlias

import anyio
import httpx
import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from bg_ingest.simulator import faults
from bg_ingest.simulator.readings import Wearer
from bg_ingest.simulator.simulator import Simulator

_HTML = b"<!doctype html><title>We'll be right back</title><h1>We'll be right back</h1>"

SimulatorRequest: TypeAlias = Request[None, None, State]
SimulatorDependency: TypeAlias = NamedDependency[Simulator]


class Reply(msgspec.Struct, frozen=True):
    """Answer of a call. The connection breaks after `sent` bytes of the body; None: it does not break."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    media_type: str = "application/json"
    sent: int | None = None


class ConnectionLost(httpx.ReadError):
    """Ends a reply in the middle.

    A web server closes the connection after this error. The in-process transport of httpx raises it unchanged, so that
    the client gets the same error as on a real connection.
    """


class ReplyResponse(ASGIResponse):
    """Sends a reply. The headers announce the complete body, even if the connection is to break."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(
            body=reply.body, status_code=reply.status, headers=dict(reply.headers), media_type=reply.media_type
        )
        self._sent = reply.sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sent is None:
            return await super().__call__(scope, receive, send)
        await self.start_response(send)
        await send({"type": "http.response.body", "body": self.body[: self._sent], "more_body": True})
        raise ConnectionLost("The simulator was asked to break this connection.")


Work = Callable[[Sequence[faults.Fault]], Reply]
"""Executes a call, given its faults."""


async def carry_out(simulator: Simulator, endpoint: faults.Endpoint, user: str | None, work: Work) -> Reply:
    """Answer one call of the API: the limit first, then faults, then the work."""
    if not simulator.limit.acquire(simulator.now()):
        return _count_and_cut(simulator, endpoint, _throttle())
    call_faults = simulator.faults.select(endpoint, user)
    for fault in call_faults:
        if isinstance(fault, faults.Slow):
            await anyio.sleep(fault.seconds)
    for fault in call_faults:
        if isinstance(fault, faults.AnswerFault):
            return _count_and_cut(simulator, endpoint, build_fault_reply(simulator, fault), call_faults)
    return _count_and_cut(simulator, endpoint, work(call_faults), call_faults)


def build_fault_reply(simulator: Simulator, fault: faults.AnswerFault) -> Reply:
    match fault:
        case faults.Throttled(retry_after=None):
            return _throttle()
        case faults.Throttled(retry_after=int(seconds), as_date=as_date):
            until = simulator.now() + timedelta(seconds=seconds)
            return _throttle(format_datetime(until, usegmt=True) if as_date else str(seconds))
        case faults.Failed(status=403):
            return Reply(403, fault_body("This app is not approved", "Forbidden"))
        case faults.Failed(status=status) | faults.Html(status=status):
            return Reply(status, _HTML, media_type="text/html")
        case _:  # Reset: nothing of the body is sent
            return Reply(200, b"{}")


def _throttle(retry_after: str | None = None) -> Reply:
    headers = {"retry-after": retry_after} if retry_after else {}
    return Reply(429, fault_body("Rate limit exceeded", "RateLimitExceeded"), headers)


def is_answered(call_faults: Sequence[faults.Fault]) -> bool:
    """Return True if the client receives the complete reply."""
    return not any(isinstance(fault, faults.DeliveryFault) for fault in call_faults)


def fault_body(text: str, code: str) -> bytes:
    """Return an error of the data endpoints. Dexcom documents no shape; this is the known shape of its gateway."""
    return msgspec.json.encode({"fault": {"faultstring": text, "detail": {"errorcode": code}}})


def _count_and_cut(
    simulator: Simulator, endpoint: faults.Endpoint, reply: Reply, call_faults: Sequence[faults.Fault] = ()
) -> Reply:
    simulator.calls[endpoint, reply.status] += 1
    half = len(reply.body) // 2
    if any(isinstance(fault, faults.Reset) for fault in call_faults):
        return msgspec.structs.replace(reply, sent=0)
    if any(isinstance(fault, faults.ReplyLost) for fault in call_faults):
        return msgspec.structs.replace(reply, sent=half)
    if not is_answered(call_faults):
        return msgspec.structs.replace(reply, body=reply.body[:half])
    return reply


_MAX_USERS_SHOWN = 50
_STYLE = """
:root { color-scheme: light dark; --fg: #16202a; --muted: #52606d; --bg: #f6f8f9; --surface: #fff; --line: #c9d2d9;
  --accent: #0b6150 }
@media (prefers-color-scheme: dark) { :root { --fg: #e8eef2; --muted: #a3b1bc; --bg: #10161b; --surface: #182129;
  --line: #364450; --accent: #6fd3b5 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--bg); color: var(--fg);
  font: 100%/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif }
main { width: min(30rem, 100vw - 2rem); margin: 1rem; padding: clamp(1rem, 5vw, 2rem); background: var(--surface);
  border: 1px solid var(--line); border-radius: .5rem }
h1 { margin: 0 0 .5rem; font-size: 1.375rem; line-height: 1.25 }
p { margin: 0 0 1.5rem; color: var(--muted) }
form { display: grid; gap: .5rem }
button { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; min-height: 2.5rem;
  padding: .5rem .75rem; font: inherit; color: inherit; background: none; border: 1px solid var(--muted);
  border-radius: .5rem; cursor: pointer; text-align: start; overflow-wrap: anywhere }
button:hover { border-color: var(--accent) }
button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
button span { color: var(--muted) }
.decline { justify-content: center; margin-top: 1rem }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def login_page(wearers: Sequence[Wearer], origin: str) -> ASGIResponse:
    """Return the page with the users. The form is sent to the address of the page, so that any path prefix works."""
    buttons = "\n".join(
        f'<button name="user" value="{escape(wearer.name)}"><b>{escape(wearer.name)}</b>'
        f"<span>{escape(wearer.title)}</span></button>"
        for wearer in wearers[:_MAX_USERS_SHOWN]
    )
    hidden = len(wearers) - _MAX_USERS_SHOWN
    more = f"<p>… and {hidden} more: add &amp;user=NAME to the address.</p>" if hidden > 0 else ""
    return _page(
        200,
        "Simulated Dexcom",
        f"""<p>An application asks to read glucose readings. All users are simulated: choose one.</p>
<form method="post">
{buttons}
{more}
<button class="decline" name="decline" value="yes">Decline</button>
</form>""",
        # Browsers apply this rule to the redirect after a form too, so it includes the origin of the client.
        form_action=f"'self' {origin}",
    )


def refusal_page(reason: str) -> ASGIResponse:
    return _page(400, "This login cannot continue", f"<p>{escape(reason)}</p>", form_action="'none'")


def _page(status: int, title: str, body: str, form_action: str) -> ASGIResponse:
    html = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}"
    headers = {
        "content-security-policy": f"{policy}; base-uri 'none'; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }
    return ReplyResponse(Reply(status, html.encode(), headers, "text/html"))
