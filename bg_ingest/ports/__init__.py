"""Everything this service needs from outside: adapters and providers implement it, services know only this."""

from bg_ingest.ports.polling import Polls
from bg_ingest.ports.process import Broker, Clock, ProcessHealth, Publisher, Sealer, TokenVerifier, Wakeups
from bg_ingest.ports.provider import AccountData, CallBudget, Capabilities, Page, Priority, Provider
from bg_ingest.ports.tracing import Tracing, Untraced

__all__ = [
    "AccountData",
    "Broker",
    "CallBudget",
    "Capabilities",
    "Clock",
    "Page",
    "Polls",
    "Priority",
    "ProcessHealth",
    "Provider",
    "Publisher",
    "Sealer",
    "TokenVerifier",
    "Tracing",
    "Untraced",
    "Wakeups",
]
