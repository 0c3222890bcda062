"""Take the pictures of the docs, into docs/images/.

To run it: `PYTHONPATH=plugins .venv/bin/python -m dev.page.screenshots`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dev.airflow import ROOT
from dev.page.browser import Visitor, chromium
from dev.page.server import page_server
from dev.processes import interruptible

FOLDER = ROOT / "docs" / "images"
LIST, TAB = "/plugin/watchers", "/dags/{}/plugin/watcher"


def main() -> int:
    """Take them and return the exit status."""
    FOLDER.mkdir(exist_ok=True)
    with (
        interruptible(),
        tempfile.TemporaryDirectory() as folder,
        page_server(Path(folder)) as (airflow, _),
        chromium() as browser,
    ):
        page = Visitor(browser, airflow, height=800).open(LIST)
        page.screenshot(path=FOLDER / "watchers.png", animations="disabled")
        page = Visitor(browser, airflow, height=1100).open(TAB.format("disable_inactive_users"))
        page.locator("article").nth(0).get_by_role("button").first.click()
        page.locator("article").nth(1).get_by_role("button").first.click()
        page.screenshot(path=FOLDER / "watcher.png", animations="disabled")
        page = Visitor(browser, airflow, height=800).open(LIST)
        page.get_by_role("button", name="Run disable_inactive_users …").click()
        page.get_by_role("dialog").get_by_role("textbox").first.wait_for()
        page.screenshot(path=FOLDER / "watcher-run.png", animations="disabled")
    print(f"docs/images: {', '.join(sorted(path.name for path in FOLDER.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
