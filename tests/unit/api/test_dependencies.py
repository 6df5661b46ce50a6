"""Handlers receive the services that they name, and routes their options."""

from dataclasses import fields
from typing import Any, get_args, get_type_hints

from litestar import get
from litestar.datastructures import State
from litestar.routes import HTTPRoute

from bg_ingest.api.dependencies import RouteOptions, provide_services
from bg_ingest.domain.access import Scope
from bg_ingest.services import Services
from tests.harness.api import ApiHarness


async def test_an_argument_has_the_type_of_the_field_that_it_names(api: ApiHarness) -> None:
    types = get_type_hints(Services)
    checked = set()
    for route in api.app.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            for name, annotation in handler.fn.__annotations__.items():
                if name in types:
                    assert get_args(annotation)[0] is types[name], (route.path, name)
                    checked.add(name)
    assert checked >= {"reader", "completeness", "connector", "connections", "timelines", "eraser", "verifier"}


async def test_dependencies_are_resolved_without_a_task_for_each(api: ApiHarness) -> None:
    routes = [route for route in api.app.routes if isinstance(route, HTTPRoute)]
    handlers = [arguments for route in routes for _, arguments in route.route_handler_map.values()]
    assert max(len(arguments.dependency_batches) for arguments in handlers) > 1
    assert {len(batch) for arguments in handlers for batch in arguments.dependency_batches} == {1}


async def test_dependencies_follow_the_state() -> None:
    state = State()
    provided = provide_services(state)
    assert {field.name for field in fields(Services)} <= set(provided)
    services: Any = type("Fake", (), {"reader": "the first"})
    state.services = services
    assert await provided["reader"]() == "the first"
    services.reader = "the second"
    assert await provided["reader"]() == "the second"


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
