"""Reference of the API for a browser, from the OpenAPI document: navigation, parameters, bodies, examples, problems."""

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

import msgspec

from bg_ingest.api.html import render_document

_METHODS = ("get", "post", "put", "patch", "delete")
_SAMPLES = {"user_id": "ada", "provider": "$PROVIDER", "file": "main.js", "users": "ada,ben", "user": "ada"}
"""Values of parameters in the sample requests."""

_BODY_SAMPLES = {"users": ["ada", "ben"], "from": "2026-01-01", "after": {"ada": 0, "ben": None}, "paused": True}
"""Values of body fields in the sample requests. A sample has required fields and those of _SAMPLED_THOUGH_OPTIONAL."""
_WITHOUT_SAMPLE = ("/webhook", "/callback", "/verify")
"""Ends of paths whose requests need a signature, a state, or a window of the last days."""
_SAMPLED_THOUGH_OPTIONAL = {"paused"}


class Route(NamedTuple):
    """One operation of the document."""

    method: str
    path: str
    operation: dict[str, Any]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.method} {self.path}".lower()).strip("-")


_ENHANCEMENTS = (
    '<link rel="stylesheet" href="/page/reference.css"><script type="module" src="/page/reference.js"></script>'
)
"""Search, and forms that send the requests. The document is complete without them."""


def render_reference(schema: dict[str, Any], *, with_scripts: bool) -> str:
    """Return the page. It loads files from this service only; Litestar's own pages load scripts from other hosts."""
    groups: dict[str, list[Route]] = {}
    for path, item in schema["paths"].items():
        for method in _METHODS:
            if method in item:
                route = Route(method.upper(), path, item[method])
                groups.setdefault(route.operation["tags"][0], []).append(route)
    info, schemas = schema["info"], schema["components"]["schemas"]
    sections = "".join(
        f"<section><h2>{_title(tag)}</h2>{''.join(_render_route(route, schemas) for route in routes)}</section>"
        for tag, routes in groups.items()
    )
    html = (
        f'<p><a href="/">Start page</a></p><p>{escape(info["description"])}</p>'
        '<p>For programs: <a href="/schema">/schema</a> (OpenAPI). The samples need shell variables: '
        "<code>URL</code> is the address of this service and <code>KEY</code> an API key. <code>PROVIDER</code>, only "
        "for connections, is the name of the provider in the list of a user's connections. An open development service "
        "needs no key.</p>"
        f'<div class="reference"><nav aria-label="Routes">{"".join(_render_links(groups))}</nav>'
        f"<div>{sections}</div></div>"
    )
    return render_document(f"{info['title']} {info['version']}", html, _ENHANCEMENTS if with_scripts else "")


def _render_links(groups: dict[str, list[Route]]) -> Iterator[str]:
    for tag, routes in groups.items():
        links = "".join(
            f'<li><a href="#{route.anchor}">{escape(route.operation["summary"])}</a></li>' for route in routes
        )
        yield f"<h2>{_title(tag)}</h2><ul>{links}</ul>"


def _render_route(route: Route, schemas: dict[str, Any]) -> str:
    operation = route.operation
    parameters = [
        (
            f"<code{_parameter_data(parameter)}>{escape(parameter['name'])}</code>",
            parameter["in"] + (", required" if parameter["required"] else ""),
            _inline(parameter.get("description", "")),
        )
        for parameter in operation.get("parameters", ())
    ]
    answers = [(f"<code>{status}</code>", _inline(answer["description"])) for status, answer in _answers(operation)]
    return (
        f'<article id="{route.anchor}"{_route_data(route, schemas)}><h3>{escape(operation["summary"])}</h3>'
        f"<p><code>{route.method} {escape(route.path)}</code></p>"
        f'<p class="description">{_inline(operation.get("description", ""))}</p>'
        f"{_render_table('Parameters', ('Name', 'Place', 'Meaning'), parameters)}"
        f"{_render_table('Body', ('Field', 'Type'), _body_fields(operation, schemas))}"
        f"{_render_sample(route, schemas)}"
        f"{_render_table('Answers', ('Status', 'Meaning'), answers)}"
        f"{''.join(_render_examples(operation))}</article>"
    )


