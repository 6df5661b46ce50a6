"""Authentication, scopes and rate limits. Without `RouteOptions`, a route refuses every request."""

from enum import Enum, auto
from hashlib import sha256
from math import ceil
from typing import Any, NamedTuple

import anyio
from litestar import Request, Response
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, ExceptionHandlersMap, Receive, Scope, Send

from bg_ingest.api.dependencies import RouteOptions
from bg_ingest.api.local_access import check_local
from bg_ingest.api.problems import Problem, ProblemError, build_problem, problem_response
from bg_ingest.api.validation import check_user
from bg_ingest.domain import access
from bg_ingest.domain.access import ANONYMOUS, Caller
from bg_ingest.domain.call_budget import RateLimiter
from bg_ingest.domain.local_access import LocalAccess
from bg_ingest.errors import NotFound, StoreUnavailable
from bg_ingest.services.access.authenticate import Authenticator

_BEARER_PREFIX = "bearer "

MAX_PROVEN = 10_000
"""Maximum number of credentials remembered as proven. Each further one replaces the oldest."""


class Access(Enum):
    """Treatment of requests while there is no API key and no token issuer."""

    OPEN = auto()
    """Requests are answered, for development on this machine."""
    CLOSED = auto()
    """Requests are refused."""


class Limits(NamedTuple):
    """Requests of one credential to this process: sustained rate and burst."""

    per_second: float
    burst: int


DEFAULT_LIMITS = Limits(100, 500)


class AuthGuard:
    """Admits or refuses a request before validation and handler."""

    def __init__(self, access: Access, local_access: LocalAccess, limits: Limits) -> None:
        self._access = access
        self._local_access = local_access
        self._rate_limiter = RateLimiter(*limits)
        self._proven: dict[bytes, None] = {}

    def recognizes(self, scope: Scope) -> bool:
        """Return True if an earlier request proved this credential, or if the service may be open.

        The result decides the order of requests only; it gives no access.
        """
        return self._access is Access.OPEN or _credential_digest(scope) in self._proven

    async def check(self, scope: Scope) -> None:
        """Refuse a missing or unknown credential, too many requests, a missing scope, and another person's data."""
        options = RouteOptions.of(scope["route_handler"])
        if options.public:
            await self._check_public(scope, options)
            return
        caller = await self.authenticate(scope)
        lists_methods = scope.get("method") == "OPTIONS"
        if options.scope not in caller.scopes and not lists_methods:
            raise _insufficient_scope(options.scope)
        user = scope["path_params"].get("user_id")
        if user is None and caller.users is not None and not options.many_users:
            detail = "This credential is valid for single users only: use one without that restriction."
            raise build_problem(403, "insufficient-scope", detail)
        if user is not None and not caller.may_access(user):
            check_user(user)
            scope["state"]["refused"] = True
            raise NotFound  # same answer as for an unknown user, so that it does not reveal the existing ids

    async def authenticate(self, scope: Scope) -> Caller:
        """Return the caller or refuse the request; `caller_of` returns the same caller afterwards."""
        caller = await self._find_caller(scope)
        scope["state"]["unauthenticated"] = False
        if caller is not ANONYMOUS:
            self._proven[_credential_digest(scope)] = None
            if len(self._proven) > MAX_PROVEN:
                del self._proven[next(iter(self._proven))]
            self._check_rate(caller.name)
        scope["state"]["caller"] = caller
        return caller

    async def _check_public(self, scope: Scope, options: RouteOptions) -> None:
        if options.rate_key:
            self._check_rate(options.rate_key)
        if options.any_origin:
            return
        try:
            is_open = await self._is_open(scope)
        except StoreUnavailable:  # as if open: only local requests pass until the store answers
            is_open = True
        if is_open:
            check_local(self._local_access, scope, navigable=True)

    async def _is_open(self, scope: Scope) -> bool:
        if self._access is not Access.OPEN:
            return False
        authenticator: Authenticator = scope["litestar_app"].state.services.authenticator
        return await authenticator.is_open()

    def _check_rate(self, client_key: str) -> None:
        wait = self._rate_limiter.acquire(client_key, anyio.current_time())
        if wait > 0:
            detail = "This credential exceeds its rate limit: wait for the seconds in Retry-After."
            raise build_problem(429, "too-many-requests", detail, {"Retry-After": str(ceil(wait))})

    async def _find_caller(self, scope: Scope) -> Caller:
        scope["state"]["unauthenticated"] = True
        if await self._is_open(scope):
            check_local(self._local_access, scope)
            return ANONYMOUS
        authenticator: Authenticator = scope["litestar_app"].state.services.authenticator
        token = bearer_token(scope)
        if token is None:
            detail = "Send Authorization: Bearer with an API key of this service, or with a token of its issuer."
            raise build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})
        caller = await authenticator.authenticate(token)
        if caller is None:
            detail = "The credential is unknown, has expired or was revoked: send another."
            raise build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return caller


