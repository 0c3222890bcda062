"""Many Watchers wait for one lock in a real Airflow; all of them get it, one after the other."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import suppress

import pytest

from dev.airflow import Airflow
from dev.migrated import copy_migrated
from dev.sessions import wait_until
from iam_watcher.lock.lease import Lease

logger = logging.getLogger(__name__)

WAITERS = 50
# The triggerer waits from a wait of over 10 s on, so all but the first seconds are its.
WAIT_MINUTES = 15
DAGS = '''"""An Airflow DAG file of many Watchers under one lock."""
from datetime import timedelta
from iam_watcher import Lock, Watcher
from airflow.sdk import task


@task
def work(run_id=None, dag=None):
    for event in ("begin", "end"):
        with open({log!r}, "a") as log:
            log.write(f"{{event}} {{dag.dag_id}}\\n")


for number in range({waiters}):
    with Watcher(
        f"waiter_{{number}}",
        schedule=None,
        lock=Lock("shared", wait=timedelta(minutes={minutes})),
    ):
        work()
'''


@pytest.fixture
def airflow(tmp_path, redis_server):
    (tmp_path / "dags").mkdir()
    text = DAGS.format(log=str(tmp_path / "work.log"), waiters=WAITERS, minutes=WAIT_MINUTES)
    (tmp_path / "dags" / "waiters.py").write_text(text)
    with Airflow(
        tmp_path / "home",
        deployment_id="waiters",
        connections={"iam_redis": redis_server.airflow_uri},
        dags_folders=[tmp_path / "dags"],
        options={"AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True"},
    ) as airflow:
        copy_migrated(airflow.home)
        airflow.start()
        airflow.wait_healthy()
        yield airflow


@pytest.mark.e2e
def test_all_waiters_get_the_lock_in_turn(airflow, redis_client, tmp_path):
    assert wait_until(lambda: airflow.api("/dags?limit=1")["total_entries"] == WAITERS, 120, pause=1)
    holder = Lease(redis_client, "shared", "the test", ttl=1800)
    assert holder.acquire()
    for number in range(WAITERS):
        airflow.api(f"/dags/waiter_{number}/dagRuns", {"logical_date": None})
    airflow.api("/dags?dag_id_pattern=waiter_%25", {"is_paused": False}, method="PATCH")

    def deferred():
        with suppress(OSError):  # SQLite is busy; we ask again.
            return airflow.api("/dags/~/dagRuns/~/taskInstances?state=deferred&limit=1")["total_entries"]

    assert wait_until(lambda: deferred() == WAITERS, 300, pause=1), deferred()
    in_line = [owner.decode().split("/")[1] for owner in redis_client.zrange("{shared}:queue", 0, -1)]
    assert len(in_line) == WAITERS
    log = tmp_path / "work.log"
    assert not log.exists()
    released = time.monotonic()
    assert holder.release()

    def states():
        with suppress(OSError):
            runs = airflow.api(f"/dags/~/dagRuns?limit={WAITERS}")["dag_runs"]
            return Counter(run["state"] for run in runs)
        return Counter()

    assert wait_until(lambda: states()["success"] == WAITERS, 60 * WAIT_MINUTES, pause=2), states()
    seconds = time.monotonic() - released
    events = [line.split() for line in log.read_text().splitlines()]
    assert [event for event, _ in events] == ["begin", "end"] * WAITERS
    begun = [watcher for event, watcher in events if event == "begin"]
    assert begun == [watcher for event, watcher in events if event == "end"]
    assert sorted(begun) == sorted(in_line)
    # A sensor that a busy machine does not start within the 15 s of its turn goes to the end of the queue.
    out_of_turn = sum(ran != stood for ran, stood in zip(begun, in_line, strict=True))
    logger.info("%d runs, %.1f s each, %d not in turn", WAITERS, seconds / WAITERS, out_of_turn)
