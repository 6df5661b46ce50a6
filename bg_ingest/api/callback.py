"""Redirect target of a provider's authorization: finishes the connect and answers with a page for the person."""

from typing import Annotated, Any

from litestar import MediaType, Request, Response, Router, get
from litestar.params import QueryParameter

from bg_ingest.api.audit import mark_user
from bg_ingest.api.dependencies import ProviderName, Use
from bg_ingest.api.html import render_page
from bg_ingest.api.problems import ProblemError, problem_response
from bg_ingest.api.routes import RouteOptions, page_responses
from bg_ingest.domain.access import AuditAction
from bg_ingest.errors import ConnectRefused, NotFound, ProviderThrottled, ProviderUnavailable
from bg_ingest.services.connections.connect import Connector

_RESTART_HINT = "Please go back to where you started and begin connecting again. You can close this page."


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """Return an error as a page, with the status and Retry-After of its problem."""
    problem = problem_response(request, error)
    match error:
        case ConnectRefused():
            title, texts = "Not connected", (str(error), "You can close this page.")
        case ProblemError() if problem.status_code == 400:
            title, texts = (
                "Not connected",
                ("This link is not one that a provider sends, and nothing was changed.", _RESTART_HINT),
            )
        case ProblemError() if problem.status_code == 429:
            title = "Not connected yet"
            texts = (
                "Too many people use this page just now. Nothing is lost:",
                "Please load this page again in a few seconds.",
            )
        case NotFound() | ProblemError():
            title, texts = "Not connected", ("This link leads to an unknown provider.", _RESTART_HINT)
        case ProviderUnavailable() | ProviderThrottled():
            texts = ("The provider did not answer. Nothing is lost: in a few minutes it should work.", _RESTART_HINT)
            title = "Not connected yet"
        case _:
            texts = ("Something went wrong on our side, and nothing was connected.", _RESTART_HINT)
            title = "Not connected"
    headers = {name: value for name, value in problem.headers.items() if name == "Retry-After"}
    return render_page(title, *texts, status=problem.status_code or 500, headers=headers)


@get(
    "/{provider:str}/callback",
    operation_id="callback",
    summary="Finish a connect",
    media_type=MediaType.HTML,
    opt=RouteOptions(public=True, rate_key="callbacks", lenient_query=True, audited_as=AuditAction.CHANGE).opt(),
    security=[{}],
    exception_handlers={Exception: render_error},
    responses=page_responses(200, 400, 404, 429, 500, 502, 503),
)
async def callback(
    request: Request[Any, Any, Any],
    provider: ProviderName,
    connector: Use[Connector],
    code: Annotated[str | None, QueryParameter(name="code")] = None,
    oauth_state: Annotated[str | None, QueryParameter(name="state", description="Single-use, 15 minutes.")] = None,
    error: Annotated[str | None, QueryParameter(name="error", description="Why the provider did not allow it.")] = None,
) -> Response[str]:
    """Finish a connect; the page reports the result. Unknown query parameters are ignored (RFC 6749, 4.1.2)."""
    connection = await connector.finish(provider, state=oauth_state or None, code=code or None, error=error or None)
    mark_user(request.scope, connection.id.user)
    name = connection.id.provider.capitalize()
    text = f"Your {name} readings are on their way: the newest first, then the past. You can close this page."
    return render_page("Connected", text)


router = Router("/api/oauth", route_handlers=[callback], tags=["connections"])
