"""The demo's guide: three people connect the simulated Dexcom, as people do, and the terminal says what to try.

It walks through HTTP and knows nothing of the server but its address: ``python -m bg_ingest.demo <url>``.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import httpx
import rich_click as click

PROVIDER = "dexcom"

PEOPLE = {"ada": "SandboxUser1", "ben": "SandboxUser2", "eva": "SandboxUser3"}
"""Our users, and who each is on the simulator's login page."""

NEXT_STEPS = """
  BG Ingest runs. {people} are connected to a simulated Dexcom; a new reading every 5 minutes.

  The newest reading          curl -s {url}/api/bg/ada/latest
  with all there is to say    curl -s '{url}/api/bg/ada/latest?view=full'
  The last 24 hours           curl -s {url}/api/bg/ada
  Everything, as CSV          curl -s -H 'Accept: text/csv' '{url}/api/bg/ben?from={since}'
  How a connection is         curl -s {url}/api/users/ada/connections/{provider}
  Look at the provider now    curl -s -X POST {url}/api/users/ada/connections/{provider}/poll
  Connect yourself            curl -s -X POST {url}/api/users/me/connections/{provider}
                              and open its authorize_url in a browser
  What else it answers        {url}/schema

  Ctrl-C stops it. Readings are kept: the next start goes on from here.
"""


class DemoFailed(Exception):
    """The server did not do what the demo needs; the text says what."""


@contextmanager
def guide(host: str, port: int) -> Iterator[None]:
    """Guide while the body serves, in a process of its own: a server may not fork beside a thread."""
    shown = "localhost" if host in {"127.0.0.1", "0.0.0.0", "::1", "::"} else host  # noqa: S104 - compared, not bound
    process = subprocess.Popen([sys.executable, "-m", "bg_ingest.demo", f"http://{shown}:{port}"])  # noqa: S603 - ourselves
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def connect_all(client: httpx.Client) -> None:
    """Connect whom the last demo has not connected already, and wait for everybody's first readings."""
    _wait(60, "The service does not get ready.", lambda: client.get("/health/ready").is_success)
    for user, person in PEOPLE.items():
        if _connection(client, user).get("state") not in {"active", "paused"}:
            _connect(client, user, person)
    for user in PEOPLE:
        _wait(60, f"The readings of {user} do not come.", partial(_has_read, client, user, 0.01))


def wait_for_backfill(client: httpx.Client) -> None:
    for user in PEOPLE:
        _wait(600, f"The past of {user} does not come.", partial(_has_read, client, user, 1))


def _connect(client: httpx.Client, user: str, person: str) -> None:
    response = client.post(f"/api/users/{user}/connections/{PROVIDER}")
    if not response.is_success:
        raise DemoFailed(f"{user} could not begin to connect: HTTP {response.status_code}.")
    login = httpx.URL(response.json()["authorize_url"]).copy_merge_params({"user": person})
    callback = client.get(login, follow_redirects=True)
    if not callback.is_success:
        raise DemoFailed(f"{user} could not connect: HTTP {callback.status_code}.")


def _connection(client: httpx.Client, user: str) -> dict[str, Any]:
    """Return the connection as the API shows it, empty when there is none."""
    shown = client.get(f"/api/users/{user}/connections/{PROVIDER}")
    found: dict[str, Any] = shown.json() if shown.is_success else {}
    return found


def _has_read(client: httpx.Client, user: str, part: float) -> bool:
    """Tell whether this part of the past, newest first, is there; who is not polled is not waited for."""
    connection = _connection(client, user)
    return connection.get("state") != "active" or (connection.get("backfill_done") or 0) >= part


def _wait(seconds: float, otherwise: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):  # not listening yet
            if condition():
                return
        time.sleep(0.2)
    raise DemoFailed(otherwise)


def main(url: str) -> int:
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            connect_all(client)
            click.echo(instructions(url))
            wait_for_backfill(client)
            click.echo("  Everybody's past has been read.\n")
    except (DemoFailed, httpx.HTTPError) as error:
        click.echo(f"The demo's people are not connected: {error}", err=True)
        return 1
    except KeyboardInterrupt:  # Ctrl-C reaches the whole group
        return 0
    return 0


def instructions(url: str) -> str:
    *others, last = PEOPLE
    return NEXT_STEPS.format(url=url, provider=PROVIDER, people=f"{', '.join(others)} and {last}", since="2020-01-01")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
