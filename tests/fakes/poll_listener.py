"""A listener of the scheduler that records its events."""

from collections.abc import Callable

from bg_ingest.domain.call_budget import CallDemand
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome
from workers.handover import OwnershipView


class RecordingListener:
    """``request_finished`` is called at polls that satisfy a request."""

    def __init__(self, request_finished: Callable[[ConnectionId], None] = lambda _: None) -> None:
        self.demands: list[tuple[CallDemand | None, CallDemand | None]] = []
        self.outcomes: list[tuple[ConnectionId, Outcome]] = []
        self._request_finished = request_finished

    def demand_changed(self, before: CallDemand | None, after: CallDemand | None) -> None:
        self.demands.append((before, after))

    def poll_finished(self, connection: ConnectionId, outcome: Outcome, *, request_done: bool) -> None:
        self.outcomes.append((connection, outcome))
        if request_done:
            self._request_finished(connection)


def lasting_view() -> OwnershipView:
    """Return the view of a process whose ownership never expires."""
    return OwnershipView(valid_for=float("inf"), heartbeat_sent_at=0.0)
