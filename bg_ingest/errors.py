"""Errors. The first line of a class's docstring is its message for people: the situation, then the next action.

IngestError
├── ProviderError           GrantRejected, ProviderThrottled (BudgetSpent),
│                           ProviderUnavailable (ProviderBlocked), ProviderMisbehaved, ProviderForbidden
├── GrantError              GrantBusy, GrantRefused, GrantLost
├── StoreError              StoreUnavailable, StoreLocked, ItemTooLarge, TableMissing, StaleRead,
│                           TransactionConflict, Fenced
├── BrokerError             BrokerUnavailable (BrokerRefused), EventRefused
├── RequestError            NotFound, Conflict, CursorExpired, ConnectRefused, TooManyStreams
└── IssuerUnavailable, KeyUnavailable, SealBroken
"""

from datetime import timedelta
from typing import ClassVar


class IngestError(Exception):
    """The service could not do its work: look at the log for the reason."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").partition("\n")[0]


class ProviderError(IngestError):
    """A provider did not give the requested data: try again later."""


class GrantRejected(ProviderError):
    """The provider refuses a token in one call: ``services/connections/grants.py`` decides whether that is final."""


class ProviderThrottled(ProviderError):
    """The provider asks for fewer calls: pause all connections of the app."""

    def __init__(self, wait: timedelta | None = None) -> None:
        super().__init__()
        self.wait = wait
        """Pause requested by the provider, at most an hour; None if the provider states none."""


class BudgetSpent(ProviderThrottled):
    """No call was made, because other calls of this app have used up the limit: try again after the wait."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(wait)
        self.wait: timedelta = wait


class ProviderUnavailable(ProviderError):
    """The provider did not answer, or answered with an error of its own: try again later.

    It is unknown whether the request had an effect.
    """


class ProviderBlocked(ProviderUnavailable):
    """Something between this service and the provider refuses the call: try again later; an operator must act."""


class ProviderMisbehaved(ProviderError):
    """The provider's answer is unreadable: keep the watermark, try again later, look at the log."""


class ProviderForbidden(ProviderError):
    """The provider forbids this app or this connection: an operator must act."""


class GrantError(IngestError):
    """The grant is not usable now: try again after the wait."""

    def __init__(self, wait: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.wait = wait


class GrantBusy(GrantError):
    """Another process is refreshing the grant, or died during a refresh: try again after the wait."""


class GrantRefused(GrantError):
    """The provider refused the grant (``GrantRejected``), and a retry is planned: try again after the wait."""


class GrantLost(GrantError):
    """The provider refused the grant in every planned retry: the user must connect again."""


class StoreError(IngestError):
    """The store refused the request: look at the log for the reason."""


class StoreUnavailable(StoreError):
    """The store did not answer or has no capacity, and it is unknown whether a write happened: try again later."""


class StoreLocked(StoreError):
    """Another process has the store open, and only one process can: stop that process, or use its API."""


class TableMissing(StoreError):
    """There is no table in DynamoDB: run `bg-ingest tables create`."""


class ItemTooLarge(StoreError):
    """The store refuses an item for its size, and will again: write less into one item."""


class StaleRead(StoreError):
    """The data has changed since it was read: read again and decide again."""


class TransactionConflict(StoreError):
    """Another transaction was in progress on the same items: repeat the same writes."""


class Fenced(StoreError):
    """The connection has changed, its shard has another owner, or the user was erased: begin again, or stop.

    Not a StaleRead: a step that is repeated after StaleRead does not reread the connection, and would fail again.
    """


class BrokerError(IngestError):
    """The broker did not confirm an event, which stays in the outbox: it is published again."""


class BrokerUnavailable(BrokerError):
    """The broker is unreachable, and the event stays in the outbox: check RABBITMQ_URL and the broker."""


class BrokerRefused(BrokerUnavailable):
    """The broker refuses the service until an operator acts, and events stay in the outbox: run bg-ingest doctor."""

    def __init__(self, part: str, text: str) -> None:
        super().__init__(text)
        self.part = part
        """Refused part: login, exchange, queue, publish or hints."""


class EventRefused(BrokerError):
    """The broker refused the event, which stays in the outbox and delays the user's later events: check the queues."""


class IssuerUnavailable(IngestError):
    """The issuer's keys are unavailable, so that no token can be verified: try again later."""


class KeyUnavailable(IngestError):
    """A sealing key is unavailable, without which no stored grant can be used: an operator must act."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}.")
        self.problem = problem
        self.advice = advice


class RequestError(IngestError):
    """The request cannot be fulfilled; the text says what to do."""

    title: ClassVar[str] = "Not possible"


class NotFound(RequestError):
    """There is no such user or connection: connect the user to a provider first."""

    title = "Unknown"


class Conflict(RequestError):
    """The connection's state does not allow the request: read the connection for its state."""


class CursorExpired(RequestError):
    """The changes after this number are not kept any more: read a snapshot and continue after it."""

    title = "Cursor expired"

    def __init__(self, first_kept: int, last: int) -> None:
        super().__init__()
        self.first_kept = first_kept
        """Smallest number of a kept change; ``last`` + 1 if no change is kept."""
        self.last = last


class TooManyStreams(RequestError):
    """Too many streams are open: close one, or try again later."""

    def __init__(self, limit: int, *, of_credential: bool) -> None:
        super().__init__()
        self.limit = limit
        self.of_credential = of_credential
        """True for the limit of one credential, False for the limit of this replica."""


class ConnectRefused(RequestError):
    """The connection was not made: start again. The text is shown to the person at the browser."""

    title = "Not connected"


class SealBroken(IngestError):
    """Sealed bytes do not open, because no key fits or they were moved or altered: restore the missing key."""


def first_error(group: BaseException) -> BaseException:
    """Return the first error in a group at any depth; an error outside a group is returned as it is."""
    return first_error(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
