"""Declaration of a route: its options for the checks around a handler, and its documented responses."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from litestar import MediaType
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example

from bg_ingest.api.problems import MEDIA_TYPE, Problem
from bg_ingest.domain.access import AuditAction, Scope

_PROBLEM_EXAMPLES = {
    400: ("invalid-time", "'from' is ambiguous without an offset: write it like 2025-04-26T14:30:00Z."),
    401: ("not-authenticated", "The credential is unknown, has expired or was revoked: send another."),
    403: ("insufficient-scope", "This needs a credential with the scope readings:read."),
    404: ("unknown", "There is no such user: connect the user to a provider first."),
    406: ("not-acceptable", "This route answers application/json, text/csv and application/x-ndjson."),
    408: ("too-slow", "The body was not here within 10 seconds: send it again."),
    409: ("not-possible", "The connection is paused: set paused to false first."),
    413: ("too-large", "The body is too large for this route."),
    421: (
        "unknown-host",
        "Without credentials the API answers only to localhost, an address or HOST: use one of these.",
    ),
    429: ("too-many-requests", "This credential exceeds its rate: wait for the seconds in Retry-After."),
    415: ("unsupported-media-type", "The body must be JSON: send Content-Type: application/json."),
    502: ("provider-misbehaved", "The provider's answer cannot be read: try again later."),
    503: ("store-unavailable", "The store does not answer: try again shortly."),
}


@dataclass(frozen=True)
class RouteOptions:
    """Properties of a route that guard, validation and audit read. A route without options refuses every caller."""

    scope: Scope | None = None
    """Scope that the caller's credential must have."""
    public: bool = False
    """Answers without a credential."""
    rate_key: str | None = None
    """Name under which a public route counts all its requests, against the limit of one credential."""
    lenient_query: bool = False
    """Ignores unknown query parameters, as RFC 6749 requires of an OAuth callback.

    A known parameter must still occur once only (3.1), because two codes or states are ambiguous.
    """
    audited_as: AuditAction | None = None
    """Kind of audit record. By default the method decides: GET and HEAD read, others change."""

    def opt(self) -> dict[str, Self]:
        """Return the value of Litestar's `opt`."""
        return {"options": self}

    @staticmethod
    def of(route: BaseRouteHandler) -> "RouteOptions":
        options: RouteOptions = route.opt.get("options", _CLOSED)
        return options


_CLOSED = RouteOptions()


class ResponseExample(ResponseSpec):
    """Documented response with examples. Never changed, so the copies that Litestar makes of a route share it."""

    def __deepcopy__(self, memo: object) -> Self:
        return self


def responses(
    body: Any,  # noqa: ANN401 - a type, or a union of types
    *examples: object,
    description: str,
    problems: tuple[int, ...] = (),
    status: int = 200,
    media_type: str = MediaType.JSON,
    public: bool = False,
) -> dict[int, ResponseExample]:
    """Return the documented responses of a route: the successful one, and its problems."""
    success = ResponseExample(
        body,
        generate_examples=False,
        description=description,
        media_type=media_type,
        examples=[Example(value=example) for example in examples],
    )
    return {status: success} | problem_responses(*problems, public=public)


def problem_responses(*statuses: int, public: bool = False) -> dict[int, ResponseExample]:
    """Return the documented problems of a route with an example each.

    A route that requires a credential (401) also has the problems of authorization and rate limit.
    """
    more = (403, 421, 429) if 401 in statuses and not public else ()
    return {status: _problem_response(status) for status in sorted({*statuses, *more})}


def page_responses(*statuses: int) -> dict[int, ResponseExample]:
    """Return the documented HTML pages of a route, for success and failure."""
    example = [Example(value="<!doctype html><html>…</html>")]
    return {
        status: ResponseExample(
            str,
            generate_examples=False,
            description=HTTPStatus(status).phrase,
            media_type=MediaType.HTML,
            examples=example,
        )
        for status in statuses
    }


def _problem_response(status: int) -> ResponseExample:
    slug, detail = _PROBLEM_EXAMPLES[status]
    example = {"type": slug, "title": slug.replace("-", " ").capitalize(), "status": status, "detail": detail}
    return ResponseExample(
        Problem,
        generate_examples=False,
        description=HTTPStatus(status).phrase,
        media_type=MEDIA_TYPE,
        examples=[Example(value=example)],
    )
