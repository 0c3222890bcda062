"""Workers that are forked from a process that has all imports done, so that a kill can come at any moment.

That process imports this module, with a path of its own.
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

PLUGINS = str(Path(__file__).parents[2] / "plugins")
if PLUGINS not in sys.path:
    sys.path.insert(0, PLUGINS)

import iam_watcher.database.hook  # noqa: E402
import iam_watcher.jobs.disable_users  # noqa: E402
import iam_watcher.jobs.purge_rows  # noqa: E402
import iam_watcher.jobs.row_processing.run  # noqa: E402
import iam_watcher.jobs.table_job.run  # noqa: E402, F401

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.integration.forks"])
