"""Claims of a refresh token by three processes that all act as its owner, each suspended at random moments."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Any, cast

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.commits import ConnectionUpdate
from bg_ingest.domain.grants import CLAIM_SEND_TIMEOUT, CLAIM_STALE_AFTER, Credentials, Renewal, SecretBytes
from bg_ingest.errors import GrantRejected, IngestError, ProviderUnavailable
from bg_ingest.ports import Observer, Provider
from bg_ingest.services.connections.grants import Grants
from bg_ingest.store import Store
from tests.conftest import examples, on
from tests.fakes.faults import CallWrapper
from tests.fakes.unlimited_budget import UnlimitedBudget
from tests.harness.sample_values import ACME, connection, connection_commit, replaced_fields
from tests.harness.service import LoopClock

STALE, SEND_TIMEOUT = CLAIM_STALE_AFTER.total_seconds(), CLAIM_SEND_TIMEOUT.total_seconds()


anyio_backend = on("asyncio", "trio")


class SentToken(msgspec.Struct):
    """Sent refresh token."""

    at: float
    known: bool = False
    """True once the sender has received the new pair."""
    over: bool = False
    """True once the sender has received a refusal, or will never receive an answer."""


class RotatingProvider:
    """A provider with single-use refresh tokens. Some answers are slow, and some are lost after the rotation."""

    def __init__(self, clock: LoopClock, random: Random, lost: float) -> None:
        self._clock = clock
        self._random = random
        self._lost = lost
        self.valid = 1
        self.sent: dict[int, list[SentToken]] = {}
        self.stored_at: dict[int, float] = {}
        """Instant at which each version was stored."""
        self.wrong: list[str] = []

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        return credentials_of(self._clock, int(content.reveal()))

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        number = int(credentials.content.reveal())
        sent = SentToken(anyio.current_time())
        self._check_sent(number, sent)
        self.sent.setdefault(number, []).append(sent)
        try:
            await anyio.sleep(self._random.choice([0.1, 1, 10, 29, 45]))
            return self._answer(number, sent)
        finally:
            sent.over = not sent.known

    def _answer(self, number: int, sent: SentToken) -> Credentials:
        if number != self.valid:
            raise GrantRejected
        self.valid += 1
        if self._random.random() < self._lost:
            raise ProviderUnavailable
        sent.known = True
        return credentials_of(self._clock, self.valid)

    def _check_sent(self, number: int, sent: SentToken) -> None:
        """A claim is unchanged for 60 s before another replaces it; its token is sent at once or within 20 s."""
        for earlier in self.sent.get(number, ()):
            if not earlier.over and sent.at - earlier.at < STALE - SEND_TIMEOUT:
                self.wrong.append(f"{number} is sent while another waits for its answer, or just had it")
        if sent.at - self.stored_at.get(number + 1, sent.at) > SEND_TIMEOUT:
            self.wrong.append(f"{number} is sent though its successor has long been stored")


def credentials_of(clock: LoopClock, number: int) -> Credentials:
    return Credentials(SecretBytes(str(number).encode()), clock.now() + timedelta(minutes=5), Renewal.SINGLE_USE)


class SleepyCalls(CallWrapper):
    """Table with callers that may be suspended right before a call takes effect, or before its answer."""

    def __init__(self, inner: Any, random: Random) -> None:
        super().__init__(inner)
        self._random = random

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._sleep()
        answer = await call()
        await self._sleep()
        return answer

    async def _sleep(self) -> None:
        await anyio.sleep(self._random.choice([0, 0, 0, 0.05, 2, 19, 21, 65]))


@pytest.mark.slow
@given(seed=st.integers(0, 2**32), lost=st.sampled_from([0.0, 0.3]))
@settings(max_examples=examples(25))
async def test_no_refresh_token_is_sent_twice_unless_its_result_was_unknown(seed: int, lost: float) -> None:
    random, clock = Random(seed), LoopClock()
    async with open_table(None, clock) as table:
        provider = RotatingProvider(clock, random, lost)
        await connected(Store(table, clock), grants_of(Store(table, clock), provider, clock), clock)
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch, Store(table, clock), provider)
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    store = Store(cast("Any", SleepyCalls(table, random)), clock)
                    group.start_soon(keep_fresh, store, grants_of(store, provider, clock), random)
            watching.cancel_scope.cancel()
        assert not provider.wrong


async def watch(store: Store, provider: RotatingProvider) -> None:
    while True:
        _, grant = await store.connections.get_with_grant(ACME)
        assert grant is not None
        provider.stored_at.setdefault(grant.version, anyio.current_time())
        await anyio.sleep(0.5)


def grants_of(store: Store, provider: RotatingProvider, clock: LoopClock) -> Grants:
    return Grants(
        store.grants,
        {"acme": cast("Provider", provider)},
        UnlimitedBudget(),
        AesGcmSealer([bytes(32)]),
        clock,
        "test",
        Observer(),
    )


async def connected(store: Store, grants: Grants, clock: LoopClock) -> None:
    first = grants.seal_new(ACME, "first", credentials_of(clock, 1))
    commit = connection_commit(None, None, connection(), grant=first)
    await store.commits.write(replaced_fields(commit, connection_update=ConnectionUpdate(None, connection())))


async def keep_fresh(store: Store, grants: Grants, random: Random) -> None:
    """Refresh repeatedly with a grant that was read a while ago."""
    for _ in range(8):
        with suppress(IngestError):
            found, grant = await store.connections.get_with_grant(ACME)
            assert found is not None
            assert grant is not None
            await anyio.sleep(random.choice([0, 0, 1, 25, 70]))
            await grants.refresh(found, grant)
        await anyio.sleep(random.choice([0, 5, 40]))
