"""Kinds of renewal: single-use under a claim, repeatable without one, and none at all."""

from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.grants import REFUSAL_RETRY_DELAYS, Renewal
from bg_ingest.errors import GrantBusy, GrantLost, GrantRefused, GrantRejected, ProviderUnavailable
from tests.conftest import on
from tests.fakes.faults import Fault, FaultyCalls
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
        assert (ada.provider.renewals, ada.calls("available")) == (2, 4), "nothing is sent before the wait is over"


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
