"""Grants alone: renewals of each kind, single-use ones under a claim, and the end of a process."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.domain.grants import CLAIM_STALE_AFTER, REFUSAL_RETRY_DELAYS, Renewal
from bg_ingest.errors import GrantBusy, GrantLost, GrantRefused, GrantRejected, ProviderUnavailable, StaleRead
from bg_ingest.ports import Priority
from tests.conftest import on
from tests.fakes.faults import CallWrapper, Fault, FaultyCalls
from tests.fakes.unlimited_budget import UnlimitedBudget
from tests.harness.granted_user import open_granted_user

anyio_backend = on("asyncio", "trio")

RENEWED = [Renewal.SINGLE_USE, Renewal.REPEATABLE]


@pytest.mark.parametrize("renewal", RENEWED)
async def test_expired_credentials_are_renewed_once_before_the_call(renewal: Renewal) -> None:
    async with open_granted_user(renewal) as ada:
        await ada.use()
        await ada.sleep_until_expired()
        await ada.use()
        await ada.use()
        assert (ada.provider.renewals, ada.calls("available")) == (1, 3)
        grant = await ada.grant()
        assert (grant.version, grant.generation, grant.claim) == (2, ada.connection.generation, None)


@pytest.mark.parametrize("renewal", RENEWED)
async def test_a_refused_call_is_repeated_once_with_renewed_credentials(renewal: Renewal) -> None:
    async with open_granted_user(renewal) as ada:
        ada.provider.failures["available"] = [GrantRejected()]
        await ada.use()
        assert (ada.provider.renewals, ada.calls("available")) == (1, 2)
        ada.provider.failures["available"] = [GrantRejected(), GrantRejected()]
        with pytest.raises(GrantRefused) as refused:
            await ada.use()
        assert refused.value.wait == REFUSAL_RETRY_DELAYS[0]
        with pytest.raises(GrantRefused):
            await ada.use()
        assert (ada.provider.renewals, ada.calls("available")) == (2, 4), "no request is sent before the wait is over"


async def test_single_use_credentials_are_renewed_under_a_claim_and_others_wait() -> None:
    async with open_granted_user(Renewal.SINGLE_USE) as ada:
        await ada.sleep_until_expired()
        ada.provider.delays["renew"] = 10
        grant = await ada.grant()
        async with anyio.create_task_group() as group:
            group.start_soon(ada.use)
            await anyio.sleep(1)
            assert (await ada.grant()).claim is not None
            with pytest.raises(GrantBusy):
                await ada.process().refresh(ada.connection, await ada.grant())
            with pytest.raises(GrantBusy):
                await ada.process().refresh(ada.connection, grant)
        assert (ada.calls("renew"), (await ada.grant()).version) == (1, grant.version + 1)


async def test_repeatable_credentials_are_renewed_by_two_at_once_without_a_claim() -> None:
    async with open_granted_user(Renewal.REPEATABLE) as ada:
        await ada.sleep_until_expired()
        ada.provider.delays["renew"] = 10
        before, versions = await ada.grant(), []

        async def renew() -> None:
            versions.append((await ada.process().refresh(ada.connection, before)).version)

        async with anyio.create_task_group() as group:
            group.start_soon(renew)
            group.start_soon(renew)
            await anyio.sleep(1)
            assert await ada.grant() == before
        assert versions == [before.version + 1] * 2
        assert (ada.calls("renew"), (await ada.grant()).version) == (2, before.version + 1)


async def test_a_repeatable_renewal_without_an_answer_is_sent_again_at_once() -> None:
    async with open_granted_user(Renewal.REPEATABLE) as ada:
        await ada.sleep_until_expired()
        ada.provider.failures["renew"] = [ProviderUnavailable()]
        with pytest.raises(ProviderUnavailable):
            await ada.use()
        await ada.use(ada.process())
        assert (ada.calls("renew"), ada.provider.renewals, (await ada.grant()).refusals) == (2, 1, 0)


async def test_renewed_credentials_that_cannot_be_stored_are_not_used_before() -> None:
    async with open_granted_user(Renewal.REPEATABLE) as ada:
        await ada.sleep_until_expired()
        broken = FaultyCalls(ada.store.grants, lambda n: Fault.BEFORE if n <= 8 else None, only={"store"})
        process = ada.process(grant_store=broken)
        renewed = await process.refresh(ada.connection, await ada.grant())
        assert (broken.calls, (await ada.grant()).version) == (9, renewed.version)
        assert ada.calls("available") == 0


async def test_credentials_without_a_renewal_are_used_until_they_are_refused() -> None:
    async with open_granted_user(Renewal.NONE) as ada:
        ada.clock.skip(timedelta(days=1000))
        before = await ada.grant()
        await ada.use()
        assert (await ada.grant(), ada.calls("renew")) == (before, 0)
        assert await ada.grants.refresh(ada.connection, before) == before


async def test_credentials_without_a_renewal_are_tried_again_as_planned_and_lost_at_last() -> None:
    async with open_granted_user(Renewal.NONE) as ada:
        ada.provider.failures["available"] = [GrantRejected()] * (len(REFUSAL_RETRY_DELAYS) + 1)
        for number, wait in enumerate(REFUSAL_RETRY_DELAYS, 1):
            with pytest.raises(GrantRefused) as refused:
                await ada.use()
            assert refused.value.wait == wait
            assert ada.calls("available") == number
            await anyio.sleep(wait.total_seconds())
        with pytest.raises(GrantLost):
            await ada.use()
        assert ((await ada.grant()).is_exhausted, ada.calls("renew")) == (True, 0)


async def test_refusals_of_credentials_without_a_renewal_are_forgotten_once_they_work() -> None:
    async with open_granted_user(Renewal.NONE) as ada:
        ada.provider.failures["available"] = [GrantRejected()]
        with pytest.raises(GrantRefused):
            await ada.use()
        assert (await ada.grant()).refusals == 1
        await anyio.sleep(REFUSAL_RETRY_DELAYS[0].total_seconds())
        await ada.use()
        grant = await ada.grant()
        assert (grant.refusals, grant.retry_at) == (0, None)


async def test_case_6_of_many_who_refresh_at_once_one_sends_and_the_others_use_its_pair() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        ada.provider.delays["renew"] = 3
        grant, versions = await ada.grant(), []

        async def refresh() -> None:
            process = ada.process()
            for _ in range(30):
                try:
                    versions.append((await process.refresh(ada.connection, grant)).version)
                except GrantBusy as busy:
                    await anyio.sleep(min(1.0, busy.wait.total_seconds()))
                else:
                    return

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(refresh)
        assert versions == [grant.version + 1] * 5
        assert ada.calls("renew") == 1


class WatchedClaims(CallWrapper):
    """Store of grants that calls a function when a claim is written, before the write returns."""

    def __init__(self, inner: Any, on_claim: Callable[[], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._on_claim = on_claim

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name == "claim":
            await self._on_claim()
        return answer


async def test_a_process_that_slept_between_claim_and_sending_does_not_send() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        sleepy = WatchedClaims(ada.store.grants, lambda: anyio.sleep(25))
        with pytest.raises(GrantBusy):
            await ada.process(grant_store=sleepy).refresh(ada.connection, await ada.grant())
        assert ada.calls("renew") == 0


async def test_a_process_that_has_to_end_while_it_claims_a_grant_sends_nothing_and_leaves_no_claim() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()

        async def end() -> None:
            ending_process.close(12)

        ending_process = ada.process(grant_store=WatchedClaims(ada.store.grants, end))
        with pytest.raises(GrantBusy):
            await ada.use(ending_process)
        assert ada.calls("renew") == 0
        assert (await ada.grant()).claim is None


async def test_a_process_about_to_end_begins_no_refresh() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        ada.grants.close(12)
        with pytest.raises(GrantBusy):
            await ada.use()
        assert ada.calls("renew") == 0


async def test_a_refresh_that_the_end_of_the_process_cancels_before_its_answer_leaves_a_claim() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        ada.provider.delays["renew"] = 20
        async with anyio.create_task_group() as group:

            async def end() -> None:
                await anyio.sleep(1)
                ada.grants.close(12)

            group.start_soon(end)
            with pytest.raises(GrantBusy) as busy:
                await ada.use()
        assert busy.value.wait == CLAIM_STALE_AFTER
        assert (await ada.grant()).claim is not None


async def test_a_claim_of_a_dead_process_is_taken_over_after_a_minute_on_the_own_clock() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        await ada.store.grants.claim(await ada.grant(), "of the dead")
        with pytest.raises(GrantBusy) as busy:
            await ada.use()
        assert busy.value.wait == CLAIM_STALE_AFTER
        await anyio.sleep(busy.value.wait.total_seconds())
        await ada.use()
        assert ada.calls("renew") == 1


async def test_claiming_what_was_refreshed_meanwhile_is_outdated() -> None:
    async with open_granted_user() as ada:
        grant = await ada.grant()
        await ada.sleep_until_expired()
        await ada.use()
        with pytest.raises(StaleRead):
            await ada.store.grants.claim(grant, "late")


async def test_case_9_a_cancelled_refresh_is_finished_and_stored() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        ada.provider.delays["renew"] = 5
        with anyio.move_on_after(1):
            await ada.use()
        assert (await ada.grant()).version == 2


class WaitingBudget(UnlimitedBudget):
    """Budget whose calls are given later."""

    def __init__(self) -> None:
        self.is_open = anyio.Event()

    async def acquire(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        await self.is_open.wait()


async def test_a_process_that_waits_for_the_budget_keeps_no_other_from_refreshing_meanwhile() -> None:
    async with open_granted_user() as ada:
        await ada.sleep_until_expired()
        grant, budget = await ada.grant(), WaitingBudget()
        waiting, versions = ada.process(budget=budget), []

        async def wait() -> None:
            versions.append((await waiting.refresh(ada.connection, grant)).version)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(1)
            await ada.use()
            budget.is_open.set()
        assert ada.calls("renew") == 1
        assert versions == [grant.version + 1]
