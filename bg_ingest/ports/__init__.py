"""Everything this service needs from outside: adapters and providers implement it, services know only this."""

from bg_ingest.ports.audit import Trail
from bg_ingest.ports.budget import Budgets, CallBudget
from bg_ingest.ports.credentials import Keys, TokenVerifier
from bg_ingest.ports.erasure import Erasures
from bg_ingest.ports.gaps import Gaps
from bg_ingest.ports.ownership import OwnerRequest, Ownership, RequestKind, Requests
from bg_ingest.ports.polling import Polls
from bg_ingest.ports.process import Broker, Clock, ProcessHealth, Publisher, Sealer, Wakeups
from bg_ingest.ports.provider import AccountData, Capabilities, Page, Priority, Provider
from bg_ingest.ports.sealed import AuditKey, SealedItem, SealedItems, SealedQuarantinePage
from bg_ingest.ports.store import Connections, Outbox, OutboxEntry, Readings, States, Store, Webhooks
from bg_ingest.ports.tracing import Tracing, Untraced

__all__ = [
    "AccountData",
    "AuditKey",
    "Broker",
    "Budgets",
    "CallBudget",
    "Capabilities",
    "Clock",
    "Connections",
    "Erasures",
    "Gaps",
    "Keys",
    "Outbox",
    "OutboxEntry",
    "OwnerRequest",
    "Ownership",
    "Page",
    "Polls",
    "Priority",
    "ProcessHealth",
    "Provider",
    "Publisher",
    "Readings",
    "RequestKind",
    "Requests",
    "SealedItem",
    "SealedItems",
    "SealedQuarantinePage",
    "Sealer",
    "States",
    "Store",
    "TokenVerifier",
    "Tracing",
    "Trail",
    "Untraced",
    "Wakeups",
    "Webhooks",
]
