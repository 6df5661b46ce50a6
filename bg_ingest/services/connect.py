"""The OAuth2 flow: send the person to the provider, and make a connection of the answer."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from secrets import token_hex, token_urlsafe

import msgspec
import structlog

from bg_ingest.domain.commits import Step
from bg_ingest.domain.connections import Connection, Defaults, State, WorkerSettings
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.errors import ConnectRefused, Fenced, GrantRejected, NotPossible, Unknown
from bg_ingest.ports import Available, Clock, Hints, Priority, Provider, Store
from bg_ingest.services.grants import Grants
from bg_ingest.services.transition import Transition

STATE_LIVES = timedelta(minutes=15)
"""How long the person may take at the provider's pages."""

_STATE = re.compile(r"[A-Za-z0-9_-]{43}")
"""As ``token_urlsafe(32)`` makes it: for anything else the store need not be asked."""

TRIES = 5

OUR_FAULT = frozenset({"invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"})
THEIR_FAULT = frozenset({"server_error", "temporarily_unavailable"})
"""What a provider may say instead of ``access_denied`` (RFC 6749, 4.1.2.1)."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Begun(msgspec.Struct, frozen=True):
    """Where to send the person, and until when it works."""

    authorize_url: str
    expires_at: datetime


class _Asked(msgspec.Struct, frozen=True, array_like=True):
    """What an OAuth state stands for; only its digest is stored beside it."""

    user: UserId
    provider: str
    region: str
    known_change: int
    """The user's last when it was made: an erasure since then makes it void."""


