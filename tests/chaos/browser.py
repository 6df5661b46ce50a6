"""Open the page of the API in a real browser: it shows every route, and asks nobody but us; exit code 1 otherwise.

    python -m tests.chaos.browser

With ``apt-get install -y --no-install-recommends chromium``. The browser's record of its network says what was asked
for which page; a page that does ask others is opened too, to see that the record tells.
"""

import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec

from tests.chaos.processes import HOST, service, workplace
from tests.chaos.report import Report
from tests.web import web

ELSEWHERE = "localhost:9"
"""Where nobody answers."""

QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
)
"""A browser asks its maker for much by itself; that is not the page's doing."""


def main() -> None:
    """Serve, open, look at what was asked."""
    if shutil.which("chromium") is None:
        sys.exit("chromium is not installed: apt-get install -y --no-install-recommends chromium")
    report = Report("The page of the API in a browser")
    with workplace("browser") as place, service(place) as served:
        served.get_ready()
        document = web.get(f"{served.url}/schema").json()
        shown = _open(f"{served.url}/schema/page", place)
        routes = [f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item]
        missing = [route for route in routes if route not in shown]
        report.figure("routes", len(routes))
        report.check("routes that it does not show", ", ".join(missing) or "none", holds=not missing, wanted="none")
        asked = _asked(place)
        report.check(
            "requests of the page", len(asked), holds=f"{served.url}/schema/page" in asked, wanted="at least its own"
        )
        others = [each for each in asked if not each.startswith(served.url)]
        report.check("of these to others", ", ".join(others) or "none", holds=not others, wanted="none")
        served.stop()
        (place / "asking.html").write_text(f'<img src="http://{ELSEWHERE}/picture">')
        with ThreadingHTTPServer((HOST, 0), partial(Files, directory=place)) as files:
            Thread(target=files.serve_forever, daemon=True).start()
            _open(f"http://{HOST}:{files.server_port}/asking.html", place)
            files.shutdown()
        told = f"http://{ELSEWHERE}/picture" in _asked(place)
        report.check(
            "the record tells of another page that asks others", "yes" if told else "no", holds=told, wanted="yes"
        )
        report.show()


class Files(SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, *_: object) -> None:
        pass


def _open(url: str, place: Path) -> str:
    """Return the page as the browser has it in the end, as text."""
    command = ["chromium", *QUIET, f"--user-data-dir={place / 'profile'}", f"--log-net-log={place / 'network.json'}"]
    told = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, check=True, timeout=120)
    return re.sub(r"<[^>]+>", "", told.stdout)


def _asked(place: Path) -> list[str]:
    """Return the addresses of all requests that a page of this machine made, its own included."""
    record = msgspec.json.decode((place / "network.json").read_bytes())
    told = [each.get("params", {}) for each in record["events"]]
    ours = [each for each in told if str(each.get("network_isolation_key")).startswith(f"http://{HOST} ")]
    return [str(each["url"]) for each in ours if "url" in each]


if __name__ == "__main__":
    main()
