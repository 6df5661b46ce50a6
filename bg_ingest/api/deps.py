"""What handlers are given: parts of the path, and the use cases by the name of the handler's argument."""

from collections.abc import Mapping
from typing import Annotated, Protocol, TypeAlias, TypeVar

from litestar.di import Provide
from litestar.params import PathParameter, SkipValidation

from bg_ingest.domain.ids import UserId
from bg_ingest.ports import Vitals
from bg_ingest.services.admission import Admission
from bg_ingest.services.audit import Auditing
from bg_ingest.services.backfill import Backfilling
from bg_ingest.services.completeness import Completeness
from bg_ingest.services.connect import Connecting
from bg_ingest.services.erase import Erasing
from bg_ingest.services.export import Exporting
from bg_ingest.services.read import Reader
from bg_ingest.services.receive import Receiving
from bg_ingest.services.steer import Steering
from bg_ingest.services.timeline import Timelines
from bg_ingest.services.verify import Verifying

Given = TypeVar("Given")
Use: TypeAlias = SkipValidation[Given]
User: TypeAlias = Annotated[
    UserId,
    PathParameter(
        description="Our own id of the person: 1 to 128 of letters, digits and ._:@|-",
        schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._:@|-]{0,127}$"},  # for readers; what holds is in checks.py
    ),
]
ProviderName: TypeAlias = Annotated[
    str,
    PathParameter(
        description="A provider's name, a short word in lower case.",
        schema_extra={"pattern": "^[a-z][a-z0-9_-]{0,31}$"},
    ),
]


class Services(Protocol):
    """The use cases that can be asked for over HTTP."""

    @property
    def admission(self) -> Admission: ...

    @property
    def reader(self) -> Reader: ...

    @property
    def completeness(self) -> Completeness: ...

    @property
    def verifying(self) -> Verifying: ...

    @property
    def backfilling(self) -> Backfilling: ...

    @property
    def connecting(self) -> Connecting: ...

    @property
    def steering(self) -> Steering: ...

    @property
    def timelines(self) -> Timelines: ...

    @property
    def receiving(self) -> Receiving: ...

    @property
    def erasing(self) -> Erasing: ...

    @property
    def exporting(self) -> Exporting: ...

    @property
    def auditing(self) -> Auditing: ...


def provided(services: Services, vitals: Vitals) -> Mapping[str, Provide]:
    """Return Litestar's dependencies: each request gets the same objects."""
    return {
        "reader": Provide(lambda: services.reader, sync_to_thread=False),
        "completeness": Provide(lambda: services.completeness, sync_to_thread=False),
        "verifying": Provide(lambda: services.verifying, sync_to_thread=False),
        "backfilling": Provide(lambda: services.backfilling, sync_to_thread=False),
        "connecting": Provide(lambda: services.connecting, sync_to_thread=False),
        "steering": Provide(lambda: services.steering, sync_to_thread=False),
        "timelines": Provide(lambda: services.timelines, sync_to_thread=False),
        "receiving": Provide(lambda: services.receiving, sync_to_thread=False),
        "erasing": Provide(lambda: services.erasing, sync_to_thread=False),
        "exporting": Provide(lambda: services.exporting, sync_to_thread=False),
        "auditing": Provide(lambda: services.auditing, sync_to_thread=False),
        "vitals": Provide(lambda: vitals, sync_to_thread=False),
    }
