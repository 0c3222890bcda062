"""What iam-watcher adds to Airflow itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from iam_watcher.timetables import TIMETABLES

if TYPE_CHECKING:
    from airflow.timetables.base import Timetable


class IamWatcherPlugin(AirflowPlugin):
    """Registers the timetables, without which the scheduler could not read a Watcher's schedule."""

    name = "iam_watcher"
    timetables: ClassVar[list[type[Timetable] | Any]] = TIMETABLES
