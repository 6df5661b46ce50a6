"""What a till keeps: calls at hand, and who waits for one."""

import anyio

from bg_ingest.ports import Priority


class Slice:
    """Calls at hand, for a priority or a higher one."""

    __slots__ = ("good_until", "left", "size")

    def __init__(self, size: int, good_until: float) -> None:
        self.size = self.left = size
        self.good_until = good_until

    @property
    def next_size(self) -> int:
        """How many to take the next time: more while they are used up, fewer when some were left."""
        return max(1, self.size - self.left) if self.left else 2 * self.size


class Place:
    """A caller's place among the waiting."""

    __slots__ = ("called", "order", "priority", "served")

    def __init__(self, priority: Priority, order: int) -> None:
        self.priority = priority
        self.order = order
        self.served = False
        self.called = anyio.Event()
