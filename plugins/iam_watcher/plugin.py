"""The Airflow plugin: what iam-watcher adds to Airflow's own components."""

from __future__ import annotations

import sys
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from iam_watcher.timetables import LISTENERS, TIMETABLES

PREFIX = "iam-watcher"


class _Routes:
    """The routes of the page and of health, imported at the first request: all processes load plugins."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from iam_watcher.routes import app

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
    fastapi_apps = [{"app": _Routes(), "url_prefix": f"/{PREFIX}", "name": PREFIX}]  # noqa: RUF012  Airflow's form
    react_apps = [  # noqa: RUF012  the same
        _view("Watchers", "watchers.js", "watchers", destination="nav", nav_top_level=True),
        _view("Watcher", "watchers.js", "watcher", destination="dag"),
    ]

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import, in the scheduler, what the tasks of a Watcher need.

        With LocalExecutor the scheduler forks the processes of tasks. A run of a Watcher has three of them or
        more, and each takes 0.1 to 0.2 s of CPU to import redis-py.
        """
        if sys.argv[1:2] == ["scheduler"]:
            import iam_watcher.lock.clients
            import iam_watcher.lock.guard
            import iam_watcher.lock.release
            import iam_watcher.lock.sensor  # noqa: F401  for their effect
