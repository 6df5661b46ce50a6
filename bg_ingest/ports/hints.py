"""Hints between replicas: a user has changed. They carry no data."""

from typing import NamedTuple, Protocol

from bg_ingest.domain.ids import UserId


class Hint(NamedTuple):
    """Number of a user's last change, sent directly after the commit of the change."""

    user: UserId
    last_change: int


class ChangeHints(Protocol):
    """Exchange of hints between all replicas. Hints may be lost, repeated and reordered.

    A replica that needs hints requests them from the others, and repeats the call about every minute.
    """

    @property
    def connected(self) -> bool:
        """True while hints of other replicas arrive."""

    async def request(self) -> None:
        """Request the hints of the other replicas for the next three minutes.

        Never raises, and waits at most a second. Without a connection, the request is sent once there is one.
        """

    def send(self, hint: Hint) -> None:
        """Send a hint to the other replicas, if one of them needs hints.

        Never waits and never raises: without a connection the hint is lost.
        """

    async def receive(self) -> Hint:
        """Wait for the next hint. It may be one that this replica sent."""
