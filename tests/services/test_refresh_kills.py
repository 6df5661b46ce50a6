"""A process that dies in the middle of a refresh: what becomes of the grant depends on how far it had come.

``tests.chaos.refreshes`` kills real processes with -9 at the same steps.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from bg_ingest.domain.connections import State
from bg_ingest.domain.grants import REFUSAL_PLAN
from bg_ingest.domain.outcomes import Ending
from tests.fakes.faults import InFront
from tests.home import Home
from tests.services.test_grants import another_process
from tests.workers.company import Suspension


class Deadly(InFront):
    """Before or after a call has its effect, whoever called does nothing any more."""

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
    ("port", "call", "after", "rotations", "endings"),
    [
        ("connections", "claim_grant", True, 0, [Ending.GRANT_BUSY, Ending.READ]),
        ("provider", "refresh", False, 0, [Ending.GRANT_BUSY, Ending.READ]),
        ("provider", "refresh", True, 1, [Ending.GRANT_BUSY, Ending.REFUSED]),
        ("connections", "store_grant", False, 1, [Ending.GRANT_BUSY, Ending.REFUSED]),
        ("connections", "store_grant", True, 1, [Ending.READ]),
    ],
    ids=["claimed", "sent", "answered", "about to be stored", "stored"],
)
async def test_only_what_the_provider_answered_and_nobody_stored_is_lost(
    home: Home, port: str, call: str, *, after: bool, rotations: int, endings: list[Ending]
) -> None:
    await home.until_expired()
    connection, grant = await home.connection(), await home.grant()
    dying, suspension = another_process(home), Suspension()
    if port == "connections":
        dying._connections = Deadly(dying._connections, suspension, call, after=after)
    else:
        (name, provider) = next(iter(dying._providers.items()))
        dying._providers = {name: Deadly(provider, suspension, call, after=after)}

    async def refresh() -> None:
        await dying.renewed(connection, grant)

    async def live() -> None:
        with suppress(Exception):  # as it is woken, for this test to end
            await suspension.over(refresh())

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        while suspension.awake.is_set():
            await checkpoint()
        assert home.rotations == rotations

        turn = await home.turn()
        found = [turn.outcome.ending]
        while found[-1] is Ending.GRANT_BUSY:
            turn = await home.due_turn(turn)
            found.append(turn.outcome.ending)
        assert found == endings
        assert (await home.connection()).state is State.ACTIVE, "a refusal is not believed at once"
        if endings[-1] is Ending.REFUSED:
            assert (await home.grant()).refusals == 1
            assert turn.due == home.house.clock.now() + REFUSAL_PLAN[0]
        else:
            assert (await home.grant()).refusals == 0
            assert home.rotations == 1
        group.cancel_scope.cancel()
        suspension.wake()
