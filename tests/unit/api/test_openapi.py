"""GET /schema and docs/api.md describe exactly the existing routes."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.openapi.spec import Example
from litestar.routes import HTTPRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from bg_ingest.api.app import build_state, create_api
from bg_ingest.api.auth import Access
from bg_ingest.api.openapi import page_responses, problem_responses, render_documents, responses
from tests.harness.api import ApiHarness, FakeProcessHealth
from tests.unit.api.test_app import client
from tests.unit.api.test_callback import assert_harmless

DOCUMENT = (Path(__file__).parents[3] / "docs" / "api.md").read_text("utf-8")

RAISED_PROBLEM = r'(?:build_problem\(\s*\d+,\s*|Problem\(\s*|^    \d+: \()"([a-z-]+)"'


def routes_of(app: Litestar) -> set[tuple[str, str]]:
    """Return method and path of every route, but Litestar's own for OPTIONS and for unknown paths."""
    return {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS"}
        if "{path:" not in route.path
    }


@pytest.fixture
async def schema(api: ApiHarness) -> dict[str, Any]:
    answer = await api.http.get("/schema")
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def operations(schema: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): each for path, item in schema["paths"].items() for method, each in item.items()}


async def test_the_document_has_every_route_and_no_other(api: ApiHarness) -> None:
    rows = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", DOCUMENT, re.MULTILINE)
    assert sorted(rows) == sorted(routes_of(api.app))


async def test_the_document_names_every_parameter_and_status(schema: dict[str, Any]) -> None:
    for (method, path), operation in operations(schema).items():
        (row,) = re.findall(rf"^\| `{method} {re.escape(path)}` \|.*$", DOCUMENT, re.MULTILINE)
        for parameter in operation.get("parameters", ()):
            assert parameter["name"] in row, (method, path)
        refusals = {status for status in operation["responses"] if status >= "400"}
        common = {"403", "421", "429"} if "401" in refusals else set()
        assert {*re.findall(r"\b[45]\d\d\b", row.split("|")[4])} - common == refusals - common, (method, path)


def test_the_document_names_every_problem() -> None:
    sources = Path(__file__).parents[3] / "bg_ingest" / "api"
    raised = {
        slug
        for path in sources.glob("*.py")
        for slug in re.findall(RAISED_PROBLEM, path.read_text("utf-8"), re.MULTILINE)
    }
    documented = set(re.findall(r"^\| `([a-z-]+)` \| \d+", DOCUMENT, re.MULTILINE))
    assert len(raised) > 20
    assert documented == raised


