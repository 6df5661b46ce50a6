"""Whether providers answer at all, by how the turns of this process end."""

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.outcomes import Ending

IN_A_ROW = 5
"""Turns without an answer, of whichever connections: one connection alone gets there within a minute, and of a provider
that answers now and then it is soon said no more."""

UNANSWERED = frozenset({Ending.UNAVAILABLE, Ending.MISBEHAVED})
ANSWERED = frozenset({Ending.READ, Ending.NOTHING_NEW, Ending.THROTTLED, Ending.FORBIDDEN, Ending.REFUSED})
"""Any other ending says nothing of the provider."""


class Unanswered:
    """Counts the turns in a row that a provider left without an answer."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}
        self._last: dict[str, Ending] = {}

    def ended(self, connection: ConnectionId, ending: Ending) -> None:
        """Take note of how a turn ended."""
        if ending in UNANSWERED:
            self._in_a_row[connection.provider] = self._in_a_row.get(connection.provider, 0) + 1
            self._last[connection.provider] = ending
        elif ending in ANSWERED:
            self._in_a_row.pop(connection.provider, None)

    @property
    def degraded(self) -> list[str]:
        """The providers that do not answer, each with the last turn's ending."""
        return [f"provider:{name}:{self._last[name]}" for name, turns in self._in_a_row.items() if turns >= IN_A_ROW]
