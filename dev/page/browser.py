"""Debian's Chromium, driven by Playwright, on the pages of a private Airflow."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from dev.airflow import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

    from dev.airflow import Airflow

MODULES = ROOT / "plugins" / "iam_watcher" / "ui" / "page"
SITE = "http://page.test/"

READY = ".iw:not([aria-busy=true])"
PATIENCE = 180_000  # ms for a page; a busy machine is slow


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser without a window.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    program = shutil.which("chromium")
    if program is None:
        raise FileNotFoundError("there is no chromium here; dev/bootstrap.sh browser installs it")
    with sync_playwright() as playwright:
        # As root, which a container often is, Chromium has no sandbox of its own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def module_page(react: str) -> Iterator[Page]:
    """Open an empty page that can import the modules of the Watchers page, such as "/story.js".

    Args:
        react: in place of react.js, which takes React from Airflow.
    """

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix(SITE).partition("?")[0]
        if name.endswith(".js"):
            body = react if name == "react.js" else (MODULES / name).read_text()
            route.fulfill(body=body, content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><html lang=en>", content_type="text/html")

    with chromium() as browser:
        page = browser.new_page()
        page.route(f"{SITE}**", serve)
        page.goto(SITE)
        yield page


@dataclass
class Visitor:
    """A person with an account, at a browser.

    Args:
        browser: a running one.
        airflow: whose pages.
        user: who is logged in.
        dark: Airflow's dark mode.
        language: of Airflow.
        zone: Airflow's time zone.
        width: of the window, in pixels.
        height: of the window.
        errors: what the browser's console said is wrong.
    """

    browser: Browser
    airflow: Airflow
    user: str = "admin"
    dark: bool = False
    language: str = "en"
    zone: str = "UTC"
    width: int = 1440
    height: int = 900
    errors: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Open a page and wait until it shows its data."""
        context = self.browser.new_context(
            viewport={"width": self.width, "height": self.height},
            color_scheme="dark" if self.dark else "light",
            locale="en-US",
        )
        facts = {
            "i18nextLng": self.language,
            "theme": "dark" if self.dark else "light",
            "timezone": json.dumps(self.zone),
        }
        lines = "".join(f"localStorage.setItem({json.dumps(k)}, {json.dumps(v)});" for k, v in facts.items())
        context.add_init_script(f"if (!localStorage.getItem('i18nextLng')) {{{lines}}}")
        login = {"username": self.user, "password": self.airflow.password}
        answer = context.request.post(f"{self.airflow.url}/auth/token", data=login, timeout=PATIENCE)
        token = answer.json()["access_token"]
        context.add_cookies([{"name": "_token", "value": token, "url": self.airflow.url}])
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{self.airflow.url}{path}", timeout=PATIENCE)
        page.wait_for_selector(READY, timeout=PATIENCE)
        return page

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.errors.append(message.text)
