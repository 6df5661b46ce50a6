"""HTTP interface without prose: paths, parameters, statuses, properties, enums; problem types; routes and scopes."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
from litestar.routes import HTTPRoute

from bg_ingest.api.auth import Access
from bg_ingest.domain.access import Scope
from tests.fakes.fake_provider import FakeProvider
from tests.harness.api import open_api

PROSE = {"description", "summary", "title", "example", "examples", "operationId", "tags", "externalDocs"}
NAMED = {"properties", "patternProperties", "responses", "content", "headers", "paths", "channels", "messages"}
"""Fields whose keys are names, also where a name is that of a prose field."""

ROOT = Path(__file__).parents[2]


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI or AsyncAPI document without prose, each reference replaced by its target."""
    stripped = _plain(document, document, ())
    assert isinstance(stripped, dict)
    components = stripped.get("components", {})
    components.pop("schemas", None)
    components.pop("messages", None)
    return stripped


def _plain(node: Any, document: dict[str, Any], above: tuple[str, ...], *, named: bool = False) -> Any:
    if isinstance(node, list):
        items = [_plain(item, document, above) for item in node]
        return sorted(items, key=_sort_key) if all(isinstance(item, dict | str) for item in items) else items
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and not named:
        if reference in above:
            return "<recursive>"
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        return _plain(target, document, (*above, reference))
    return {
        str(name): _plain(item, document, above, named=not named and name in NAMED)
        for name, item in node.items()
        if named or name not in PROSE
    }


def _sort_key(item: Any) -> bytes:
    return msgspec.json.encode(item, order="deterministic")


async def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the service."""
    async with open_api(acme=FakeProvider()) as api:
        document: dict[str, Any] = (await api.http.get("/schema/openapi.json")).json()
        return plain(document)


async def routes() -> dict[str, Any]:
    """Return for every route the statuses for callers without credential and with a single scope."""
    found: dict[str, Any] = {}
    async with open_api(Access.CLOSED, acme=FakeProvider()) as api:
        tokens = {
            str(scope): (await api.services.api_keys.create(scope, [scope])).text.reveal() for scope in sorted(Scope)
        }
        await anyio.sleep(2)
        for route in api.app.routes:
            if not isinstance(route, HTTPRoute) or "{path:" in route.path:
                continue
            for method in sorted(set(route.methods) - {"OPTIONS", "HEAD"}):
                path = route.path_format.format(user_id="nobody", provider="acme", file="main.js")
                answers = {"without": (await api.http.request(method, path)).status_code}
                for scope, token in tokens.items():
                    headers = {"Authorization": f"Bearer {token}"}
                    answers[scope] = (await api.http.request(method, path, headers=headers)).status_code
                found[f"{method} {route.path_format}"] = answers
    return found


def problem_types() -> list[list[Any]]:
    """Return every problem type of the source with its status: a status and a word beside each other."""
    found: set[tuple[str, int]] = set()
    for path in sorted((ROOT / "bg_ingest" / "api").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found.update(_in_call(node))
            found.update(_in_mapping(node))
    return sorted(list(pair) for pair in found)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _in_call(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Call):
        values = [_constant(argument) for argument in node.args[:3]]
        for status in values:
            if isinstance(status, int) and 400 <= status < 600:
                for word in values[:2]:
                    if isinstance(word, str) and word.islower() and " " not in word:
                        yield word, status


def _in_mapping(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Dict):
        for name, value in zip(node.keys, node.values, strict=True):
            status = _constant(name) if name is not None else None
            if isinstance(status, int) and isinstance(value, ast.Tuple):
                word = _constant(value.elts[0])
                if isinstance(word, str):
                    yield word, status
