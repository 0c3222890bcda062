"""Parses the file of another DAG in a worker. Airflow promises none of these names to keep.

tests/dags/test_dry_run_watcher.py runs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


def parse(ti: Any, dag_id: str) -> DAG:
    """Return a DAG from its file, as Airflow reads it before each task.

    Args:
        ti: of the task that asks.
        dag_id: the other DAG.

    Raises:
        LookupError: its file does not have it any more, or can't be imported.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag

    found = ti.get_dag(dag_id)
    manager: Any = DagBundlesManager
    bundle = manager().get_bundle(name=found.bundle_name, version=found.bundle_version)
    bundle.initialize()
    bag = BundleDagBag(
        dag_folder=str(Path(bundle.path, found.relative_fileloc)),
        safe_mode=False,
        load_op_links=False,
        bundle_path=bundle.path,
        bundle_name=found.bundle_name,
    )
    if dag_id not in bag.dags:
        raise LookupError(
            f"{found.relative_fileloc}: {'; '.join(bag.import_errors.values()) or 'no such DAG'}"
        )
    dag: DAG = bag.dags[dag_id]
    return dag
