"""Random faults by seed: every kind of the simulator, some for one user, some for all."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Literal

from bg_ingest.simulator.faults import (
    Damaged,
    Duplicated,
    Endpoint,
    Failed,
    Fault,
    Html,
    Late,
    ReplyLost,
    Reset,
    Revised,
    Shuffled,
    Slow,
    Throttled,
    Truncated,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

ENDPOINTS: tuple[Endpoint | Literal["any"], ...] = ("egvs", "egvs", "egvs", "token", "dataRange", "any")
STATUSES = (400, 401, 403, 408, 500, 502, 503, 504)

UNREADABLE = ("no_value", "unknown_unit", "garbage_time")
"""Kinds of damage after which the provider returns the same reading intact once more. After the others (another
display, no transmitter) it returns a second reading and removes it later, so that no answer is right."""


class Trouble:
    """Generator of faults; the same seed gives the same faults."""

    def __init__(self, seed: int, users: Sequence[str], latest: timedelta) -> None:
        """``latest``: largest delay of a reading or a revision."""
        self._dice = Random(seed)
        self._users = users
        self._latest = latest

    def restart_after(self) -> timedelta:
        return self._dice.uniform(0.5, 30) * HOUR

    def pause(self) -> timedelta:
        """Return the downtime of the service: mostly moments, sometimes hours."""
        return self._dice.choice((5 * MINUTE / 60, MINUTE, 20 * MINUTE, 3 * HOUR))

    def is_killed(self) -> bool:
        return self._dice.random() < 0.5

    def next_after(self) -> timedelta:
        return self._dice.expovariate(1 / 2.0) * HOUR

    def revokes(self) -> str:
        """Return the user who revokes every grant."""
        return self._dice.choice(self._users)

    def revokes_after(self) -> timedelta:
        return self._dice.expovariate(1 / 30.0) * HOUR

    def uploads(self, now: datetime) -> list[Fault]:
        """Return a week's late uploads, from a receiver that is read out once a week."""
        late = self._dice.sample(list(self._users), k=max(1, len(self._users) // 5))
        span = min(7 * DAY, self._latest)
        return [Late(user=user, start=now, end=now + span * self._dice.random(), shown_at=now + span) for user in late]

    def draw(self, now: datetime) -> Fault:
        return self._dice.choice(self._kinds())(now)

    def _kinds(self) -> list[Callable[[datetime], Fault]]:
        user = self._dice.choice([*self._users, None]) if self._dice.random() < 0.3 else self._dice.choice(self._users)
        endpoint = self._dice.choice(ENDPOINTS)
        lasts = self._dice.choice((2 * MINUTE, 10 * MINUTE, 2 * HOUR, 5 * HOUR))
        odds = self._dice.choice((0.2, 0.6, 1.0))
        begins = self._dice.uniform(-3, 3) * HOUR
        length = self._dice.uniform(0.1, 5) * HOUR
        by = self._dice.randint(-9, 9)
        comes = self._dice.uniform(0, 1) * (self._latest - 8 * HOUR) + 6 * HOUR

        def call(kind: Callable[..., Fault], **more: object) -> Callable[[datetime], Fault]:
            return lambda now: kind(user=user, endpoint=endpoint, until=now + lasts, probability=odds, **more)

        def page(kind: Callable[..., Fault], **more: object) -> Callable[[datetime], Fault]:
            return lambda now: kind(user=user, endpoint="egvs", until=now + lasts, probability=odds, **more)

        return [
            call(Slow, seconds=self._dice.choice((1, 20, 100))),
            call(Throttled, retry_after=self._dice.choice((None, 5, 600)), as_date=self._dice.random() < 0.5),
            call(Failed, status=self._dice.choice(STATUSES)),
            call(Html),
            call(Reset),
            lambda now: ReplyLost(user=user, endpoint="egvs", until=now + lasts, probability=odds),
            lambda _: ReplyLost(user=self._dice.choice(self._users), endpoint="token", count=1),
            call(Truncated),
            page(Duplicated),
            page(Shuffled),
            page(Damaged, every=self._dice.choice((1, 3, 10)), ways=UNREADABLE),
            lambda now: Late(user=user, start=now + begins, end=now + begins + length, shown_at=now + comes),
            lambda now: Revised(
                user=user,
                start=now + begins,
                end=now + begins + length,
                revised_at=now + comes,
                by=by,
            ),
        ]
