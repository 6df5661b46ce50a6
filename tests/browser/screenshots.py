"""Make pictures of each view of the page, to look at: light, dark, and a phone of 320 pixels.

python -m tests.browser.screenshots build/screenshots
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import CHROMIUM, OPTIONS, SIZES, serve

ROOT = Path(__file__).parents[2]
MODES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": SIZES["desk"]},
    "dark": {"color_scheme": "dark", "viewport": SIZES["desk"]},
    "phone": {"color_scheme": "light", "viewport": SIZES["phone"], "device_scale_factor": 2},
}
SETTLE_MILLISECONDS = 1_500
"""Time for the answers behind a view. Streams stay open, so that the network is never idle."""


def view_addresses() -> dict[str, str]:
    """Return the address of each view that the shell loads."""
    shell = (ROOT / "bg_ingest" / "web" / "main.js").read_text("utf-8")
    names = re.findall(r'"\./(\w+)\.js"', shell.partition("const VIEWS")[2].partition("};")[0])
    addresses = {name: "/#/ada" if name == "person" else f"/#/{name}" for name in names}
    return {"home": "/", **addresses, "api": "/schema/page"}


def take(browser: Browser, url: str, folder: Path) -> None:
    for mode, options in MODES.items():
        with browser.new_context(base_url=url, **options) as context:
            for view, address in view_addresses().items():
                page = context.new_page()
                page.goto(address)
                page.wait_for_timeout(SETTLE_MILLISECONDS)
                page.screenshot(path=folder / f"{view}-{mode}.png", full_page=view != "api")
                page.close()


def main(target: str) -> None:
    folder = Path(target).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, serve(Path(data)) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        take(browser, served.url, folder)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
