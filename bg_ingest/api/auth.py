"""Who may ask. Closed unless a route says otherwise: a new one is never open by oversight."""

from enum import Enum, auto
from typing import Any

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.types import ExceptionHandlersMap, Guard

from bg_ingest.api.errors import Problem, Refused, answer, refusal

PUBLIC = {"public": True}
"""A route's ``opt`` when it asks nobody who they are."""


class Access(Enum):
    """Who may ask for health data until there are credentials."""

    OPEN = auto()
    """Everybody who reaches us: development."""
    CLOSED = auto()


def not_authenticated() -> Refused:
    detail = "This service is closed until it has credentials: set ENVIRONMENT=development to try it out."
    return refusal(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})


def answers(access: Access) -> ExceptionHandlersMap:
    """Return how errors are answered: who may not ask does not learn either which paths there are."""

    def closed(request: Request[Any, Any, Any], _: Exception) -> Response[Problem]:
        return answer(request, not_authenticated())

    hidden: ExceptionHandlersMap = {NotFoundException: closed, MethodNotAllowedException: closed}
    return {Exception: answer, **(hidden if access is Access.CLOSED else {})}


def guard(access: Access) -> Guard:
    """Return the check that runs before anything else of a request is looked at."""

    async def check_access(_: ASGIConnection[Any, Any, Any, Any], route: BaseRouteHandler) -> None:
        if access is Access.CLOSED and not route.opt.get("public"):
            raise not_authenticated()

    return check_access
