"""Notices about keywords in the log of a task, wherever the task writes the line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import task
from airflow.sdk.log import mask_secret

from iam_watcher import Notify, Watcher, Webhook
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.notices import receivers
from tests.dags.receivers import Received, http_receiver
from tests.dags.runs import states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis as Client


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    monkeypatch.setattr(receivers, "PAUSES", (0.0, 0.0))
    with http_receiver() as received:
        for name in ("ops", "dba"):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", f"http://127.0.0.1:{received.port}/{name}")
        yield received


def told(web: Received, name: str = "ops") -> list[dict[str, Any]]:
    return [json.loads(body) for path, _, body in web.requests if path == f"/{name}"]


def python(function):
    return task(function, task_id="work")


def printed() -> None:
    print("2 rows are", "br", end="")  # noqa: T201
    print("oken; see the list")  # noqa: T201
    print("broken again, and not ended", end="")  # noqa: T201


def raised() -> None:
    raise ValueError("2 rows are broken")


SOURCES = {
    "a logger of the standard library": python(
        lambda: logging.getLogger("mine").warning("%d rows are %s", 2, "broken")
    ),
    "a logger of structlog": python(
        lambda: structlog.get_logger("mine").info("2 rows are broken", table="x")
    ),
    "print": python(printed),
    "standard error": python(lambda: sys.stderr.write("2 rows are broken\n")),
    "an error": python(raised),
    "BashOperator": lambda: BashOperator(task_id="work", bash_command="echo 2 rows are broken >&2"),
    "CommandOperator": lambda: CommandOperator(task_id="work", command="echo 2 rows are broken"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_line_of_the_log(run_dag, redis_client: Client, web: Received, source: str) -> None:
    before = sys.stdout, sys.stderr, [*structlog.get_config()["processors"]], [*logging.getLogger().handlers]
    notify = [
        Notify(on=("keyword:broken", "keyword:absent"), to=Webhook("ops")),
        Notify(on="keyword:Broken", to=Webhook("dba")),
    ]
    with Watcher("searched", schedule=None, notify=notify, default_args={"retries": 0}) as dag:
        SOURCES[source]()
    run = run_dag(dag)
    assert states(run)["work"] == ("failed" if source == "an error" else "success")
    (one,) = told(web)
    assert (one["event"], one["watcher"], one["run"]) == ("keyword:broken", "searched", run.run_id)
    assert one["what"].startswith("the log of task work has 'broken': ")
    assert "2 rows are broken" in one["what"]
    assert "/dags/searched/runs/" in one["url"]
    assert told(web, "dba") == []
    after = sys.stdout, sys.stderr, structlog.get_config()["processors"], logging.getLogger().handlers
    assert after == before


def test_each_try_sends_a_notice_and_no_secret(run_dag, redis_client: Client, web: Received) -> None:
    mask_secret("hunter22-of-the-log")

    def connect() -> None:
        logging.getLogger("mine").error("refused: user:hunter22-of-the-log@host")
        raise ValueError("no connection")

    notify = Notify(on="keyword:refused", to=Webhook("ops"))
    with Watcher("tried", schedule=None, notify=notify, default_args={"retries": 1, "retry_delay": 0}) as dag:
        task(connect, task_id="work").expand_kwargs([{}, {}])
    run_dag(dag)
    assert [one["what"] for one in told(web)] == [
        "the log of task work has 'refused': refused: user:***@host"
    ] * 4


def test_what_a_child_writes_past_python_is_not_seen(run_dag, redis_client: Client, web: Received) -> None:
    """As the page says; if it is seen one day, the page can promise more."""

    def child() -> None:
        subprocess.run(["echo", "broken"], check=True)

    with Watcher("child", schedule=None, notify=Notify(on="keyword:broken", to=Webhook("ops"))) as dag:
        task(child, task_id="work")()
    run_dag(dag)
    assert told(web) == []
