"""One purge over many tables in two databases, by mapping: each has a report of its own, also on the page."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from airflow.utils.session import create_session

from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.ui.data import runs_before

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis as Client

    from dev.servers import DatabaseServer

TABLES = 10  # in each database
KEYS = (
    "id int NOT NULL PRIMARY KEY",
    "id char(36) NOT NULL PRIMARY KEY",
    "id int NOT NULL, PRIMARY KEY (day, id)",
)


@pytest.fixture
def databases(mariadb: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """What each task is given: table number n has n old rows, and one that is young."""
    given = []
    with closing(mariadb.connect(database="")) as connection, connection.cursor() as cursor:
        for name in ("east", "west"):
            cursor.execute(f"CREATE OR REPLACE DATABASE {name}")
            uri = mariadb.airflow_admin_uri.removesuffix("/iam") + f"/{name}"
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", uri)
            for number in range(TABLES):
                table, rows = f"{name}.events_{number}", len(given)
                key = KEYS[number % len(KEYS)].replace("NULL, ", "NULL, day date NOT NULL, ")
                day = "" if "day" in key else ", day date NOT NULL"
                cursor.execute(f"CREATE TABLE {table} ({key}{day})")
                old = [(one, "2001-01-01") for one in range(rows)]
                cursor.executemany(
                    f"INSERT INTO {table} (id, day) VALUES (%s, %s)", [*old, (-1, "2090-01-01")]
                )
                given.append({"table": f"events_{number}", "mysql_conn_id": name})
        yield given
        for name in ("east", "west"):
            cursor.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("dry", [True, False])
def test_one_purge_of_twenty_tables(databases, run_dag, redis_client: Client, dry: bool) -> None:
    with Watcher("purge_all", schedule=None) as dag:
        PurgeRowsOperator.partial(
            task_id="purge",
            age_column="day",
            older_than_days=30,
            dry_run=dry,
            map_index_template="{{ task.mysql_conn_id }}.{{ task.table }}",
        ).expand_kwargs(databases)
    run = run_dag(dag)
    assert run.state == "success"
    with create_session() as session:
        (shown,) = runs_before(session, "purge_all", before=None, limit=1, reports=True)
    assert len(shown.reports) == 2 * TABLES
    for number, given in enumerate(databases):
        report = shown.reports[f"purge/{number}"]
        assert report["table"] == given["table"]
        assert (report["matched"], report["changed"]) == (number, 0 if dry else number)
    assert shown.changed == (0 if dry else sum(range(2 * TABLES)))
    names = {ti.rendered_map_index for ti in run.get_task_instances() if ti.task_id == "purge"}
    assert names == {"{mysql_conn_id}.{table}".format(**given) for given in databases}
