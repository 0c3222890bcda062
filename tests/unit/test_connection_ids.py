"""Every place that takes the id of an Airflow connection: a URL in its place is refused, and is not shown."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from iam_watcher import Mail, Watcher, Webhook
from iam_watcher.arguments import connection_id
from iam_watcher.database.hook import JobMySqlHook
from iam_watcher.doctor.__main__ import main as doctor
from iam_watcher.errors import JobArgumentError, WatcherError
from iam_watcher.jobs.announce import Announcement
from iam_watcher.jobs.anonymize_rows import AnonymizeRowsOperator, Hashed
from iam_watcher.jobs.process_rows import ProcessRowsOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.rows_in_state import rows_in_state
from iam_watcher.jobs.throttle import Throttle
from iam_watcher.lock import Lock
from iam_watcher.lock.__main__ import main as lock
from iam_watcher.lock.clients import async_redis_client, redis_client, redis_client_for_threads

if TYPE_CHECKING:
    from collections.abc import Callable

URLS = (
    "https://hooks.slack.com/services/hunter22",
    "redis://:hunter22@host:6379/0",
    "hooks.slack.com/services/hunter22",
    "root:hunter22@db",
    "root:hunter22",
    "host?token=hunter22",
    "hunter22\n",
    "hunter22 ",
    "{{ var.value.hunter22 }}",
    "hunter22" * 32,
)
ROWS = {"task_id": "t", "table": "t", "age_column": "at", "older_than": "1y"}
STATES = {"table": "t", "state_column": "s", "claim": "a"}

PLACES: dict[str, Callable[[Any], object]] = {
    "mysql_conn_id": lambda url: PurgeRowsOperator(mysql_conn_id=url, **ROWS),
    "mysql_conn_id of rows": lambda url: ProcessRowsOperator(
        task_id="t", mysql_conn_id=url, done="b", failed="c", python_callable=print, **STATES
    ),
    "mysql_conn_id, columns": lambda url: AnonymizeRowsOperator(
        mysql_conn_id=url, set={"name": None}, **ROWS
    ),
    "rows_in_state": lambda url: rows_in_state(mysql_conn_id=url, **STATES),
    "the hook": JobMySqlHook,
    "replica_conn_ids": lambda url: Throttle(replica_conn_ids=("replica", url)),
    "replica_conn_ids, a text": lambda url: Throttle(replica_conn_ids=url),
    "Announcement": lambda url: Announcement("Changed", redis_conn_id=url),
    "Hashed": lambda url: Hashed(key_conn_id=url),
    "Lock": lambda url: Lock("clean", redis_conn_id=url),
    "Lock of three": lambda url: Lock("clean", redis_conn_id=["a", "b", url]),
    "Lock of two": lambda url: Lock("clean", redis_conn_id=["a", url]),
    "Lock, twice the same": lambda url: Lock("clean", redis_conn_id=[url, "b", url]),
    "a client": redis_client,
    "a client for threads": lambda url: asyncio.run(redis_client_for_threads(url, answer_within=1)),
    "an asynchronous client": lambda url: asyncio.run(async_redis_client(url, answer_within=1)),
    "Webhook": Webhook,
    "Mail": lambda url: Mail("ops@example.com", url),
    "ping": lambda url: Watcher("w", schedule=None, ping=url),
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("place", PLACES)
def test_a_url_in_place_of_an_id(place: str, url: str) -> None:
    with pytest.raises(Exception, match=r"expected (a tuple of|the id of an Airflow connection)") as caught:
        PLACES[place](url)
    assert "hunter22" not in "".join(traceback.format_exception_only(caught.value))


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("main", [lock, doctor])
def test_a_url_on_a_command_line(main: Any, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--redis-conn-id", url, *(["list"] if main is lock else [])])
    found = capsys.readouterr()
    assert ended.value.code == 2
    assert "argument --redis-conn-id: the value is a str that is not valid" in found.err
    assert "hunter22" not in found.err + found.out


@pytest.mark.parametrize(
    "name", ["iam_mysql", "Shop-DB.2", "a#!()", "datenbank_für_三", "dom\\db", "x" * 250]
)
def test_an_id(name: str) -> None:
    assert connection_id("mysql_conn_id", name) == name


@pytest.mark.parametrize("value", [None, 5, "", " ", ["iam_mysql"], b"iam_mysql"])
def test_what_is_no_id(value: object) -> None:
    with pytest.raises(
        JobArgumentError, match=r"mysql_conn_id is .*expected the id of an Airflow connection"
    ):
        connection_id("mysql_conn_id", value)


def test_the_error_of_a_receiver_shows_the_line_that_makes_it() -> None:
    with pytest.raises(WatcherError) as caught:
        Webhook("https://hooks/x")
    assert len(traceback.extract_tb(caught.value.__traceback__)) == 2  # this test, and shown_at_the_call
