"""Each job of docs/how-do-i.md on a real scheduler: what the page promises happens there.

All tests share one scheduler with the jobs of the page: hence the length.
"""

from __future__ import annotations

import json
import os
import urllib.error
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from dev.migrated import copy_migrated
from dev.servers import Redis
from tests.dags.receivers import Received, http_receiver
from tests.dags.test_how_do_i import FILES
from tests.e2e import deployments
from tests.e2e.deployments import Deployment, Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dev.servers import MariaDB

pytestmark = pytest.mark.e2e
until = partial(deployments.until, seconds=600.0)  # two Airflows on a busy machine are slow

DAGS = 19
RUNNING = 12  # at least so many of them have run when the lines are read
LONGEST_LINE = 150  # characters
OFTEN = '''"""An Airflow DAG for a first Airflow and its standby."""
from iam_watcher import watcher

@watcher(schedule="@every 1m")
def often() -> None: ...
'''
BEFORE_SOON = 300.0  # seconds; then the scheduler knows the DAG, even on a busy machine
# Times and places of the page, as a test needs them. What each file does stays as it is.
CHANGES = {
    'Watcher("export"': [("/tmp/", "{folder}/")],  # noqa: S108  of the page
    "ask_the_gateway": [("@every 5m", "@every 30d"), ("https://gateway.example.com", "{web}")],
    "impatient": [
        ("minutes=2", "seconds=2"),
        ('"sleep 600"', '"echo $$ > {folder}/impatient; sleep 600"'),
        ('"@hourly"', '"@hourly", default_args={{"retries": 0}}'),
    ],
    "fetch": [
        ("minutes=1)", "seconds=3)"),
        ("minutes=10", "seconds=5"),
        (
            "...\n",
            "open('{folder}/fetch', 'a').write('x'); 1 / (open('{folder}/fetch').read().count('x') > 3)",
        ),
    ],
    "def mirror": [
        ("minutes=5", "seconds=60"),
        (
            "...\n",
            "open('{folder}/mirror', 'a').write('x'); 1 / (open('{folder}/mirror').read().count('x') > 1)",
        ),
    ],
    'Watcher("load"': [('lambda: None, task_id="work"', 'lambda: 1 / 0, task_id="work"')],
    "def move": [("2027-01-31T08:00:00+01:00", "{soon}")],
    "hourly_report": [
        ("daily_report() -> None: ...", "daily_report() -> None: __import__('time').sleep(60)")
    ],
}


@pytest.fixture(scope="module")
def web() -> Iterator[Received]:
    with http_receiver() as received:
        yield received


class Recipes(Deployment):
    """An Airflow with all files of the page, and what their jobs need."""

    healthy_seconds = 900  # beside other work on the machine
    folder: Path
    redis: Redis
    soon: datetime

    def go(self, dag_id: str, conf: dict[str, Any] | None = None) -> Run:
        """Trigger a run."""
        answer = self.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return Run(self, dag_id, answer["dag_run_id"])

    def runs(self, dag_id: str) -> list[Run]:
        try:
            found = self.api(f"/dags/{dag_id}/dagRuns?order_by=run_after&limit=100")["dag_runs"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return []  # Airflow has not read the file yet.
            raise
        return [Run(self, dag_id, run["dag_run_id"]) for run in found]

    def so_many(self, dag_id: str, number: int) -> list[Run]:
        """Return the runs, if there are so many."""
        found = self.runs(dag_id)
        return found if len(found) == number else []

    def only_run(self, dag_id: str) -> Run:
        """Wait for the run that something else starts."""
        return until(lambda: self.runs(dag_id), f"a run of {dag_id}", seconds=BEFORE_SOON + 600.0)[0]

    def lock(self, key: str) -> bytes | None:
        with self.redis.client() as client:
            return client.get(key)


def ended(run: Run) -> str:
    until(lambda: run.state() in ("success", "failed"), f"the end of {run.owner}")
    return run.state()


def xcom(run: Run, task_id: str, index: int = -1) -> Any:
    path = f"/dags/{run.dag_id}/dagRuns/{run.id}/taskInstances/{task_id}/xcomEntries/return_value"
    value = run.airflow.api(f"{path}?map_index={index}")["value"]
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, web: Received) -> Iterator[Recipes]:
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "dags").mkdir()
    mariadb.create_schema()
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=BEFORE_SOON)
    values = {"folder": folder, "web": f"http://127.0.0.1:{web.port}", "soon": soon.isoformat()}
    for number, text in enumerate(FILES):
        changed = text
        for name, changes in CHANGES.items():
            for old, new in changes if name in text else ():
                assert old in changed
                changed = changed.replace(old, new.format(**values))
        (folder / "dags" / f"recipe_{number}.py").write_text(changed)
    with (
        Redis(folder / "redis") as redis,
        Recipes(
            folder / "airflow",
            deployment_id="recipes",
            connections={
                "iam_redis": redis.airflow_uri,
                "iam_mysql": mariadb.airflow_admin_uri,
                "iam_mysql_east": mariadb.airflow_admin_uri,
            },
            dags_folders=[folder / "dags"],
            options={
                "AIRFLOW__CORE__PARALLELISM": "6",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
            },
        ) as airflow,
    ):
        airflow.name, airflow.folder, airflow.redis, airflow.soon = "recipes", folder, redis, soon
        copy_migrated(airflow.home)
        airflow.start()
        airflow.wait_healthy()
        until(lambda: airflow.api("/dags?limit=100")["total_entries"] == DAGS, "the DAGs")
        yield airflow


