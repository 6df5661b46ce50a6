"""Whether providers answer at all, by how the turns of this process end."""

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome

FAILURE_LIMIT = 5
"""Turns without an answer, of whichever connections: one connection alone gets there within a minute, and of a provider
that answers now and then it is soon said no more."""

NO_ANSWER = frozenset({Outcome.UNAVAILABLE, Outcome.MISBEHAVED})
ANSWERED_OUTCOMES = frozenset(
    {Outcome.READ, Outcome.NOTHING_NEW, Outcome.THROTTLED, Outcome.FORBIDDEN, Outcome.REFUSED}
)
"""Any other ending says nothing of the provider."""


class ProviderHealth:
    """Counts the turns in a row that a provider left without an answer."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}
        self._last_outcome: dict[str, Outcome] = {}

    def record(self, connection: ConnectionId, outcome: Outcome) -> None:
        """Take note of how a turn ended."""
        if outcome in NO_ANSWER:
            self._failures[connection.provider] = self._failures.get(connection.provider, 0) + 1
            self._last_outcome[connection.provider] = outcome
        elif outcome in ANSWERED_OUTCOMES:
            self._failures.pop(connection.provider, None)

    @property
    def degraded_providers(self) -> list[str]:
        """The providers that do not answer, each with the last turn's ending."""
        return [
            f"provider:{name}:{self._last_outcome[name]}"
            for name, failures in self._failures.items()
            if failures >= FAILURE_LIMIT
        ]
