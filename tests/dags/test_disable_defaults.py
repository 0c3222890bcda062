"""What the job that disables users does with what a file leaves out, and with what it takes from the form."""

from __future__ import annotations

from contextlib import closing

from airflow.sdk import Asset

from dev.expectations import snapshot
from dev.servers import SAMPLE_FILE
from iam_watcher import Watcher
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from tests.dags.runs import extra_of, states, xcom


def disable(dag_id, place):
    with Watcher(
        dag_id, schedule=None, lock="task", params={"place": place}, default_args={"retries": 0}
    ) as dag:
        DisableInactiveUsersOperator(
            task_id="disable",
            max_inactive_days=180,
            exempt_names=["svc-*"],
            undo_location="{{ params.place }}/reports",
            outlets=[Asset(dag_id)],
        )
    return dag


def test_without_a_share_half_of_the_users_is_the_limit(
    iam_schema, redis_client, run_dag, tmp_path, caplog, capsys
) -> None:
    iam_schema.run_script(SAMPLE_FILE)
    with closing(iam_schema.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM user WHERE status = 1 AND loginedAt > NOW() - INTERVAL 180 DAY LIMIT 600")
        connection.commit()
    before = snapshot(iam_schema)
    run = run_dag(disable("limit_default", f"file://{tmp_path}"))
    assert states(run)["disable"] == "failed"
    assert "more than max_share=0.5" in caplog.text + capsys.readouterr().out
    assert snapshot(iam_schema) == before


def test_the_place_of_the_undo_record_may_come_from_the_form(
    iam_schema, redis_client, run_dag, tmp_path
) -> None:
    iam_schema.run_script(SAMPLE_FILE)
    report = xcom(run_dag(disable("place_of_form", f"file://{tmp_path}")), "disable")
    assert report["changed"] == 1240
    assert report["undo_record"].startswith(f"file://{tmp_path}/reports/")
    assert list((tmp_path / "reports").rglob("*.gz"))
    event = extra_of("place_of_form")
    assert (event["changed"], event["undo_record"]) == (1240, report["undo_record"])