class Connecting:
    """Begins and finishes connects. Until one has succeeded, an existing connection stays as it is."""

    def __init__(
        self,
        store: Store,
        providers: Mapping[str, Provider],
        grants: Grants,
        transition: Transition,
        clock: Clock,
        hints: Hints,
        defaults: Defaults,
    ) -> None:
        self._store = store
        self._providers = providers
        self._grants = grants
        self._transition = transition
        self._clock = clock
        self._hints = hints
        self._defaults = defaults

    async def begin(self, user: UserId, provider: str, region: str | None) -> Begun:
        """Return where to send the person. Unknown: no such provider; NotPossible: no such region of it."""
        known = self._provider(provider)
        region = region or known.capabilities.default_region
        if region not in known.capabilities.regions:
            raise NotPossible(f"{provider} has no such region; choose one of {', '.join(known.capabilities.regions)}")
        now = self._clock.now()
        state, expires_at = token_urlsafe(32), now + STATE_LIVES
        head = await self._store.readings.head(user)
        asked = _Asked(user, provider, region, head.last_change if head else 0)
        await self._store.states.put(user, _digest(state), msgspec.json.encode(asked), expires_at)
        await self._store.connections.begin(
            Connection(
                id=ConnectionId(user, provider),
                state=State.CONNECTING,
                generation=token_hex(8),
                region=region,
                app=known.capabilities.app,
                connected_at=now,
                expires_at=expires_at,
            )
        )
        return Begun(known.authorize_url(region, state), expires_at)

    async def finish(self, provider: str, *, state: str | None, code: str | None, error: str | None) -> Connection:
        """Make the connection; ConnectRefused, with a text for the person, when it cannot be. Else a ProviderError."""
        known = self._provider(provider)
        asked = await self._asked(state)
        if error == "access_denied":  # said even of a state we do not know: nothing was to come of it anyway
            raise ConnectRefused(
                "You did not allow access, so nothing was connected. To connect after all, please start again."
            )
        if asked is None or asked.provider != provider:
            raise ConnectRefused(
                "This link has expired or was used already. Nothing was changed; please start connecting again."
            )
        if error is not None or not code:
            raise _not_granted(provider, error)
        try:
            credentials = await known.exchange(asked.region, code)
            available = await known.available(asked.region, credentials, Priority.REFRESH)
        except GrantRejected as rejected:
            raise ConnectRefused(
                "The confirmation has expired or was used already. Nothing was changed; please start connecting again."
            ) from rejected
        return await self._connect(asked, known, credentials, available)

    async def _connect(
        self, asked: _Asked, provider: Provider, credentials: Credentials, available: Available
    ) -> Connection:
        connection = ConnectionId(asked.user, asked.provider)
        for _ in range(TRIES):
            await self._refuse_erased(asked)
            holder = await self._store.connections.user_of(asked.provider, asked.region, available.provider_account)
            if holder is not None and holder != asked.user:
                raise ConnectRefused(
                    "This provider account is already connected to another user. Disconnect it there first."
                )
            before = await self._store.connections.get(connection)
            after = self._connection(asked, provider, available, before)
            grant = self._grants.first(connection, after.generation, credentials)
            try:
                await self._transition.commit(Step(before, after, look=True), grant=grant, revives=asked.known_change)
            except Fenced:  # somebody changed the connection, took the account or erased the user since we looked
                continue
            self._hints.look(connection)
            return after
        raise ConnectRefused("Somebody else is connecting this user at the same moment. Please start again.")

    async def _refuse_erased(self, asked: _Asked) -> None:
        head = await self._store.readings.head(asked.user)
        if head is None or not head.erased:
            return
        if head.last_change > asked.known_change:
            raise ConnectRefused("This user was erased after this link was made. Please start connecting again.")
        if await self._store.erasures.left_of(asked.user) is not None:
            raise ConnectRefused("This user's earlier data is being erased. Please start again in a few minutes.")

    def _connection(
        self, asked: _Asked, provider: Provider, available: Available, before: Connection | None
    ) -> Connection:
        """Return the new connection: of a known provider account it goes on where the old one was."""
        now = self._clock.now()
        worker = before.worker if before else WorkerSettings()
        fresh = Connection(
            id=ConnectionId(asked.user, asked.provider),
            state=State.PAUSED if worker.paused else State.ACTIVE,
            generation=token_hex(8),
            region=asked.region,
            app=provider.capabilities.app,
            connected_at=now,
            provider_account=available.provider_account,
            worker=worker,
            available=available.past,
            epoch=before.epoch if before else 0,
        )
        if before and (before.region, before.provider_account) == (asked.region, available.provider_account):
            return msgspec.structs.replace(
                fresh,
                watermark=before.watermark,
                backfill=before.backfill,
                swept_at=before.swept_at,
                repair_at=before.repair_at,
                lacks_until=before.lacks_until,
                available=before.available or available.past,
                newest_reading_at=before.newest_reading_at,
                cadence_seconds=before.cadence_seconds,
            )
        newest = available.past.end if available.past else now
        # nothing newer was there when we asked: a long silence before now need not be read through
        floor = now - provider.capabilities.longest_window + timedelta(days=1)
        fresh = msgspec.structs.replace(fresh, watermark=min(now, max(newest, floor)))
        return msgspec.structs.replace(fresh, backfill=self._defaults.wanted_past(fresh))

    async def _asked(self, state: str | None) -> _Asked | None:
        if state is None or not _STATE.fullmatch(state):
            return None
        content = await self._store.states.take(_digest(state), self._clock.now())
        return msgspec.json.decode(content, type=_Asked) if content else None

    def _provider(self, name: str) -> Provider:
        try:
            return self._providers[name]
        except KeyError:
            raise Unknown(f"there is no such provider; known are: {', '.join(self._providers)}") from None


def _not_granted(provider: str, error: str | None) -> ConnectRefused:
    """Tell the operator too: only a person with a state of ours gets here, so nobody can fill the log."""
    known = error if error in OUR_FAULT | THEIR_FAULT else "other"
    log.warning("a provider ended a connect", action="connect_ended", provider=provider, said=known)
    if error in OUR_FAULT:
        return ConnectRefused(
            "The provider does not accept this service as it is set up, so nothing was connected. Please tell whoever "
            "runs it; starting again will not help before."
        )
    return ConnectRefused(
        "The provider could not finish this, and nothing was changed. Please start connecting again in a few minutes."
    )


def _digest(state: str) -> str:
    """Who reads the store cannot finish somebody's connect."""
    return blake2b(state.encode(), digest_size=16).hexdigest()
