"""Every name of Airflow that we use although its documented public interface doesn't list it.

Such a name can change in any release. So each one is listed here, with the reason why we need it. All of them
were seen in Airflow 3.3.2, and tests/unit/test_airflow_internals.py fails when Airflow changes one.

    dag_files   while a DAG file is parsed
    tasks       in the process of a task, and in the triggerer
    runs        in the scheduler and the dag-processor: tables of the metadata database
    page        in the API server (tests/dags/test_page_airflow.py)
    stored_dag  in the API server: a DAG as Airflow stores it (tests/unit/test_stored_dag.py)
    deployment  by the doctor
    other_dag   in a task that reads the file of another DAG (tests/dags/test_dry_run_watcher.py)

The public interface: https://airflow.apache.org/docs/apache-airflow/3.3.2/public-airflow-interface.html

Importing this package fails with an Airflow that was not tested. So the error comes when a DAG file is parsed
(as its import error), when the plugin is loaded, and when a task begins.
"""

from __future__ import annotations

from airflow import __version__ as airflow_version

from iam_watcher.errors import UntestedAirflow

TESTED = "3.3"  # the same as the requirement in pyproject.toml


def check_version(version: str) -> None:
    """Return if this version of Airflow was tested.

    Raises:
        UntestedAirflow: it was not.
    """
    if version.split(".")[:2] != TESTED.split("."):
        raise UntestedAirflow(
            f"this is Airflow {version}; expected {TESTED}.x. Install a version of airflow-iam-watcher that "
            f"supports Airflow {version}, or Airflow {TESTED}"
        )


check_version(airflow_version)
