"""The watchers of this machine's DAG folders, and the files from which Airflow makes no watcher."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from iam_watcher.airflow_internals import deployment
from iam_watcher.airflow_internals.tasks import masked
from iam_watcher.doctor.finding import Finding
from iam_watcher.jobs.database_operator import DatabaseOperator
from iam_watcher.jobs.rows_in_state_trigger import RowsInStateTrigger
from iam_watcher.watcher_dag import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKES_A_WATCHER = re.compile(rb"^\s*(from|import)\s+iam_watcher\b", re.MULTILINE)


@dataclass
class Watchers:
    """The watchers that were found.

    Attributes:
        dags: the watchers.
        findings: faults of DAG folders and files.
    """

    dags: list[Watcher] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def tasks(self) -> list[Any]:
        """All tasks of the watchers, also acquire and release."""
        return [task for dag in self.dags for task in dag.tasks]

    @property
    def jobs(self) -> list[DatabaseOperator]:
        """The tasks that work on a database."""
        return [task for task in self.tasks if isinstance(task, DatabaseOperator)]

    @property
    def row_triggers(self) -> list[tuple[str, RowsInStateTrigger]]:
        """The triggers of the schedules `rows_in_state`, each with the id of its DAG."""
        return [
            (dag.dag_id, watcher.trigger)
            for dag in self.dags
            for asset in _assets(getattr(dag.timetable, "asset_condition", None))
            for watcher in asset.watchers
            if isinstance(watcher.trigger, RowsInStateTrigger)
        ]

    @property
    def redis_conn_ids(self) -> list[str]:
        """The connections of all locks."""
        return sorted({name for dag in self.dags if dag.lock for name in dag.lock.conn_ids})

    @property
    def mysql_conn_ids(self) -> list[str]:
        """The connections of all jobs, and of all schedules `rows_in_state`."""
        return sorted(
            {job.mysql_conn_id for job in self.jobs}
            | {trigger.mysql_conn_id for _, trigger in self.row_triggers}
        )


def find_watchers() -> Watchers:
    """Parse the DAG files of this machine, as the dag-processor does."""
    found = Watchers()
    for name, folder in deployment.dag_folders().items():
        if not folder.is_dir():
            found.findings.append(
                Finding(f"The DAG bundle {name} has the folder {folder}, which is not on this machine")
            )
            continue
        dags, errors = deployment.parse(folder, name)
        found.dags += [dag for dag in dags if isinstance(dag, Watcher)]
        for path, error in errors.items():
            # The last line is the error; the lines before it show code, which may contain anything.
            last = masked(error.strip().splitlines()[-1])
            found.findings.append(
                Finding(f"{path} has an import error, so its watchers don't run: {last}. Correct the file")
            )
        found.findings += _skipped(deployment.dag_files(folder)[1])
    if not found.dags:
        folders = ", ".join(map(str, deployment.dag_folders().values()))
        found.findings.append(
            Finding(f"No watcher was found in {folders}. Check [core] dags_folder and AIRFLOW_HOME")
        )
    return found


def _assets(condition: Any) -> Iterator[Asset]:
    """Yield the assets of a condition, which may have conditions in it."""
    if isinstance(condition, Asset):
        yield condition
    for part in getattr(condition, "objects", ()):
        yield from _assets(part)


def _skipped(files: set[Any]) -> Iterator[Finding]:
    for path in sorted(files):
        if MAKES_A_WATCHER.search(path.read_bytes()):
            yield Finding(
                f"Airflow does not parse {path}: its safe mode skips a file that does not contain both "
                "'airflow' and 'dag'. Begin the file with a docstring such as \"An Airflow DAG that …\". "
                "If the file defines no watcher, name it in .airflowignore"
            )
