"""Simulated provider as a server of its own, with every option and a record of caller, endpoint and time of calls.

Each replica calls an address of its own, ``/from/<caller>``; the simulator receives the path without that part.
"""

import sys
from functools import partial
from pathlib import Path

import msgspec
from litestar.types import Message, Receive, Scope, Send

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.request_heads import App
from bg_ingest.server import Server, listen
from bg_ingest.simulator import Simulator, SimulatorOptions, create_simulator
from tests.long.chaos.calls import FROM, Call

ENDPOINTS = {"/v3/users/self/egvs": "egvs", "/v3/users/self/dataRange": "dataRange", "/v3/oauth2/token": "token"}


class CallRecorder:
    """App with a line in a file for each call of its API; a data call's line is written after its answer."""

    def __init__(self, app: App, simulator: Simulator, file: Path) -> None:
        self._app = app
        self._simulator = simulator
        self._file = file.open("ab", buffering=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = _take_caller(scope)
        endpoint = ENDPOINTS.get(scope.get("path", ""))
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        at, login = SystemClock().now().timestamp(), self._login(scope)

        async def note(event: Message) -> None:
            if event["type"] == "http.response.start":
                call = Call(at, caller, endpoint, login, event["status"])
                self._file.write(msgspec.json.encode(call) + b"\n")
            await send(event)

        await self._app(scope, receive, note)

    def _login(self, scope: Scope) -> str:
        for name, value in scope["headers"]:
            if name.lower() == b"authorization":
                grant = self._simulator.grants.bearer(value.decode().removeprefix("Bearer "))
                return grant.user if grant else ""
        return ""


def _take_caller(scope: Scope) -> str:
    """Remove the caller from the address, so that the app receives Dexcom's path."""
    if not scope.get("path", "").startswith(FROM):
        return ""
    caller, _, rest = scope["path"].removeprefix(FROM).partition("/")
    scope["path"] = f"/{rest}"
    scope["raw_path"] = scope["path"].encode()
    return caller


def load(options: SimulatorOptions, journal: Path, calls: Path) -> App:
    app = create_simulator(options, now=SystemClock().now, journal=journal)
    return CallRecorder(app, app.state.simulator, calls)


def main(options: str, journal: str, calls: str, port: str) -> None:
    chosen = msgspec.json.decode(options, type=SimulatorOptions)
    Server(partial(load, chosen, Path(journal), Path(calls)), listen("127.0.0.1", int(port))).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
