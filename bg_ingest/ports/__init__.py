"""Interfaces to everything outside the process. Adapters and providers implement them; services use only these."""

from bg_ingest.ports.polling import Polls
from bg_ingest.ports.process import Broker, Clock, ProcessHealth, Publisher, Sealer, TokenVerifier, Wakeups
from bg_ingest.ports.provider import (
    AccountData,
    Answers,
    Ask,
    CallBudget,
    CallLimit,
    Capabilities,
    ConnectStep,
    Done,
    LimitScope,
    Page,
    Priority,
    Provider,
    PushProvider,
    Redirect,
)
from bg_ingest.ports.tracing import Tracing, Untraced

__all__ = [
    "AccountData",
    "Answers",
    "Ask",
    "Broker",
    "CallBudget",
    "CallLimit",
    "Capabilities",
    "Clock",
    "ConnectStep",
    "Done",
    "LimitScope",
    "Page",
    "Polls",
    "Priority",
    "ProcessHealth",
    "Provider",
    "Publisher",
    "PushProvider",
    "Redirect",
    "Sealer",
    "TokenVerifier",
    "Tracing",
    "Untraced",
    "Wakeups",
]
