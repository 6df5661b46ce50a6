"""Interfaces to everything outside the process. Adapters and providers implement them; services use only these."""

from bg_ingest.ports.columnar import ColumnarEncoder, ColumnarForm
from bg_ingest.ports.hints import ChangeHints, Hint
from bg_ingest.ports.observer import Observation, Observer, OutboxPass
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
    OAuthCode,
    Page,
    Priority,
    Provider,
    PushProvider,
    Redirect,
)

__all__ = [
    "AccountData",
    "Answers",
    "Ask",
    "Broker",
    "CallBudget",
    "CallLimit",
    "Capabilities",
    "ChangeHints",
    "Clock",
    "ColumnarEncoder",
    "ColumnarForm",
    "ConnectStep",
    "Done",
    "Hint",
    "LimitScope",
    "OAuthCode",
    "Observation",
    "Observer",
    "OutboxPass",
    "Page",
    "Priority",
    "ProcessHealth",
    "Provider",
    "Publisher",
    "PushProvider",
    "Redirect",
    "Sealer",
    "TokenVerifier",
    "Wakeups",
]
