"""The one file that Airflow's plugin loader runs, see .airflowignore beside it."""

from iam_watcher.plugin import IamWatcherPlugin

__all__ = ["IamWatcherPlugin"]
