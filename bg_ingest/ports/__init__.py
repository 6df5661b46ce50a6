"""Everything this service needs from outside: adapters and providers implement it, services know only this."""

from bg_ingest.ports.audit import Trail
from bg_ingest.ports.budget import Budget, Budgets
from bg_ingest.ports.credentials import Keys, Tokens
from bg_ingest.ports.erasure import Erasures
from bg_ingest.ports.gaps import Gaps
from bg_ingest.ports.ownership import Ownership, Ring, Rings, Wish
from bg_ingest.ports.process import Broker, Clock, Hints, Publisher, Sealer, Vitals
from bg_ingest.ports.provider import Available, Capabilities, Page, Priority, Provider
from bg_ingest.ports.sealed import AuditKey, SealedItem, SealedItems, Shelved
from bg_ingest.ports.store import Connections, Outbox, Pending, Readings, States, Store, Webhooks
from bg_ingest.ports.tracing import Tracing, Untraced
from bg_ingest.ports.turns import Turns

__all__ = [
    "AuditKey",
    "Available",
    "Broker",
    "Budget",
    "Budgets",
    "Capabilities",
    "Clock",
    "Connections",
    "Erasures",
    "Gaps",
    "Hints",
    "Keys",
    "Outbox",
    "Ownership",
    "Page",
    "Pending",
    "Priority",
    "Provider",
    "Publisher",
    "Readings",
    "Ring",
    "Rings",
    "SealedItem",
    "SealedItems",
    "Sealer",
    "Shelved",
    "States",
    "Store",
    "Tokens",
    "Tracing",
    "Trail",
    "Turns",
    "Untraced",
    "Vitals",
    "Webhooks",
    "Wish",
]
