"""Death of a process in the middle of a refresh: the state of the grant depends on the completed steps.

``tests.long.chaos.refreshes`` kills real processes with -9 at the same steps.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.grants import REFUSAL_RETRY_DELAYS
from bg_ingest.domain.polling import Outcome
from tests.fakes.faults import CallWrapper
from tests.harness.connected_user import ConnectedUser
from tests.harness.owners import Suspension
from tests.unit.services.connections.test_grants_while_polling import another_process


class KillingCalls(CallWrapper):
    """The caller dies before or after a call has its effect."""

    def __init__(self, inner: Any, suspension: Suspension, name: str, *, after: bool) -> None:
        super().__init__(inner)
        self._suspension = suspension
        self._name = name
        self._after = after

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call() if name != self._name or self._after else None
        if name == self._name:
            self._suspension.suspend()
            await anyio.sleep_forever()
        return answer


@pytest.mark.parametrize(
    ("port", "call", "after", "rotations", "outcomes"),
    [
        ("grant_store", "claim", True, 0, [Outcome.GRANT_BUSY, Outcome.READ]),
        ("provider", "renew", False, 0, [Outcome.GRANT_BUSY, Outcome.READ]),
        ("provider", "renew", True, 1, [Outcome.GRANT_BUSY, Outcome.REFUSED]),
        ("grant_store", "store", False, 1, [Outcome.GRANT_BUSY, Outcome.REFUSED]),
        ("grant_store", "store", True, 1, [Outcome.READ]),
    ],
    ids=["claimed", "sent", "answered", "about to be stored", "stored"],
)
async def test_only_an_answered_pair_that_was_not_stored_is_lost(
    ada: ConnectedUser, port: str, call: str, *, after: bool, rotations: int, outcomes: list[Outcome]
) -> None:
    await ada.sleep_until_expired()
    connection, grant = await ada.connection(), await ada.grant()
    suspension = Suspension()
    parts = {"grant_store": ada.services.store.grants, "provider": ada.service.provider}
    killing = KillingCalls(parts[port], suspension, call, after=after)
    dying = another_process(ada, **{port: killing})

    async def refresh() -> None:
        await dying.refresh(connection, grant)

    async def live() -> None:
        with suppress(Exception):  # resumed, so that this test ends
            await suspension.over(refresh())

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        while suspension.awake.is_set():
            await checkpoint()
        assert ada.rotations == rotations

        report = await ada.poll()
        found = [report.result.outcome]
        while found[-1] is Outcome.GRANT_BUSY:
            report = await ada.poll_when_due(report)
            found.append(report.result.outcome)
        assert found == outcomes
        assert (await ada.connection()).state is ConnectionState.ACTIVE, "a first refusal does not end the grant"
        if outcomes[-1] is Outcome.REFUSED:
            assert (await ada.grant()).refusals == 1
            assert report.due == ada.service.clock.now() + REFUSAL_RETRY_DELAYS[0]
        else:
            assert (await ada.grant()).refusals == 0
            assert ada.rotations == 1
        group.cancel_scope.cancel()
        suspension.wake()
