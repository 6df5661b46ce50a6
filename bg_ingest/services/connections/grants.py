"""Use and renewal of grants; no other module renews.

Sending single-use credentials twice may invalidate the grant, and only the process that received the answer has their
successor. Therefore a process first writes a claim, sends only within ``CLAIM_SEND_TIMEOUT`` of the claim, and stores
the successor before its first use, even if another process has taken over the claim. Repeatable credentials need no
claim.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from secrets import token_hex
from typing import NoReturn, TypeVar

import anyio
import structlog
from msgspec.structs import replace

from bg_ingest import errors
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.grants import (
    CLAIM_SEND_TIMEOUT,
    CLAIM_STALE_AFTER,
    REFRESH_DEADLINE,
    Credentials,
    Grant,
    Renewal,
    refusal_wait,
)
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.ports import CallBudget, Clock, Observer, Priority, Provider, Sealer
from bg_ingest.services.connections.grant_storage import GrantClaims, GrantSealer, UnstoredGrants
from bg_ingest.store.grants import GrantStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

STORE_DEADLINE = 60.0
"""Seconds for storing a renewed grant. After this time the grant stays in memory, and the next poll stores it."""

Answer = TypeVar("Answer")


class Grants:
    """Uses grants, renews them, and counts their refusals."""

    def __init__(
        self,
        store: GrantStore,
        providers: Mapping[str, Provider],
        budget: CallBudget,
        sealer: Sealer,
        clock: Clock,
        table: str,
        observer: Observer,
    ) -> None:
        """`table` is the name of the table that stores the grants."""
        self._store = store
        self._providers = providers
        self._budget = budget
        self._sealer = GrantSealer(sealer, table)
        self._clock = clock
        self._observer = observer
        self._claims = GrantClaims()
        self._unstored = UnstoredGrants(store, self._open, self._on_stored)
        self._shields: set[anyio.CancelScope] = set()
        self._closed = False
        self._close_at = float("inf")

    def seal_new(self, connection: ConnectionId, generation: str, credentials: Credentials) -> Grant:
        """Return the sealed grant of a new connect."""
        grant = Grant(id=connection, generation=generation, version=1, sealed=b"", refreshed_at=self._clock.now())
        return self._sealer.seal(grant, credentials)

    async def use(
        self, connection: Connection, grant: Grant, ask: Callable[[Credentials], Awaitable[Answer]]
    ) -> Answer:
        """Return the answer to a call with valid credentials. A refused call is repeated once with renewed ones.

        GrantBusy or GrantRefused if the grant cannot be used before the wait in the error is over; GrantLost if
        the user must connect again; ProviderError or StoreError if the call, the renewal or its storage failed.
        """
        given = grant
        if self._is_due(connection, grant):
            grant = await self.refresh(connection, grant)
        credentials = self._open(grant)
        try:
            answer = await ask(credentials)
        except errors.GrantRejected:
            if grant is not given or credentials.renewal is Renewal.NONE:
                await self._count_refusal(grant)
        else:
            if credentials.renewal is Renewal.NONE and grant.refusals:
                await self._try_store(replace(grant, refusals=0, retry_at=None))
            return answer
        grant = await self.refresh(connection, grant, refused=True)
        try:
            return await ask(self._open(grant))
        except errors.GrantRejected:
            await self._count_refusal(grant)

    async def refresh(self, connection: Connection, grant: Grant, *, refused: bool = False) -> Grant:
        """Return the successor of the grant: renewed here, or stored by another process meanwhile.

        ``refused`` means that a data call was refused, so that the count of refusals is not reset. A grant whose
        credentials have no successor is returned unchanged. Raises the errors of ``use``.
        """
        if self._closed:
            raise errors.GrantBusy(CLAIM_STALE_AFTER)
        if grant.is_exhausted:
            raise errors.GrantLost
        if grant.retry_at and (wait := grant.retry_at - self._clock.now()) > timedelta(0):
            raise errors.GrantRefused(wait)
        renewal = self._open(grant).renewal
        if renewal is Renewal.NONE:
            return grant
        claim = token_hex(8) if renewal is Renewal.SINGLE_USE else None
        claimed_at = anyio.current_time()
        if self._unstored.get(connection.id) is None:
            self._claims.check(grant)
            # reserved before the claim is written, because the claim could become stale during a long wait for a call
            await self._budget.acquire(connection.id.provider, connection.region, Priority.REFRESH)
            if self._closed:
                raise errors.GrantBusy(CLAIM_STALE_AFTER)
            claimed_at = anyio.current_time()
            try:
                if claim is not None:
                    await self._store.claim(grant, claim)
            except errors.StaleRead:
                return await self._adopt_stored(grant)
        return await self._finish(connection, replace(grant, claim=claim), claimed_at, refused=refused)

    def close(self, seconds: float) -> None:
        """Refuse new renewals, and cancel those in progress after ``seconds``. Called before the process exits."""
        self._closed = True
        self._close_at = anyio.current_time() + seconds
        for shield in self._shields:
            shield.deadline = min(shield.deadline, self._close_at)

    def _open(self, grant: Grant) -> Credentials:
        return self._providers[grant.id.provider].parse_credentials(self._sealer.open(grant))

    def _is_due(self, connection: Connection, grant: Grant) -> bool:
        if grant.retry_at is not None or self._unstored.get(connection.id):
            return True
        return self._open(grant).is_due(self._clock.now(), connection.id.jitter)

    async def _finish(self, connection: Connection, grant: Grant, claimed_at: float, *, refused: bool) -> Grant:
        """Renew a claimed grant; if its successor is already in memory, store that instead.

        Only a deadline cancels this.
        """
        with anyio.CancelScope(shield=True) as shield:
            deadline = anyio.current_time() + REFRESH_DEADLINE.total_seconds() + STORE_DEADLINE
            shield.deadline = min(deadline, self._close_at)
            self._shields.add(shield)
            try:
                if unstored := self._unstored.get(connection.id):
                    return await self._unstored.store(unstored)
                return await self._exchange(connection, grant, claimed_at, refused=refused)
            finally:
                self._shields.discard(shield)
        if self._unstored.get(connection.id) is None:  # cancelled before the answer; the claim may be stored
            raise errors.GrantBusy(CLAIM_STALE_AFTER)
        raise errors.StoreUnavailable("a new pair of tokens could not be stored yet; it is kept in memory")

    async def _exchange(self, connection: Connection, grant: Grant, claimed_at: float, *, refused: bool) -> Grant:
        provider = self._providers[connection.id.provider]
        credentials = self._open(grant)
        if self._closed:  # while the claim was written
            await self._try_store(grant)
            raise errors.GrantBusy(CLAIM_STALE_AFTER)
        if anyio.current_time() - claimed_at > CLAIM_SEND_TIMEOUT.total_seconds():
            # this process was suspended, and another process may already treat the claim as stale
            raise errors.GrantBusy(CLAIM_STALE_AFTER)
        try:
            with anyio.fail_after(REFRESH_DEADLINE.total_seconds()):
                credentials = await provider.renew(connection.region, credentials)
        except errors.GrantRejected:
            return await self._adopt_stored(grant, refused_by_provider=True)
        except (TimeoutError, errors.ProviderError) as error:
            await self._try_store(grant)
            if isinstance(error, TimeoutError):
                raise errors.ProviderUnavailable from error
            raise
        successor = replace(
            grant,
            version=grant.version + 1,
            refreshed_at=self._clock.now(),
            claim=None,
            retry_at=None,
            refusals=grant.refusals if refused or grant.retry_at else 0,  # reset if no refusal preceded the renewal
        )
        return await self._unstored.store(self._sealer.seal(successor, credentials))

    def _on_stored(self, successor: Grant) -> None:
        self._claims.forget(successor.id)
        self._observer.grant_stored(successor)

    async def _adopt_stored(self, grant: Grant, *, refused_by_provider: bool = False) -> Grant:
        """Return the newer grant that another process stored; without one, count a refusal or raise GrantBusy."""
        stored = await self._store.get(grant.id)
        if stored is None or stored.generation != grant.generation:
            raise errors.Fenced
        if stored.version != grant.version:
            # With the claim of another process, a later write of this grant would pass as that of the claimer.
            return replace(stored, claim=None)
        if refused_by_provider:
            await self._count_refusal(grant)
        self._claims.check(stored)
        raise errors.GrantBusy(timedelta(seconds=1))

    async def _count_refusal(self, grant: Grant) -> NoReturn:
        refusals = grant.refusals + 1
        wait = refusal_wait(refusals)
        counted = replace(grant, refusals=refusals, retry_at=self._clock.now() + wait)
        log.warning("the provider refused a grant", action="grant_refused", connection=str(grant.id), refusals=refusals)
        try:
            await self._store.store(counted)
        except errors.StaleRead as error:
            raise errors.GrantBusy(timedelta(seconds=1)) from error
        self._observer.grant_stored(counted)
        if counted.is_exhausted:
            raise errors.GrantLost
        raise errors.GrantRefused(wait)

    async def _try_store(self, grant: Grant) -> None:
        """Write the refusals of the grant and end its claim. If the write fails, the claim ends once it is stale."""
        with suppress(errors.StaleRead, errors.StoreUnavailable):
            await self._store.store(grant)
