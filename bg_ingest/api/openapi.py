"""OpenAPI document: responses, examples of bodies, further media types, configuration, and the HTML reference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Self, cast

import msgspec
from litestar import Litestar, MediaType, Request, Response, Router
from litestar.enums import OpenAPIMediaType
from litestar.openapi import OpenAPIConfig, spec
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec.enums import OpenAPIType

from bg_ingest.api.dependencies import RouteOptions
from bg_ingest.api.html import SCRIPTED_POLICY
from bg_ingest.api.problems import MEDIA_TYPE, Problem
from bg_ingest.api.reference import render_reference

BASIC_READING = {"timestamp": "2025-04-26T14:30:00Z", "glucose_mg_dl": 110}

FULL_READING = BASIC_READING | {
    "glucose_mmol_l": 6.1,
    "flag": "ok",
    "trend": "flat",
    "trend_rate_mg_dl_min": 0.3,
    "measured_at": "2025-04-26T14:30:00Z",
    "recorded_at": "2025-04-26T14:35:12Z",
    "utc_offset_seconds": 7200,
    "provider": "example",
    "device": "g7/iOS",
    "sensor": "5d41402a",
    "change": 42,
}

READING_VERSION = FULL_READING | {"superseded_at": "2025-04-26T15:10:00Z", "superseded_by": 57}

COLUMNAR_FORMS = {
    "application/vnd.apache.parquet": "PAR1… (Parquet, one row per reading)",
    "application/vnd.apache.arrow.stream": "… (Arrow IPC stream, one row per reading)",
}

LATEST_READING = FULL_READING | {"age_seconds": 312, "next_expected_at": "2025-04-26T14:40:09Z", "state": "live"}
LATEST_READING |= {"late_at": "2025-04-26T14:41:30Z", "gap_at": "2025-04-26T15:41:30Z"}

CONNECTION = {
    "provider": "example",
    "state": "active",
    "reason": None,
    "region": "us",
    "connected_at": "2025-04-20T08:00:00Z",
    "newest_reading_at": "2025-04-26T14:30:00Z",
    "last_outcome": "read",
    "last_outcome_at": "2025-04-26T14:35:12Z",
    "next_poll_at": "2025-04-26T14:40:09Z",
    "observed_delay_seconds": 300,
    "backfill_done": 0.42,
    "backfill_left": {"from": "2025-01-26T14:30:00Z", "to": "2025-03-20T00:00:00Z"},
    "worker": {"poll_interval_seconds": 300, "paused": False, "backfill_days": 90},
}

INVITATION = {
    "authorize_url": "https://provider.example/oauth2/login?client_id=…&state=…",
    "expires_at": "2025-04-26T14:45:00Z",
}


_PROBLEM_EXAMPLES = {
    400: ("invalid-time", "'from' is ambiguous without an offset: write it like 2025-04-26T14:30:00Z."),
    401: ("not-authenticated", "The credential is unknown, has expired or was revoked: send another."),
    403: ("insufficient-scope", "This needs a credential with the scope readings:read."),
    404: ("unknown", "There is no such user: connect the user to a provider first."),
    406: ("not-acceptable", "This route answers application/json, text/csv and application/x-ndjson."),
    408: ("too-slow", "The body did not arrive within 10 seconds: send it again."),
    409: ("not-possible", "The connection is paused: set paused to false first."),
    410: ("cursor-expired", "Changes before 900 are not kept: read the readings as of the last change."),
    413: ("too-large", "The body is too large for this route."),
    421: (
        "unknown-host",
        "Without credentials, send one Host header with localhost, an IP address or a name in ALLOWED_HOSTS.",
    ),
    429: ("too-many-requests", "This credential exceeds its rate limit: wait for the seconds in Retry-After."),
    415: ("unsupported-media-type", "The body must be JSON: send Content-Type: application/json."),
    502: ("provider-misbehaved", "The provider's answer cannot be read: try again later."),
    503: ("store-unavailable", "The store does not answer: try again shortly."),
}


class ResponseExample(ResponseSpec):
    """Documented response with examples. It is immutable, so that Litestar's copies of a route can share it."""

    def __deepcopy__(self, memo: object) -> Self:
        return self


USER_PROBLEMS = (400, 401, 404, 503)
"""Statuses of the problems common to all routes of a user."""


def responses(
    description: str,
    body: Any,  # noqa: ANN401 - a type, or a union of types
    *examples: object,
    problems: tuple[int, ...] = (),
    status: int = 200,
    media_type: str = MediaType.JSON,
    public: bool = False,
) -> dict[int, ResponseExample]:
    """Return the documented responses of a route: the successful one, and its problems."""
    success = _response(description, body, *examples, media_type=media_type)
    return {status: success} | problem_responses(*problems, public=public)


def problem_responses(*statuses: int, public: bool = False) -> dict[int, ResponseExample]:
    """Return the documented problems of a route with an example each.

    A route that requires a credential (401) also has the problems of authorization and rate limit. ``public``: the
    route checks a signature or token itself (webhooks), so 401 does not imply these.
    """
    more = (403, 421, 429) if 401 in statuses and not public else ()
    return {status: _problem_response(status) for status in sorted({*statuses, *more})}


