"""GET /schema: OpenAPI 3.1 for programs, and a plain page of it for people."""

from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import MediaType, Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from bg_ingest.api.auth import PUBLIC
from bg_ingest.api.pages import document

METHODS = ("get", "post", "put", "patch", "delete")


class Listing(OpenAPIRenderPlugin):
    """Every route on one page. Litestar's own pages make the browser load scripts from other hosts."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002 - Litestar's
        """Return the page."""
        info = openapi_schema["info"]
        intro = f'<p>{escape(info["description"])}</p><p>For programs: <a href="/schema">/schema</a>.</p>'
        return document(f"{info['title']} {info['version']}", intro + "".join(_routes(openapi_schema))).encode()


def config(version: str) -> OpenAPIConfig:
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
            Listing(path="/page"),
        ],
    )


def _routes(schema: dict[str, Any]) -> Iterator[str]:
    for path, item in schema["paths"].items():
        for method in METHODS:
            if method in item:
                yield _route(method, path, item[method])


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [(f"{each['name']} ({each['in']})", each.get("description", "")) for each in operation.get("parameters", ())]
    rows += [(status, answer["description"]) for status, answer in operation["responses"].items()]
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    return (
        f"<h2>{escape(operation['summary'])}</h2><p><code>{method.upper()} {escape(path)}</code></p>"
        f"<p>{escape(operation.get('description', ''))}</p><table>{cells}</table>"
    )
