"""How far a job has come, as Redis has it beside the lock."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from datetime import timedelta

import pytest

from dev.processes import free_port
from dev.servers import Redis
from iam_watcher import Lock, Watcher
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import LockUnavailable
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock import progress
from iam_watcher.lock.grant import Grant
from iam_watcher.lock.lease import Lease
from iam_watcher.lock.progress import ProgressRecord, read
from iam_watcher.walk import progress as walked
from iam_watcher.walk import walk
from iam_watcher.walk.pace import ChunkSize
from iam_watcher.walk.progress import ProgressReporter
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import ID, numbers

HALF = {"examined": 1000, "changed": 600, "rows_per_second": 60.4, "share": 0.5, "eta_seconds": 10.2}
OWNER = "test/purge_t/run"


def grant(*conn_ids):
    return Grant("clean", OWNER, conn_ids or ("iam_redis",), 60.0, "skip", None, True, "", 0.0)


def record(*conn_ids, task="purge/-1"):
    return ProgressRecord(grant(*conn_ids), task=task, table="policy_audit")


def test_it_says_who_is_how_far_and_goes_at_the_end(redis_client):
    kept = record()
    kept.write(**HALF)
    (found,) = read([redis_client], "clean")
    assert (found.owner, found.task, found.table) == (OWNER, "purge/-1", "policy_audit")
    assert {name: getattr(found, name) for name in HALF} == HALF
    assert found.began <= found.updated
    assert 50_000 < redis_client.pttl("{clean}:progress") <= 60_000
    kept.close()
    assert redis_client.keys("*progress*") == []


def test_each_task_has_its_own(redis_client):
    one, two = record(task="purge/0"), record(task="purge/1")
    one.write(**HALF)
    two.write(**HALF)
    two.write(**{**HALF, "share": 0.6})
    assert [(found.task, found.share) for found in read([redis_client], "clean")] == [
        ("purge/0", 0.5),
        ("purge/1", 0.6),
    ]
    one.close()
    assert [found.task for found in read([redis_client], "clean")] == ["purge/1"]


def test_a_task_without_a_lock_has_none(redis_client, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_IAM_REDIS")
    kept = ProgressRecord(None, task="purge/-1", table="t")
    kept.write(**HALF)
    kept.close()
    assert redis_client.keys("*") == []


def test_a_redis_that_cannot_be_asked_is_logged_once(monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", f"redis://:secret@127.0.0.1:{free_port()}")
    kept = record("nowhere")
    for _ in range(3):
        kept.write(**HALF)
    kept.close()
    assert caplog.text.count("progress is not recorded: key={clean}:progress") == 1
    assert "secret" not in caplog.text


def test_a_redis_that_hangs_costs_a_second(redis_server, redis_client, caplog):
    kept = record()
    kept.write(**HALF)
    redis_server.pause()
    try:
        began = time.monotonic()
        kept.write(**HALF)
        assert time.monotonic() - began < 3
    finally:
        redis_server.resume()
    assert "progress is not recorded" in caplog.text


def test_of_several_servers_one_is_enough(tmp_path, monkeypatch):
    conn_ids = [f"lock_{number}" for number in range(3)]
    with ExitStack() as stack:
        servers = [stack.enter_context(Redis(tmp_path / name, name=name)) for name in conn_ids]
        for name, server in zip(conn_ids, servers, strict=True):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", server.airflow_uri)
        clients = [stack.enter_context(server.client()) for server in servers]
        kept = record(*conn_ids)
        kept.write(**HALF)
        assert [len(read([client], "clean")) for client in clients] == [1, 0, 0]
        servers[0].stop()
        kept.write(**{**HALF, "share": 0.6})
        assert [found.share for found in read(clients, "clean")] == [0.6]
        # As if the first had come back with what it had.
        monkeypatch.setattr(progress, "_now", lambda: "2001-01-01")
        record(conn_ids[2]).write(**HALF)
        for order in (clients, clients[::-1]):
            assert [found.share for found in read(order, "clean")] == [0.6]
        for server in servers:
            server.stop()
        with pytest.raises(LockUnavailable):
            read(clients, "clean")


def test_a_person_sees_that_of_the_holder(redis_client, command):
    lease = Lease(redis_client, "clean", OWNER, ttl=60)
    assert lease.acquire()
    kept = record()
    kept.write(**HALF)
    shown = command("show", "clean")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert (
        "\npurge/-1: policy_audit, 50.0% done, 1000 rows examined (60 a second), 600 changed, left: 10 s (at "
    ) in shown.stdout
    assert lease.release()
    assert Lease(redis_client, "clean", "test/other/run", ttl=60).acquire()
    assert "policy_audit" not in command("show", "clean").stdout


def test_a_retry_counts_from_where_it_began(scratch, session, monkeypatch):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY)")
    scratch.run(f"INSERT INTO t SELECT seq FROM {numbers(100)}")
    monkeypatch.setattr(walked, "EVERY", 0.0)
    monkeypatch.setattr(walked, "FIRST", 0.0)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(target=1000, rows=5))
    reported = []
    rows = RowChange("`t`", ID, "TRUE")
    Walk(Transactions(session), rows, after=90, reporter=ProgressReporter("t", reported.append)).write()
    first, last = reported
    assert (first.changed, first.share, last.changed, last.share) == (5, 0.95, 10, 1.0)
    assert first.eta_seconds == pytest.approx(5 / first.rows_per_second)


@pytest.mark.parametrize("fails", [False, True], ids=["", "a retry"])
def test_a_job_in_a_watcher_tells(scratch, redis_client, run_dag, monkeypatch, fails):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL)")
    scratch.run(f"INSERT INTO t SELECT seq, '2001-01-01' FROM {numbers(3000)}")
    monkeypatch.setattr(walked, "EVERY", 0.0)
    monkeypatch.setattr(walked, "FIRST", 0.0)
    seen, chunks = [], []
    write, change = ProgressRecord.write, Walk._write

    def fail_once(self, *arguments):
        chunks.append(1)
        if fails and len(chunks) == 2:
            raise ConnectionAbortedError("made by the test")
        return change(self, *arguments)

    def write_and_look(self, **facts):
        write(self, **facts)
        seen.extend(json.loads(text) for text in redis_client.hgetall("{clean}:progress").values())

    monkeypatch.setattr(ProgressRecord, "write", write_and_look)
    monkeypatch.setattr(Walk, "_write", fail_once)
    with Watcher("purge_t", schedule=None, lock=Lock("clean", wait=timedelta(0))) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="t",
            age_column="age",
            older_than_days=1,
            mysql_conn_id="scratch",
            retries=1,
            retry_delay=timedelta(0),
        )
    run = run_dag(dag)
    assert run.state == "success"
    assert len(seen) > 1
    assert all(one["changed"] <= one["examined"] <= 3000 for one in seen)
    assert {(one["owner"], one["task"], one["table"]) for one in seen} == {
        (f"test/purge_t/{run.run_id}", "purge/-1", "t")
    }
    assert [one["changed"] for one in seen] == sorted(one["changed"] for one in seen)
    assert (seen[-1]["changed"], seen[-1]["share"], seen[-1]["eta_seconds"]) == (3000, 1.0, 0.0)
    assert redis_client.keys("*progress*") == []
