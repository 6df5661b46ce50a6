"""Options of a route and its documented responses."""

from litestar import get
from litestar.openapi.spec import Example

from bg_ingest.api.routes import RouteOptions, page_responses, problem_responses, responses
from bg_ingest.domain.access import Scope


def test_options_are_read_back_from_a_route() -> None:
    options = RouteOptions(scope=Scope.ADMIN, lenient_query=True)

    @get("/declared", opt=options.opt(), sync_to_thread=False)
    def declared() -> None: ...

    assert RouteOptions.of(declared) == options


def test_a_route_without_options_is_closed() -> None:
    @get("/undeclared", sync_to_thread=False)
    def undeclared() -> None: ...

    options = RouteOptions.of(undeclared)
    assert (options.scope, options.public) == (None, False)


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
    documented = responses(str, "a", "b", description="A letter.", problems=(400,), status=202, media_type="text/plain")
    assert set(documented) == {202, 400}
    success = documented[202]
    assert (success.data_container, success.description, success.media_type) == (str, "A letter.", "text/plain")
    assert success.examples == [Example(value="a"), Example(value="b")]


def test_pages_are_html_in_success_and_failure() -> None:
    assert {status: page.media_type for status, page in page_responses(200, 404).items()} == {
        200: "text/html",
        404: "text/html",
    }
