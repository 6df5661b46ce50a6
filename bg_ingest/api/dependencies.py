"""Declaration of a route: arguments of its handler, and options for the checks around the handler."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Annotated, Self, TypeAlias, TypeVar

from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import PathParameter, SkipValidation
from litestar.routes import BaseRoute, HTTPRoute

from bg_ingest.domain.access import AuditAction, Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.services import Services

Given = TypeVar("Given")
Use: TypeAlias = SkipValidation[Given]
"""Type of a handler's argument that Litestar fills, by the argument's name, with a dependency of `provide_services`."""
User: TypeAlias = Annotated[
    UserId,
    PathParameter(
        description="Our own id of the person: 1 to 128 of letters, digits and ._:@|-",
        # documentation only: validation.check_user enforces it
        schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._:@|-]{0,127}$"},
    ),
]
ProviderName: TypeAlias = Annotated[
    str,
    PathParameter(
        description="A provider's name, a short word in lower case.",
        schema_extra={"pattern": "^[a-z][a-z0-9_-]{0,31}$"},
    ),
]


def provide_services(state: State) -> dict[str, Provide]:
    """Return Litestar's dependencies under their names: each field of `Services`, and the other shared objects.

    The dependencies read the application's state at each request, because the services open after the routes are
    built. The state is an argument of this function and not of each dependency, because Litestar reserves the argument
    name `state` in dependencies.
    """

    def provide(path: str) -> Provide:
        read = attrgetter(path)
        return Provide(lambda: read(state), sync_to_thread=False)

    shared = ("process_health", "exposition", "long_answers", "dataset_slots", "page_files")
    use_cases = {field.name: provide(f"services.{field.name}") for field in fields(Services)}
    return use_cases | {name: provide(name) for name in shared}


def resolve_without_tasks(routes: Iterable[BaseRoute]) -> None:
    """Let the dependencies of a handler be resolved one after another.

    Litestar starts a task for each dependency of a handler that has several. Our dependencies only read an attribute,
    which takes a fraction of the time of a task.
    """
    for route in routes:
        if isinstance(route, HTTPRoute):
            for _, arguments in route.route_handler_map.values():
                batches = arguments.dependency_batches
                arguments.dependency_batches = [{dependency} for batch in batches for dependency in batch]


@dataclass(frozen=True)
class RouteOptions:
    """Properties of a route, for guard, validation and audit. A route without options refuses every caller."""

    scope: Scope | None = None
    """Scope that the caller's credential must have."""
    public: bool = False
    """Answers without a credential."""
    many_users: bool = False
    """Concerns several users. A credential for some users only is accepted too: the handler checks each user."""
    any_origin: bool = False
    """A public route that answers under every host name, and to pages of every origin, even while the API is open.

    Such a route reveals no user data, or checks its requests itself. Other public routes obey `LocalAccess` while the
    API is open.
    """
    rate_key: str | None = None
    """Name of the rate limit that all requests of a public route share. None: no limit."""
    lenient_query: bool = False
    """Ignores unknown query parameters, as RFC 6749 requires of an OAuth callback.

    A known parameter must still not occur twice (section 3.1), because two codes or states are ambiguous.
    """
    audited_as: AuditAction | None = None
    """Kind of audit record. By default the method decides: GET and HEAD read, others change."""

    def opt(self) -> dict[str, Self]:
        return {"options": self}

    @staticmethod
    def of(route: BaseRouteHandler) -> "RouteOptions":
        options: RouteOptions = route.opt.get("options", _CLOSED)
        return options


_CLOSED = RouteOptions()