class AccessControl:
    """Middleware of every route. It runs the `AuthGuard` of the application's state.

    A guard of Litestar would receive a copy of the route handler. The copy costs as much as the check itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await scope["litestar_app"].state.auth_guard.check(scope)
        await self._app(scope, receive, send)


def hide_unknown(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer an unknown path or method after authentication, so that only authenticated callers learn the paths.

    A path with an encoded slash is unknown for every method, because no id contains a slash.
    """
    if "%2f" in request.scope["path"].lower():
        error = NotFoundException()
    return _HiddenResponse(request.app.state.auth_guard, request, problem_response(request, error))


class _HiddenResponse(Response[Problem]):
    """A problem for authenticated callers; others get the refusal of their authentication."""

    def __init__(self, auth_guard: AuthGuard, request: Request[Any, Any, Any], response: Response[Problem]) -> None:
        super().__init__(response.content)
        self._auth_guard, self._request, self._response = auth_guard, request, response

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **given: Any) -> ASGIResponse:  # noqa: ANN401 - Litestar's signature
        """Return an ASGI application that authenticates, then sends the problem or the refusal."""

        async def send_one(scope: Scope, receive: Receive, send: Send) -> None:
            response = self._response
            try:
                await self._auth_guard.authenticate(scope)
            except Exception as refused:  # noqa: BLE001 - every error is answered as a problem
                response = problem_response(self._request, refused)
            await response.to_asgi_response(app, request, **given)(scope, receive, send)

        return send_one  # type: ignore[return-value]  # Litestar only calls it


def caller_of(scope: Scope) -> Caller | None:
    """Return the authenticated caller; None on public routes."""
    caller: Caller | None = scope["state"].get("caller")
    return caller


def bearer_token(scope: Scope) -> str | None:
    """Return the bearer token; None if the Authorization header is missing, repeated or of another kind."""
    header = _single_header(scope, b"authorization")
    is_bearer = header[: len(_BEARER_PREFIX)].lower() == _BEARER_PREFIX
    return header[len(_BEARER_PREFIX) :].strip(" ") if is_bearer else None


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    Exception: problem_response,
    NotFoundException: hide_unknown,
    MethodNotAllowedException: hide_unknown,
}


def _insufficient_scope(needed: access.Scope | None) -> ProblemError:
    if needed is None:
        detail = "This route is closed: it does not declare the scope that it needs."
        return build_problem(403, "insufficient-scope", detail)
    headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'}
    return build_problem(403, "insufficient-scope", f"This needs a credential with the scope {needed}.", headers)


def _credential_digest(scope: Scope) -> bytes:
    return sha256(_single_header(scope, b"authorization").encode("latin-1")).digest()


def _single_header(scope: Scope, name: bytes) -> str:
    """Return a header that must occur once; empty if it is missing or repeated."""
    values = [value for header, value in scope["headers"] if header.lower() == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""