@pytest.mark.slow
async def test_it_is_valid_openapi_3_1_with_every_route(api: ApiHarness, schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(schema).validate()
    assert set(operations(schema)) == {each for each in routes_of(api.app) if not each[1].startswith("/schema")}


async def test_every_good_answer_with_a_body_has_an_example(schema: dict[str, Any]) -> None:
    for where, operation in operations(schema).items():
        for status, answer in operation["responses"].items():
            for media_type, content in (answer.get("content") or {}).items():
                assert content.get("examples"), (where, status, media_type)


async def test_the_range_is_described_in_all_its_formats(schema: dict[str, Any]) -> None:
    content = schema["paths"]["/api/bg/{user_id}"]["get"]["responses"]["200"]["content"]
    columnar = {"application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"}
    assert set(content) == {"application/json", "text/csv", "application/x-ndjson"} | columnar


async def test_problems_are_described_as_they_come(schema: dict[str, Any]) -> None:
    for where, operation in operations(schema).items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and where[1] != "/api/oauth/{provider}/callback":
                assert set(answer["content"]) == {"application/problem+json"}, (where, status)


async def test_what_needs_credentials_says_so(schema: dict[str, Any]) -> None:
    assert schema["security"] == [{"bearer": []}]
    public = {path for (_, path), each in operations(schema).items() if each.get("security") == [{}]}
    assert public == {
        "/",
        "/page/{file}",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/api/oauth/{provider}/callback",
        "/api/bg/{user_id}/webhook",
    }


async def test_the_page_lists_every_route_and_leaves_this_host_for_nothing(api: ApiHarness) -> None:
    page = await api.http.get("/schema/page")
    assert re.findall(r"<(?:script|link)[^>]*>", page.text) == [
        '<link rel="stylesheet" href="/page/reference.css">',
        '<script type="module" src="/page/reference.js">',
    ]
    for method, path in routes_of(api.app):
        assert path.startswith("/schema") or f"<code>{method} {path}</code>" in page.text
    assert re.findall(r"url\(|@import|(?:src|action|href)=(?!\"(?:/|#)[\"a-z])", page.text) == []


async def test_without_the_page_the_reference_has_no_script() -> None:
    state = build_state(access=Access.CLOSED, process_health=FakeProcessHealth(), page_enabled=False)
    async with client(create_api(state)) as http:
        assert_harmless(await http.get("/schema/page"))


async def test_the_page_leads_to_each_route_and_has_its_parameters_bodies_and_examples(api: ApiHarness) -> None:
    page = (await api.http.get("/schema/page")).text
    targets, places = re.findall(r'href="#([^"]+)"', page), re.findall(r'<article id="([^"]+)"', page)
    assert targets == places
    assert len(set(places)) == len([path for _, path in routes_of(api.app) if not path.startswith("/schema")])
    article = page.partition('<article id="get-api-bg-user-id" ')[2].partition("</article>")[0]
    for shown in (
        '<code data-place="query">as_of_change</code>',
        '<code data-place="path" data-sample="ada" data-required>user_id</code>',
        "query",
        "path, required",
        "Example of 200, text/csv",
        "$URL/api/bg/ada&quot;",
    ):
        assert shown in article
    body = page.partition('<article id="post-api-dataset" ')[2].partition("</article>")[0]
    assert "<code>users</code>" in body
    assert "-d &#x27;{&quot;users&quot;:[&quot;ada&quot;,&quot;ben&quot;]" in body


def test_a_route_with_credentials_has_the_problems_of_authorization_too() -> None:
    assert set(problem_responses(401, 503)) == {401, 403, 421, 429, 503}
    assert set(problem_responses(401, 503, public=True)) == {401, 503}
    assert set(problem_responses(400)) == {400}


def test_each_problem_has_an_example_of_its_status() -> None:
    for status, response in problem_responses(400, 401, 404, 406, 408, 409, 413, 415, 502, 503).items():
        assert response.examples
        example = response.examples[0]
        assert isinstance(example.value, dict)
        assert example.value["status"] == status
        assert example.value["detail"].endswith(".")


def test_the_successful_response_is_documented_beside_the_problems() -> None:
    documented = responses("A letter.", str, "a", "b", problems=(400,), status=202, media_type="text/plain")
    assert set(documented) == {202, 400}
    success = documented[202]
    assert (success.data_container, success.description, success.media_type) == (str, "A letter.", "text/plain")
    assert success.examples == [Example(value="a"), Example(value="b")]


def test_pages_are_html_in_success_and_failure() -> None:
    assert {status: page.media_type for status, page in page_responses(200, 404).items()} == {
        200: "text/html",
        404: "text/html",
    }


def alternatives(node: Any) -> list[list[dict[str, Any]]]:
    """Return the alternatives of every schema that has some."""
    if isinstance(node, list):
        return [found for item in node for found in alternatives(item)]
    if not isinstance(node, dict):
        return []
    here = [list(node[name]) for name in ("anyOf", "oneOf") if isinstance(node.get(name), list)]
    return here + [found for item in node.values() for found in alternatives(item)]


def object_of(alternative: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the object of an alternative, or of the items of its array."""
    while "$ref" in alternative or alternative.get("type") == "array":
        name = alternative["$ref"].rpartition("/")[2] if "$ref" in alternative else ""
        alternative = document["components"]["schemas"][name] if name else alternative["items"]
    return alternative


async def test_f31_a_generated_client_reads_every_field_of_each_alternative(schema: dict[str, Any]) -> None:
    """Such clients take the first alternative whose required fields are present, and drop or bundle other fields."""
    compared = 0
    for options in alternatives(schema):
        objects = [found for found in (object_of(each, schema) for each in options) if found.get("properties")]
        for index, first in enumerate(objects):
            for later in objects[index + 1 :]:
                compared += 1
                accepts = set(first.get("required", ())) <= set(later["properties"])
                assert not accepts or first.get("additionalProperties") is False, (first, later)
    assert compared >= 2


async def test_s1_each_form_of_the_document_is_the_same_at_every_request(api: ApiHarness) -> None:
    document = (await api.http.get("/schema")).json()
    for path in ("/schema/openapi.yaml", "/schema/openapi.yml"):
        answers = [await api.http.get(path) for _ in range(2)]
        assert answers[0].content == answers[1].content
        assert msgspec.yaml.decode(answers[0].content) == document
    assert (await api.http.get("/schema/openapi.json")).json() == document


@pytest.mark.slow
async def test_s1_documents_are_rendered_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    state = build_state(access=Access.CLOSED, process_health=FakeProcessHealth())
    app = create_api(state)
    render_documents(app)
    monkeypatch.setattr("bg_ingest.api.openapi.render_reference", pytest.fail)
    async with client(app) as http:
        assert (await http.get("/schema/page")).status_code == 200