def _parameter_data(parameter: dict[str, Any]) -> str:
    """Return the attributes of a parameter's name, for the request form that ``reference.js`` builds."""
    sample = _SAMPLES.get(parameter["name"], "")
    given = f' data-sample="{escape(sample)}"' if sample and not sample.startswith("$") else ""
    return f' data-place="{parameter["in"]}"{given}{" data-required" if parameter["required"] else ""}'


def _route_data(route: Route, schemas: dict[str, Any]) -> str:
    """Return the attributes of a route, for the request form that ``reference.js`` builds."""
    types = [
        media_type
        for status, answer in _answers(route.operation)
        if status < "3"
        for media_type in answer.get("content", ())
    ]
    data = {"method": route.method, "path": route.path, "accept": " ".join(dict.fromkeys(types))}
    if "application/json" in route.operation.get("requestBody", {}).get("content", {}):
        body = _sample_body(_body_schema(route.operation, schemas))
        data["body"] = msgspec.json.encode(body).decode() if body else ""
    return "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())


def _answers(operation: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    return sorted(operation["responses"].items())


def _body_schema(operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a JSON body; empty for a body that the document does not describe."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    options = [schema, *schema.get("oneOf", ())]
    name = next((option["$ref"].rpartition("/")[2] for option in options if "$ref" in option), "")
    described: dict[str, Any] = schemas.get(name, {})
    return described


def _body_fields(operation: dict[str, Any], schemas: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the fields of a JSON body and their types."""
    described = _body_schema(operation, schemas)
    required = described.get("required", ())
    return [
        (f"<code>{escape(field)}</code>", escape(_type_of(value)) + (", required" if field in required else ""))
        for field, value in described.get("properties", {}).items()
    ]


def _type_of(schema: dict[str, Any]) -> str:
    if options := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type_of(option) for option in options))
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return ", ".join("null" if value is None else str(value) for value in schema["enum"])
    return str(schema.get("format") or schema.get("type") or "any")


def _render_sample(route: Route, schemas: dict[str, Any]) -> str:
    if route.path.endswith(_WITHOUT_SAMPLE):
        return ""
    return _render_code("Sample request", _sample_request(route, schemas))


def _sample_request(route: Route, schemas: dict[str, Any]) -> str:
    path = re.sub(r"\{(\w+)\}", lambda match: _SAMPLES.get(match[1], match[1]), route.path)
    query = [
        f"{parameter['name']}={_SAMPLES.get(parameter['name'], '…')}"
        for parameter in route.operation.get("parameters", ())
        if parameter["in"] == "query" and (parameter["required"] or parameter["name"] in _SAMPLES)
    ]
    method = "" if route.method == "GET" else f"-X {route.method} "
    header = "" if route.operation.get("security") == [{}] else '-H "Authorization: Bearer $KEY" '
    sample = _sample_body(_body_schema(route.operation, schemas))
    body = f"-H 'Content-Type: application/json' -d '{msgspec.json.encode(sample).decode()}' " if sample else ""
    return f'curl -s {method}{header}{body}"$URL{path}{"?" if query else ""}{"&".join(query)}"'


def _sample_body(described: dict[str, Any]) -> dict[str, Any]:
    fields = {*described.get("required", ()), *(_SAMPLED_THOUGH_OPTIONAL & described.get("properties", {}).keys())}
    return {name: value for name, value in _BODY_SAMPLES.items() if name in fields}


def _render_examples(operation: dict[str, Any]) -> Iterator[str]:
    """Yield an example of each media type of the successful answer."""
    for status, answer in _answers(operation):
        if status.startswith("2"):
            for media_type, content in answer.get("content", {}).items():
                for example in list(content.get("examples", {}).values())[:1]:
                    value = example["value"]
                    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value)).decode()
                    yield _render_code(f"Example of {status}, {media_type}", text)


def _render_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    return f"<table><caption>{caption}</caption><tr>{titles}</tr>{body}</table>" if body else ""


def _render_code(title: str, text: str) -> str:
    return f"<h4>{escape(title)}</h4><pre tabindex=0><code>{escape(text)}</code></pre>"


def _inline(text: str) -> str:
    """Return the HTML of a text; backquotes mark code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _title(tag: str) -> str:
    return escape(tag[:1].upper() + tag[1:])