def page_responses(*statuses: int) -> dict[int, ResponseExample]:
    """Return the documented HTML pages of a route, for success and failure."""
    example = "<!doctype html><html>…</html>"
    return {
        status: _response(HTTPStatus(status).phrase, str, example, media_type=MediaType.HTML) for status in statuses
    }


def _problem_response(status: int) -> ResponseExample:
    slug, detail = _PROBLEM_EXAMPLES[status]
    example = {"type": slug, "title": slug.replace("-", " ").capitalize(), "status": status, "detail": detail}
    return _response(HTTPStatus(status).phrase, Problem, example, media_type=MEDIA_TYPE)


def _response(description: str, body: Any, *examples: object, media_type: str) -> ResponseExample:  # noqa: ANN401 - a type
    documented = [spec.Example(value=example) for example in examples]
    return ResponseExample(
        body, generate_examples=False, description=description, media_type=media_type, examples=documented
    )


def with_views(examples: Mapping[str, str]) -> type[spec.Operation]:
    """Return an operation class that documents views and further media types of a 200 response, with ``examples``.

    A full reading also fits the schema of a basic reading. Therefore `anyOf` replaces Litestar's `oneOf`, and the
    schema of the full reading is first: generated clients try the alternatives in this order.
    """

    @dataclass  # without it, __post_init__ is not called
    class InViews(spec.Operation):
        def __post_init__(self) -> None:
            success = (self.responses or {}).get("200")
            if isinstance(success, spec.OpenAPIResponse) and success.content is not None:
                for content in success.content.values():
                    if isinstance(content.schema, spec.Schema):
                        content.schema.any_of, content.schema.one_of = content.schema.one_of, None
                for media_type, example in examples.items():
                    success.content[media_type] = spec.OpenAPIMediaType(
                        schema=spec.Schema(type=OpenAPIType.STRING), examples={"example": spec.Example(value=example)}
                    )

    return InViews


class OpenAPIDocument(OpenAPIRenderPlugin):
    """The document in one form. It is rendered once, because anonymous clients may request it at any rate."""

    def __init__(
        self, render: Callable[[dict[str, Any]], bytes], media_type: OpenAPIMediaType | MediaType, *path: str
    ) -> None:
        super().__init__(path=path, media_type=media_type)
        self._render_form = render
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any] | None, openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002 - Litestar's
        if self._rendered is None:
            self._rendered = self._render_form(openapi_schema)
        return self._rendered


def render_documents(api: Litestar) -> None:
    """Render every form before the first request, which would otherwise stop the event loop for some 100 ms."""
    schema = cast("Any", api.plugins.get("OpenAPIPlugin")).provide_openapi_schema()  # Litestar keeps it
    for plugin in api.openapi_config.render_plugins if api.openapi_config else ():
        if isinstance(plugin, OpenAPIDocument):
            plugin.render(None, schema)


def _render_yaml(openapi_schema: dict[str, Any]) -> bytes:
    # builtins first: msgspec would encode times as YAML's own type, but they are texts, as in the JSON document
    return msgspec.yaml.encode(msgspec.to_builtins(openapi_schema))


def _render_page(openapi_schema: dict[str, Any], *, with_scripts: bool) -> bytes:
    return render_reference(msgspec.to_builtins(openapi_schema), with_scripts=with_scripts).encode()


async def _permit_scripts(response: Response[Any]) -> Response[Any]:
    """Set the policy of the reference. This is a coroutine, because Litestar runs other functions in a thread."""
    if response.media_type == MediaType.HTML:
        response.headers["Content-Security-Policy"] = SCRIPTED_POLICY
    return response


def build_config(version: str, *, with_scripts: bool) -> OpenAPIConfig:
    """Return the configuration.

    ``with_scripts``: the reference loads search and request forms from the web page's files.
    """
    return OpenAPIConfig(
        title="BG Ingest",
        version=version,
        description="Readings of continuous glucose monitors: the newest, any time range, and the connections "
        "they come through. Errors are RFC 9457 problem details with advice to the caller.",
        security=[{"bearer": []}],
        components=spec.Components(security_schemes={"bearer": spec.SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
        operation_id_creator=lambda route, _, __: route.handler_name,
        openapi_router=Router(
            "/schema",
            route_handlers=[],
            include_in_schema=False,
            opt=RouteOptions(public=True).opt(),
            after_request=_permit_scripts if with_scripts else None,
        ),
        render_plugins=[
            OpenAPIDocument(msgspec.json.encode, MediaType.JSON, "/", "/openapi.json"),
            OpenAPIDocument(_render_yaml, OpenAPIMediaType.OPENAPI_YAML, "/openapi.yaml", "/openapi.yml"),
            OpenAPIDocument(partial(_render_page, with_scripts=with_scripts), MediaType.HTML, "/page"),
        ],
    )
