"""What we need of whom readings come from."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol

import msgspec

from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.windows import Window


class Priority(IntEnum):
    """Who goes first where a provider's calls are scarce."""

    BACKFILL = 60
    REPAIR = 75
    LIVE = 95
    REFRESH = 100
    """Renewing a grant, and whatever a person who connects waits for at a browser."""


class Capabilities(msgspec.Struct, frozen=True):
    """What a provider can do; code branches on these, never on its name."""

    regions: Mapping[str, timedelta]
    """Its regions, each with the delay from a measurement until it is shown."""
    default_region: str
    cadence: timedelta
    """Of its usual sensor, until a connection's own is learned."""
    longest_window: timedelta
    app: str
    """Our client id."""
    warm_ups: Mapping[str, timedelta] = {}
    """How long a new sensor has no readings, by generation."""
    pushes: bool = False
    """Whether readings may also be pushed to us; ``pushed`` is only called then."""


class Page(msgspec.Struct, frozen=True):
    """A provider's answer, translated. Readings ascend, and one identity is there once."""

    provider_account: str
    readings: tuple[Reading, ...]
    unreadable: tuple[Unreadable, ...] = ()


class AccountData(msgspec.Struct, frozen=True):
    """What a provider says it has of a user; ``past`` is None when that is nothing."""

    provider_account: str
    data_range: Window | None


class Provider(Protocol):
    """A source of readings. Calls raise ``ProviderError``s and nothing else."""

    name: str
    capabilities: Capabilities

    def authorize_url(self, region: str, state: str) -> str:
        """Return where to send the person."""

    async def exchange(self, region: str, code: str) -> Credentials:
        """Trade the callback's code; GrantRejected when it is spent, expired or not ours."""

    async def refresh(self, region: str, credentials: Credentials) -> Credentials:
        """Trade the single-use refresh token. After ProviderUnavailable it may or may not be spent."""

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        """Ask from when to when there are readings."""

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        """Ask for a window no longer than ``longest_window``; both its ends may be in the answer."""

    async def parse_push(self, content: bytes) -> Page:
        """Read what was pushed to us, whoever did; ProviderMisbehaved when it is no push of this provider's.

        A page without any record asks us to look now.
        """

    def translate_record(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        """Translate one record that was set aside, as if it came at that time; pure, it never raises."""


class CallBudget(Protocol):
    """Calls to providers, given out to whoever is first: by priority, then by arrival."""

    async def acquire(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        """Return once one call may be made, at once; BudgetSpent, with when to come back, if that takes too long.

        ``once``: it is no part of what connections want all the time, as looks and refreshes are.
        """

    async def pause(self, provider: str, region: str, *, sent: float, wait: timedelta | None) -> timedelta:
        """Pause everybody, since a call was refused; return for how long.

        ``sent`` is when, by the event loop's clock; ``wait`` what the provider asked for, if it did.
        """
