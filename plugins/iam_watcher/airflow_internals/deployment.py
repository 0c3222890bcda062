"""Names of Airflow that the doctor needs, to see plugins and DAG files as Airflow's components do.

tests/unit/test_airflow_internals.py has a test for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


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


def dag_files(folder: Path) -> tuple[set[Path], set[Path]]:
    """Return the Python files that Airflow parses, and those that its safe mode skips.

    `list_py_file_paths`, which reads .airflowignore too.
    """
    from airflow.configuration import conf
    from airflow.utils.file import list_py_file_paths

    every = {Path(path) for path in list_py_file_paths(folder, safe_mode=False)}
    if not conf.getboolean("core", "dag_discovery_safe_mode", fallback=True):
        return every, set()
    parsed = {Path(path) for path in list_py_file_paths(folder, safe_mode=True)}
    return parsed, every - parsed


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
