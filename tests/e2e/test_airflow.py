"""The private Airflow that the e2e tests stand on: several deployments, and crashes of their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.airflow import COMPONENTS, Airflow
from dev.processes import ProcessError, listening
from dev.sessions import session_members, wait_until

if TYPE_CHECKING:
    from pathlib import Path

DAG = '''"""An Airflow DAG that starts something in a session of its own and lasts."""
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("lasting", schedule=None):
    BashOperator(task_id="sleep", bash_command="echo $$ >{pid_file}; sleep 600; sleep 600")
'''


def _pid(file: Path) -> int:
    return int(file.read_text() or 0) if file.exists() else 0


@pytest.mark.e2e
def test_two_deployments_beside_each_other_and_a_crash_in_one(tmp_path):
    (tmp_path / "dags").mkdir()
    pid_file = tmp_path / "pid"
    (tmp_path / "dags" / "lasting.py").write_text(DAG.format(pid_file=pid_file))
    with (
        Airflow(tmp_path / "a", deployment_id="a", dags_folders=[tmp_path / "dags"]) as one,
        Airflow(tmp_path / "b", deployment_id="b", dags_folders=[tmp_path / "dags"]) as two,
    ):
        migrations = [airflow.spawn("db-migrate", "db", "migrate") for airflow in (one, two)]
        for airflow, migration in zip((one, two), migrations, strict=True):
            airflow.finish(migration)
            airflow.start()
        for airflow in (one, two):
            airflow.wait_healthy()
            assert airflow.processes.keys() == set(COMPONENTS)
        assert one.port != two.port

        assert wait_until(
            lambda: "lasting" in {dag["dag_id"] for dag in one.api("/dags")["dags"]}, 60, pause=1
        )
        one.api("/dags/lasting/dagRuns", {"logical_date": None})
        assert wait_until(lambda: _pid(pid_file), 60)
        orphan = _pid(pid_file)
        one.processes["scheduler"].kill()
        one.start(["scheduler"])
        one.wait_healthy()
        # Nothing but the scheduler itself was killed.
        assert session_members(orphan) != []
        sessions = [process.pid for airflow in (one, two) for process in airflow.processes.values()]
    assert session_members(orphan) == []
    assert [session for session in sessions if session_members(session)] == []
    assert not listening(one.port)
    assert not listening(two.port)


@pytest.mark.e2e
def test_a_component_that_fails_says_why(tmp_path):
    # Its metadata database was never migrated.
    with Airflow(tmp_path, deployment_id="a") as airflow:
        airflow.start(["scheduler"])
        with pytest.raises(ProcessError, match=r"airflow scheduler ended with exit code 1"):
            airflow.wait_healthy()
