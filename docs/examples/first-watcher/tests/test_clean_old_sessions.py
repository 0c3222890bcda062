"""The watcher loads, and has the arguments that we rely on."""

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).parents[1] / "dags"


def test_the_dag_file_loads() -> None:
    bag = DagBag(str(DAGS))
    assert bag.import_errors == {}
    assert list(bag.dags) == ["clean_old_sessions"]


def test_only_sessions_of_more_than_30_days_ago_are_deleted() -> None:
    purge = DagBag(str(DAGS)).dags["clean_old_sessions"].get_task("purge")
    assert (purge.table, purge.age_column, purge.older_than_days) == ("session", "endedAt", 30)


def test_deleted_rows_are_archived() -> None:
    purge = DagBag(str(DAGS)).dags["clean_old_sessions"].get_task("purge")
    assert purge.archive == "configured"
