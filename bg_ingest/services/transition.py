"""A connection enters another state: numbered and told, like everything that happens to a user."""

from collections.abc import Callable

import msgspec

from bg_ingest.domain.commits import Commit, Head, Standing, Step, changed, told, with_standing
from bg_ingest.domain.connections import Connection, State
from bg_ingest.domain.grants import Grant
from bg_ingest.errors import Fenced, Outdated, StoreUnavailable
from bg_ingest.ports import Clock, Hints, Readings
from bg_ingest.services.commit import TRIES, try_commit


class Transition:
    """Commits a change of state, with the grant that comes or goes with it."""

    def __init__(
        self, readings: Readings, clock: Clock, hints: Hints, standing: Callable[[Connection], Standing]
    ) -> None:
        self._readings = readings
        self._clock = clock
        self._hints = hints
        self._standing = standing

    async def enter(
        self,
        connection: Connection,
        state: State,
        reason: str | None,
        *,
        refused: Grant | None = None,
        look: bool = False,
    ) -> Connection:
        """Move a connection as read to a state; Fenced when it is no longer as read."""
        after = msgspec.structs.replace(connection, state=state, reason=reason)
        step = Step(connection, after, look=look)
        await self.commit(step, refused=refused, drop_grant=state is State.DISCONNECTED)
        return after

    async def commit(
        self,
        step: Step,
        *,
        grant: Grant | None = None,
        refused: Grant | None = None,
        drop_grant: bool = False,
        revives: int = -1,
    ) -> None:
        """Write a step together with its event; Fenced when the connection, grant or account is not as it must be.

        Of an erased user nothing is written, unless the erasure's number is at most ``revives``: a connect that was
        begun when it was known.
        """
        for _ in range(TRIES):
            head = await self._readings.head(step.after.id.user)
            if head is not None and head.erased and head.last_change > revives:
                raise Fenced
            commit = self._told(head, step)
            commit = msgspec.structs.replace(commit, step=step, grant=grant, refused=refused, drop_grant=drop_grant)
            try:
                await try_commit(self._readings, commit)
            except Outdated:
                continue
            self._hints.told(commit.changes)
            return
        raise StoreUnavailable("too many writers at once")

    def _told(self, head: Head | None, step: Step) -> Commit:
        user = step.after.id.user
        at = (head or Head(user)).next_instant(self._clock.now())
        commit = told(head, [changed(step.after)], at, user=user)
        after = with_standing(commit.head, step.after.id.provider, self._standing(step.after))
        # connecting is what clears a tombstone; nothing else may write over one
        return msgspec.structs.replace(commit, head=msgspec.structs.replace(after, erased=False))
