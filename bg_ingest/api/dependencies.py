"""Arguments of handlers: parts of the path, and use cases by the name of the argument."""

from dataclasses import fields
from typing import Annotated, TypeAlias, TypeVar

from litestar.datastructures import State
from litestar.di import Provide
from litestar.params import PathParameter, SkipValidation

from bg_ingest.domain.ids import UserId
from bg_ingest.services import Services

Given = TypeVar("Given")
Use: TypeAlias = SkipValidation[Given]
User: TypeAlias = Annotated[
    UserId,
    PathParameter(
        description="Our own id of the person: 1 to 128 of letters, digits and ._:@|-",
        schema_extra={
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@|-]{0,127}$"
        },  # documentation only: validation.check_user enforces it
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

    They read the application's state at each request, because the services open after the routes are built.
    Litestar reserves the argument name `state`, therefore the state arrives here and not in each provider.
    """

    def provide(name: str) -> Provide:
        return Provide(lambda: getattr(state.services, name), sync_to_thread=False)

    def provide_shared(name: str) -> Provide:
        return Provide(lambda: getattr(state, name), sync_to_thread=False)

    shared = ("process_health", "webhook_guard", "exposition")
    use_cases = {field.name: provide(field.name) for field in fields(Services)}
    return use_cases | {name: provide_shared(name) for name in shared}
