"""Repetition of steps that conflicted with other transactions."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from random import uniform
from typing import Any, ParamSpec, TypeVar

import anyio

from bg_ingest.errors import IngestError, StoreError, StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")


def retrying(
    *on: type[StoreError],
    tries: int = 10,
    deadline: float = float("inf"),
    first_wait: float = 0.0,
    max_wait: float = float("inf"),
    error: Callable[[], IngestError] = lambda: StoreUnavailable("too many writers at once"),
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Decorate a function that reads, decides and writes, so that it runs again after one of the errors ``on``.

    After ``tries`` runs, or a failure later than ``deadline`` seconds after the first run began, ``error`` is raised.
    The waits have full jitter: each is chosen between 0 and a maximum, which begins at ``first_wait`` seconds and
    doubles up to ``max_wait``. Without ``first_wait`` the next run follows at once.
    """

    def decorate(step: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(step)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            give_up_at = anyio.current_time() + deadline
            for attempt in range(tries):
                try:
                    return await step(*args, **kwargs)
                except on:
                    if anyio.current_time() > give_up_at:
                        break
                    if first_wait:
                        await anyio.sleep(uniform(0, min(max_wait, first_wait * 2**attempt)))
            raise error()

        return run

    return decorate
