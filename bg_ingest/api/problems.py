"""Errors as RFC 9457 problems: a stable type, and a detail with the caller's next step.

No text of a store, a provider or a traceback reaches the caller. All texts are written in
`bg_ingest/api`, except the text of a RequestError, which is used as it is.
"""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from traceback import extract_tb
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import Scope

from bg_ingest import errors
from bg_ingest.api.headers import request_id
from bg_ingest.domain.readings import MIN_MEASURED_AT

MEDIA_TYPE = "application/problem+json"
_RETRY_SOON, _RETRY_LATER = {"Retry-After": "5"}, {"Retry-After": "60"}
"""Retry-After if the store or the issuer does not answer or too many streams are open, and if a provider names none."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `type` is a relative reference that never changes; `detail` states the next step."""

    type: str
    title: str
    status: int
    detail: str
    reasons: tuple[str, ...] = ()
    """Names of the reasons; only in a health check."""
    smallest: str | None = None
    """Name of the smallest bin that the window allows; only in `too-many-bins`."""
    users: tuple[str, ...] = ()
    """Ids of the unknown users; only in `unknown-users`."""
    first_kept: int | None = None
    """Number of the first change that is kept; only in `cursor-expired`."""
    last: int | None = None
    """Number of the user's last change; only in `cursor-expired`."""


class ProblemError(Exception):
    """A request that is answered with this problem."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.title)
        self.problem = problem
        self.headers = dict(headers or {})


def build_problem(
    status: int,
    slug: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **members: Any,  # noqa: ANN401 - fields of Problem
) -> ProblemError:
    """Return an exception for a problem; its title is the slug in words. Members are further fields of the problem."""
    return ProblemError(Problem(slug, slug.replace("-", " ").capitalize(), status, detail, **members), headers)


def problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Return the answer to any exception. An unexpected one is logged under the request's id and not described."""
    problem_error = to_problem(request, error)
    problem = problem_error.problem
    if problem.status == 500:
        log_failure("request_failed", request.scope, error)
    return Response(problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=problem_error.headers)


def to_problem(request: Request[Any, Any, Any], error: Exception) -> ProblemError:
    """Return the problem of an error, in words for the caller."""
    match error:
        case ProblemError():
            return error
        case errors.RequestError():
            return _request_problem(error)
        case errors.StoreError():
            return _store_problem(error)
        case errors.ProviderError() | errors.GrantError() | errors.IssuerUnavailable():
            return _upstream_problem(error)
        case HTTPException(status_code=status) if status < 500:
            return _framework_problem(error)
        case _:
            detail = f"An internal error, logged as request {request_id(request.scope)}: report that id if it persists."
            return build_problem(500, "internal-error", detail)


def _request_problem(error: errors.RequestError) -> ProblemError:
    match error:
        case errors.NotFound():
            return build_problem(404, "unknown", str(error))
        case errors.Conflict():
            return build_problem(409, "not-possible", str(error))
        case errors.TooManyStreams() | errors.CursorExpired():
            return _stream_problem(error) if isinstance(error, errors.TooManyStreams) else _cursor_problem(error)
        case errors.ConnectRefused():
            return build_problem(400, "not-connected", str(error))
        case _:
            return build_problem(400, "invalid-request", str(error))


def _store_problem(error: errors.StoreError) -> ProblemError:
    if isinstance(error, errors.ItemTooLarge):  # not 503, because a repetition is refused again
        return build_problem(413, "too-large", "The data is too large for the store: send less.")
    return build_problem(503, "store-unavailable", "The store does not answer: try again shortly.", _RETRY_SOON)


def _stream_problem(error: errors.TooManyStreams) -> ProblemError:
    if error.of_credential:
        detail = f"At most {error.limit} streams of a credential may be open: close one, or follow many users in one."
        return build_problem(429, "too-many-streams", detail, _RETRY_SOON)
    detail = f"At most {error.limit} streams may be open at this replica: try again, or ask for JSON from time to time."
    return build_problem(503, "too-many-streams", detail, _RETRY_SOON)


def _cursor_problem(error: errors.CursorExpired) -> ProblemError:
    first_kept, last = error.first_kept, error.last
    detail = (
        f"Changes before {first_kept} are not kept: read the readings with from={MIN_MEASURED_AT:%Y-%m-%d}"
        f"&devices=all&view=full&as_of_change={last}, then continue with after={last}."
    )
    return build_problem(410, "cursor-expired", detail, first_kept=first_kept, last=last)


def _grant_problem(error: errors.GrantRejected | errors.GrantError) -> ProblemError:
    retry = (
        {"Retry-After": str(max(1, ceil(error.wait.total_seconds())))} if isinstance(error, errors.GrantError) else {}
    )
    match error:
        case errors.GrantBusy():
            detail = "The grant is being renewed: try again after the seconds in Retry-After."
            return build_problem(503, "provider-unavailable", detail, retry)
        case errors.GrantRefused():
            detail = "The provider refused the grant, which is tried again later: wait, or connect again."
            return build_problem(409, "grant-rejected", detail, retry)
        case _:
            return build_problem(409, "grant-rejected", "The provider refuses the grant: connect again.")


def _upstream_problem(error: errors.ProviderError | errors.GrantError | errors.IssuerUnavailable) -> ProblemError:
    match error:
        case errors.IssuerUnavailable():
            detail = "The issuer of tokens does not answer, so the token cannot be checked: try again shortly."
            return build_problem(503, "issuer-unavailable", detail, _RETRY_SOON)
        case errors.ProviderThrottled(wait=wait):
            retry = {"Retry-After": str(max(1, ceil(wait.total_seconds())))} if wait is not None else _RETRY_LATER
            return build_problem(503, "provider-throttled", "The provider limits our calls: try again later.", retry)
        case errors.ProviderUnavailable():
            detail = "The provider does not answer: try again in a minute."
            return build_problem(503, "provider-unavailable", detail, _RETRY_LATER)
        case errors.GrantRejected() | errors.GrantError():
            return _grant_problem(error)
        case errors.ProviderForbidden():
            detail = "The provider forbids this app or connection: the operator of this service must act, see its log."
            return build_problem(502, "provider-forbidden", detail)
        case _:
            return build_problem(502, "provider-misbehaved", "The provider's answer cannot be read: try again later.")


_FRAMEWORK_PROBLEMS: dict[int, tuple[str, str]] = {
    400: ("invalid-request", "The request cannot be read: compare it with GET /schema."),
    404: ("no-such-path", "There is nothing at this path: GET /schema lists all paths."),
    405: ("method-not-allowed", "This path has other methods: see the Allow header."),
    413: ("too-large", "The body is too large for this route: send only the fields that GET /schema lists."),
}


def _framework_problem(error: HTTPException) -> ProblemError:
    slug, detail = _FRAMEWORK_PROBLEMS.get(error.status_code, ("invalid-request", HTTPStatus(error.status_code).phrase))
    allow = {name.title(): value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return build_problem(error.status_code, slug, detail, allow)


def log_failure(event: str, scope: Scope, error: Exception) -> None:
    """Log the error's type and stack, without its text and the values in frames: both may contain codes or readings."""
    frames = extract_tb(error.__traceback__)
    log.error(
        event,
        action="answer_request",
        route=scope.get("path_template"),
        request_id=request_id(scope),
        error=type(error).__qualname__,
        where=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]],
    )
