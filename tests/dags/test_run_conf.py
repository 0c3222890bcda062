"""A run whose conf has a slip deletes nothing: a real table behind it, and the ways in which a conf comes."""

from __future__ import annotations

from contextlib import closing

import pytest
from airflow.sdk import DAG, Param

from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.dags.runs import BRIEF, look, states

OLD = 5
FORM = {"dry_run": Param(False, type="boolean"), "days": Param(30, type="integer")}


@pytest.fixture
def rows(iam_schema, redis_client):
    """Return a function that counts the rows of a table, all of which a purge would delete."""
    with closing(iam_schema.connect()) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (%s, '', '', '2020-01-01')",
            [(number,) for number in range(OLD)],
        )
        connection.commit()

    def count() -> int:
        with closing(iam_schema.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM policy_audit")
            return cursor.fetchone()[0]

    return count


def purge(dag_id, *, params=FORM, **arguments):
    with Watcher(dag_id, schedule=None, params=params, **{"lock": BRIEF, **arguments}) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days="{{ params.days }}" if params else 30,
            dry_run="{{ params.dry_run }}" if params else False,
        )
    return dag


@pytest.mark.parametrize("lock", [BRIEF, None])
def test_a_key_that_is_no_param(run_dag, rows, redis_client, caplog, capsys, lock) -> None:
    run = run_dag(purge("conf_key", lock=lock), run_conf={"dry-run": True})
    seen = states(run)
    first = "purge" if lock is None else "acquire"
    assert (seen[first], seen["run"], rows()) == ("failed", "failed", OLD)
    assert next(ti for ti in run.get_task_instances() if ti.task_id == first).try_number == 1
    said = "'dry-run' is not a param of this DAG; did you mean 'dry_run'?"
    assert said in caplog.text + capsys.readouterr().out
    assert not redis_client.exists("clean")


def test_a_conf_that_airflow_ignores(run_dag, rows, monkeypatch, caplog, capsys) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS", "False")
    run = run_dag(purge("conf_ignored"), run_conf={"dry_run": True})
    assert (states(run)["run"], rows()) == ("failed", OLD)
    assert "the conf sets 'dry_run', but the tasks see other values" in caplog.text + capsys.readouterr().out


def test_a_conf_for_a_watcher_without_params(run_dag, rows, caplog, capsys) -> None:
    run = run_dag(purge("conf_none", params=None), run_conf={"dry_run": True})
    assert (states(run)["run"], rows()) == ("failed", OLD)
    assert "'dry_run' is not a param of this DAG. It has no params" in caplog.text + capsys.readouterr().out


def plain(dag_id, **params):
    with DAG(dag_id, schedule=None, params=params) as dag:
        dry_run = "{{ params.dry_run }}" if params else False
        PurgeRowsOperator(
            task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=30, dry_run=dry_run
        )
    return dag


def test_a_slip_in_a_dag_that_is_no_watcher(run_dag, rows, monkeypatch) -> None:
    form = {"dry_run": FORM["dry_run"]}
    assert (run_dag(plain("plain_slip", **form), run_conf={"dryRun": True}).state, rows()) == ("failed", OLD)
    assert (run_dag(plain("plain_none"), run_conf={"dry_run": True}).state, rows()) == ("failed", OLD)
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS", "False")
        run = run_dag(plain("plain_ignored", **form), run_conf={"dry_run": True})
        assert (run.state, rows()) == ("failed", OLD)
    run = run_dag(plain("plain_dry", **form), run_conf={"dry_run": True, "ticket": 7})
    assert (run.state, rows()) == ("success", OLD)
    assert (run_dag(plain("plain_real", **form)).state, rows()) == ("success", 0)


@pytest.mark.parametrize(
    ("name", "value"), [("dry_run", True), ("dryRun", True), ("is_dry_run", True), ("dry_run", "true")]
)
def test_a_dry_run_that_the_task_of_a_plain_dag_does_not_ask_for(
    run_dag, rows, caplog, capsys, name, value
) -> None:
    """A param without a type may also have the text "true"."""
    form = FORM["dry_run"] if value is True else "false"
    with DAG("plain_unasked", schedule=None, params={name: form}) as dag:
        PurgeRowsOperator(task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=30)
    run = run_dag(dag, run_conf={name: value})
    assert (run.state, rows()) == ("failed", OLD)
    said = f"the param {name} is set, but the task 'purge' does not ask for it"
    assert said in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize("value", ["true", 1, "Yes"])
def test_a_dry_run_of_one_task_that_it_does_not_ask_for(
    run_dag, rows, redis_client, caplog, capsys, value
) -> None:
    with Watcher("task_unasked", schedule=None, lock=BRIEF) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days=30,
            params={"dry_run": value},
        )
    assert (states(run_dag(dag))["run"], rows()) == ("failed", OLD)
    assert "the param dry_run is set" in caplog.text + capsys.readouterr().out


@pytest.mark.parametrize(("value", "template"), [("no", "== 'yes'"), (0, "== 1"), ("", "== 'yes'")])
def test_a_param_of_a_dry_run_may_have_other_values(run_dag, rows, redis_client, value, template) -> None:
    with Watcher("dry_run_by_another_value", schedule=None, lock=BRIEF, params={"dry_run": value}) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days=30,
            dry_run=f"{{{{ params.dry_run {template} }}}}",
        )
    assert (states(run_dag(dag))["run"], rows()) == ("success", 0)


def test_what_is_right_works(run_dag, rows) -> None:
    assert states(run_dag(purge("conf_dry"), run_conf={"dry_run": True, "days": 31}))["run"] == "success"
    assert rows() == OLD


def test_keys_of_another_dag_are_allowed_in_the_file(run_dag, redis_client) -> None:
    with Watcher("conf_allowed", schedule=None, lock=BRIEF, conf_keys=["ticket"]) as dag:
        look()
    assert states(run_dag(dag, run_conf={"ticket": 7}))["run"] == "success"


def test_a_param_of_one_task_is_a_param(run_dag, redis_client) -> None:
    with Watcher("conf_task", schedule=None, lock=BRIEF) as dag:
        look.override(params={"mine": 1})()
    assert states(run_dag(dag, run_conf={"mine": 2}))["run"] == "success"
