"""Connects: redirect to the provider, and creation of the connection after the callback."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from math import ceil
from secrets import token_hex, token_urlsafe

import msgspec
import structlog
from msgspec.structs import replace

from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults, WorkerSettings
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.schedule import learn_delay
from bg_ingest.errors import Conflict, ConnectRefused, Fenced, GrantRejected, NotFound
from bg_ingest.ports import AccountData, Answers, Clock, Done, Priority, Provider, Redirect, Wakeups
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.polling.commit import retrying
from bg_ingest.store import Store

STATE_LIFETIME = timedelta(minutes=15)
"""Lifetime of an OAuth state: time for the person to finish the provider's pages."""

_STATE_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")
"""Form of ``token_urlsafe(32)``. Anything else is refused without a read of the store."""

SETUP_ERRORS = frozenset({"invalid_request", "unauthorized_client", "unsupported_response_type", "invalid_scope"})
PROVIDER_ERRORS = frozenset({"server_error", "temporarily_unavailable"})
"""Error codes of a callback besides ``access_denied`` (RFC 6749, 4.1.2.1): caused by our app; by the provider."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ConnectStarted(msgspec.Struct, frozen=True):
    """Address for the person, and the end of its validity."""

    authorize_url: str
    expires_at: datetime


class OAuthState(msgspec.Struct, frozen=True, array_like=True):
    """Content of an OAuth state. The state itself is not stored, only its digest."""

    user: UserId
    provider: str
    region: str
    known_change: int
    """Number of the user's last change when the state was created. A later erasure invalidates the state."""


