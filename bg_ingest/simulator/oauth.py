"""OAuth endpoints: the login page, which redirects with a code, and the token endpoint, RFC 6749."""

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from litestar import get, post
from litestar.response.base import ASGIResponse

from bg_ingest.simulator.faults import Fault
from bg_ingest.simulator.grants import TokenPair
from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.replies import (
    Reply,
    ReplyResponse,
    SimulatorDependency,
    SimulatorRequest,
    carry_out,
    is_answered,
    login_page,
    refusal_page,
)
from bg_ingest.simulator.simulator import Simulator, UnknownUser

LOGIN_PATHS = ["/v3/oauth2/login", "/v2/oauth2/login"]
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:[0-9]+)?|https?://\[[0-9a-fA-F:]+\](:[0-9]+)?")
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}


class LoginRefused(Exception):
    """The request must not be answered with a redirect; the text has the reason."""


class Login(msgspec.Struct, frozen=True):
    """Login request of a known client with an accepted redirect address."""

    client_id: str
    redirect_uri: str
    origin: str
    state: str | None
    user: str | None
    error: str | None

    def redirect(self, **answer: str) -> ASGIResponse:
        parameters = answer if self.state is None else {**answer, "state": self.state}
        separator = "&" if urlsplit(self.redirect_uri).query else "?"
        return ASGIResponse(
            status_code=302,
            headers={"location": f"{self.redirect_uri}{separator}{urlencode(parameters)}", "cache-control": "no-store"},
        )


def parse_login(query: Mapping[str, str], options: SimulatorOptions) -> Login:
    """Validate a login request. Raise LoginRefused for an unknown client or address: a redirect would be unsafe."""
    if query.get("client_id") != options.client_id:
        raise LoginRefused("The client_id is not registered here.")
    redirect_uri = query.get("redirect_uri", "")
    parts = urlsplit(redirect_uri)
    origin = f"{parts.scheme}://{parts.netloc}"
    if not _ORIGIN.fullmatch(origin) or parts.fragment or not redirect_uri.isprintable():
        raise LoginRefused("The redirect_uri is no http or https address.")
    if options.redirect_uris and redirect_uri not in options.redirect_uris:
        raise LoginRefused("The redirect_uri is not registered: it must be the same to the letter.")
    error = None
    if query.get("response_type") != "code":
        error = "unsupported_response_type"
    elif query.get("scope") != "offline_access":
        error = "invalid_scope"
    return Login(options.client_id, redirect_uri, origin, query.get("state"), query.get("user"), error)


@get(LOGIN_PATHS)
async def show_login(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Show the users to choose from. `&user=SandboxUser1` chooses without the page, for scripts."""

    def answer(login: Login) -> ASGIResponse:
        if login.user:
            return approve(simulator, login, login.user)
        return login_page(list(simulator.wearers.values()), login.origin)

    return _answer_login(request, simulator, answer)


@post(LOGIN_PATHS, status_code=302)
async def choose(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Accept the form of the page: `user` is the chosen user; a form without it declines."""
    form = parse_qs((await request.body()).decode("utf-8", "replace"))

    def answer(login: Login) -> ASGIResponse:
        declined = "user" not in form
        return login.redirect(error="access_denied") if declined else approve(simulator, login, form["user"][0])

    return _answer_login(request, simulator, answer)


def _answer_login(
    request: SimulatorRequest, simulator: Simulator, answer: Callable[[Login], ASGIResponse]
) -> ASGIResponse:
    query = {name: str(value) for name, value in request.query_params.items()}
    try:
        login = parse_login(query, simulator.options)
        return login.redirect(error=login.error) if login.error else answer(login)
    except (LoginRefused, UnknownUser) as refusal:
        return refusal_page(str(refusal))


def approve(simulator: Simulator, login: Login, user: str) -> ASGIResponse:
    """Redirect with a code; raise UnknownUser."""
    name = simulator.wearer(user).name
    return login.redirect(code=simulator.grants.issue_code(name, login.client_id, login.redirect_uri))


@post(["/v3/oauth2/token", "/v2/oauth2/token"], status_code=200)
async def exchange(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Exchange a code or a refresh token. Client credentials are form fields; HTTP Basic is refused, as by Dexcom."""
    body = (await request.body()).decode("utf-8", "replace")
    is_form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    form = {name: values[0] for name, values in parse_qs(body).items()} if is_form else {}
    return ReplyResponse(await post_token(simulator, form))


async def post_token(simulator: Simulator, form: Mapping[str, str]) -> Reply:
    """Answer a token call: the limit and faults first, then the exchange."""

    def work(call_faults: Sequence[Fault]) -> Reply:
        return exchange_token(simulator, form, answered=is_answered(call_faults))

    code = simulator.grants.find_code(form.get("code", ""))
    holder = code or simulator.grants.holder(form.get("refresh_token", ""))
    return await carry_out(simulator, "token", holder.user if holder else None, work)


def exchange_token(simulator: Simulator, form: Mapping[str, str], *, answered: bool) -> Reply:
    """Return the reply to a token call, RFC 6749 §5.

    `answered` is recorded in the journal and changes nothing else. It is False if a fault cuts the reply.
    """
    if not _is_client(form, simulator.options):
        return _error_reply(401, "invalid_client")
    match form:
        case {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}:
            pair = simulator.grants.exchange(code, redirect_uri, answered=answered)
        case {"grant_type": "refresh_token", "refresh_token": refresh_token}:
            pair = simulator.grants.rotate(refresh_token, answered=answered)
        case {"grant_type": other} if other not in ("authorization_code", "refresh_token"):
            return _error_reply(400, "unsupported_grant_type")
        case _:
            return _error_reply(400, "invalid_request")
    return _error_reply(400, "invalid_grant") if pair is None else Reply(200, _body(pair), _NO_STORE)


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
