"""Who may ask. Closed unless a route says otherwise: a new one is never open by oversight."""

from collections.abc import Collection
from enum import Enum, auto
from ipaddress import ip_address
from math import ceil
from typing import Any, NamedTuple

import anyio
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from bg_ingest.api.problems import Problem, ProblemError, build_problem, problem_response
from bg_ingest.api.routes import RouteOptions
from bg_ingest.api.validation import check_user
from bg_ingest.domain import access
from bg_ingest.domain.access import ANONYMOUS, Caller
from bg_ingest.domain.rate_limit import RateLimiter
from bg_ingest.errors import NotFound
from bg_ingest.services.access.authenticate import Authenticator

_BEARER_PREFIX = "bearer "


class Access(Enum):
    """Whether anybody may ask while there is no credential to ask for."""

    OPEN = auto()
    """Yes, on this machine: development."""
    CLOSED = auto()


class Limits(NamedTuple):
    """How often each credential may come to this process."""

    per_second: float
    burst: int


DEFAULT_LIMITS = Limits(100, 500)


class AuthGuard:
    """Lets a request in or refuses it, before anything else of it is looked at."""

    def __init__(self, access: Access, own_names: Collection[str], limits: Limits) -> None:
        self._access = access
        self._own_names = {"localhost", *(name.lower() for name in own_names)}
        self._rate_limiter = RateLimiter(*limits)

    async def check(self, connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        """Refuse who is unknown, comes too often, lacks the route's scope or asks about a user they may not see."""
        options = RouteOptions.of(route)
        if options.public:
            if options.rate_key:
                self._check_rate(options.rate_key)
            return
        caller = await self.authenticate(connection.scope)
        lists_methods = connection.scope.get("method") == "OPTIONS"
        if options.scope not in caller.scopes and not lists_methods:
            raise _insufficient_scope(options.scope)
        user = connection.path_params.get("user_id")
        if user is None and caller.users is not None:
            raise build_problem(
                403, "insufficient-scope", "This credential is good for single users only, not for this."
            )
        if user is not None and not caller.may_access(user):
            check_user(user)
            raise NotFound  # as if there were no such user: nobody is told who exists

    async def authenticate(self, scope: Scope) -> Caller:
        """Return who sends a request, or refuse it; ``caller_of`` knows them from then on."""
        found = await self._find_caller(scope)
        if found is not ANONYMOUS:
            self._check_rate(found.name)
        scope["state"]["caller"] = found
        return found

    def _check_rate(self, client_key: str) -> None:
        wait = self._rate_limiter.acquire(client_key, anyio.current_time())
        if wait > 0:
            detail = "This credential has come too often: wait as long as Retry-After says."
            raise build_problem(429, "too-many-requests", detail, {"Retry-After": str(ceil(wait))})

    async def _find_caller(self, scope: Scope) -> Caller:
        authenticator: Authenticator = scope["litestar_app"].state.services.authenticator
        if self._access is Access.OPEN and await authenticator.is_open():
            self._check_host(_single_header(scope, b"host"))
            return ANONYMOUS
        given = bearer_token(scope)
        if given is None:
            detail = "Send Authorization: Bearer with an API key of this service, or with a token of its issuer."
            raise build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})
        found = await authenticator.authenticate(given)
        if found is None:
            detail = "The credential is unknown, has expired or was revoked: send another."
            raise build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return found

    def _check_host(self, host: str) -> None:
        """Refuse names that are not ours: any page can have its own name lead a browser to this machine."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name and name.lower() not in self._own_names and not _is_address(name.strip("[]")):
            detail = "An API that is open to everybody is asked by localhost, an address, or HOST: use one of these."
            raise build_problem(421, "unknown-host", detail)


async def check_access(connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
    """Guard of all routes: run the `AuthGuard` of the application's state."""
    await connection.app.state.auth_guard.check(connection, route)


def hide_unknown(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer for what is not there: who may not ask does not learn either which paths there are."""
    return _HiddenResponse(request.app.state.auth_guard, request, problem_response(request, error))


class _HiddenResponse(Response[Problem]):
    """A problem for who may know of it; others are told that they may not ask."""

    def __init__(self, auth_guard: AuthGuard, request: Request[Any, Any, Any], response: Response[Problem]) -> None:
        super().__init__(response.content)
        self._auth_guard, self._request, self._response = auth_guard, request, response

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **given: Any) -> ASGIResponse:  # noqa: ANN401 - Litestar's signature
        """Return what asks who it is, and then sends one of the two."""

        async def send_one(scope: Scope, receive: Receive, send: Send) -> None:
            response = self._response
            try:
                await self._auth_guard.authenticate(scope)
            except Exception as refused:  # noqa: BLE001 - whatever it is, it is answered like any other
                response = problem_response(self._request, refused)
            await response.to_asgi_response(app, request, **given)(scope, receive, send)

        return send_one  # type: ignore[return-value]  # Litestar only calls it


def caller_of(scope: Scope) -> Caller | None:
    """Return who sends a request; None where nobody was asked."""
    found: Caller | None = scope["state"].get("caller")
    return found


def bearer_token(scope: Scope) -> str | None:
    """Return what follows "Authorization: Bearer"; None where that was not sent, or not once."""
    given = _single_header(scope, b"authorization")
    return given[len(_BEARER_PREFIX) :].strip(" ") if given[: len(_BEARER_PREFIX)].lower() == _BEARER_PREFIX else None


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    Exception: problem_response,
    NotFoundException: hide_unknown,
    MethodNotAllowedException: hide_unknown,
}


def _insufficient_scope(needed: access.Scope | None) -> ProblemError:
    if needed is None:
        return build_problem(
            403, "insufficient-scope", "This route is for nobody: it does not say which scope it needs."
        )
    headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'}
    return build_problem(403, "insufficient-scope", f"This needs a credential with the scope {needed}.", headers)


def _single_header(scope: Scope, name: bytes) -> str:
    """Return a header that has to come once; one that comes twice is as good as none."""
    found = [value for each, value in scope["headers"] if each.lower() == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
