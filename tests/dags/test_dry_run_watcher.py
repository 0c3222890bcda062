"""A dry run of a watcher that is paused: its rows are counted, and it stays paused."""

from __future__ import annotations

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.dag import DagModel
from airflow.sdk import task, task_group
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session

from dev.airflow import ROOT
from dev.servers import SAMPLE_FILE
from iam_watcher import Watcher
from iam_watcher.errors import RunConfError
from iam_watcher.jobs.dry_run_watcher import _jobs, _values
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.dags.runs import states, xcom


@pytest.fixture
def dags(store_dag, iam_schema):
    iam_schema.run_script(SAMPLE_FILE)
    bag = DagBag(ROOT / "dags")
    found = {name: bag.dags[name] for name in ("dry_run_watcher", "disable_inactive_users")}
    for dag in found.values():
        store_dag(dag)
    with create_session() as session:
        model = session.get(DagModel, "disable_inactive_users")
        model.is_paused = True
        model.relative_fileloc = "disable_inactive_users.py"
    return found


def disabled(server) -> int:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM user WHERE status = 0")
        return cursor.fetchone()[0]


def test_it_counts_the_rows_and_the_watcher_stays_paused(dags, run_dag, mariadb, monkeypatch):
    # The job looks for the watcher's file in its bundle.
    monkeypatch.delenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST")
    before = disabled(mariadb)
    run = run_dag(
        dags["dry_run_watcher"],
        run_conf={"watcher": "disable_inactive_users", "params": {"max_inactive_days": 90, "dry_run": False}},
    )
    assert states(run) == {"dry_run": "success", "run": "success"}
    found = xcom(run, "dry_run")
    assert (found["watcher"], found["dry_run"]) == ("disable_inactive_users", True)
    # Whatever the form said of it.
    report = found["reports"]["disable"]
    assert (report["dry_run"], report["changed"]) == (True, 0)
    assert report["matched"] > 0
    assert disabled(mariadb) == before
    with create_session() as session:
        assert session.get(DagModel, "disable_inactive_users").is_paused


def test_a_watcher_that_airflow_does_not_know_fails(dags, run_dag):
    run = run_dag(dags["dry_run_watcher"], run_conf={"watcher": "no_such_watcher", "params": {}})
    assert states(run) == {"dry_run": "failed", "run": "failed"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_inactive_day": 1}, "did you mean 'max_inactive_days'"),
        ({"max_inactive_days": -1}, "minimum of 0"),
    ],
)
def test_values_that_the_watcher_does_not_take_are_refused(dags, given, message):
    with pytest.raises((RunConfError, ValueError), match=message):
        _values(dags["disable_inactive_users"], given)


def test_only_jobs_have_a_dry_run(dags):
    assert list(_jobs(dags["disable_inactive_users"])) == ["disable"]
    assert _jobs(dags["dry_run_watcher"]) == {}


MAPPED = '''"""An Airflow DAG of a test."""
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

OLD = {"age_column": "expires", "age_unit": "unix_seconds", "older_than_days": 1}
with Watcher("mapped", schedule=None):
    PurgeRowsOperator(task_id="plain", table="secret", **OLD)
    PurgeRowsOperator.partial(task_id="each", table="secret", **OLD).expand(
        where=[[("id", ">=", 0)], [("id", "<", 0)]]
    )
'''


def test_each_task_of_a_mapped_job_is_counted(dags, run_dag, store_dag, tmp_path, monkeypatch):
    path = tmp_path / "mapped.py"
    path.write_text(MAPPED)
    store_dag(DagBag(path).dags["mapped"])
    monkeypatch.setattr(
        "iam_watcher.airflow_internals.other_dag.parse", lambda ti, dag_id: DagBag(path).dags[dag_id]
    )
    run = run_dag(dags["dry_run_watcher"], run_conf={"watcher": "mapped", "params": {}})
    assert states(run) == {"dry_run": "success", "run": "success"}
    reports = xcom(run, "dry_run")["reports"]
    assert {(one["table"], one["dry_run"], one["changed"]) for one in reports.values()} == {
        ("secret", True, 0)
    }
    matched = {name: one["matched"] for name, one in reports.items()}
    assert matched["plain"] > 0
    assert matched == {"plain": matched["plain"], "each/0": matched["plain"], "each/1": 0}


OLD = {"age_column": "day", "older_than_days": 1}


def test_a_mapping_that_only_a_run_knows_is_refused_before_the_count():
    with Watcher("unknown", schedule=None) as dag:
        PurgeRowsOperator(task_id="plain", table="secret", **OLD)

        @task
        def tables():
            return ["secret"]

        @task_group
        def group(period):
            PurgeRowsOperator(task_id="inside", table="secret", age_column="day", older_than=period)

        PurgeRowsOperator.partial(task_id="each", **OLD).expand(table=tables())
        group.expand(period=["90d"])
    with pytest.raises(AirflowFailException, match=r"mapped tasks 'each', 'group\.inside' work on"):
        _jobs(dag)


def test_a_task_that_airflow_could_not_make():
    with Watcher("refused", schedule=None) as dag:
        PurgeRowsOperator.partial(task_id="each", **OLD).expand(table=["secret", "x" * 65])
    with pytest.raises(AirflowFailException, match=r"of the mapped task 'each': .* table is"):
        _jobs(dag)
