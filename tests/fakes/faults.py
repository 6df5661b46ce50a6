"""Faults that no emulator shows: calls of any port or table fail, hang, answer late or lose their answer."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from enum import Enum, auto
from random import Random
from typing import Any

import anyio

from bg_ingest.errors import StoreUnavailable, TransactionConflict

_END = object()

AnyClass: Any = object
"""Base of the wrappers: for mypy they are instances of any class."""


class CallWrapper(AnyClass):  # type: ignore[misc] # the base is any class on purpose
    """Passes on every call through ``_around``, which subclasses replace.

    Each page of an iterator is a call of its own.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)

        async def pages(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
            async with aclosing(attribute(*args, **kwargs)) as answers:
                while (page := await self._around(name, lambda: anext(answers, _END))) is not _END:
                    yield page

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._around(name, lambda: attribute(*args, **kwargs))

        if inspect.isasyncgenfunction(attribute):
            return pages
        return call if inspect.iscoroutinefunction(attribute) else attribute

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        raise NotImplementedError


class Fault(Enum):
    """Time and kind of a failure."""

    BEFORE = auto()
    AFTER = auto()
    """The call had its effect, but its answer is lost."""
    HANG = auto()


class FaultyCalls(CallWrapper):
    """Fails at the calls selected by ``plan``, counted from 1. With ``only``, other methods neither count nor fail."""

    def __init__(
        self,
        inner: Any,
        plan: Callable[[int], Fault | None],
        *,
        error: Callable[[], Exception] = StoreUnavailable,
        only: Collection[str] | None = None,
    ) -> None:
        super().__init__(inner)
        self.plan = plan
        self._error = error
        self._only = only
        self.calls = 0

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if self._only is not None and name not in self._only:
            return await call()
        self.calls += 1
        fault = self.plan(self.calls)
        if fault is Fault.HANG:
            await anyio.sleep_forever()
        if fault is Fault.BEFORE:
            raise self._error()
        answer = await call()
        if fault is Fault.AFTER:
            raise self._error()
        return answer


def at(number: int, fault: Fault) -> Callable[[int], Fault | None]:
    return lambda call: fault if call == number else None


def every(number: int, fault: Fault) -> Callable[[int], Fault | None]:
    return lambda call: None if call % number else fault


class ConflictingCalls(FaultyCalls):
    """Store whose writes conflict with another transaction at the chosen calls, counted from 1."""

    def __init__(self, inner: Any, *chosen: int) -> None:
        writes = ("write", "transact", "update", "add_connecting", "claim", "store")
        plan = dict.fromkeys(chosen, Fault.BEFORE)
        super().__init__(inner, plan.get, error=TransactionConflict, only=writes)


class StaleReads(CallWrapper):
    """Delivers an answer after a random time. The items of a batch are read at different times."""

    READS = frozenset(
        {"get", "batch_get_once", "query", "head", "read", "read_pages", "get_with_grant", "list_for_user", "find_user"}
    )

    def __init__(self, inner: Any, random: Random, pause: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        """``pause`` receives a number from 0 to 1; the default sleeps for that many virtual seconds."""
        super().__init__(inner)
        self._random = random
        self._pause = pause

    async def batch_get(self, keys: Collection[Any], *, consistent: bool = True) -> dict[Any, Any]:
        items: dict[Any, Any] = {}
        for key in self._random.sample(list(keys), len(keys)):
            items |= await self._inner.batch_get([key], consistent=consistent)
            await self._pause(self._random.random())
        return items

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        answer = await call()
        if name in self.READS:
            await self._pause(self._random.random())
        return answer