@dataclass(frozen=True)
class Connector:
    """Begins and finishes connects. An existing connection stays unchanged until a connect succeeds."""

    store: Store
    providers: Mapping[str, Provider]
    grants: Grants
    connection_states: ConnectionStates
    clock: Clock
    wakeups: Wakeups
    defaults: PollDefaults

    async def begin(self, user: UserId, provider: str, region: str | None) -> ConnectStarted:
        """Return the address to which the person is sent.

        NotFound if no provider has this name; Conflict if the provider has no such region, or no login page.
        """
        known = self._find_provider(provider)
        region = region or known.capabilities.default_region
        if region not in known.capabilities.regions:
            raise Conflict(f"{provider} has no such region; choose one of {', '.join(known.capabilities.regions)}")
        now = self.clock.now()
        state, expires_at = token_urlsafe(32), now + STATE_LIFETIME
        step = await known.connect(region, Answers(state))
        if not isinstance(step, Redirect):
            raise Conflict(f"{provider} has no login page, and this version cannot ask a person for credentials itself")
        head = await self.store.readings.head(user)
        oauth_state = OAuthState(user, provider, region, head.last_change if head else 0)
        await self.store.states.add(user, _hash_state(state), msgspec.json.encode(oauth_state), expires_at)
        await self.store.connections.add_connecting(
            Connection(
                id=ConnectionId(user, provider),
                state=ConnectionState.CONNECTING,
                generation=token_hex(8),
                region=region,
                app=known.capabilities.app,
                connected_at=now,
                expires_at=expires_at,
            )
        )
        return ConnectStarted(step.url, expires_at)

    async def finish(self, provider: str, *, state: str | None, code: str | None, error: str | None) -> Connection:
        """Create the connection after a callback.

        ConnectRefused if no connection was made, with a text for the person; ProviderError if a call failed.
        """
        known = self._find_provider(provider)
        oauth_state = await self._consume_state(state)
        if error == "access_denied":  # also with an unknown state, because nothing is connected in either case
            raise ConnectRefused(
                "You did not allow access, so nothing was connected. To connect after all, please start again."
            )
        if oauth_state is None or oauth_state.provider != provider:
            raise ConnectRefused(
                "This link has expired or was used already. Nothing was changed; please start connecting again."
            )
        if error is not None or not code:
            raise _build_refusal(provider, error)
        try:
            step = await known.connect(oauth_state.region, Answers(state or "", {"code": code}))
            if not isinstance(step, Done):
                raise _build_refusal(provider, "other")
            credentials = step.credentials
            account_data = step.account or await known.available(oauth_state.region, credentials, Priority.REFRESH)
        except GrantRejected as rejected:
            raise ConnectRefused(
                "The confirmation has expired or was used already. Nothing was changed; please start connecting again."
            ) from rejected
        return await self._connect(oauth_state, known, credentials, account_data)

    @retrying(
        Fenced,
        tries=5,
        error=lambda: ConnectRefused("Somebody else is connecting this user at the same moment. Please start again."),
    )
    async def _connect(
        self, oauth_state: OAuthState, provider: Provider, credentials: Credentials, account_data: AccountData
    ) -> Connection:
        connection = ConnectionId(oauth_state.user, oauth_state.provider)
        await self._reject_erased(oauth_state)
        provider_account = oauth_state.provider, oauth_state.region, account_data.provider_account
        holder = await self.store.connections.find_user(*provider_account)
        if holder is not None and holder != oauth_state.user:
            raise ConnectRefused(
                "This provider account is already connected to another user. Disconnect it there first."
            )
        before = await self.store.connections.get(connection)
        after = self._build_connection(oauth_state, provider, account_data, before)
        grant = self.grants.seal_new(connection, after.generation, credentials)
        # Fenced: another request changed the connection, took the account or erased the user since these reads
        await self.connection_states.commit(
            ConnectionUpdate(before, after, request_poll=True), grant=grant, known_change=oauth_state.known_change
        )
        self.wakeups.wake_poller(connection)
        return after

    async def _reject_erased(self, oauth_state: OAuthState) -> None:
        head = await self.store.readings.head(oauth_state.user)
        if head is None or not head.erased:
            return
        if head.last_change > oauth_state.known_change:
            raise ConnectRefused("This user was erased after this link was made. Please start connecting again.")
        if await self.store.erasures.pending_for(oauth_state.user) is not None:
            raise ConnectRefused("This user's earlier data is being erased. Please start again in a few minutes.")

    def _build_connection(
        self, oauth_state: OAuthState, provider: Provider, account_data: AccountData, before: Connection | None
    ) -> Connection:
        """Return the new connection. For the same provider account, it continues at the old connection's watermark."""
        now = self.clock.now()
        worker = before.worker if before else WorkerSettings()
        created = Connection(
            id=ConnectionId(oauth_state.user, oauth_state.provider),
            state=ConnectionState.PAUSED if worker.paused else ConnectionState.ACTIVE,
            generation=token_hex(8),
            region=oauth_state.region,
            app=provider.capabilities.app,
            connected_at=now,
            provider_account=account_data.provider_account,
            worker=worker,
            available=account_data.data_range,
            epoch=before.epoch if before else 0,
        )
        if before and (before.region, before.provider_account) == (oauth_state.region, account_data.provider_account):
            return replace(
                created,
                watermark=before.watermark,
                backfill=before.backfill,
                swept_at=before.swept_at,
                repair_at=before.repair_at,
                suspected_gap_at=before.suspected_gap_at,
                available=before.available or account_data.data_range,
                newest_reading_at=before.newest_reading_at,
                cadence_seconds=before.cadence_seconds,
                delay_seconds=before.delay_seconds,
            )
        newest = account_data.data_range.end if account_data.data_range else now
        # ``newest`` may lie before ``floor``: the time between them is skipped, because it has no readings
        floor = now - provider.capabilities.longest_window + timedelta(days=1)
        created = replace(
            created,
            watermark=min(now, max(newest, floor)),
            delay_seconds=_delay_at_connect(created, provider),
        )
        return replace(created, backfill=self.defaults.initial_backfill(created))

    async def _consume_state(self, state: str | None) -> OAuthState | None:
        if state is None or not _STATE_PATTERN.fullmatch(state):
            return None
        content = await self.store.states.consume(_hash_state(state), self.clock.now())
        return msgspec.json.decode(content, type=OAuthState) if content else None

    def _find_provider(self, name: str) -> Provider:
        try:
            return self.providers[name]
        except KeyError:
            raise NotFound(f"there is no such provider; known are: {', '.join(self.providers)}") from None


def _delay_at_connect(created: Connection, provider: Provider) -> int | None:
    """Return the bound that the newest available reading sets on the delay; None if it does not confirm any."""
    if created.available is None:
        return None
    usual = provider.capabilities.initial_delays[created.region]
    newest = created.available.end - timedelta(seconds=1)
    delay = learn_delay(usual, provider.present(created.region) - newest, None, provider.capabilities.cadence)
    return None if delay is None else ceil(delay.total_seconds())


def _build_refusal(provider: str, error: str | None) -> ConnectRefused:
    """Return the refusal and log it. The caller has checked the state: requests without one cannot fill the log."""
    known = error if error in SETUP_ERRORS | PROVIDER_ERRORS else "other"
    log.warning("a provider ended a connect", action="connect_ended", provider=provider, provider_error=known)
    if error in SETUP_ERRORS:
        return ConnectRefused(
            "The provider does not accept this service as it is set up, so nothing was connected. Please inform its "
            "operator; starting again will not help until the set-up is corrected."
        )
    return ConnectRefused(
        "The provider could not finish this, and nothing was changed. Please start connecting again in a few minutes."
    )


def _hash_state(state: str) -> str:
    """Return the digest that is stored, so that a reader of the store cannot finish a connect."""
    return blake2b(state.encode(), digest_size=16).hexdigest()
