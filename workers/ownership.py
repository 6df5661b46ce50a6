"""Beat, look, take, keep, give back: which shards this process serves, among as many processes as there are."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from secrets import token_hex

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus

from bg_ingest.domain import leases
from bg_ingest.domain.leases import Board, Lease, Owner, Tempo
from bg_ingest.errors import Conflicted, Outdated, StoreError, StoreUnavailable
from bg_ingest.ports import Ownership as Rows
from workers.parting import TRY_AGAIN, Parting, Served, insist

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Ownership:
    """An actor that keeps this process's share of the shards.

    It acts as an owner only while the beat it last sent is young enough that nobody can have taken it for dead:
    ``holds`` says so by the clock alone, whatever this actor is waiting for.
    """

    def __init__(
        self,
        rows: Rows,
        served: Served,
        name: str,
        *,
        tempo: Tempo,
        demand: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._rows = rows
        self._served = served
        self._name = name
        self._tempo = tempo
        self._demand = demand
        self._me: Owner | None = None
        self._sent_at = float("-inf")
        """When the last beat that was answered had been sent."""
        self._serving: dict[int, Lease] = {}
        self._parting = Parting(rows, served, self._gone)
        self._watch: leases.Seen = {}
        self._blind = self._draining = False
        self._rests: TaskGroup | None = None
        self._scope = anyio.CancelScope()
        self.board: Board | None = None
        """What the last look found."""

    @property
    def me(self) -> str | None:
        return self._me.id if self._me else None

    @property
    def serving(self) -> Mapping[int, Lease]:
        """The shards served here, also those that are being given back."""
        return self._serving

    @property
    def blind(self) -> bool:
        """Whether the rows could not be read for so long that we gave everything up."""
        return self._blind and not self.holds()

    def holds(self) -> bool:
        """Whether what we serve is surely still ours."""
        return anyio.current_time() - self._sent_at < self._tempo.hold

    def epoch(self, shard: int) -> int | None:
        """Return the epoch under which a shard is served here; None when it is not, or no longer."""
        lease = self._serving.get(shard)
        return lease.epoch if lease and shard not in self._parting else None

    async def __call__(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Look and beat until cancelled; it has started when it has taken what was free."""
        parted = [each for each in self._serving if each in self._parting]  # being brought to rest as we crashed
        self._served.drop(parted)
        for shard in parted:
            del self._serving[shard]  # those that are still ours a look adopts anew
        self._parting.forget()
        async with anyio.create_task_group() as self._rests:
            await self._round()
            task_status.started()
            while True:
                await anyio.sleep(self._pause())
                if self._draining:
                    await anyio.sleep_forever()
                try:
                    await self._round()
                except (StoreUnavailable, Conflicted) as error:
                    self._log_blind(error)
                else:
                    self._log_seeing()

    async def drain(self) -> None:
        """Take nothing more, give back every shard as soon as it is quiet, and take our name off the list."""
        self._draining = True
        self._scope.cancel()  # of a round under way, which might take more
        me = self._me
        if me is None:
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._leave, me, name="leaving")
            await self._parting.give_back(list(self._serving.values()))
            group.cancel_scope.cancel()
        await insist(lambda: self._rows.leave(me.id))

    async def _leave(self, me: Owner) -> None:
        """Say at once that nobody should count on us, and stay alive for the others while we give back."""
        while True:
            me = msgspec.structs.replace(me, beat=me.beat + 1, leaving=True)
            try:
                await self._rows.beat(me)
            except Outdated:  # taken for dead
                return
            except StoreError:
                await anyio.sleep(TRY_AGAIN)
            else:
                await anyio.sleep(self._tempo.beat_every)

    def _pause(self) -> float:
        """Until the next look; shorter when we must give everything up before."""
        if not self._serving:
            return self._tempo.look_every
        left = self._sent_at + self._tempo.hold - anyio.current_time()
        return min(self._tempo.look_every, max(0.0, left))

    async def _round(self) -> None:
        """Beat if it is time, look, and do what follows; all of it ends when what we serve may be taken from us."""
        if not self.holds():
            self._give_up()
        with anyio.CancelScope() as self._scope:
            if self._serving:
                self._scope.deadline = self._sent_at + self._tempo.hold
            await self._beat()
            self._scope.deadline = self._sent_at + self._tempo.hold
            await self._look()
        if self._scope.cancelled_caught and not self._draining:
            self._give_up()
            raise StoreUnavailable("the store did not answer in time")

    def _give_up(self) -> None:
        """Stop serving everything, at once."""
        if self._serving:
            log.warning(
                "gave up all shards: the store was out of reach", action="shards_lost", shards=len(self._serving)
            )
        self._served.drop(list(self._serving))
        self._serving.clear()
        self._parting.forget()

    async def _beat(self) -> None:
        now = anyio.current_time()
        if self._me is not None and now - self._sent_at < self._tempo.beat_every:
            return
        if self._me is not None:
            # Each try is another beat. Were one whose answer is lost sent again as it was, we should count from an
            # answer to the second, and the others from the first: that is when they saw it move.
            self._me = msgspec.structs.replace(self._me, beat=self._me.beat + 1, demand=self._demand())
            try:
                await self._rows.beat(self._me)
            except Outdated:  # others took us for dead: under this name we may not act any more
                self._me = None
                self._give_up()
            else:
                self._sent_at = now
        if self._me is None:
            me = Owner(f"{self._name}-{token_hex(4)}", demand=self._demand())
            await self._rows.enter(me)
            self._me, self._sent_at = me, now

    async def _look(self) -> None:
        me = self._me
        if me is None:
            return
        asked_at = anyio.current_time()
        board = await self._rows.board()
        dead = leases.dead(self._watch, board.owners, me.id, asked_at=asked_at, ttl=self._tempo.ttl)
        self._watch = leases.seen(self._watch, board.owners, answered_at=anyio.current_time())
        for each in dead:
            board = await self._bury(board, each)
        if self._draining:  # whatever would be taken up now, nobody would give back
            return
        self.board = board
        if me.id not in {each.id for each in board.owners}:  # taken for dead
            self._sent_at = float("-inf")
            return
        serving = {shard: each.epoch for shard, each in self._serving.items()}
        moves = leases.moves(board, me.id, serving, self._parting.unsettled(asked_at))
        self._lose(moves.lost)
        self._serve(moves.adopt)
        taken = await self._rows.take(moves.take, me.id) if moves.take else []
        if self._draining:  # what was taken is free again once our row is gone
            return
        self._serve(taken)
        if moves.give and self._rests is not None:
            log.info("giving shards back", action="shards_given", shards=len(moves.give))
            self._parting.begin(each.shard for each in moves.give)
            self._rests.start_soon(self._parting.give_back, moves.give, name="giving back")

    async def _bury(self, board: Board, dead: Owner) -> Board:
        with suppress(Outdated):  # it lives
            await self._rows.bury(dead)
            log.warning("another process died; its shards are free", action="owner_died", owner=dead.id)
            return msgspec.structs.replace(board, owners=tuple(each for each in board.owners if each.id != dead.id))
        return board

    def _serve(self, taken: Collection[Lease]) -> None:
        if taken:
            self._serving.update({each.shard: each for each in taken})
            self._served.take(taken)
            log.info("took shards", action="shards_taken", shards=len(taken), serving=len(self._serving))

    def _lose(self, shards: Collection[int]) -> None:
        if shards:
            log.warning("shards were taken from us", action="shards_lost", shards=len(shards))
            self._served.drop(shards)
        for shard in shards:
            del self._serving[shard]

    def _gone(self, lease: Lease) -> None:
        if self._serving.get(lease.shard) == lease:
            del self._serving[lease.shard]

    def _log_blind(self, error: StoreError) -> None:
        if not self._blind:
            log.warning("cannot look after ownership", action="ownership_blind", error=str(error))
        self._blind = True

    def _log_seeing(self) -> None:
        if self._blind:
            log.info("looks after ownership again", action="ownership_recovered")
        self._blind = False
