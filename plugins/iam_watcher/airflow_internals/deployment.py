"""Names of Airflow that the doctor needs, to see plugins, DAG files and machines as Airflow's components do.

tests/unit/test_airflow_internals.py has a test for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import DAG
    from sqlalchemy.orm import Session

# Types of the jobs that Airflow's components have in its database -> the component.
COMPONENTS = {"SchedulerJob": "scheduler", "TriggererJob": "triggerer", "DagProcessorJob": "dag-processor"}


def plugins() -> tuple[set[str], dict[str, str]]:
    """Return the full names of the timetables of all plugins, and the source -> the error of a plugin.

    `plugins_manager.get_timetables_plugins` and `get_import_errors`, which load the plugins once.
    """
    from airflow import plugins_manager

    return set(plugins_manager.get_timetables_plugins()), dict(plugins_manager.get_import_errors())


def plugins_folder() -> str:
    """Return `[core] plugins_folder`."""
    from airflow.configuration import conf

    return conf.get("core", "plugins_folder", fallback="") or ""


def dag_folders() -> dict[str, Path]:
    """Return the name of each DAG bundle and its folder on this machine.

    `DagBundlesManager.get_all_dag_bundles`; a bundle's `path` is public.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    manager: Any = DagBundlesManager
    return {bundle.name: Path(bundle.path) for bundle in manager().get_all_dag_bundles()}


def skipped_files(folder: Path) -> set[Path]:
    """Return the Python files that Airflow does not parse, because its safe mode skips them.

    `list_py_file_paths`, which reads .airflowignore too.
    """
    from airflow.configuration import conf
    from airflow.utils.file import list_py_file_paths

    if not conf.getboolean("core", "dag_discovery_safe_mode", fallback=True):
        return set()
    every, parsed = (list_py_file_paths(folder, safe_mode=safe_mode) for safe_mode in (False, True))
    return {Path(path) for path in set(every) - set(parsed)}


def parse(folder: Path, name: str) -> tuple[list[DAG], dict[str, str]]:
    """Parse the DAG files of a bundle. Return its DAGs, and file -> error."""
    from airflow.configuration import conf
    from airflow.dag_processing.dagbag import BundleDagBag

    bag = BundleDagBag(
        dag_folder=str(folder),
        safe_mode=conf.getboolean("core", "dag_discovery_safe_mode", fallback=True),
        load_op_links=False,
        bundle_path=folder,
        bundle_name=name,
    )
    return list(bag.dags.values()), dict(bag.import_errors)


def host() -> str:
    """Return the name of this machine, as Airflow's components store it: `get_hostname`."""
    from airflow.utils.net import get_hostname

    return str(get_hostname())  # type: ignore[no-untyped-call]


def metadata_session() -> Any:
    """Return a context manager with a session of Airflow's database: `create_session`."""
    from airflow.utils.session import create_session

    return create_session()


def plain_variables(session: Session, prefix: str) -> dict[str, str]:
    """Return name -> value of the Variables that begin with `prefix` and are not encrypted.

    The table of `airflow.models.variable.Variable`. The public Variable can't list names, and outside of a
    task it can't set one.
    """
    from airflow.models.variable import Variable
    from sqlalchemy import select

    found = select(Variable).where(
        Variable.key.startswith(prefix, autoescape=True), Variable.is_encrypted.is_(False)
    )
    return {row.key: row._val for row in session.scalars(found.order_by(Variable.key))}  # noqa: SLF001  plain


def store_plain_variable(session: Session, name: str, value: str, description: str) -> None:
    """Set a Variable without encryption. See `plain_variables`."""
    from airflow.models.variable import Variable
    from sqlalchemy import select

    stored = session.scalar(select(Variable).where(Variable.key == name))
    row = stored or Variable(key=name)  # type: ignore[no-untyped-call]
    row._val, row.is_encrypted = value, False  # noqa: SLF001  the column behind a property that encrypts
    row.description = description
    session.add(row)


def delete_variable(session: Session, name: str) -> None:
    """Delete a Variable. See `plain_variables`."""
    from airflow.models.variable import Variable
    from sqlalchemy import delete

    session.execute(delete(Variable).where(Variable.key == name))


def components_since(session: Session, moment: datetime) -> set[tuple[str, str]]:
    """Return the host and the name of each component that has had a heartbeat since then.

    The table of `airflow.jobs.job.Job`. API servers and Celery workers are not in it.
    """
    from airflow.jobs.job import Job, JobState
    from sqlalchemy import select

    found = select(Job.hostname, Job.job_type).where(
        Job.state == JobState.RUNNING, Job.latest_heartbeat > moment, Job.job_type.in_(COMPONENTS)
    )
    return {(str(host), COMPONENTS[str(kind)]) for host, kind in session.execute(found)}


def hosts_of_tasks_since(session: Session, moment: datetime) -> set[str]:
    """Return the hosts of the tasks that have had a heartbeat since then.

    The columns `hostname` and `last_heartbeat_at` of the table of task instances.
    """
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    found = select(TaskInstance.hostname).where(TaskInstance.last_heartbeat_at > moment).distinct()
    return {name for name in session.scalars(found) if name}
