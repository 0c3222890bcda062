"""The Airflow plugin: what iam-watcher adds to Airflow's own components."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from iam_watcher.timetables import LISTENERS, TIMETABLES

PREFIX = "iam-watcher"


class _Page:
    """The page's app, imported at its first request: every process of Airflow loads plugins."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from iam_watcher.ui.app import app

        await app(scope, receive, send)


def _view(name: str, file: str, route: str, **where: Any) -> dict[str, Any]:
    # Without a leading slash: below the base URL, whatever that is.
    return {
        "name": name,
        "url_route": route,
        "bundle_url": f"{PREFIX}/page/{file}",
        "icon": f"{PREFIX}/page/icon.svg",
        **where,
    }


class IamWatcherPlugin(AirflowPlugin):
    """Registers the timetables, without which the scheduler could not read a schedule, and the page."""

    name = "iam_watcher"
    timetables = TIMETABLES
    listeners = LISTENERS
    fastapi_apps = [{"app": _Page(), "url_prefix": f"/{PREFIX}", "name": PREFIX}]  # noqa: RUF012  Airflow's form
    react_apps = [  # noqa: RUF012  the same
        _view("Watchers", "watchers.js", "watchers", destination="nav", nav_top_level=True),
        _view("Watcher", "watchers.js", "watcher", destination="dag"),
    ]
