"""Use cases. `Services` holds all of them over one store, one publisher and the providers."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from bg_ingest.domain.ownership import OwnershipTimings
from bg_ingest.ports import Broker, Clock, ColumnarEncoder, Observer, Publisher
from bg_ingest.services.access.audit import AuditLog
from bg_ingest.services.access.authenticate import ApiKeys, Authenticator
from bg_ingest.services.access.rotate_keys import KeyRotation
from bg_ingest.services.budget.demand import Demand
from bg_ingest.services.budget.provider import SharedBudget
from bg_ingest.services.connections.connect import Connector
from bg_ingest.services.connections.erase import Eraser
from bg_ingest.services.connections.export import Exporter
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.connections.manage import ConnectionService
from bg_ingest.services.polling.poll import Poller
from bg_ingest.services.polling.quarantine_review import QuarantineReview
from bg_ingest.services.polling.webhooks import WebhookReceiver
from bg_ingest.services.publishing.relay import Relay
from bg_ingest.services.queries.changes import ChangeQueries
from bg_ingest.services.queries.completeness import CompletenessQueries, Verifier
from bg_ingest.services.queries.datasets import DatasetQueries
from bg_ingest.services.queries.event_hub import EventHub
from bg_ingest.services.queries.many_users import ManyUsersQueries
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.services.queries.statistics import StatisticsQueries
from bg_ingest.services.queries.timeline import TimelineQueries
from bg_ingest.services.queries.users import UserQueries
from bg_ingest.store import Store


@dataclass(frozen=True, kw_only=True)
class Services:
    """The use cases of one process and the parts that its actors share.

    `bg_ingest.wiring` builds it. Request handlers take a use case by the name of its field (`api/dependencies`),
    actors and commands take the fields they need.
    """

    observer: Observer
    store: Store
    publisher: Publisher
    clock: Clock

    authenticator: Authenticator
    api_keys: ApiKeys
    audit_log: AuditLog
    key_rotation: KeyRotation

    connector: Connector
    connections: ConnectionService
    grants: Grants
    eraser: Eraser
    exporter: Exporter

    poller: Poller
    webhook_receiver: WebhookReceiver
    quarantine_review: QuarantineReview
    budget: SharedBudget
    demand: Demand
    relay: Relay

    reader: ReadingQueries
    statistics: StatisticsQueries
    change_queries: ChangeQueries
    event_hub: EventHub
    many_users: ManyUsersQueries
    user_list: UserQueries
    datasets: DatasetQueries
    completeness: CompletenessQueries
    timelines: TimelineQueries
    verifier: Verifier
    columnar: ColumnarEncoder

    broker: Broker | None
    """The actor that keeps the publisher connected; None for a publisher without a connection."""
    hint_connection: Callable[..., Coroutine[Any, Any, None]] | None
    """The actor that keeps the hints connected; None for hints inside this process."""
    timings: OwnershipTimings
    name: str
    """Prefix of this process's owner id; a random part follows it."""
