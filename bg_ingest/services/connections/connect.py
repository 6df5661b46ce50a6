"""Connects: redirect to the provider, and creation of the connection after the callback."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from secrets import token_hex, token_urlsafe

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.connections import Connection, ConnectionState, PollDefaults, WorkerSettings
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.schedule import learn_delay
from bg_ingest.errors import (
    Conflict,
    ConnectRefused,
    Fenced,
    GrantRejected,
    NotFound,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    StoreError,
    StoreUnavailable,
)
from bg_ingest.ports import AccountData, Answers, Clock, Done, Priority, Provider, Redirect, Wakeups
from bg_ingest.services.connections.grants import Grants
from bg_ingest.services.connections.oauth_states import (
    OAuthState,
    add_state,
    build_refusal,
    end_state,
    generation_of,
    release_state,
    take_state,
)
from bg_ingest.services.connections.states import ConnectionStates
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store

STATE_LIFETIME = timedelta(minutes=15)
"""Lifetime of an OAuth state: time for the person to finish the provider's pages."""


class ConnectStarted(msgspec.Struct, frozen=True):
    """Address for the person, and the end of its validity."""

    authorize_url: str
    expires_at: datetime


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
        chosen = self._find_provider(provider)
        region = region or chosen.capabilities.default_region
        regions = chosen.capabilities.open_regions
        if region not in regions:
            raise Conflict(f"{provider} has no such region; choose one of {', '.join(regions)}")
        now = self.clock.now()
        state, expires_at = token_urlsafe(32), now + STATE_LIFETIME
        step = await chosen.connect(region, Answers(state))
        if not isinstance(step, Redirect):
            raise Conflict(f"{provider} has no login page, and this version cannot ask a person for credentials itself")
        head = await self.store.readings.head(user)
        oauth_state = OAuthState(user, provider, region, head.last_change if head else 0)
        await add_state(self.store, state, oauth_state, expires_at)
        await self.store.connections.add_connecting(
            Connection(
                id=ConnectionId(user, provider),
                state=ConnectionState.CONNECTING,
                generation=token_hex(8),
                region=region,
                app=chosen.capabilities.app,
                connected_at=now,
                expires_at=expires_at,
            )
        )
        return ConnectStarted(step.url, expires_at)

    async def finish(self, provider: str, *, state: str | None, code: str | None, error: str | None) -> Connection:
        """Create the connection after a callback. A repeated callback returns the connection that its state made.

        ConnectRefused if no connection was made, with a text for the person; ProviderError if a call failed.
        """
        chosen = self._find_provider(provider)
        taken = await take_state(self.store, self.clock, provider, state)
        if isinstance(taken, Connection):
            return taken
        try:
            return await self._finish(chosen, taken, state=state or "", code=code, error=error)
        except (ProviderUnavailable, ProviderThrottled, StoreUnavailable):
            if taken:  # the person may load the page again
                with suppress(StoreError):
                    await release_state(self.store, taken, state or "")
            raise
        except (ConnectRefused, ProviderError):
            if taken:
                with suppress(StoreError):
                    await end_state(self.store, taken, state or "")
            raise

    async def _finish(
        self, provider: Provider, oauth_state: OAuthState | None, *, state: str, code: str | None, error: str | None
    ) -> Connection:
        if error == "access_denied":  # even if the state is unknown: this text is true in any case
            raise ConnectRefused(
                "You did not allow access, so nothing was connected. To connect after all, please start again."
            )
        if oauth_state is None:
            raise ConnectRefused(
                "This link has expired or was used already. Nothing was changed; please start connecting again."
            )
        if error is not None or not code:
            raise build_refusal(provider.name, error)
        try:
            step = await provider.connect(oauth_state.region, Answers(state, {"code": code}))
            if not isinstance(step, Done):
                raise build_refusal(provider.name, "other")
            credentials = step.credentials
            account_data = step.account or await provider.available(oauth_state.region, credentials, Priority.REFRESH)
        except GrantRejected as rejected:
            raise ConnectRefused(
                "The confirmation has expired or was used already. Nothing was changed; please start connecting again."
            ) from rejected
        return await self._connect(oauth_state, generation_of(state), provider, credentials, account_data)

    @retrying(
        Fenced,
        tries=5,
        error=lambda: ConnectRefused("Somebody else is connecting this user at the same moment. Please start again."),
    )
    async def _connect(
        self,
        oauth_state: OAuthState,
        generation: str,
        provider: Provider,
        credentials: Credentials,
        account_data: AccountData,
    ) -> Connection:
        connection_id = ConnectionId(oauth_state.user, oauth_state.provider)
        await self._reject_erased(oauth_state)
        region = provider.capabilities.host_region(oauth_state.region)
        provider_account = account_data.provider_account
        holder = await self.store.connections.find_user(oauth_state.provider, region, provider_account)
        if holder is not None and holder != oauth_state.user:
            raise ConnectRefused(
                "This provider account is already connected to another user. Disconnect it there first."
            )
        before = await self.store.connections.get(connection_id)
        after = self._build_connection(oauth_state, generation, provider, account_data, before)
        grant = self.grants.seal_new(connection_id, after.generation, credentials)
        # Fenced: since these reads, the connection was changed, its account connected elsewhere, or the user erased
        await self.connection_states.commit(
            ConnectionUpdate(before, after, request_poll=True), grant=grant, known_change=oauth_state.known_change
        )
        self.wakeups.wake_poller(connection_id)
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
        self,
        oauth_state: OAuthState,
        generation: str,
        provider: Provider,
        account_data: AccountData,
        before: Connection | None,
    ) -> Connection:
        """Return the new connection. For the same provider account, it continues at the old connection's watermark."""
        now = self.clock.now()
        host_region = provider.capabilities.host_region(oauth_state.region)
        worker = before.worker if before else WorkerSettings()
        created = Connection(
            id=ConnectionId(oauth_state.user, oauth_state.provider),
            state=ConnectionState.PAUSED if worker.paused else ConnectionState.ACTIVE,
            generation=generation,
            region=oauth_state.region,
            host_region=None if host_region == oauth_state.region else host_region,
            app=provider.capabilities.app,
            connected_at=now,
            provider_account=account_data.provider_account,
            worker=worker,
            available=account_data.data_range,
            epoch=before.epoch if before else 0,
        )
        if before and before.provider_identity == created.provider_identity:
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

    def _find_provider(self, name: str) -> Provider:
        try:
            return self.providers[name]
        except KeyError:
            raise NotFound(f"there is no such provider; known are: {', '.join(self.providers)}") from None


def _delay_at_connect(created: Connection, provider: Provider) -> int | None:
    """Return the delay learned from the newest available reading; None if that reading is missing or too old."""
    if created.available is None:
        return None
    usual = provider.capabilities.initial_delays[created.region]
    newest = created.available.end - timedelta(seconds=1)
    delay = learn_delay(usual, provider.now(created.region) - newest, None, provider.capabilities.cadence)
    return None if delay is None else ceil(delay.total_seconds())
