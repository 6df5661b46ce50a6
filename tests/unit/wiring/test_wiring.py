"""Settings reach the parts that use them: a service as a process, each setting with a unique value."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bg_ingest.adapters.sqlite.file import ItemFile
from tests.fakes.issuer import FakeIssuer, key
from tests.harness.cli import RunningCommand, Serve
from tests.harness.web import web
from tests.harness.webhook_sender import SECRET, envelope, raw, signed

OURS, SENDERS = key("ours"), key("senders")
KEYS = {"/ours/keys": OURS, "/senders/keys": SENDERS}
SCOPE = "push:it"
BODY = envelope("nobody", [])


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the service lives now


class Published(BaseHTTPRequestHandler):
    """Keys of two issuers, found only where the settings say."""

    def do_GET(self) -> None:
        found = KEYS.get(self.path)
        self.send_response(200 if found else 404)
        self.end_headers()
        if found:
            self.wfile.write(json.dumps({"keys": [found.as_dict(private=False)]}).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def issuers() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Published) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def status(running: RunningCommand, method: str, path: str, token: str | None, **more: Any) -> int:
    headers = more.pop("headers", []) + ([(b"Authorization", f"Bearer {token}".encode())] if token else [])
    return web.request(method, f"{running.url}{path}", headers=headers, **more).status_code


def test_settings_of_tokens_limits_and_the_trail_reach_what_they_are_for(
    serve: Serve, issuers: str, tmp_path: Path
) -> None:
    ours, senders = f"{issuers}/ours", f"{issuers}/senders"
    running = serve(
        "run",
        JWT_ISSUER=ours,
        JWT_AUDIENCE="dashboards",
        JWT_JWKS_URL=f"{ours}/keys",
        WEBHOOK_JWT_ISSUER=senders,
        WEBHOOK_JWT_AUDIENCE="pushes",
        WEBHOOK_JWT_JWKS_URL=f"{senders}/keys",
        WEBHOOK_JWT_SCOPE=SCOPE,
        WEBHOOK_SIGNING_SECRETS=SECRET,
        DEXCOM_WEBHOOK_AUTH="bearer",
        AUDIT_DAYS="77",
        REQUESTS_PER_SECOND="1",
        WEBHOOKS_PER_SECOND="3",
    )
    running.until(lambda: running.answers("/health/ready"))
    issuer = FakeIssuer(now)

    def caller(**claims: Any) -> str:
        return issuer.token(OURS, **{"iss": ours, "aud": "dashboards", "scope": "connections:write", **claims})

    def connected(token: str) -> int:
        return status(running, "POST", "/api/users/ada/connections/dexcom", token)

    assert connected(caller()) == 201
    assert connected(caller(aud="pushes")) == 401
    assert connected(caller(iss=senders)) == 401
    assert connected(issuer.token(SENDERS, iss=senders, aud="pushes", scope="connections:write")) == 401

    def pushed(**claims: Any) -> int:
        token = issuer.token(SENDERS, **{"iss": senders, "aud": "pushes", "scope": SCOPE, **claims})
        return status(running, "POST", "/api/bg/ada/webhook", token, content=BODY)

    assert pushed(aud="dashboards") == pushed(scope="webhooks:write") == pushed(iss=ours) == 401
    assert status(running, "POST", "/api/bg/ada/webhook", caller(scope=SCOPE), content=BODY) == 401
    by_signature = raw(signed(BODY, "msg_1", now()))
    assert status(running, "POST", "/api/bg/ada/webhook", None, content=BODY, headers=by_signature) == 401
    pushes = [pushed() for _ in range(30)]
    assert pushes[:6] == [404] * 6, "accepted and of an unknown user: as many at once as in two seconds"
    assert set(pushes) == {404, 429}

    evas = caller(sub="eva", scope="connections:read")
    asked = [status(running, "GET", "/api/users/eva/connections", evas) for _ in range(9)]
    assert asked[:5] == [404] * 5, "as many at once as five seconds have"
    assert 429 in asked

    assert running.stop() == 0
    kept = trail(tmp_path / ".bg-ingest/bg-ingest.sqlite")
    assert kept
    for record in kept:
        lasts = datetime.fromtimestamp(record["expires_at"], UTC) - now()
        assert timedelta(days=76) < lasts < timedelta(days=78)


def trail(file: Path) -> list[dict[str, Any]]:
    """Return the audit records: of changes, and of refusals."""
    with closing(ItemFile(str(file), lambda: now().timestamp())) as items:
        return [item for (pk, _), item in items.scan(0, 1, ("", ""), 1000) if pk.startswith("audit#")]
