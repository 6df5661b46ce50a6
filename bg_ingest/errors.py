"""Errors, named by what the caller should do. The docstring is the message for people.

IngestError
├── ProviderError           GrantRejected, ProviderThrottled (BudgetSpent), ProviderUnavailable,
│                           ProviderMisbehaved, ProviderForbidden
├── StoreError              StoreUnavailable, StoreTaken, Outdated, Conflicted, Fenced
├── BrokerError             BrokerUnavailable, EventRefused
├── IssuerUnavailable, KeyUnavailable
└── RequestError            Unknown, NotPossible, ConnectRefused, Unsealable
"""

from datetime import timedelta
from typing import ClassVar


class IngestError(Exception):
    """Something this service expects may happen."""

    def __str__(self) -> str:
        return super().__str__() or (type(self).__doc__ or "").partition("\n")[0]


class ProviderError(IngestError):
    """A provider did not give what was asked."""


class GrantRejected(ProviderError):
    """The provider refuses a token: see ``services/grants.py`` for what is made of it."""


class ProviderThrottled(ProviderError):
    """The provider asks us to call less: wait, all connections of the app."""

    def __init__(self, wait: timedelta | None = None) -> None:
        super().__init__()
        self.wait = wait
        """How long it asked us to wait, at most an hour; None when it did not say."""


class BudgetSpent(ProviderThrottled):
    """No call can be had now, and none was made: others of this app had them all. Come back after the wait."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(wait)
        self.wait: timedelta = wait


class ProviderUnavailable(ProviderError):
    """The provider did not answer, or with an error of its own: try again later.

    Whether the request had an effect is not known.
    """


class ProviderMisbehaved(ProviderError):
    """The provider answered what we cannot read: move nothing, try again later, look at the log."""


class ProviderForbidden(ProviderError):
    """The provider forbids this app or this connection: an operator must act."""


class GrantError(IngestError):
    """The grant cannot be used now: look again after the wait."""

    def __init__(self, wait: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.wait = wait


class GrantBusy(GrantError):
    """Another process is refreshing the grant, or died doing so."""


class GrantRefused(GrantError):
    """The provider refused the grant, which is not believed yet."""


class GrantLost(GrantError):
    """The provider refused the grant through the whole plan of retries: the user must connect again."""


class StoreError(IngestError):
    """The store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store did not answer, or has no capacity: whether a write happened is not known."""


class StoreLocked(StoreError):
    """Another process has the store, which serves one at a time: stop that one, or ask it."""


class StaleRead(StoreError):
    """What was read has changed since: read again and decide again."""


class TransactionConflict(StoreError):
    """Another transaction was under way on the same items: try the same again."""


class Fenced(StoreError):
    """The connection is no longer as it was, or somebody else owns it: give up."""


class BrokerError(IngestError):
    """The broker did not confirm an event."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached: the event waits in the outbox."""


class EventRefused(BrokerError):
    """The broker refused the event: it waits in the outbox, the user's later events behind it."""


class IssuerUnavailable(IngestError):
    """The issuer's keys cannot be had, so that nobody knows whether a token is theirs: try again later."""


class KeyUnavailable(IngestError):
    """A key that seals what is stored cannot be had: nothing stored can be used without it, an operator must act."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}: {advice}.")
        self.problem = problem
        self.advice = advice


class RequestError(IngestError):
    """What was asked of us cannot be done; the text says what to do."""

    title: ClassVar[str] = "Not possible"


class NotFound(RequestError):
    """There is no such user or connection: connect the user to a provider first."""

    title = "Unknown"


class Conflict(RequestError):
    """The connection's state does not allow it."""


class ConnectRefused(RequestError):
    """A connect did not end well; the text is for the person who tried."""

    title = "Not connected"


class SealBroken(IngestError):
    """Sealed bytes do not open: none of the keys fits, or they were moved or altered."""


def first_error(group: BaseException) -> BaseException:
    """Return the first error in a group, however deep; an error outside a group is its own."""
    return first_error(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group
