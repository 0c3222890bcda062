"""The operators in a plain DAG, run by Airflow itself."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG, Param

from dev.expectations import differences, snapshot
from iam_watcher.jobs.announce import SECRET_CHANGED
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

SAMPLE = "include/sql/sample.sql"

PARAMS = {
    "days": Param(180, type="integer", minimum=0),
    "max_share": Param(0.5, type="number"),
    "dry_run": Param(default=False, type="boolean"),
}


def housekeeping(*, native):
    with DAG("housekeeping", schedule=None, params=PARAMS, render_template_as_native_obj=native) as dag:
        DisableInactiveUsersOperator(
            task_id="users",
            max_inactive_days="{{ params.days }}",
            exempt_names=["svc-*"],
            max_share="{{ params.max_share }}",
            undo_location="none",
            dry_run="{{ params.dry_run }}",
        )
        PurgeRowsOperator(
            task_id="audit",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days="{{ params.days }}",
            dry_run="{{ params.dry_run }}",
        )
        PurgeRowsOperator(
            task_id="secrets",
            table="secret",
            age_column="expires",
            age_unit="unix_seconds",
            grace_days=0,
            announce=SECRET_CHANGED,
            dry_run="{{ params.dry_run }}",
        )
    return dag


def reports(run):
    return {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances()}


@pytest.mark.parametrize("native", [True, False])
def test_the_sample_ends_as_its_rows_say(iam_schema, redis_client, run_dag, request, native):
    iam_schema.run_script(request.config.rootpath / SAMPLE)
    before = snapshot(iam_schema)
    run = run_dag(housekeeping(native=native), run_conf={"dry_run": True})
    assert run.state == "success"
    assert snapshot(iam_schema) == before
    dry = reports(run)

    run = run_dag(housekeeping(native=native))
    assert run.state == "success"
    without = {"user_provisioning": {}}  # row processing is no job of this DAG
    assert differences(before | without, snapshot(iam_schema) | without) == []
    done = reports(run)
    for task_id, (examined, changed, skipped) in {
        "users": (2920, 1240, {"admin": 5, "exempt_name": 15}),
        "audit": (10025, 6000, {"zero_date": 25}),
        "secrets": (1000, 300, {"never_expires": 200}),
    }.items():
        for report in (dry[task_id], done[task_id]):
            assert (report["examined"], report["matched"]) == (examined, changed)
            assert report["skipped"] == skipped
        assert (dry[task_id]["changed"], done[task_id]["changed"]) == (0, changed)


def test_zero_days_end_as_skipped(iam_schema, redis_client, run_dag):
    run = run_dag(housekeeping(native=True), run_conf={"days": 0})
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    assert states == {"users": "skipped", "audit": "skipped", "secrets": "success"}
