"""Data sources: their calls, their capabilities, and the shared limit on their calls."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from bg_ingest.domain.grants import Credentials, SecretBytes
from bg_ingest.domain.readings import MAX_DISPLAYED_MG_DL, MIN_DISPLAYED_MG_DL, Reading, Unreadable
from bg_ingest.domain.windows import Window


class Priority(IntEnum):
    """Percentage of the burst that calls of this priority may use. Lower priorities are therefore delayed first."""

    BACKFILL = 60
    REPAIR = 75
    REQUESTED = 85
    """Requested live polls before their slot. Polls at their slot precede them: requests delay no other user."""
    LIVE = 95
    REFRESH = 100
    """Renewal of a grant, and the calls of a connect, because a person waits for them at a browser."""


class LimitScope(StrEnum):
    """Set of calls that one limit counts; a refusal for too many calls pauses this set only."""

    APP = "app"
    ACCOUNT = "account"
    ADDRESS = "address"


class CallLimit(msgspec.Struct, frozen=True):
    """Calls that a provider answers per hour."""

    scope: LimitScope
    calls_per_hour: int


class OAuthCode(msgspec.Struct, frozen=True):
    """Authorization code flow of OAuth 2 (RFC 6749, 4.1): a redirect, then the query of the callback."""


Auth: TypeAlias = OAuthCode
"""Kinds of permission. The kind determines the answers that the person who connects gives (``Answers``)."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """Properties of a provider. Code branches on these, never on the provider's name."""

    regions: tuple[str, ...]
    default_region: str
    initial_delays: Mapping[str, timedelta]
    """Usual time from a measurement until it is shown, by region; used until the delay of the connection is learned."""
    cadence: timedelta
    """Time between two readings of the usual sensor; used until the cadence of the connection is learned."""
    longest_window: timedelta
    app: str
    """Client id of this service."""
    fixed_delay: timedelta | None = None
    """Delay of every connection as set by the operator; None if the delay is learned."""
    closed_regions: frozenset[str] = frozenset()
    """Regions in which existing connections continue, but no connect may begin."""
    single_host: bool = False
    """True if one host serves all regions: then they share accounts and calls."""
    auth: Auth = OAuthCode()
    history: timedelta | None = None
    """Age of the oldest data that the provider has; None if it has all data."""
    windowed: bool = True
    """True if a window of the past can be requested; otherwise each answer ends at the newest reading."""
    limits: tuple[CallLimit, ...] = ()
    value_range: tuple[int, int] = (MIN_DISPLAYED_MG_DL, MAX_DISPLAYED_MG_DL)
    """Lowest and highest value in mg/dL. A LOW has the value one below, a HIGH the value one above."""
    warm_ups: Mapping[str, timedelta] = {}
    """Time without readings after a sensor is inserted, by the generation of the sensor."""

    @property
    def open_regions(self) -> tuple[str, ...]:
        return tuple(region for region in self.regions if region not in self.closed_regions)

    def host_region(self, region: str) -> str:
        """Return the region that stands for all regions of the same host, which share accounts and calls."""
        return self.default_region if self.single_host else region

    def __post_init__(self) -> None:
        if self.default_region not in self.regions or set(self.initial_delays) != set(self.regions):
            raise ValueError("the default region is one of the regions, and each region has an initial delay")
        durations = (self.cadence, self.longest_window, *([] if self.history is None else [self.history]))
        if min(durations) <= timedelta(0) or min(self.initial_delays.values()) < timedelta(0):
            raise ValueError("cadence, longest window and history are positive, and no delay is negative")
        if not 0 < self.value_range[0] < self.value_range[1]:
            raise ValueError("the value range ascends")
        if any(limit.calls_per_hour <= 0 for limit in self.limits):
            raise ValueError("a limit is at least one call per hour")

    def cadence_of(self, learned_seconds: int | None) -> timedelta:
        return timedelta(seconds=learned_seconds) if learned_seconds else self.cadence

    def delay(self, region: str, learned_seconds: int | None) -> timedelta:
        """Return the time from a measurement until it is shown: fixed, learned, or the usual one of the region."""
        estimate = self.initial_delays[region] if learned_seconds is None else timedelta(seconds=learned_seconds)
        return estimate if self.fixed_delay is None else self.fixed_delay


