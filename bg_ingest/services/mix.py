"""How many calls a look costs: its own, and every now and then a refresh."""

MEMORY = 2_000
"""Calls after which older ones count half."""

ENOUGH = 20
"""Looks before they say anything."""


class Mix:
    """Counts calls by what they were for, the late ones more than the early ones."""

    def __init__(self) -> None:
        self._looks = 0.0
        self._refreshes = 0.0

    @property
    def calls_per_look(self) -> float:
        return 1.0 if self._looks < ENOUGH else 1 + self._refreshes / self._looks

    def count(self, *, refresh: bool) -> None:
        if refresh:
            self._refreshes += 1
        else:
            self._looks += 1
        if self._looks + self._refreshes > MEMORY:
            self._looks /= 2
            self._refreshes /= 2
