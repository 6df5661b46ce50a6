"""Open 100 people for minutes, and measure heap and processor time of the browser. Exit code 1 if a limit is missed.

    python -m tests.long.browser.crowd --minutes 10

Each person has a new reading every 5 minutes, by the stream of the page.
"""

from contextlib import ExitStack

import httpx
import rich_click as click

from bg_ingest.simulator import SimulatorOptions
from tests.long.browser.chromium import heap_megabytes, processor_seconds, run_chromium
from tests.long.chaos.processes import Process, provider_settings, run_folder, service, simulator, wait_until
from tests.long.chaos.report import Report
from tests.long.chaos.users import SimulatedUser, connect

PEOPLE = 100
MAX_CORE_PERCENT = 5.0
MAX_GROWTH_MEGABYTES = 1.0
"""Growth of the heap after the first minute, in which code is compiled and caches are filled."""

COUNT_CHANGES = """() => {
  window.changes = 0;
  const count = (records) => {
    window.changes += records.filter(({ target }) => target.className === "panel-value").length;
  };
  new MutationObserver(count).observe(document.querySelector(".people"), { subtree: true, childList: true });
}"""


def connect_all(served: Process) -> None:
    for number in range(1, PEOPLE + 1):
        user = SimulatedUser(f"person-{number:03}", f"SandboxUser{number}")
        wait_until(lambda user=user: connect(served, user), 60, f"{user.user} to connect")  # type: ignore[misc]
    wait_until(lambda: len(_newest(served)) == PEOPLE, 120, "the newest readings", every=1)


def _newest(served: Process) -> list[object]:
    users = httpx.get(f"{served.url}/api/users?view=full&limit=200", trust_env=False).json()["users"]
    return [user for user in users if user["newest_reading_at"]]


@click.command()
@click.option("--minutes", default=10, show_default=True)
def main(minutes: int) -> None:
    report = Report(f"{PEOPLE} people for {minutes} minutes")
    options = SimulatorOptions(users=PEOPLE)
    with run_folder("page-crowd") as folder, ExitStack() as opened:
        simulated = opened.enter_context(simulator(folder, options))
        settings = {"BACKFILL_DAYS": "1", "POLL_INTERVAL_SECONDS": "300"}
        served = opened.enter_context(service(folder, **settings, **provider_settings(simulated, options)))
        served.get_ready()
        connect_all(served)
        browser = opened.enter_context(run_chromium())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{served.url}/#/people")
        page.get_by_text(f"Live: {PEOPLE} people").wait_for()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        page.wait_for_timeout(60_000)
        page.evaluate(COUNT_CHANGES)
        heaps, began = [heap_megabytes(session)], processor_seconds(browser)
        for _ in range(minutes):
            page.wait_for_timeout(60_000)
            heaps.append(heap_megabytes(session))
        percent = 100 * (processor_seconds(browser) - began) / (60 * minutes)
        growth = heaps[-1] - heaps[0]
        report.figure("changed values", page.evaluate("window.changes"))
        report.figure("state at the end", page.locator(".people-status").inner_text())
    report.figure("heap each minute, MB", ", ".join(f"{heap:.1f}" for heap in heaps))
    report.check(
        "its growth, MB", round(growth, 2), holds=growth < MAX_GROWTH_MEGABYTES, expected=f"< {MAX_GROWTH_MEGABYTES}"
    )
    report.check(
        "processor, % of a core",
        round(percent, 1),
        holds=percent <= MAX_CORE_PERCENT,
        expected=f"<= {MAX_CORE_PERCENT}",
    )
    report.show()


if __name__ == "__main__":
    main()
