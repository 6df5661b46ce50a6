"""Wake-ups that are recorded."""

from collections.abc import Sequence

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId, UserId


class RecordingWakeups:
    """Keeps all wake-ups in order."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.connections: list[ConnectionId] = []
        self.checked: list[UserId] = []

    def wake_poller(self, connection: ConnectionId) -> None:
        self.connections.append(connection)

    def wake_relay(self, changes: Sequence[Change]) -> None:
        self.changes += changes

    def check_relay(self, user: UserId) -> None:
        self.checked.append(user)
