"""A skip is seen: the log says why in a warning, outside of the groups that Airflow's log view folds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from airflow.sdk import Param, task

from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from tests.dags.runs import BRIEF, look, states

if TYPE_CHECKING:
    from redis import Redis as Client


STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


def unfolded_warnings(log: str) -> list[str]:
    """Return the warnings of a run's log that are in no group."""
    found, folded = [], False
    for line in log.splitlines():
        if "Task started" in line:  # Its log begins within a group.
            folded = True
        elif "::group::" in line or "::endgroup::" in line:
            folded = "::group::" in line
        elif "[warning" in line and not folded:
            found.append(line)
    return found


@pytest.fixture
def run_log(capsys, caplog):
    """Return a function that returns what a run logged, in order: Airflow's loggers and ours."""

    def log() -> str:
        ours = [
            f"{datetime.fromtimestamp(record.created, UTC):{STAMP}} [warning] {record.getMessage()}"
            for record in caplog.records
            if record.name.startswith("iam_watcher") and record.levelname == "WARNING"
        ]
        return "\n".join(sorted([*ours, *capsys.readouterr().out.splitlines()]))

    return log


def only_warning(log: str, *texts: str) -> None:
    said = [line for line in unfolded_warnings(log) if "skipped" in line or "Nothing was" in line]
    assert len(said) == 1, log
    for text in texts:
        assert text in said[0]


def test_the_lock_is_busy(run_dag, redis_client: Client, run_log) -> None:
    redis_client.set("clean", "b/purge/run7", px=600_000)
    with Watcher("skip_busy", schedule=None, lock=BRIEF) as dag:
        look()
    assert states(run_dag(dag))["run"] == "success"
    only_warning(run_log(), "This run is skipped", "'clean' is held by", "b/purge/run7")


def test_a_teardown_of_ones_own_is_skipped_with_its_run(run_dag, redis_client: Client) -> None:
    """Airflow runs teardowns although everything before them was skipped."""
    redis_client.set("clean", "b/purge/run7", px=600_000)
    with Watcher("skip_teardown", schedule=None, lock=BRIEF, default_args={"retries": 0}) as dag:
        look() >> task(lambda: None, task_id="tidy_up")().as_teardown()
    assert states(run_dag(dag)) == {
        "acquire": "skipped",
        "look": "skipped",
        "tidy_up": "skipped",
        "release": "skipped",
        "run": "success",
    }


def test_zero_days_turn_a_job_off(run_dag, redis_client: Client, run_log) -> None:
    with Watcher("skip_off", schedule=None, lock=BRIEF, params={"days": Param(0)}) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days="{{ params.days }}",
        )
    assert states(run_dag(dag))["purge"] == "skipped"
    only_warning(run_log(), "Nothing was changed", "policy_audit", "0")


def test_a_conf_with_a_slip_is_logged_outside_of_the_groups_too(
    run_dag, redis_client: Client, capsys
) -> None:
    with Watcher("skip_conf", schedule=None, lock=None) as dag:

        @task(retries=0)
        def work() -> None: ...

        work()
    assert states(run_dag(dag, run_conf={"x": 1}))["run"] == "failed"
    log = capsys.readouterr().out
    assert log.index("::endgroup::") < log.index("'x' is not a param") < log.index("::group::Post Execute")
