"""Accepted callers, for how long, and the cost of checks; API keys are created, listed by age and revoked."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.access import ALL_USERS, Scope, TokenClaims, hash_key, parse_key_id
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound, StoreUnavailable
from bg_ingest.services.access.authenticate import ApiKeys, Authenticator, CreatedKey
from bg_ingest.store import Store
from tests.fakes.faults import Fault, FaultyCalls
from tests.harness.service import LoopClock

READING = frozenset({Scope.READINGS_READ})
BOOTSTRAP = "bgi_first_" + "s" * 43
HALF_A_MINUTE = 30.0


class Replica:
    """Separate process over the shared store; its access to the store can be cut."""

    def __init__(self, store: Store, clock: LoopClock, **given: Any) -> None:
        self.fault: Fault | None = None
        self.keys = FaultyCalls(store.keys, lambda _: self.fault)
        self.authenticator = Authenticator(self.keys, clock, **given)

    async def accepts(self, credential: str) -> bool:
        return await self.authenticator.authenticate(credential) is not None


class KeyOffice:
    def __init__(self, store: Store, clock: LoopClock) -> None:
        self.store, self.clock = store, clock
        self.keyring = ApiKeys(store.keys, clock)

    def replica(self, **given: Any) -> Replica:
        return Replica(self.store, self.clock, **given)

    async def key(self, scopes: Collection[Scope] = READING, **given: Any) -> CreatedKey:
        return await self.keyring.create("dashboard", scopes, **given)


@asynccontextmanager
async def open_key_office() -> Any:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        yield KeyOffice(Store(table, clock), clock)


async def test_a_key_lets_in_for_its_scopes_and_its_users() -> None:
    async with open_key_office() as ours:
        made = await ours.key({Scope.READINGS_READ, Scope.ADMIN}, users=[UserId("ada")])
        caller = await ours.replica().authenticator.authenticate(made.text.reveal())
        assert caller is not None
        assert caller.name == f"key:{made.key.id}"
        assert caller.scopes == {Scope.READINGS_READ, Scope.ADMIN}
        assert (caller.may_access("ada"), caller.may_access("bob")) == (True, False)


async def test_nothing_of_a_secret_is_kept_or_shown() -> None:
    async with open_key_office() as ours:
        made = await ours.key()
        secret = made.text.reveal().rpartition("_")[2]
        assert secret not in repr(made)
        (kept,) = await ours.store.keys.read_all()
        assert secret.encode() not in repr(kept).encode()
        assert len(kept.digest) == 32


async def test_near_misses_of_a_key_are_refused() -> None:
    async with open_key_office() as ours:
        text = (await ours.key()).text.reveal()
        replica = ours.replica()
        assert await replica.accepts(text)
        flipped = text[:-1] + ("A" if text[-1] != "A" else "B")
        other = (await ours.key()).text.reveal()
        mixed = other[: -len("x" * 43)] + text[-43:]
        for wrong in (
            flipped,
            mixed,
            text + "A",
            text[:-1],
            text.upper(),
            f" {text}",
            f"{text}\n",
            "bgi_",
            "",
            "x.y.z",
        ):
            assert not await replica.accepts(wrong), wrong


async def test_a_key_ends_when_it_says() -> None:
    async with open_key_office() as ours:
        made = await ours.key(ends_at=ours.clock.now() + timedelta(seconds=100))
        replica = ours.replica()
        await anyio.sleep(99)
        assert await replica.accepts(made.text.reveal())
        await anyio.sleep(1)
        assert not await replica.accepts(made.text.reveal())


async def test_a_revoked_key_is_refused_within_half_a_minute_by_every_replica_and_stays_so() -> None:
    async with open_key_office() as ours:
        made, other = await ours.key(), await ours.key()
        replicas = [ours.replica() for _ in range(3)]
        for number, replica in enumerate(replicas):
            await anyio.sleep(5 * number)
            assert await replica.accepts(made.text.reveal())
        await ours.keyring.revoke(made.key.id)
        await anyio.sleep(HALF_A_MINUTE)
        for replica in replicas:
            assert not await replica.accepts(made.text.reveal())
            assert await replica.accepts(other.text.reveal())
        with pytest.raises(NotFound):
            await ours.keyring.revoke("nobody")


async def admitted_seconds(replica: Replica, credential: str) -> float:
    """Return the seconds for which a credential is accepted until it is refused."""
    began, admitted = anyio.current_time(), 0.0
    with anyio.move_on_after(2 * HALF_A_MINUTE), suppress(StoreUnavailable):
        while await replica.accepts(credential):
            admitted = anyio.current_time() - began
            await anyio.sleep(0.5)
    return admitted


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.HANG])
async def test_what_the_store_last_said_is_not_believed_for_longer_than_that_either(fault: Fault) -> None:
    async with open_key_office() as ours:
        made, replica = await ours.key(), ours.replica()
        assert await replica.accepts(made.text.reveal())
        await ours.keyring.revoke(made.key.id)
        replica.fault = fault
        assert await admitted_seconds(replica, made.text.reveal()) < HALF_A_MINUTE
        replica.fault = None
        assert not await replica.accepts(made.text.reveal())


async def test_a_new_key_is_known_within_seconds() -> None:
    async with open_key_office() as ours:
        replica = ours.replica()
        assert await replica.authenticator.is_open()
        made = await ours.key()
        await anyio.sleep(2)
        assert await replica.accepts(made.text.reveal())


async def test_a_sender_of_wrong_keys_causes_no_read_per_key() -> None:
    async with open_key_office() as ours:
        made, replica = await ours.key(), ours.replica()
        for number in range(1_000):
            assert not await replica.accepts(f"bgi_unknown{number}_" + "s" * 43)
            assert await replica.accepts(made.text.reveal())
            await anyio.sleep(0.01)
        assert replica.keys.calls <= 6


@pytest.mark.parametrize("age", [0.0, 1.9, 2.0, 11.0, 13.0, 26.0])
@pytest.mark.parametrize("fault", [None, Fault.BEFORE])
async def test_s17_a_known_id_with_a_wrong_secret_costs_what_an_unknown_id_costs(
    age: float, fault: Fault | None
) -> None:
    async with open_key_office() as ours:
        made, revoked = await ours.key(), await ours.key()
        await ours.keyring.revoke(revoked.key.id)
        costs = set()
        for identity in (made.key.id, revoked.key.id, "unknown"):
            replica = ours.replica()
            assert await replica.accepts(made.text.reveal())
            before = replica.keys.calls
            await anyio.sleep(age)
            replica.fault = fault
            try:
                outcome = await replica.accepts(f"bgi_{identity}_" + "s" * 43)
            except StoreUnavailable:
                outcome = True
            costs.add((outcome, replica.keys.calls - before))
        assert len(costs) == 1, costs


async def test_many_at_once_ask_the_store_once() -> None:
    async with open_key_office() as ours:
        made, replica = await ours.key(), ours.replica()
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(replica.accepts, made.text.reveal())
        assert replica.keys.calls == 1


async def test_the_last_use_is_noted_at_most_hourly_and_ends_with_the_hour() -> None:
    async with open_key_office() as ours:
        made, replica = await ours.key(), ours.replica()
        for _ in range(60 * 3):
            await replica.accepts(made.text.reveal())
            await replica.authenticator.write_key_uses()
            await anyio.sleep(60)
        (kept,) = await ours.store.keys.read_all()
        assert kept.used_at is not None
        assert timedelta(0) < ours.clock.now() - kept.used_at <= timedelta(hours=1, minutes=1)
        written = replica.keys.calls
        await replica.authenticator.write_key_uses()
        assert replica.keys.calls == written


async def test_a_use_that_could_not_be_noted_is_noted_another_time() -> None:
    async with open_key_office() as ours:
        made, replica = await ours.key(), ours.replica()
        await replica.accepts(made.text.reveal())
        replica.fault = Fault.BEFORE
        await replica.authenticator.write_key_uses()
        (kept,) = await ours.store.keys.read_all()
        assert kept.used_at is None
        replica.fault = None
        await replica.authenticator.write_key_uses()
        (kept,) = await ours.store.keys.read_all()
        assert kept.used_at is not None


async def test_the_key_of_the_settings_is_good_for_everything_without_a_store() -> None:
    async with open_key_office() as ours:
        replica = ours.replica(bootstrap=Secret(BOOTSTRAP))
        replica.fault = Fault.BEFORE
        caller = await replica.authenticator.authenticate(BOOTSTRAP)
        assert caller is not None
        assert (caller.name, caller.scopes, caller.users) == ("key:first", frozenset(Scope), None)
        assert not await replica.authenticator.is_open()
        replica.fault = None
        assert not await replica.accepts(BOOTSTRAP[:-1] + "t")


async def test_one_key_ever_made_closes_the_api_for_good() -> None:
    async with open_key_office() as ours:
        assert await ours.replica().authenticator.is_open()
        made = await ours.key()
        await ours.keyring.revoke(made.key.id)
        assert not await ours.replica().authenticator.is_open()


class UnreachableVerifier:
    """Verifier that accepts every token for the users it names."""

    async def verify(self, token: str) -> TokenClaims | None:
        who, *scopes = token.split()
        return TokenClaims(who, frozenset(scopes)) if who != "nobody" else None


async def test_a_token_is_good_for_its_own_user_unless_its_scopes_say_otherwise() -> None:
    async with open_key_office() as ours:
        admission = ours.replica(token_verifier=UnreachableVerifier()).authenticator
        assert await admission.authenticate("nobody readings:read") is None
        own = await admission.authenticate("ada readings:read email readings:write")
        everyone = await admission.authenticate(f"service readings:read {ALL_USERS}")
        assert own is not None
        assert everyone is not None
        assert (own.name, own.scopes, own.users) == ("token:ada", READING, {"ada"})
        assert (everyone.scopes, everyone.users) == (READING, None)
        assert not await admission.is_open()


@pytest.fixture
async def api_keys() -> AsyncIterator[ApiKeys]:
    clock = LoopClock()
    async with open_table(None, clock) as table:
        yield ApiKeys(Store(table, clock).keys, clock)


async def test_the_text_of_a_new_key_names_its_id_and_only_its_digest_is_stored(api_keys: ApiKeys) -> None:
    created = await api_keys.create("dashboard", {Scope.READINGS_READ}, users={UserId("ada")})
    text = created.text.reveal()
    assert parse_key_id(text) == created.key.id
    (stored,) = await api_keys.list()
    assert stored == created.key
    assert stored.digest == hash_key(text)
    assert (stored.scopes, stored.users) == (frozenset({Scope.READINGS_READ}), frozenset({UserId("ada")}))


async def test_two_keys_differ_in_id_and_text(api_keys: ApiKeys) -> None:
    first, second = [await api_keys.create("twin", {Scope.ADMIN}) for _ in range(2)]
    assert first.key.id != second.key.id
    assert first.text.reveal() != second.text.reveal()


async def test_keys_are_listed_by_age_with_expired_and_revoked_ones(api_keys: ApiKeys) -> None:
    names = ["first", "second", "third"]
    ids = []
    for name in names:
        created = await api_keys.create(name, {Scope.ADMIN}, ends_at=LoopClock().now() + timedelta(seconds=2))
        ids.append(created.key.id)
        await anyio.sleep(1)
    await api_keys.revoke(ids[0])
    await anyio.sleep(10)
    assert [key.name for key in await api_keys.list()] == names


async def test_only_a_known_key_can_be_revoked(api_keys: ApiKeys) -> None:
    with pytest.raises(NotFound, match="bgi_"):
        await api_keys.revoke("unknown")
