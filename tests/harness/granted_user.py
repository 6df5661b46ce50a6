"""A connection with a grant over a ``FakeProvider``: grants are used without a poller and without a network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.grants import Credentials, Grant, Renewal
from bg_ingest.ports import AccountData, Observer, Priority
from bg_ingest.services.connections.grants import Grants
from bg_ingest.store import Store
from tests.fakes.fake_provider import LIFETIME, FakeProvider
from tests.fakes.unlimited_budget import UnlimitedBudget
from tests.harness.sample_values import ACME, connection, connection_commit, replaced_fields
from tests.harness.service import LoopClock


class GrantedUser:
    """Ada's connection to the fake provider, and processes that use its grant."""

    def __init__(self, store: Store, clock: LoopClock, renewal: Renewal) -> None:
        self.store = store
        self.clock = clock
        self.provider = FakeProvider(clock, renewal=renewal)
        self.connection = connection()
        self.grants = self.process()

    def process(self, *, grant_store: Any = None, provider: Any = None, budget: Any = None) -> Grants:
        """Return the grants of a process: the parts of all processes unless others are given."""
        return Grants(
            grant_store or self.store.grants,
            {ACME.provider: provider or self.provider},
            budget or UnlimitedBudget(),
            AesGcmSealer([bytes(32)]),
            self.clock,
            "test",
            Observer(),
        )

    async def connect(self) -> None:
        grant = self.grants.seal_new(ACME, self.connection.generation, self.provider.credentials())
        commit = connection_commit(None, None, self.connection, grant=grant)
        update = ConnectionUpdate(None, self.connection)
        await self.store.commits.write(replaced_fields(commit, connection_update=update))

    async def grant(self) -> Grant:
        grant = await self.store.grants.get(ACME)
        assert grant is not None
        return grant

    async def use(self, grants: Grants | None = None) -> AccountData:
        """Use the grant as it is stored, for one data call."""

        async def ask(credentials: Credentials) -> AccountData:
            return await self.provider.available("us", credentials, Priority.LIVE)

        return await (grants or self.grants).use(self.connection, await self.grant(), ask)

    async def sleep_until_expired(self) -> None:
        await anyio.sleep(LIFETIME.total_seconds())

    def calls(self, name: str) -> int:
        """Return the number of calls of a name so far."""
        return sum(call.name == name for call in self.provider.calls)


@asynccontextmanager
async def open_granted_user(renewal: Renewal = Renewal.SINGLE_USE) -> AsyncIterator[GrantedUser]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        user = GrantedUser(Store(table, clock), clock, renewal)
        await user.connect()
        yield user
