"""The demo's guide: connects three users to the simulated Dexcom and prints requests to try.

It uses HTTP alone and needs only the server's address: ``python -m bg_ingest.demo <url>``.
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

from bg_ingest.addresses import own_host

PROVIDER = "dexcom"
LOGINS = {"ada": "SandboxUser1", "ben": "SandboxUser2", "eva": "SandboxUser3"}
"""User names, each with its login at the simulator."""

NEXT_STEPS = """
  BG Ingest runs. {users} are connected to a simulated Dexcom; each has a new reading every 5 minutes.

  The page                    {url}/
  The newest reading          curl -s {url}/api/bg/ada/latest
  with all its fields         curl -s '{url}/api/bg/ada/latest?view=full'
  The last 24 hours           curl -s {url}/api/bg/ada
  Everything, as CSV          curl -s -H 'Accept: text/csv' '{url}/api/bg/ben?from={since}'
  The state of a connection   curl -s {url}/api/users/ada/connections/{provider}
  Poll the provider now       curl -s -X POST {url}/api/users/ada/connections/{provider}/poll
  Connect yourself            curl -s -X POST {url}/api/users/me/connections/{provider}
                              and open its authorize_url in a browser
  All other requests          {url}/schema/page

  Ctrl-C stops it. Readings stay stored: the next start continues from here.
"""


class DemoFailed(Exception):
    """The demo could not connect its users; the text gives the reason."""


@contextmanager
def guide(host: str, port: int) -> Iterator[None]:
    """Run the guide during the body, in a process of its own: a server that forks must not have other threads."""
    process = subprocess.Popen([sys.executable, "-m", "bg_ingest.demo", f"http://{own_host(host)}:{port}"])  # noqa: S603 - our own module
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def connect_all(client: httpx.Client) -> None:
    """Connect the users that an earlier demo has not connected, and wait for the first readings of all."""
    _wait(60, "The service does not become ready.", lambda: client.get("/health/ready").is_success)
    for user, login in LOGINS.items():
        if _connection(client, user).get("state") not in {"active", "paused"}:
            _connect(client, user, login)
    for user in LOGINS:
        _wait(60, f"The readings of {user} do not arrive.", partial(_has_read, client, user, 0.01))


def _connect(client: httpx.Client, user: str, login: str) -> None:
    response = client.post(f"/api/users/{user}/connections/{PROVIDER}")
    if not response.is_success:
        raise DemoFailed(f"{user} could not start to connect: HTTP {response.status_code}.")
    login_url = httpx.URL(response.json()["authorize_url"]).copy_merge_params({"user": login})
    callback = client.get(login_url, follow_redirects=True)
    if not callback.is_success:
        raise DemoFailed(f"{user} could not connect: HTTP {callback.status_code}.")


def _connection(client: httpx.Client, user: str) -> dict[str, Any]:
    """Return the connection in the API's form; empty without one."""
    response = client.get(f"/api/users/{user}/connections/{PROVIDER}")
    connection: dict[str, Any] = response.json() if response.is_success else {}
    return connection


def _has_read(client: httpx.Client, user: str, fraction: float) -> bool:
    """Return True if this fraction of the past readings, newest first, has been read, or if no poll will read it."""
    connection = _connection(client, user)
    return connection.get("state") != "active" or (connection.get("backfill_done") or 0) >= fraction


def _wait(seconds: float, message: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):  # the server does not listen yet
            if condition():
                return
        time.sleep(0.2)
    raise DemoFailed(message)


def main(url: str) -> int:
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            connect_all(client)
            click.echo(instructions(url))
            for user in LOGINS:
                _wait(600, f"The past readings of {user} do not arrive.", partial(_has_read, client, user, 1))
            due = sorted((_connection(client, user).get("next_poll_at") or "", user) for user in LOGINS)
            times = ", ".join(f"{user} {at[11:19]}" for at, user in due)
            click.echo(f"  The past readings of all three have been read. New readings are due (UTC): {times}.\n")
    except (DemoFailed, httpx.HTTPError) as error:
        with suppress(OSError):
            click.echo(f"The demo's users are not connected: {error}", err=True)
        return 1
    except OSError:  # the output cannot be written
        return 1
    except KeyboardInterrupt:  # Ctrl-C reaches the whole process group
        return 0
    return 0


def instructions(url: str) -> str:
    *others, last = LOGINS
    return NEXT_STEPS.format(url=url, provider=PROVIDER, users=f"{', '.join(others)} and {last}", since="2020-01-01")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
