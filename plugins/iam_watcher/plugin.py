"""What iam-watcher adds to Airflow itself."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from iam_watcher.timetables import LISTENERS, TIMETABLES


class IamWatcherPlugin(AirflowPlugin):
    """Registers the timetables, without which the scheduler could not read a Watcher's schedule."""

    name = "iam_watcher"
    timetables = TIMETABLES
    listeners = LISTENERS
