"""Open the page of the API in a real browser. It must show every route and call only us; exit code 1 otherwise.

    python -m tests.long.chaos.browser

With ``apt-get install -y --no-install-recommends chromium``. The browser's network log lists the requests of
each page. A page with requests to other hosts is opened too, to verify that the log shows them.
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

from tests.harness.web import web
from tests.long.chaos.processes import HOST, run_folder, service
from tests.long.chaos.report import Report

OTHER_HOST = "localhost:9"
"""Host without a server."""

BROWSER_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=AutofillServerCommunication",
    "--virtual-time-budget=5000",
)
"""Options against requests of the browser to its maker, which the page does not cause."""


def main() -> None:
    """Serve, open, and check the requests."""
    if shutil.which("chromium") is None:
        sys.exit("chromium is not installed: apt-get install -y --no-install-recommends chromium")
    report = Report("The page of the API in a browser")
    with run_folder("browser") as folder, service(folder) as served:
        served.get_ready()
        document = web.get(f"{served.url}/schema").json()
        shown = _open(f"{served.url}/schema/page", folder)
        routes = [f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item]
        missing = [route for route in routes if route not in shown]
        report.figure("routes", len(routes))
        report.check("routes missing on the page", ", ".join(missing) or "none", holds=not missing, expected="none")
        asked = _requested_urls(folder)
        report.check(
            "requests of the page", len(asked), holds=f"{served.url}/schema/page" in asked, expected="at least its own"
        )
        others = [each for each in asked if not each.startswith(served.url)]
        report.check("of these to others", ", ".join(others) or "none", holds=not others, expected="none")
        served.stop()
        (folder / "asking.html").write_text(f'<img src="http://{OTHER_HOST}/picture">')
        with ThreadingHTTPServer((HOST, 0), partial(Files, directory=folder)) as files:
            Thread(target=files.serve_forever, daemon=True).start()
            _open(f"http://{HOST}:{files.server_port}/asking.html", folder)
            files.shutdown()
        done = f"http://{OTHER_HOST}/picture" in _requested_urls(folder)
        report.check(
            "the log shows requests of another page to others", "yes" if done else "no", holds=done, expected="yes"
        )
        report.show()


class Files(SimpleHTTPRequestHandler):
    """File server without a log."""

    def log_message(self, *_: object) -> None:
        pass


def _open(url: str, folder: Path) -> str:
    """Return the browser's final state of the page as text."""
    command = [
        "chromium",
        *BROWSER_OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        f"--log-net-log={folder / 'network.json'}",
    ]
    done = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, check=True, timeout=120)
    return re.sub(r"<[^>]+>", "", done.stdout)


def _requested_urls(folder: Path) -> list[str]:
    """Return the addresses of all requests that a page of this machine made, its own included."""
    record = msgspec.json.decode((folder / "network.json").read_bytes())
    done = [each.get("params", {}) for each in record["events"]]
    ours = [each for each in done if str(each.get("network_isolation_key")).startswith(f"http://{HOST} ")]
    return [str(each["url"]) for each in ours if "url" in each]


if __name__ == "__main__":
    main()
