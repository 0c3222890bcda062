"""What every job on a database has, for packages that must not import the jobs: lock, notices and page."""

from __future__ import annotations

from typing import Any

from iam_watcher.airflow_internals import dag_files

MYSQL_CONN_ID = "iam_mysql"  # the Airflow connection, if the DAG file names none
DRY_RUN_FIELD = "is_dry_run"  # a template field of jobs only


def is_job(task: Any) -> bool:
    """Return whether a task is a job on a database, also a mapped one."""
    return DRY_RUN_FIELD in task.template_fields


def dry_run_argument(job: Any) -> Any:
    """Return the argument `dry_run` of a job; of a mapped one, what `partial` was given, or False."""
    if dag_files.is_mapped(job):
        return dag_files.partial_argument(job, "dry_run", default=False)
    return job.is_dry_run
