"""An Airflow DAG that provisions new users: pending → work → normal, or failed.

An example of row processing. Its table `user_provisioning` is no table of IAM: include/sql/schema.sql has it.
"""

import re
from collections.abc import Mapping
from typing import Any

from iam_watcher import Watcher
from iam_watcher.jobs.process_rows import RowFailed, process_rows
from iam_watcher.jobs.rows_in_state import rows_in_state

USERS = {
    "table": "user_provisioning",
    "state_column": "status",
    "claim": "pending",
    "working": "work",
    "claimed_at_column": "claimedAt",
    "claimed_by_column": "claimedBy",
    "attempts_column": "attempts",
    "retry_at_column": "retryAt",
    "error_column": "error",
}

with Watcher("provision_users", schedule=rows_in_state(**USERS)):

    @process_rows(**USERS, done="normal", failed="failed", age_column="createdAt")
    def provision(user: Mapping[str, Any]) -> dict[str, str]:
        """Return what is written to the row. A real function would call another system here."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", user["name"]):
            raise RowFailed(f"no folder can have the name {user['name']!r}")
        return {"home": f"/home/{user['name']}"}

    provision()
