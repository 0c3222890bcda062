"""The watchers of this machine's DAG folders, and the files from which Airflow makes no watcher."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from iam_watcher.airflow_internals import dag_files, deployment
from iam_watcher.airflow_internals.tasks import masked
from iam_watcher.doctor.finding import Finding
from iam_watcher.jobs.database_operator import DatabaseOperator
from iam_watcher.jobs.rows_in_state_trigger import RowsInStateTrigger
from iam_watcher.watcher_dag import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_CONN_ID = inspect.signature(DatabaseOperator).parameters["mysql_conn_id"].default
MAKES_A_WATCHER = re.compile(rb"^\s*(from|import)\s+iam_watcher\b", re.MULTILINE)


@dataclass
class Watchers:
    """The watchers that were found.

    Attributes:
        dags: the watchers.
        jobs: the tasks that work on a database; in place of a mapped one, the tasks that it becomes.
        half_known: mapped jobs of which only a run knows all arguments.
        findings: faults of DAG folders and files.
    """

    dags: list[Watcher] = field(default_factory=list)
    jobs: list[DatabaseOperator] = field(default_factory=list)
    half_known: list[Any] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def tasks(self) -> list[Any]:
        """All tasks of the watchers, also acquire and release."""
        return [task for dag in self.dags for task in dag.tasks]

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
            | self.half_known_values("mysql_conn_id", DEFAULT_CONN_ID)
        )

    def half_known_values(self, name: str, default: str | None = None) -> set[str]:
        """Return the values of an argument that the DAG files themselves give to the half-known jobs."""
        values = (one for job in self.half_known for one in dag_files.values_in_file(job, name, default))
        return {one for one in values if isinstance(one, str)}


def find_watchers() -> Watchers:
    """Parse the DAG files of this machine, as the dag-processor does."""
    found = Watchers()
    for name, folder in deployment.dag_folders().items():
        if not folder.is_dir():
            found.findings.append(
                Finding(
                    f"The DAG bundle {name} has the folder {folder}, which is not on this machine. Create or "
                    "mount it, or correct the path of the bundle"
                )
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
        found.findings += _skipped(deployment.skipped_files(folder))
    found.findings += _add_jobs(found)
    if not found.dags:
        folders = ", ".join(map(str, deployment.dag_folders().values()))
        found.findings.append(
            Finding(f"No watcher was found in {folders}. Check [core] dags_folder and AIRFLOW_HOME")
        )
    return found


def _add_jobs(found: Watchers) -> Iterator[Finding]:
    """Add the jobs of the watchers. Report mapped ones that are wrong, or that can't be checked."""
    for task in found.tasks:
        if not issubclass(dag_files.class_of(task), DatabaseOperator):
            continue
        if not dag_files.is_mapped(task):
            found.jobs.append(task)
            continue
        name = f"{task.dag_id}.{task.task_id}"
        try:
            parts: Any = dag_files.parts_of(task)
        except Exception as error:  # noqa: BLE001  the class may be a user's, and raise anything
            found.half_known.append(task)
            yield Finding(
                f"The mapped task {name} would fail, because Airflow can't make each of its tasks: "
                f"{masked(str(error))}. Correct the DAG file"
            )
            continue
        if parts is not None:
            found.jobs += parts
            continue
        found.half_known.append(task)
        yield Finding(
            f"Only a run knows all arguments of the mapped task {name}, because another task returns them. "
            "The rights on its tables were not checked. Its connections and archive locations were checked "
            "only where the DAG file names them. Write all values into the DAG file to have them checked",
            unknown=True,
        )


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
