"""OpenAPI document: configuration, examples of bodies, further media types, and its page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from litestar import MediaType, Request, Router
from litestar.openapi import OpenAPIConfig
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

from bg_ingest.api.html import render_document
from bg_ingest.api.routes import RouteOptions

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


def with_views(formats: Mapping[str, str]) -> type[Operation]:
    """Return an operation class for a 200 with several views and further media types, given by examples.

    Each full reading also fits the schema of the basic one. Therefore `anyOf` replaces Litestar's `oneOf`.
    """

    @dataclass  # without it, __post_init__ is not called
    class InViews(Operation):
        def __post_init__(self) -> None:
            success = (self.responses or {}).get("200")
            if isinstance(success, OpenAPIResponse) and success.content is not None:
                for content in success.content.values():
                    if isinstance(content.schema, Schema):
                        content.schema.any_of, content.schema.one_of = content.schema.one_of, None
                for media_type, example in formats.items():
                    success.content[media_type] = OpenAPIMediaType(
                        schema=Schema(type=OpenAPIType.STRING), examples={"example": Example(value=example)}
                    )

    return InViews


METHODS = ("get", "post", "put", "patch", "delete")


class ApiPage(OpenAPIRenderPlugin):
    """Page of all routes. Litestar's own pages load scripts from other hosts."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002 - Litestar's
        info = openapi_schema["info"]
        intro = f'<p>{escape(info["description"])}</p><p>For programs: <a href="/schema">/schema</a>.</p>'
        return render_document(
            f"{info['title']} {info['version']}", intro + "".join(_render_routes(openapi_schema))
        ).encode()


def build_config(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="BG Ingest",
        version=version,
        description="Readings of continuous glucose monitors: the newest, any time range, and the connections "
        "they come through. Errors are RFC 9457 problems whose detail says what to do.",
        security=[{"bearer": []}],
        components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
        use_handler_docstrings=True,
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, opt=RouteOptions(public=True).opt()
        ),
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
    rows = [
        (f"{parameter['name']} ({parameter['in']})", parameter.get("description", ""))
        for parameter in operation.get("parameters", ())
    ]
    rows += [(status, answer["description"]) for status, answer in operation["responses"].items()]
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    return (
        f"<h2>{escape(operation['summary'])}</h2><p><code>{method.upper()} {escape(path)}</code></p>"
        f"<p>{escape(operation.get('description', ''))}</p><table>{cells}</table>"
    )
