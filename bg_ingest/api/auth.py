"""Who may ask. Closed unless a route says otherwise: a new one is never open by oversight."""

from collections.abc import Collection
from enum import Enum, auto
from ipaddress import ip_address
from math import ceil
from typing import Any, NamedTuple, Protocol

import anyio
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import ExceptionHandlersMap, Receive, Scope, Send

from bg_ingest.api.checks import check_user
from bg_ingest.api.errors import Problem, Refused, answer, refusal
from bg_ingest.domain import credentials
from bg_ingest.domain.allowance import Allowance
from bg_ingest.domain.credentials import ANYBODY, Caller
from bg_ingest.errors import Unknown
from bg_ingest.services.admission import Admission

PUBLIC = {"public": True}
"""A route's ``opt`` when it asks nobody who they are."""

COUNTED = {"counted": "callbacks"}
"""The same of one that asks the store for whoever comes: all of them together come as often as one credential may."""

_SCHEME = "bearer "


def needs(scope: credentials.Scope) -> dict[str, credentials.Scope]:
    """Return a route's ``opt`` when it asks for a credential with this scope."""
    return {"needs": scope}


class Access(Enum):
    """Whether anybody may ask while there is no credential to ask for."""

    OPEN = auto()
    """Yes, on this machine: development."""
    CLOSED = auto()


class Admits(Protocol):
    """Where the use case is found, once it is there."""

    @property
    def admission(self) -> Admission: ...


class Limits(NamedTuple):
    """How often each credential may come to this process."""

    per_second: float
    at_once: int


USUAL_LIMITS = Limits(100, 500)


class Door:
    """Lets a request in or refuses it, before anything else of it is looked at."""

    def __init__(self, access: Access, admits: Admits, own_names: Collection[str], limits: Limits) -> None:
        self._access = access
        self._admits = admits
        self._own_names = {"localhost", *(name.lower() for name in own_names)}
        self._allowance = Allowance(*limits)

    async def guard(self, connection: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        """Refuse who is unknown, comes too often, lacks the route's scope or asks about a user they may not see."""
        if route.opt.get("public"):
            if who := route.opt.get("counted"):
                self._count(who)
            return
        caller = await self.caller(connection.scope)
        needed = route.opt.get("needs")
        tells_methods = connection.scope.get("method") == "OPTIONS"
        if needed not in caller.scopes and not tells_methods:
            raise _beyond_scope(needed)
        user = connection.path_params.get("user_id")
        if user is None and caller.users is not None:
            raise refusal(403, "insufficient-scope", "This credential is good for single users only, not for this.")
        if user is not None and not caller.sees(user):
            check_user(user)
            raise Unknown  # as if there were no such user: nobody is told who exists

    async def caller(self, scope: Scope) -> Caller:
        """Return who sends a request, or refuse it; ``caller_of`` knows them from then on."""
        found = await self._who(scope)
        if found is not ANYBODY:
            self._count(found.name)
        scope["state"]["caller"] = found
        return found

    def hidden(self, request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
        """Answer for what is not there: who may not ask does not learn either which paths there are."""
        return _Hidden(self, request, answer(request, error))

    def _count(self, who: str) -> None:
        wait = self._allowance.take(who, anyio.current_time())
        if wait > 0:
            detail = "This credential has come too often: wait as long as Retry-After says."
            raise refusal(429, "too-many-requests", detail, {"Retry-After": str(ceil(wait))})

    async def _who(self, scope: Scope) -> Caller:
        admission = self._admits.admission
        if self._access is Access.OPEN and await admission.asks_nobody():
            self._check_name(_header(scope, b"host"))
            return ANYBODY
        given = bearer_of(scope)
        if given is None:
            detail = "Send Authorization: Bearer with an API key of this service, or with a token of its issuer."
            raise refusal(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})
        found = await admission.admit(given)
        if found is None:
            detail = "The credential is unknown, has expired or was revoked: send another."
            raise refusal(401, "not-authenticated", detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
        return found

    def _check_name(self, host: str) -> None:
        """Refuse names that are not ours: any page can have its own name lead a browser to this machine."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name and name.lower() not in self._own_names and not _is_address(name.strip("[]")):
            detail = "An API that is open to everybody is asked by localhost, an address, or HOST: use one of these."
            raise refusal(421, "unknown-host", detail)


class _Hidden(Response[Problem]):
    """A problem for who may know of it; others are told that they may not ask."""

    def __init__(self, door: Door, request: Request[Any, Any, Any], shown: Response[Problem]) -> None:
        super().__init__(shown.content)
        self._door, self._request, self._shown = door, request, shown

    def to_asgi_response(self, app: Any, request: Request[Any, Any, Any], **given: Any) -> ASGIResponse:  # noqa: ANN401 - Litestar's signature
        """Return what asks who it is, and then sends one of the two."""

        async def send_one(scope: Scope, receive: Receive, send: Send) -> None:
            shown = self._shown
            try:
                await self._door.caller(scope)
            except Exception as refused:  # noqa: BLE001 - whatever it is, it is answered like any other
                shown = answer(self._request, refused)
            await shown.to_asgi_response(app, request, **given)(scope, receive, send)

        return send_one  # type: ignore[return-value]  # Litestar only calls it


def caller_of(scope: Scope) -> Caller | None:
    """Return who sends a request; None where nobody was asked."""
    found: Caller | None = scope["state"].get("caller")
    return found


def bearer_of(scope: Scope) -> str | None:
    """Return what follows "Authorization: Bearer"; None where that was not sent, or not once."""
    given = _header(scope, b"authorization")
    return given[len(_SCHEME) :].strip(" ") if given[: len(_SCHEME)].lower() == _SCHEME else None


def answers(door: Door) -> ExceptionHandlersMap:
    """Return how errors are answered."""
    return {Exception: answer, NotFoundException: door.hidden, MethodNotAllowedException: door.hidden}


def _beyond_scope(needed: credentials.Scope | None) -> Refused:
    if needed is None:
        return refusal(403, "insufficient-scope", "This route is for nobody: it does not say which scope it needs.")
    headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'}
    return refusal(403, "insufficient-scope", f"This needs a credential with the scope {needed}.", headers)


def _header(scope: Scope, name: bytes) -> str:
    """Return a header that has to come once; one that comes twice is as good as none."""
    found = [value for each, value in scope["headers"] if each.lower() == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
