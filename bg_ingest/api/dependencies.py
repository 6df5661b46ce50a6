"""What handlers are given: parts of the path, and the use cases by the name of the handler's argument."""

from collections.abc import Mapping
from typing import Annotated, Protocol, TypeAlias, TypeVar

from litestar.di import Provide
from litestar.params import PathParameter, SkipValidation

from bg_ingest.domain.ids import UserId
from bg_ingest.ports import ProcessHealth
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.access.authenticate import Authenticator
from bg_ingest.services.connections.connect import Connector
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.services.connections.export import Exporter
from bg_ingest.services.connections.manage import BackfillRequester, ConnectionService
from bg_ingest.services.polling.webhooks import WebhookReceiver
from bg_ingest.services.queries.completeness import CompletenessQueries
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.services.queries.timeline import TimelineQueries
from bg_ingest.services.queries.verify import Verifier

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
    def authenticator(self) -> Authenticator: ...

    @property
    def reader(self) -> ReadingQueries: ...

    @property
    def completeness(self) -> CompletenessQueries: ...

    @property
    def verifier(self) -> Verifier: ...

    @property
    def backfill_requester(self) -> BackfillRequester: ...

    @property
    def connector(self) -> Connector: ...

    @property
    def connections(self) -> ConnectionService: ...

    @property
    def timelines(self) -> TimelineQueries: ...

    @property
    def webhook_receiver(self) -> WebhookReceiver: ...

    @property
    def eraser(self) -> Eraser: ...

    @property
    def exporter(self) -> Exporter: ...

    @property
    def audit_log(self) -> AuditLog: ...


def provide(services: Services, process_health: ProcessHealth) -> Mapping[str, Provide]:
    """Return Litestar's dependencies: each request gets the same objects."""
    return {
        "reader": Provide(lambda: services.reader, sync_to_thread=False),
        "completeness": Provide(lambda: services.completeness, sync_to_thread=False),
        "verifier": Provide(lambda: services.verifier, sync_to_thread=False),
        "backfill_requester": Provide(lambda: services.backfill_requester, sync_to_thread=False),
        "connector": Provide(lambda: services.connector, sync_to_thread=False),
        "connections": Provide(lambda: services.connections, sync_to_thread=False),
        "timelines": Provide(lambda: services.timelines, sync_to_thread=False),
        "webhook_receiver": Provide(lambda: services.webhook_receiver, sync_to_thread=False),
        "eraser": Provide(lambda: services.eraser, sync_to_thread=False),
        "exporter": Provide(lambda: services.exporter, sync_to_thread=False),
        "audit_log": Provide(lambda: services.audit_log, sync_to_thread=False),
        "process_health": Provide(lambda: process_health, sync_to_thread=False),
    }
