"""What slows a table job down, for DAG files."""

from iam_watcher.database.throttle import Throttle
from iam_watcher.walk.pace import Pace

__all__ = ["Pace", "Throttle"]
