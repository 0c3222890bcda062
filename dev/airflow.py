"""A private Airflow: the one place that knows its environment, and what starts and stops it.

`make demo`, `make run` and the tests use it; docker-compose.yaml sets the same variables for a cluster.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parent.parent


def environment(
    home: Path,
    *,
    deployment_id: str,
    connections: Mapping[str, str] | None = None,
    dags_folder: Path = ROOT / "dags",
    options: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the whole environment of a private Airflow: ours, without any other Airflow's variables.

    Args:
        home: AIRFLOW_HOME; metadata database (SQLite) and task logs go there.
        deployment_id: `[iam_watcher] deployment_id`, part of every lock's owner.
        connections: Connection id -> URI.
        dags_folder: Where the watchers are.
        options: More variables, such as AIRFLOW__CORE__PARALLELISM; they win.
    """
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW_"))
    }
    return {
        **ours,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID": deployment_id,
        "AIRFLOW__IAM_WATCHER__SETTINGS_FILE": str(ROOT / "include" / "iam-watcher.yaml"),
        **{f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in (connections or {}).items()},
        **(options or {}),
    }
