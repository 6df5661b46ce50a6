"""Load each view with an empty cache; measure bytes and the time until its data are shown. Exit code 1 above a limit.

    python -m tests.long.browser.first_view --loads 5

The service is a demo: three people with 15 days of readings. The time is from the request of the page to the shown
data, in a browser that runs already.
"""

import re
import tempfile
import time
from pathlib import Path
from statistics import median

import rich_click as click
from playwright.sync_api import Browser

from bg_ingest.demo import LOGINS, PROVIDER
from tests.browser.conftest import SIZES, Served, serve
from tests.long.browser.chromium import run_chromium
from tests.long.chaos.processes import wait_until
from tests.long.chaos.report import Report

MAX_SECONDS, MAX_BYTES = 1.0, 150_000
VIEWS = {
    "/": ".panel-value >> text=/[0-9]/",
    "/#/ada": ".now-value >> text=/[0-9]/",
    "/#/connect?user=ada": ".connection strong >> text=Connected",
    "/#/service": ".service-facts dd >> text=running, ready",
}
"""Addresses, each with the element that shows its data."""


def load(browser: Browser, url: str, address: str, shown: str) -> tuple[float, int, int]:
    """Return the seconds until the data are shown, and the bytes of the page's files and of all answers as sent."""
    with browser.new_context(base_url=url, viewport=SIZES["desk"]) as context:
        page = context.new_page()
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        addresses: dict[str, str] = {}
        sizes: dict[str, int] = {}
        session.on(
            "Network.responseReceived", lambda event: addresses.update({event["requestId"]: event["response"]["url"]})
        )
        session.on(
            "Network.loadingFinished", lambda event: sizes.update({event["requestId"]: int(event["encodedDataLength"])})
        )
        began = time.monotonic()
        page.goto(address, wait_until="commit")
        page.locator(shown).first.wait_for()
        seconds = time.monotonic() - began
        files = [size for name, size in sizes.items() if re.search(r"/page/|/$", addresses.get(name, ""))]
        return seconds, sum(files), sum(sizes.values())


def has_read_all(served: Served) -> bool:
    """Return True once the service has read the past of all users, because reading it takes processor time."""
    paths = [f"/api/users/{user}/connections/{PROVIDER}" for user in LOGINS]
    return all(served.get(path).json()["backfill_done"] == 1 for path in paths)


@click.command()
@click.option("--loads", default=5, show_default=True)
def main(loads: int) -> None:
    report = Report(f"First view, {loads} loads each")
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as served, run_chromium() as browser:
        wait_until(lambda: has_read_all(served), 120, "the past readings", every=1)
        for address, shown in VIEWS.items():
            runs = [load(browser, served.url, address, shown) for _ in range(loads)]
            seconds, size = [run[0] for run in runs], max(run[1] for run in runs)
            middle = median(seconds)
            value = (
                f"{middle:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}); {size:,}; {max(run[2] for run in runs):,}"
            )
            report.check(
                f"{address}: median time; bytes of the page; with data",
                value,
                holds=middle < MAX_SECONDS and size < MAX_BYTES,
                expected=f"< {MAX_SECONDS} s, < {MAX_BYTES:,}",
            )
    report.show()


if __name__ == "__main__":
    main()