class Page(msgspec.Struct, frozen=True):
    """Translated answer of a provider. Readings ascend by time and are unique by identity."""

    provider_account: str
    readings: tuple[Reading, ...]
    unreadable: tuple[Unreadable, ...] = ()


class AccountData(msgspec.Struct, frozen=True):
    """Provider account of a user."""

    provider_account: str
    data_range: Window | None
    """Time span of the account's data; None if it has no data."""


class Answers(msgspec.Struct, frozen=True):
    """Answers of the person who connects, as far as given."""

    state: str
    """Single-use state of this connect. A redirect carries it, and so does the callback."""
    values: Mapping[str, str] = {}
    """Fields of an ``Ask``; after a redirect, the ``code`` of the callback."""


class Redirect(msgspec.Struct, frozen=True):
    """The person continues at this address."""

    url: str


class Field(msgspec.Struct, frozen=True):
    """Field of a form. A secret one is never shown or logged."""

    name: str
    label: str
    is_secret: bool = False


class Ask(msgspec.Struct, frozen=True):
    """The person fills in these fields and picks one of the choices (values by label), if there are any."""

    fields: tuple[Field, ...]
    choices: Mapping[str, str] = {}


class Done(msgspec.Struct, frozen=True):
    """The person gave permission."""

    credentials: Credentials
    account: AccountData | None = None
    """Account whose readings are permitted. None: a call of ``available`` with the credentials returns it."""


ConnectStep: TypeAlias = Done | Ask | Redirect


class Provider(Protocol):
    """Source of readings. Calls raise ``ProviderError``s and nothing else.

    Each call is one request, unless it also renews an expired login. The budget takes the priority of a call
    into account; the provider ignores it.
    """

    name: str
    capabilities: Capabilities

    def now(self, region: str) -> datetime:
        """Return the provider's present: our clock, corrected by the difference that its answers show.

        A window ends at this instant at the latest, and the age of a reading is the time from its measurement to this
        instant. Until an answer with a time has been received, this is the time of our clock.
        """

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        """Return the next step of a connect. Without answers it makes no call.

        GrantRejected: the answers are wrong, expired or used already.
        """

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        """Return stored credentials with their expiry and renewal; pure."""

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        """Return new credentials in place of renewable ones.

        After ProviderUnavailable, single-use credentials may or may not be spent.
        """

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        """Return the account of the credentials, and the time span of its data."""

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        """Request a window of at most ``longest_window``; both its ends may be in the answer.

        Nothing older than ``history`` is requested.
        """

    def translate_record(self, provider_account: str, raw: bytes, received_at: datetime) -> Reading | Unreadable:
        """Translate one quarantined record as of the instant of its receipt; pure, never raises."""


@runtime_checkable
class PushProvider(Protocol):
    """Provider whose readings are also pushed to this service."""

    name: str

    async def parse_push(self, content: bytes) -> Page:
        """Translate a webhook's body from any sender; ProviderMisbehaved for anything but a push of this provider.

        A page without records requests a poll.
        """


class CallBudget(Protocol):
    """Calls to providers, given to callers by priority, then by arrival."""

    async def acquire(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        """Return when one call may be made immediately.

        ``once`` marks a call that does not recur, unlike those of polls and renewals.

        Raises:
            BudgetSpent: the wait is too long; the error states the time after which to try again.
        """

    async def pause(self, provider: str, region: str, *, sent: float, wait: timedelta | None) -> timedelta:
        """Pause all callers after a refused call; return the length of the pause.

        ``sent`` is the time of the call on the event loop's clock, ``wait`` the pause that the provider asked for.
        """
