"""Validation before a handler runs: user and provider in the path, then the query's names, then the body."""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import anyio
import msgspec
from litestar import Request
from litestar.exceptions import ClientException, InternalServerException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from bg_ingest.api.dependencies import RouteOptions
from bg_ingest.api.problems import ProblemError, build_problem
from bg_ingest.domain.ids import is_user_id
from bg_ingest.services.pauses import pause

MAX_BODY_BYTES = 65_536
"""Limit of request bodies other than webhooks. They have only a few fields."""

_TOO_LARGE = f"The body is larger than {MAX_BODY_BYTES} bytes: send only known fields."

_PROVIDER = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_JSON_TYPES = ("application/json", "application/merge-patch+json")
"""Without a type, a body is refused: web pages of another origin can send it without a CORS preflight request."""


async def validate_request(request: Request[Any, Any, Any]) -> None:
    """Refuse an invalid request.

    Litestar calls this after the middleware `AccessControl`, and before it converts parameters and body into arguments.
    """
    _check_path(request)
    route = request.route_handler
    _check_query(request, _query_names(route), lenient=RouteOptions.of(route).lenient_query)
    decoder = _body_decoder(route)
    if decoder is not None:
        await _check_body(request, decoder)


def _check_path(request: Request[Any, Any, Any]) -> None:
    # the router drops empty parts: `/api/bg//latest` would address the user "latest"
    if b"//" in unquote_to_bytes(request.scope.get("raw_path") or b""):
        raise build_problem(404, "no-such-path", "A part of the path is empty: put the user id there.")
    if "path" in request.path_params:  # Litestar's own page for unknown paths under /schema
        raise build_problem(404, "no-such-path", "There is nothing at this path: GET /schema lists all paths.")
    user = request.path_params.get("user_id")
    if user is not None:
        check_user(user)
    provider = request.path_params.get("provider")
    if provider is not None and not _PROVIDER.match(provider):
        raise build_problem(404, "unknown", "There is no such provider: their names are short words in lower case.")


def check_user(user: str) -> None:
    if not is_user_id(user):
        detail = "A user id has 1 to 128 characters: letters, digits and ._:@|-. The first is a letter or digit."
        raise build_problem(400, "invalid-user-id", detail)


def _check_query(request: Request[Any, Any, Any], known: frozenset[str], *, lenient: bool) -> None:
    query_string = request.scope["query_string"]
    if not query_string:
        return
    pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    names = [name for name, _ in pairs if not lenient or name in known]
    if not known.issuperset(names):
        available = f"only {', '.join(sorted(known))}" if known else "no query parameters"
        detail = f"A query parameter is unknown: this route has {available}."
        raise build_problem(400, "unknown-parameter", detail)
    if len(names) > len(set(names)):
        raise build_problem(400, "repeated-parameter", "A query parameter was sent more than once: send each once.")


async def _check_body(request: Request[Any, Any, Any], decoder: msgspec.json.Decoder[Any]) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body_reader: BodyReader = request.app.state.body_reader
    body = await body_reader.read(request)
    if body and media_type not in _JSON_TYPES:
        detail = "The body must be JSON: send Content-Type: application/json."
        raise build_problem(415, "unsupported-media-type", detail)
    try:
        decoder.decode(body or b"null")
    except msgspec.ValidationError as error:
        raise build_problem(400, "invalid-body", f"The body does not match GET /schema: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise build_problem(400, "invalid-body", "The body is not JSON: compare it with GET /schema.") from None


@lru_cache
def _query_names(route: BaseRouteHandler) -> frozenset[str]:
    definitions = (field.kwarg_definition for field in route.parsed_fn_signature.parameters.values())
    return frozenset(query.name for query in definitions if isinstance(query, QueryParameter) and query.name)


@lru_cache
def _body_decoder(route: BaseRouteHandler) -> msgspec.json.Decoder[Any] | None:
    """Return a strict decoder of the route's body; Litestar's own decodes "60" as a number."""
    data = route.parsed_fn_signature.parameters.get("data")
    return msgspec.json.Decoder(data.annotation) if data else None


BODY_TIMEOUT = 10.0
"""Seconds for a body to arrive. Without a limit, a sender that stops halfway would keep its connection indefinitely."""

MAX_INCOMPLETE_BODIES = 256
"""Largest number of requests with incomplete bodies, each of which holds about 25 KB. One more ends the oldest."""


async def read_body(request: Request[Any, Any, Any], *, too_large: str) -> bytes:
    """Return the whole body, or refuse it as too large (with the route's own text), too slow or incomplete."""
    try:
        with anyio.move_on_after(BODY_TIMEOUT):
            return await request.body()
    except ClientException as error:
        if error.status_code != 413:
            raise
        raise build_problem(413, "too-large", too_large) from None
    except InternalServerException:  # Litestar's error for a disconnected sender
        raise build_problem(400, "incomplete-body", "The body is incomplete: send it again.") from None
    await pause()  # many bodies that began together time out together; other requests run between their answers
    raise _too_slow()


class BodyReader:
    """Reads the bodies of requests other than webhooks, and bounds the number of those that are incomplete."""

    def __init__(self) -> None:
        self._incomplete: dict[anyio.CancelScope, None] = {}
        """The oldest first."""

    async def read(self, request: Request[Any, Any, Any]) -> bytes:
        """Return the whole body. 408 if it is too slow, or the oldest of more than `MAX_INCOMPLETE_BODIES`."""
        with anyio.CancelScope() as reading:
            self._incomplete[reading] = None
            if len(self._incomplete) > MAX_INCOMPLETE_BODIES:
                oldest = next(iter(self._incomplete))
                del self._incomplete[oldest]
                oldest.cancel()
            try:
                return await read_body(request, too_large=_TOO_LARGE)
            finally:
                self._incomplete.pop(reading, None)
        await pause()
        raise build_problem(408, "too-slow", "Too many bodies are incomplete, and this was the oldest: send it again.")


def _too_slow() -> ProblemError:
    return build_problem(408, "too-slow", f"The body did not arrive within {BODY_TIMEOUT:g} seconds: send it again.")
