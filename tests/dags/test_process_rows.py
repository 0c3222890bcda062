"""Watchers that process rows: the decorator in whole runs."""

from __future__ import annotations

from contextlib import closing

import pytest

from iam_watcher import Watcher
from iam_watcher.jobs.process_rows import process_rows
from tests.dags.runs import BRIEF, states, xcom

STATES = {"state_column": "status", "claim": "pending", "done": "normal", "failed": "failed"}


@pytest.fixture
def database(iam_schema, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ORDERS", iam_schema.airflow_admin_uri)
    with closing(iam_schema.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE orders (id INT PRIMARY KEY, status VARCHAR(9) NOT NULL DEFAULT 'pending',"
            " claimed_at DATETIME(6), claimed_by VARCHAR(255), KEY (status))"
        )
        cursor.executemany("INSERT INTO orders (id) VALUES (%s)", [(number,) for number in range(30)])
        yield cursor


@pytest.mark.usefixtures("redis_client")
def test_partitions_share_the_rows_under_one_lock(run_dag, database):
    seen = []
    with Watcher("process_orders", schedule="@every 5s", lock=BRIEF) as dag:

        @process_rows("orders", partitions=2, mysql_conn_id="orders", working="work", max_rows=20, **STATES)
        def send(row):
            seen.append(row["id"])

        send()
    run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    assert sorted(seen) == list(range(30))
    database.execute("SELECT COUNT(*) FROM orders WHERE status = 'normal'")
    assert database.fetchone() == (30,)
    assert xcom(run, "send")["done"] in {10, 20}
