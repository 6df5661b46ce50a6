"""How many calls a look costs: its own, and every now and then a refresh or a sweep."""

MEMORY = 2_000
"""Calls after which older ones count half."""

EXPECTED_LOOKS, EXPECTED_OTHERS = 400.0, 54.0
"""Before anything was seen: a look every 15 minutes, a refresh every two hours, a sweep a day. Who expected less would
find, after a start, that many have been due for a while."""


class Mix:
    """Counts calls by what they were for, the late ones more than the early ones."""

    def __init__(self) -> None:
        self._looks = EXPECTED_LOOKS
        self._others = EXPECTED_OTHERS

    @property
    def calls_per_look(self) -> float:
        return 1 + self._others / self._looks

    def count(self, *, look: bool) -> None:
        if look:
            self._looks += 1
        else:
            self._others += 1
        if self._looks + self._others > MEMORY:
            self._looks /= 2
            self._others /= 2
