"""docs/tutorial.md: its commands do what the page says."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.dags.runs import states, xcom

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.models.dagrun import DagRun
    from redis import Redis

    from dev.servers import DatabaseServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def sessions(mariadb: DatabaseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """Make the table of the page; return a function that counts its rows."""
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}/archive")

    def run(statement: str) -> tuple[int, ...] | None:
        with closing(mariadb.connect("iam")) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            connection.commit()
            return cursor.fetchone() if cursor.description else None

    run("DROP TABLE IF EXISTS iam.login_session")
    (sql,) = _blocks("sql")
    for statement in filter(str.strip, sql.split(";")):
        run(statement)
    return lambda: run("SELECT COUNT(*) FROM login_session")[0]


def test_the_steps_of_the_page(
    run_dag: Callable[..., DagRun], redis_client: Redis, sessions: Callable[[], int], tmp_path: Path
) -> None:
    def run(code: str, dag_id: str, **conf: str) -> tuple[str, DagRun]:
        (tmp_path / "dags").mkdir(exist_ok=True)
        (tmp_path / "dags" / f"{dag_id}.py").write_text(code)
        done = run_dag(DagBag(str(tmp_path / "dags" / f"{dag_id}.py")).dags[dag_id], run_conf=conf or None)
        return states(done)["run"], done

    clean, restore = _blocks("python")
    state, done = run(clean, "clean_login_sessions")
    assert (state, xcom(done, "purge")["matched"], sessions()) == ("success", 3, 5)

    state, done = run(clean.replace("        dry_run=True,\n", ""), "clean_login_sessions")
    report = xcom(done, "purge")
    assert (state, report["changed"], report["skipped"], sessions()) == ("success", 3, {"no_date": 1}, 2)

    for restored in (3, 0):
        state, done = run(restore, "restore_login_sessions", path=report["archive"])
        assert (state, xcom(done, "restore")["restored"], sessions()) == ("success", restored, 5)