def test_commands_functions_and_requests(airflow: Recipes, web: Received) -> None:
    command, count = airflow.go("export"), airflow.go("count_files")
    web.answers.append(500)
    ask = airflow.go("ask_the_gateway")
    assert ended(command) == ended(count) == ended(ask) == "success"
    assert xcom(command, "run") == "done"
    assert isinstance(xcom(count, "count_files"), int)
    assert (len(web.requests), ask.task("ask_the_gateway")["try_number"]) == (2, 2)


def test_an_sql_statement(airflow: Recipes, mariadb: MariaDB) -> None:
    insert = "INSERT INTO secret (instanceID, name, username, secretID, secretKey, expires, description) "
    with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO user (name, status, nickname, password, email) VALUES ('u', 1, '', '', '')"
        )
        cursor.execute(
            insert + "VALUES ('a', 'old', 'u', 'i', 'k', 1, ''), ('b', 'never', 'u', 'j', 'k', 0, '')"
        )
        connection.commit()
        assert ended(airflow.go("mark_expired")) == "success"
        cursor.execute("SELECT name FROM secret WHERE description = 'expired'")
        assert cursor.fetchall() == (("old",),)


def test_a_job_that_takes_too_long_is_ended(airflow: Recipes) -> None:
    run = airflow.go("impatient")
    assert ended(run) == "failed"
    assert run.task_state("release") == "success"
    with pytest.raises(ProcessLookupError):
        os.kill(int((airflow.folder / "impatient").read_text()), 0)
    assert airflow.lock("iam-watcher:impatient") is None


def test_retries_that_keep_the_lock(airflow: Recipes) -> None:
    """The key is there from the first try to the last one, in all pauses."""
    run = airflow.go("fetch")
    until(lambda: airflow.lock("fetch"), "the lock")
    holders: dict[str, set[bytes | None]] = {}
    while not {"success", "failed"} & holders.keys():
        holder = airflow.lock("fetch")  # before the state: a run that has worked releases its lock
        holders.setdefault(run.task_state("fetch"), set()).add(holder)
    assert holders["running"] == holders["up_for_retry"] == {run.owner.encode()}
    assert ended(run) == "success"
    assert run.task("fetch")["try_number"] >= 4


def test_retries_that_give_the_lock_back(airflow: Recipes) -> None:
    run = airflow.go("mirror")
    until(lambda: run.task_state("mirror") == "up_for_retry", "the pause after the first try")
    until(lambda: airflow.lock("mirror") is None, "the end of the lease")
    assert run.task_state("mirror") == "up_for_retry"
    with airflow.redis.client() as client:
        client.set("mirror", "another run", px=1_000)
    assert ended(run) == "success"
    assert run.task("mirror")["try_number"] >= 2


def test_after_another_watcher(airflow: Recipes) -> None:
    assert ended(airflow.go("make_export")) == "success"
    assert ended(airflow.only_run("send_export")) == "success"
    load = airflow.go("load")
    assert ended(load) == "failed"
    assert ended(airflow.only_run("tidy_up")) == "success"


