"""Token endpoint: exchanges codes and refresh tokens for new pairs; each is valid for one exchange."""

import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import msgspec
from litestar import post
from litestar.response.base import ASGIResponse

from bg_ingest.simulator.faults import Fault
from bg_ingest.simulator.grants import TokenPair
from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.replies import Reply, SimulatorDependency, SimulatorRequest, carry_out, is_answered
from bg_ingest.simulator.simulator import Simulator

_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


@post(["/v3/oauth2/token", "/v2/oauth2/token"], status_code=200)
async def exchange(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Exchange by form fields, including the client credentials. HTTP Basic is refused, as by Dexcom."""
    body = (await request.body()).decode("utf-8", "replace")
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    form = {name: values[0] for name, values in parse_qs(body).items()} if is_form else {}

    def work(call_faults: Sequence[Fault]) -> Reply:
        return exchange_token(simulator, form, answered=is_answered(call_faults))

    return await carry_out(simulator, "token", _user(simulator, form), work)


def exchange_token(simulator: Simulator, form: Mapping[str, str], *, answered: bool) -> Reply:
    """Return the reply to a token call, RFC 6749 §5; `answered` is only recorded."""
    if not _is_client(form, simulator.options):
        return _error_reply(401, "invalid_client")
    match form.get("grant_type"):
        case "authorization_code":
            if "code" not in form or "redirect_uri" not in form:
                return _error_reply(400, "invalid_request")
            pair = simulator.grants.exchange(form["code"], form["redirect_uri"], answered=answered)
        case "refresh_token":
            if "refresh_token" not in form:
                return _error_reply(400, "invalid_request")
            pair = simulator.grants.rotate(form["refresh_token"], answered=answered)
        case None:
            return _error_reply(400, "invalid_request")
        case _:
            return _error_reply(400, "unsupported_grant_type")
    return _error_reply(400, "invalid_grant") if pair is None else Reply(200, _body(pair), _NO_STORE)


def _user(simulator: Simulator, form: Mapping[str, str]) -> str | None:
    """Return the user of the call, for faults of one user."""
    code = simulator.grants.find_code(form.get("code", ""))
    holder = simulator.grants.holder(form.get("refresh_token", ""))
    return code.user if code else holder.user if holder else None


def _is_client(form: Mapping[str, str], options: SimulatorOptions) -> bool:
    return form.get("client_id") == options.client_id and hmac.compare_digest(
        form.get("client_secret", "").encode(), options.client_secret.encode()
    )


def _error_reply(status: int, error: str) -> Reply:
    return Reply(status, msgspec.json.encode({"error": error}), _NO_STORE)


def _body(pair: TokenPair) -> bytes:
    """Return Dexcom's own fields, including its unusual ones."""
    return msgspec.json.encode(
        {
            "access_token": pair.access_token,
            "expires_in": pair.expires_in,
            "refresh_expires_in": 0,
            "refresh_token": pair.refresh_token,
            "token_type": "Bearer",
            "not-before-policy": "1726871301,",
            "session_state": pair.refresh_token[-8:],
            "scope": "offline_access",
        }
    )
