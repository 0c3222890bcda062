"""The one file that Airflow's plugin loader runs, see .airflowignore beside it."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from iam_watcher.errors import InstalledTwice
from iam_watcher.plugin import IamWatcherPlugin
from iam_watcher.provider_info import DISTRIBUTION

__all__ = ["IamWatcherPlugin"]

# Airflow would name neither place, and which of the two copies it imports depends on sys.path.
try:
    _installed = distribution(DISTRIBUTION)
except PackageNotFoundError:
    pass
else:
    raise InstalledTwice(
        f"{DISTRIBUTION} {_installed.version} is installed in {_installed.locate_file('')} and loads itself; "
        f"this file is a second copy in {Path(__file__).parent}. Keep one: `pip uninstall {DISTRIBUTION}`, "
        "or remove iam_watcher and iam_watcher_plugin.py from that folder"
    )