def test_after_the_purge(airflow: Recipes, mariadb: MariaDB) -> None:
    """Each purge starts a run, which finds the report of that purge."""
    insert = "INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (%s, 'n', 'u', %s)"
    young, old = datetime.now(UTC).date(), "2001-01-01"
    with closing(mariadb.connect()) as connection, connection.cursor() as cursor:
        cursor.executemany(insert, [(number, young) for number in range(90, 99)])
        for purged in ([3], [3, 1]):
            cursor.executemany(insert, [(number, old) for number in range(purged[-1])])
            connection.commit()
            assert ended(airflow.go("purge_audit")) == "success"
            after = until(partial(airflow.so_many, "after_the_purge", len(purged)), "the run after it")
            assert [ended(run) for run in after] == ["success"] * len(purged)
            assert [xcom(run, "after_the_purge") for run in after] == purged


def test_a_queue_and_a_pool(airflow: Recipes) -> None:
    run = airflow.go("check_disks")
    assert ended(run) == "success"
    task = run.task("check_disks")
    assert (task["queue"], task["pool"]) == ("storage", "default_pool")


def test_other_values_for_one_run(airflow: Recipes) -> None:
    run, misspelt = airflow.go("keep", {"days": 7}), airflow.go("keep", {"dais": 7})
    assert (ended(run), ended(misspelt)) == ("success", "failed")
    assert xcom(run, "keep") == 7


def test_once(airflow: Recipes) -> None:
    run = airflow.only_run("move")
    assert run.id.startswith(f"scheduled__{airflow.soon:%Y-%m-%dT%H:%M:%S}")
    assert ended(run) == "success"
    assert len(airflow.runs("move")) == 1


def test_one_of_several_at_a_time(airflow: Recipes) -> None:
    daily = airflow.go("daily_report")
    until(lambda: daily.task_state("daily_report") == "running", "the daily report")
    hourly = airflow.go("hourly_report")
    until(lambda: hourly.task_state("acquire") == "deferred", "the wait for the lock")
    assert ended(daily) == ended(hourly) == "success"
    assert hourly.task("hourly_report")["start_date"] > daily.task("daily_report")["end_date"]


def test_many_databases(airflow: Recipes) -> None:
    run = airflow.go("purge_everywhere")
    assert ended(run) == "success"
    found = airflow.api(f"{run._path}/taskInstances/purge/listMapped")["task_instances"]
    assert {ti["rendered_map_index"] for ti in found} == {"iam_mysql", "iam_mysql_east"}
    assert {xcom(run, "purge", index)["connection"] for index in (0, 1)} == {"iam_mysql", "iam_mysql_east"}


def test_the_lines_of_all_jobs(airflow: Recipes) -> None:
    """Each line has the watcher and the run for programs, and is short enough for Airflow's log view."""
    logs = (airflow.home / "logs").glob("dag_id=*/run_id=*/task_id=*/attempt=*.log")
    lines = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    ours = [line for line in lines if str(line.get("logger")).startswith("iam_watcher")]
    assert len({line["dag_id"] for line in ours}) >= RUNNING
    for line in ours:
        assert line["run_id"]
        assert len(line["event"]) <= LONGEST_LINE, line


def test_a_standby_acts_only_when_the_first_is_gone(airflow: Recipes, tmp_path: Path) -> None:
    """The same file in two Airflows: the standby skips what the first one did, and does what did not."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "often.py").write_text(OFTEN)
    with Recipes(
        tmp_path / "airflow",
        deployment_id="standby",
        connections={"iam_redis": airflow.redis.airflow_uri},
        dags_folders=[tmp_path / "dags"],
        options={"AIRFLOW__IAM_WATCHER__STANDBY_DELAY": "30", "AIRFLOW__CORE__PARALLELISM": "2"},
    ) as standby:
        standby.name = "standby"
        copy_migrated(standby.home)
        standby.start()
        standby.wait_healthy()
        (airflow.folder / "dags" / "often.py").write_text(OFTEN)
        until(lambda: airflow.runs("often"), "the first Airflow's runs")
        skipped = until(lambda: with_state(standby, "skipped"), "a time that the standby skips")
        assert {run.holder()["deployment"] for run in skipped} == {"recipes"}
        airflow.pause("often")
        (first, *_) = until(lambda: with_state(standby, "success"), "a time that the standby does")
        assert first.holder()["deployment"] == "standby"
        times = {run.id for run in with_state(airflow, "success")}
        assert not times & {run.id for run in with_state(standby, "success")}


def with_state(airflow: Recipes, state: str) -> list[Run]:
    """Return the ended runs of `often` whose work has this state."""
    runs = [run for run in airflow.runs("often") if run.state() == "success"]
    return [run for run in runs if run.task_state("often") == state]
