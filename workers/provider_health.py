"""Availability of providers, derived from the outcomes of this process's polls."""

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import Outcome

FAILURE_LIMIT = 5
"""Consecutive polls without a usable answer (none, a server error, or an unreadable one), over all connections of a
provider. A single connection reaches the limit within a minute if its polls fail at once, and within ten minutes if
they time out. One usable answer resets the count."""

NO_USABLE_ANSWER = frozenset({Outcome.UNAVAILABLE, Outcome.MISBEHAVED})
ANSWERED_OUTCOMES = frozenset(
    {Outcome.READ, Outcome.NOTHING_NEW, Outcome.THROTTLED, Outcome.FORBIDDEN, Outcome.REFUSED}
)
"""An outcome in neither set is no evidence about the provider."""


class ProviderHealth:
    """Counts consecutive polls without a usable answer per provider."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, Outcome]] = {}

    def record(self, connection: ConnectionId, outcome: Outcome) -> None:
        if outcome in NO_USABLE_ANSWER:
            failures, _ = self._failures.get(connection.provider, (0, outcome))
            self._failures[connection.provider] = failures + 1, outcome
        elif outcome in ANSWERED_OUTCOMES:
            self._failures.pop(connection.provider, None)

    @property
    def degraded_providers(self) -> list[str]:
        """Providers that do not answer, each with the outcome of the last poll."""
        return [
            f"provider:{name}:{outcome}"
            for name, (failures, outcome) in self._failures.items()
            if failures >= FAILURE_LIMIT
        ]
