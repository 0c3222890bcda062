"""The files of docs/how-do-i.md: each is short, and what it promises happens."""

from __future__ import annotations

import http.server
import re
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.dags.runs import states, xcom
from tests.dags.test_docs import CODE_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import DAG
    from redis import Redis as Client

    from dev.servers import DatabaseServer

PAGE = Path(__file__).parents[2] / "docs" / "how-do-i.md"
FILES = [match[2] for match in CODE_BLOCK.finditer(PAGE.read_text())]
LONGEST = 15


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., DAG]:
    """A function that returns a DAG of the page, with texts in its file replaced."""

    def find(dag_id: str, *changes: tuple[str, str]) -> DAG:
        text = next(text for text in FILES if re.search(rf"(\"|def ){dag_id}\b", text))
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "recipe.py").write_text(text)
        bag = DagBag(str(tmp_path))
        assert bag.import_errors == {}
        return bag.dags[dag_id]

    return find


def test_each_file_is_short() -> None:
    assert len(FILES) == 15
    for text in FILES:
        assert len([line for line in text.splitlines() if line]) < LONGEST, text


@pytest.mark.e2e
def test_a_shell_command(recipe, run_dag, redis_client: Client, tmp_path: Path) -> None:
    run = run_dag(recipe("export", ("/tmp/", f"{tmp_path}/")))  # noqa: S108  of the page
    assert set(states(run).values()) == {"success"}
    assert xcom(run, "run") == "done"


class _Gateway(http.server.BaseHTTPRequestHandler):
    answer = (200, b"ok")

    def do_GET(self) -> None:
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def gateway() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_http_request(recipe, gateway: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dag = recipe("ask_the_gateway", ("https://gateway.example.com", gateway))
    ask = dag.get_task("ask_the_gateway").python_callable
    ask()
    for answer in ((500, b"ok"), (200, b"down")):
        monkeypatch.setattr(_Gateway, "answer", answer)
        with pytest.raises(RuntimeError, match=f"got {answer[0]} and '{answer[1].decode()}'"):
            ask()


@pytest.mark.e2e
def test_an_sql_statement(
    recipe, run_dag, redis_client: Client, iam_schema: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", iam_schema.airflow_admin_uri)
    insert = (
        "INSERT INTO iam.secret (instanceID, name, username, secretID, secretKey, expires, description) "
        "VALUES (%s, %s, 'u', 'i', 'k', %s, '')"
    )
    with iam_schema.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO iam.user (name, status, nickname, password, email) VALUES ('u', 1, '', '', '')"
        )
        cursor.executemany(insert, [("a", "old", 1), ("b", "never", 0)])
        connection.commit()
        run = run_dag(recipe("mark_expired"))
        assert run.state == "success"
        cursor.execute("SELECT name FROM iam.secret WHERE description = 'expired'")
        assert cursor.fetchall() == (("old",),)


@pytest.mark.e2e
def test_a_job_that_takes_too_long(recipe, run_dag, redis_client: Client) -> None:
    dag = recipe(
        "impatient", ("minutes=2", "seconds=1"), ('"@hourly"', '"@hourly", default_args={"retries": 0}')
    )
    run = run_dag(dag)
    assert {ti.task_id: ti.state for ti in run.get_task_instances()} == {
        "acquire": "success",
        "run": "failed",
        "release": "success",
    }
    assert redis_client.get("iam-watcher:impatient") is None


def test_growing_pauses(recipe) -> None:
    dag = recipe("fetch")
    task = dag.get_task("fetch")
    assert (task.retries, task.retry_exponential_backoff) == (5, 2)
    # The lock outlives every pause.
    assert task.max_retry_delay == timedelta(minutes=10) < dag.lock.lease


def events() -> list[str]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return list(
            session.scalars(select(AssetModel.name).join(AssetEvent, AssetEvent.asset_id == AssetModel.id))
        )


@pytest.mark.e2e
def test_after_another_watcher(recipe, run_dag, redis_client: Client) -> None:
    assert recipe("send_export").timetable.asset_condition.objects[0].name == "export"
    dag = recipe("make_export")
    run_dag(dag)
    assert events().count("export") == 1
    # One whose lock was busy starts nothing.
    redis_client.set("iam-watcher:make_export", "another")
    assert states(run_dag(dag))["make_export"] == "skipped"
    assert events().count("export") == 1


def test_after_another_watcher_whatever_became_of_it(recipe, run_dag, redis_client: Client) -> None:
    dag = recipe("load", ('lambda: None, task_id="work"', 'lambda: 1 / 0, task_id="work"'))
    seen = states(run_dag(dag))
    assert (seen["work"], seen["tried"], seen["run"]) == ("failed", "success", "failed")
    assert events().count("tried") == 1
    redis_client.set("iam-watcher:load", "another")
    assert states(run_dag(dag))["tried"] == "skipped"
    assert events().count("tried") == 1


@pytest.mark.e2e
def test_other_values_for_one_run(recipe, run_dag, redis_client: Client) -> None:
    dag = recipe("keep")
    assert xcom(run_dag(dag, run_conf={"days": 7}), "keep") == 7
    assert states(run_dag(dag, run_conf={"dais": 7}))["keep"] != "success"


@pytest.mark.e2e
def test_two_watchers_with_one_lock(recipe, run_dag, redis_client: Client) -> None:
    dag = recipe("daily_report", ("minutes=30", "seconds=0"))
    redis_client.set("reports", "the hourly one")
    assert states(run_dag(dag))["daily_report"] == "skipped"
    redis_client.delete("reports")
    assert states(run_dag(dag))["daily_report"] == "success"


def test_many_databases(
    recipe, run_dag, redis_client: Client, iam_schema: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL_EAST", iam_schema.airflow_uri)
    run = run_dag(recipe("purge_everywhere"))
    assert run.state == "success"
    tasks = {ti.map_index: ti for ti in run.get_task_instances() if ti.task_id == "purge"}
    assert {index: ti.rendered_map_index for index, ti in tasks.items()} == {
        0: "iam_mysql",
        1: "iam_mysql_east",
    }
