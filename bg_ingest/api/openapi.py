"""What OpenAPI says beyond the handlers' signatures: the problems, the examples, the other formats."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Any, Self

from litestar import MediaType, Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType

from bg_ingest.api.auth import PUBLIC
from bg_ingest.api.html import render_document
from bg_ingest.api.problems import MEDIA_TYPE, Problem

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

LATEST_READING = FULL_READING | {
    "age_seconds": 312,
    "next_expected_at": "2025-04-26T14:40:09Z",
    "state": "live",
}

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
    408: ("too-slow", "The body was not here within 10 seconds: send it again."),
    409: ("not-possible", "The connection is paused: set paused to false first."),
    413: ("too-large", "The body is too large for this route."),
    421: ("unknown-host", "An API that is open to everybody is asked by localhost, an address, or HOST."),
    429: ("too-many-requests", "This credential has come too often: wait as long as Retry-After says."),
    415: ("unsupported-media-type", "The body must be JSON: send Content-Type: application/json."),
    502: ("provider-misbehaved", "The provider answered what we cannot read: try again later."),
    503: ("store-unavailable", "The store does not answer: try again shortly."),
}


class ResponseExample(ResponseSpec):
    """What a route may answer, with examples; never changed, so that the copies of a route share it."""

    def __deepcopy__(self, memo: object) -> Self:
        return self


def problem_responses(*statuses: int, guarded: bool = True) -> dict[int, ResponseExample]:
    """Return the problems a route may answer with, each with an example.

    A guarded route, one that asks who it is (401), may say three more things of them.
    """
    more = (403, 421, 429) if guarded and 401 in statuses else ()
    return {status: _problem_response(status) for status in sorted({*statuses, *more})}


def ok_response(container: Any, *values: object, description: str) -> ResponseExample:  # noqa: ANN401 - a type, or a union of them
    """Return a good answer's description with examples."""
    examples = [Example(value=value) for value in values]
    return ResponseExample(container, generate_examples=False, description=description, examples=examples)


def page_responses(*statuses: int) -> dict[int, ResponseExample]:
    """Return the pages a route may answer with, good and bad."""
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


def with_views(formats: Mapping[str, str]) -> type[Operation]:
    """Return the kind of operation whose good answer has several views, and other media types given by examples.

    What fits the full view fits the basic one too: any of them, where Litestar says just one.
    """

    @dataclass  # else nobody calls __post_init__
    class InViews(Operation):
        def __post_init__(self) -> None:
            good = (self.responses or {}).get("200")
            if isinstance(good, OpenAPIResponse) and good.content is not None:
                for each in good.content.values():
                    if isinstance(each.schema, Schema):
                        each.schema.any_of, each.schema.one_of = each.schema.one_of, None
                for media_type, example in formats.items():
                    good.content[media_type] = OpenAPIMediaType(
                        schema=Schema(type=OpenAPIType.STRING), examples={"example": Example(value=example)}
                    )

    return InViews


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


METHODS = ("get", "post", "put", "patch", "delete")


class ApiPage(OpenAPIRenderPlugin):
    """Every route on one page. Litestar's own pages make the browser load scripts from other hosts."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002 - Litestar's
        """Return the page."""
        info = openapi_schema["info"]
        intro = f'<p>{escape(info["description"])}</p><p>For programs: <a href="/schema">/schema</a>.</p>'
        return render_document(
            f"{info['title']} {info['version']}", intro + "".join(_render_routes(openapi_schema))
        ).encode()


def build_config(version: str) -> OpenAPIConfig:
    """Return what Litestar generates the schema from, beyond the routes themselves."""
    return OpenAPIConfig(
        title="BG Ingest",
        version=version,
        description="Readings of continuous glucose monitors: the newest, any time range, and the connections "
        "they come through. Errors are RFC 9457 problems whose detail says what to do.",
        security=[{"bearer": []}],
        components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, opt=PUBLIC),
        render_plugins=[
            JsonRenderPlugin(path=("/", "/openapi.json"), media_type=MediaType.JSON),
            YamlRenderPlugin(),
            ApiPage(path="/page"),
        ],
    )


def _render_routes(schema: dict[str, Any]) -> Iterator[str]:
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                yield _render_route(method, path, item[method])


def _render_route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [(f"{each['name']} ({each['in']})", each.get("description", "")) for each in operation.get("parameters", ())]
    rows += [(status, answer["description"]) for status, answer in operation["responses"].items()]
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    return (
        f"<h2>{escape(operation['summary'])}</h2><p><code>{method.upper()} {escape(path)}</code></p>"
        f"<p>{escape(operation.get('description', ''))}</p><table>{cells}</table>"
    )
