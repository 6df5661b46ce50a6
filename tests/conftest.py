"""Shared parts of the tests: virtual time on asyncio and trio, and a block of the network beyond this machine.

Async tests need no mark. They run twice, on asyncio and on trio, under a clock that jumps to the next timer instead of
waiting: an hour of sleeping takes no time and is exact. Tests without racing tasks need only one of them:

    anyio_backend = on("asyncio")

Real sockets, threads and subprocesses do not advance that clock, so a module (or a folder's conftest) that uses them
selects an ordinary loop:

    @pytest.fixture
    def anyio_backend() -> str:
        return "asyncio"
"""

import asyncio  # noqa: TID251 - the virtual clock is a loop of asyncio
import gc
import ipaddress
import os
import selectors
import sys
from typing import Any

import hypothesis
import pytest
import trio.testing

pytest_plugins = [
    "tests.harness.aws",
    "tests.harness.hygiene",
    "tests.integration.servers",
    "tests.harness.cli",
    "tests.harness.scheduling",
]


EXPLORE = int(os.environ.get("EXPLORE", "1"))  # noqa: TID251 - not a setting of the service
"""Factor on the number of examples of a property. With 1 every run has the same examples, else new ones. The suite is
deterministic, so that a failure is caused by the change under test; ``make fuzz`` searches further."""


def examples(usual: int) -> int:
    """Return the number of examples of a property, from the number for one run of the suite."""
    return usual * EXPLORE


# No deadline: timings belong in benchmarks. No explain phase: its tracing makes hours of virtual time slow.
hypothesis.settings.register_profile(
    "suite",
    max_examples=examples(100),
    derandomize=EXPLORE == 1,
    deadline=None,
    print_blob=True,
    phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},
)
hypothesis.settings.load_profile("suite")


class _NeverWait(selectors.DefaultSelector):
    loop: "VirtualTimeLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: every task waits and nothing is scheduled")
            self.loop.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Loop of asyncio with a clock that jumps to the next timer instead of waiting for it."""

    now = 0.0

    def __init__(self) -> None:
        selector = _NeverWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def on(*backends: str) -> Any:
    """Return a fixture that runs async tests on each of the backends, in virtual time."""

    @pytest.fixture(params=backends)
    def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
        if request.param == "asyncio":
            return "asyncio", {"loop_factory": VirtualTimeLoop}
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}

    return anyio_backend


anyio_backend = on("asyncio", "trio")


def _stay_on_this_machine(event: str, args: tuple[Any, ...]) -> None:
    """Fail a test that resolves a name or sends beyond loopback. An audit hook also sees C code."""
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None  # the address of a Unix socket is a path
        allowed = not isinstance(host, str) or host == "localhost" or _is_loopback(host)
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = args[0]
        ours = host in {"localhost", b"localhost"}
        allowed = not host or ours or _is_loopback(host) is not None  # a numeric address is not resolved
    else:
        return
    if not allowed:
        pytest.fail(f"a unit test may not reach {host!r}: loopback only")


def _is_loopback(host: str | bytes) -> bool | None:
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return None  # a name


def _start_no_process(event: str, args: tuple[Any, ...]) -> None:
    """Fail the test that starts a process although the run is limited to unit tests."""
    if event == "subprocess.Popen" and args[0] != "uname":  # `platform.processor` calls it
        pytest.fail("a unit test starts no process: use --integration=possible instead of --unit")


def pytest_collection_finish() -> None:
    """Collect garbage less often, and never among the loaded modules: it took a seventh of the suite's CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_configure(config: pytest.Config) -> None:
    """Let anyio run every async test, and keep the whole run on this machine."""
    sys.addaudithook(_stay_on_this_machine)
    if config.getoption("unit") and (hasattr(config, "workerinput") or not config.getoption("numprocesses", None)):
        sys.addaudithook(_start_no_process)
