"""Login: the request of a client, the page, and the redirect with a code or a refusal."""

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from litestar import get, post
from litestar.response.base import ASGIResponse

from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.pages import login_page, refusal_page
from bg_ingest.simulator.replies import SimulatorDependency, SimulatorRequest
from bg_ingest.simulator.simulator import Simulator, UnknownUser

PATHS = ["/v3/oauth2/login", "/v2/oauth2/login"]
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:[0-9]+)?|https?://\[[0-9a-fA-F:]+\](:[0-9]+)?")


class LoginRefused(Exception):
    """The request must not be answered with a redirect; the text has the reason."""


class Login(msgspec.Struct, frozen=True):
    """Login request of a known client with an accepted redirect address."""

    client_id: str
    redirect_uri: str
    origin: str
    state: str | None
    error: str | None

    def redirect(self, **answer: str) -> ASGIResponse:
        """Return the redirect to the client."""
        parameters = answer if self.state is None else {**answer, "state": self.state}
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        return ASGIResponse(
            status_code=302,
            headers={"location": f"{self.redirect_uri}{joint}{urlencode(parameters)}", "cache-control": "no-store"},
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
    return Login(options.client_id, redirect_uri, origin, query.get("state"), error)


@get(PATHS)
async def show_login(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Show the users to choose from. `&user=SandboxUser1` chooses without the page, for scripts."""
    query = {name: str(value) for name, value in request.query_params.items()}
    try:
        login = parse_login(query, simulator.options)
        if login.error:
            return login.redirect(error=login.error)
        if user := query.get("user"):
            return approve(simulator, login, user)
    except (LoginRefused, UnknownUser) as refusal:
        return refusal_page(str(refusal))
    return login_page(simulator.wearers, login.origin)


@post(PATHS, status_code=302)
async def choose(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Accept the form of the page: a `user`, or any other field to decline."""
    query = {name: str(value) for name, value in request.query_params.items()}
    form = parse_qs((await request.body()).decode("utf-8", "replace"))
    try:
        login = parse_login(query, simulator.options)
        if login.error:
            return login.redirect(error=login.error)
        if "user" not in form:
            return login.redirect(error="access_denied")
        return approve(simulator, login, form["user"][0])
    except (LoginRefused, UnknownUser) as refusal:
        return refusal_page(str(refusal))


def approve(simulator: Simulator, login: Login, user: str) -> ASGIResponse:
    """Redirect with a code; raise UnknownUser."""
    name = simulator.wearer(user).name
    return login.redirect(code=simulator.grants.issue_code(name, login.client_id, login.redirect_uri))
