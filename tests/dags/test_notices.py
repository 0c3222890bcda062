"""Notices and pings of whole runs, to receivers on this machine.

All tests share the receivers and the runs that fail: hence the length.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import time_machine
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseNotifier, task
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.log import mask_secret
from airflow.serialization.serialized_objects import DagSerialization

from iam_watcher import Lock, Mail, Notify, Watcher, Webhook
from iam_watcher.airflow_internals import tasks
from iam_watcher.errors import LockLost, NoticeError, WatcherError
from iam_watcher.jobs.command import CommandOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock import current
from iam_watcher.notices import http, notice, overrun, ping, receivers
from tests.dags.receivers import Received, http_receiver, smtp_receiver
from tests.dags.runs import states
from tests.dags.test_docs import CODE_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis as Client

    from dev.servers import DatabaseServer, Redis

PAGE = Path(__file__).parents[2] / "docs" / "notices.md"
QUICK = Lock(wait=timedelta(0))
ONCE = {"retries": 0}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """A receiver behind the connections ops_webhook and healthchecks, whose URLs hold a secret."""
    monkeypatch.setattr(receivers, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(overrun, "PAUSES", (0.0, 0.0))
    with http_receiver() as received:
        base = f"http://127.0.0.1:{received.port}"
        monkeypatch.setenv("AIRFLOW_CONN_OPS_WEBHOOK", f"{base}/services/T0/hunter22")
        monkeypatch.setenv("AIRFLOW_CONN_HEALTHCHECKS", f"{base}/ping-hunter22")
        yield received


@pytest.fixture
def mail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    monkeypatch.setattr(receivers, "PAUSES", (0.0, 0.0))
    with smtp_receiver() as received:
        uri = f"smtp://127.0.0.1:{received.port}/?disable_ssl=true&disable_tls=true&from_email=airflow@example.com"
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", uri)
        yield received


def bodies(received: Received) -> list[dict[str, Any]]:
    return [json.loads(body) for _, _, body in received.requests]


@task
def fail() -> None:
    raise ValueError("the disk\nis full")


@task
def work() -> None: ...


def test_a_failed_run_sends_one_notice_with_its_error(run_dag, redis_client: Client, web: Received) -> None:
    with Watcher(
        "told",
        schedule=None,
        notify=Notify(to=[Webhook("ops_webhook")]),
        ping="healthchecks",
        default_args=ONCE,
    ) as dag:
        fail() >> work()
    run = run_dag(dag)
    assert states(run)["run"] == "failed"
    assert web.paths == ["/ping-hunter22/start", "/services/T0/hunter22", "/ping-hunter22/fail"]
    told = bodies_of_webhook(web)
    assert [(one["event"], one["watcher"], one["run"]) for one in told] == [("failure", "told", run.run_id)]
    assert told[0]["what"] == "task fail failed: the disk\nis full"
    assert told[0]["text"].splitlines() == [
        r"told: task fail failed: the disk\nis full",
        f"run: {run.run_id}",
        told[0]["url"],
    ]
    assert "/dags/told/runs/" in told[0]["url"]
    assert web.requests[2][2] == told[0]["text"]


def test_a_dead_receiver_costs_the_others_no_notice_and_gets_it_later(
    run_dag, redis_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first receiver gets it from the DAG processor, and the others get it once."""
    monkeypatch.setattr(receivers, "PAUSES", (0.0, 0.0))
    tried: list[str] = []

    def dead(context: Any) -> None:
        tried.append("dead")
        if tried.count("dead") < 4:
            raise OSError("no route to the host")

    def alive(context: Any) -> None:
        tried.append("alive")

    async def soon(context: Any) -> None:
        raise AssertionError

    def nobody_waits(context: Any) -> Any:
        tried.append("soon")
        made.append(soon(context))
        return made[-1]

    made: list[Any] = []
    receivers_of_all = [Notify(to=[dead, alive]), Notify(on="failure", to=[alive, nobody_waits])]
    with Watcher("one_is_dead", schedule=None, lock=None, notify=receivers_of_all, default_args=ONCE) as dag:
        fail()
    run = run_dag(dag)
    assert tried == ["dead", "alive", "soon", *["dead", "soon"] * 2]
    (ti,) = run.get_task_instances()
    monkeypatch.setattr(tasks, "has_supervisor", lambda: True)  # as in the DAG processor
    dag.notices._run_failed({"dag": dag, "ti": ti, "dag_run": run, "run_id": run.run_id})
    assert tried[7:] == ["dead", *["soon"] * 3]
    for coroutine in made:
        coroutine.close()


def test_what_an_earlier_execution_of_a_run_sent_is_no_notice_of_a_later_failure(
    run_dag, redis_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that failed first is not executed again: a person marked it as successful, for instance."""
    said: list[str] = []
    told = Notify(to=lambda context: said.append(context["notice"].what))
    with Watcher("cleared", schedule=None, lock=None, notify=told, default_args=ONCE) as dag:
        fail() >> work()
    run = run_dag(dag)
    ti, *_ = run.get_task_instances()
    monkeypatch.setattr(tasks, "has_supervisor", lambda: True)  # as in the DAG processor
    context = {"dag": dag, "ti": ti, "dag_run": run, "run_id": run.run_id}
    dag.notices._run_failed(context)
    assert said == ["task fail failed: the disk\nis full"]
    run.start_date += timedelta(hours=1)  # Airflow does so when a task is cleared
    dag.notices._run_failed(context)
    assert [text[:15] for text in said[1:]] == ["the run failed."]


def bodies_of_webhook(received: Received) -> list[dict[str, Any]]:
    return [json.loads(body) for path, _, body in received.requests if path.startswith("/services")]


def test_a_webhook_gets_numbers_of_a_run_report_but_no_name_and_no_secret() -> None:
    mask_secret("hunter-9911-token")
    report = {
        "table": "user",
        "changed": 3,
        "share": 0.5,
        "error": "DatabaseError: token hunter-9911-token",
        "skipped": {"admin": 2},
        "examples": ["ada@example.invalid"],
        "exceptions": [{"exception": "ValueError", "key": "7", "message": "ada"}],
        "position": "ada@example.invalid",
    }
    told = notice.Notice("success", "w", "r", "it worked", "http://x", reports={"p": report})
    assert told.as_json()["reports"]["p"] == {
        "table": "user",
        "changed": 3,
        "share": 0.5,
        "error": "DatabaseError: token ***",
        "skipped": {"admin": 2},
    }


def test_a_notice_has_the_rows_of_earlier_tries() -> None:
    report = {"table": "user", "changed": 3, "changed_before": 300}
    sent = notice.Notice("success", "w", "r", "it worked", "http://x", reports={"p": report})
    assert "table=user changed=3 changed_before=300" in sent.text


def test_a_run_that_worked_sends_a_notice_with_its_report(
    run_dag, redis_client: Client, web: Received, iam_schema: DatabaseServer
) -> None:
    with Watcher(
        "report", schedule=None, notify=Notify(on="success", to=Webhook("ops_webhook")), ping="healthchecks"
    ) as dag:
        PurgeRowsOperator(
            task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=1, dry_run=True
        )
    run_dag(dag)
    assert web.paths == ["/ping-hunter22/start", "/services/T0/hunter22", "/ping-hunter22"]
    (told,) = bodies_of_webhook(web)
    assert told["what"] == "the run worked (dry run)"
    assert told["reports"]["purge"]["examined"] == 0
    assert "event=purge connection=iam_mysql table=policy_audit dry_run=true" in told["text"]
    assert web.requests[2][2] == told["text"]
    # The service puts begin and end together by it.
    runs = {path.partition("?rid=")[2] for path, _, _ in web.requests[::2]}
    assert len(runs) == 1
    assert runs != {""}


@pytest.mark.parametrize(
    ("days", "reported"),
    [([1, 1], [0, 1]), ([0, 1, 1], [1, 2]), ([1, 0, 1], [0, 2]), ([0, 1], [1]), ([1], [0]), ([0, 0], [])],
)
def test_the_report_of_a_mapped_task_has_its_map_index_though_others_returned_nothing(
    run_dag,
    redis_client: Client,
    web: Received,
    iam_schema: DatabaseServer,
    days: list[int],
    reported: list[int],
) -> None:
    told = Notify(on=("success", "skip"), to=Webhook("ops_webhook"))
    with Watcher("mapped", schedule=None, notify=told) as dag:
        PurgeRowsOperator.partial(
            task_id="purge", table="policy_audit", age_column="deletedAt", dry_run=True
        ).expand(older_than_days=days)
    run_dag(dag)
    (found,) = bodies_of_webhook(web)
    assert list(found["reports"]) == [f"purge[{index}]" for index in reported]


def test_a_skipped_run_sends_a_notice_with_the_holder_and_is_no_success(
    run_dag, redis_client: Client, web: Received
) -> None:
    every = Notify(on=("skip", "success", "failure"), to=Webhook("ops_webhook"))
    with Watcher("busy", schedule=None, lock=QUICK, notify=every, ping="healthchecks") as dag:
        work()
    redis_client.set("iam-watcher:busy", "prod/busy/manual__1")
    assert states(run_dag(dag))["run"] == "success"
    (told,) = bodies_of_webhook(web)
    assert told["event"] == "skip"
    # Airflow masks the secrets that it knows, and another test may have one that is part of the key.
    assert told["what"].startswith("the run was skipped: ")
    assert ":busy is held by prod/busy/manual__1" in told["what"]
    assert told["holder"]["owner"] == "prod/busy/manual__1"
    assert web.paths == ["/services/T0/hunter22", "/ping-hunter22/log"]


@task
def skip() -> None:
    raise AirflowSkipException("there is nothing to do")


def off() -> None:
    PurgeRowsOperator(task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=0)


def two_off() -> None:
    off()
    skip()


def many() -> None:
    for number in range(6):
        skip.override(task_id=f"skip_{number}")()


def behind_a_branch() -> None:
    task.branch(lambda: "nothing", task_id="branch")() >> [skip(), EmptyOperator(task_id="nothing")]


@pytest.mark.parametrize("lock", [QUICK, None])
@pytest.mark.parametrize(
    ("work_of_the_run", "event", "what"),
    [
        (off, "skip", "the run did nothing: the task purge was skipped"),
        (skip, "skip", "the run did nothing: the task skip was skipped"),
        (two_off, "skip", "the run did nothing: the tasks purge, skip were skipped"),
        (behind_a_branch, "success", "the run worked"),
        (many, "skip", "the run did nothing: all of its 6 tasks were skipped"),
    ],
)
def test_a_run_whose_tasks_were_all_skipped_is_no_success(
    run_dag,
    redis_client: Client,
    web: Received,
    iam_schema: DatabaseServer,
    lock: Lock | None,
    work_of_the_run: Callable[[], None],
    event: str,
    what: str,
) -> None:
    every = Notify(on=("skip", "success"), to=Webhook("ops_webhook"))
    with Watcher("idle", schedule=None, lock=lock, notify=every, ping="healthchecks") as dag:
        work_of_the_run()
    assert states(run_dag(dag))["run"] == "success"
    assert [(told["event"], told["what"]) for told in bodies_of_webhook(web)] == [(event, what)]
    assert web.paths[-1] == ("/ping-hunter22/log" if event == "skip" else "/ping-hunter22")


def test_mails(run_dag, redis_client: Client, mail: Received) -> None:
    """Airflow's own notifier, and Mail; the second notice of one notifier has the second run's text."""
    with Watcher(
        "mailed",
        schedule=None,
        notify=[Notify(to=SmtpNotifier(to="ops@example.com")), Notify(to=Mail("audit@example.com"))],
        default_args=ONCE,
    ) as dag:
        fail()
    runs = [run_dag(dag), run_dag(dag)]
    found = [email.message_from_string(text, policy=email.policy.default) for text in mail.mails]
    assert [one["To"] for one in found] == ["ops@example.com", "audit@example.com"] * 2
    assert {one["Subject"] for one in found} == {r"mailed: task fail failed: the disk\nis full"}
    texts = [one.get_body().get_content() for one in found]
    assert [runs[0].run_id in text for text in texts] == [True, True, False, False]
    assert [runs[1].run_id in text for text in texts] == [False, False, True, True]


class Own(BaseNotifier):
    template_fields = ("message",)
    said: list[str] = []  # noqa: RUF012  of the class

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def notify(self, context: Any) -> None:
        self.said.append(self.message)


def test_any_notifier_with_a_template_and_behind_callbacks_of_the_file(
    run_dag, redis_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    before: list[str] = []
    mine = {"on_failure_callback": lambda context: before.append(context["ti"].task_id), **ONCE}
    told = Notify(on="failure", to=Own("{{ notice.subject }}"))
    with Watcher("own", schedule=None, notify=told, default_args=mine) as dag:
        task(lambda x: 1 / x, task_id="each").expand(x=[0, 1])
    run_dag(dag)
    assert before == ["each"]
    assert Own.said == ["own: task each failed: division by zero"]


def test_what_goes_wrong_changes_nothing_and_shows_no_secret(
    run_dag, redis_client: Client, web: Received, caplog: pytest.LogCaptureFixture
) -> None:
    web.answers += [500, 302]  # the third try works
    with Watcher(
        "unreachable",
        schedule=None,
        notify=Notify(on="success", to=[Webhook("ops_webhook"), Webhook("no_such_connection")]),
        ping="healthchecks",
    ) as dag:
        work()
    with caplog.at_level(logging.DEBUG):
        run = run_dag(dag)
    assert set(states(run).values()) == {"success"}
    assert web.paths == ["/ping-hunter22/start"] * 3 + ["/services/T0/hunter22", "/ping-hunter22"]
    warnings = [record.getMessage() for record in caplog.records if "was not sent" in record.getMessage()]
    assert (
        "the ping '/start' was not sent: The notice was not sent: the answer was HTTP status 500"
        in warnings[0]
    )
    assert "HTTP status 302" in warnings[1]
    assert all("no_such_connection" in text for text in warnings[2:])
    assert len(warnings) == 5
    assert "hunter22" not in caplog.text


def test_those_of_the_configuration(
    run_dag, redis_client: Client, web: Received, mail: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__NOTIFY", "mailto:ops@example.com, ops_webhook")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__PING", "healthchecks")
    with Watcher("each.of-them", schedule=None, lock=None, default_args=ONCE) as dag:
        fail()
    run_dag(dag)
    named = "/ping-hunter22/each.of-them"
    assert web.paths == [f"{named}/start", "/services/T0/hunter22", f"{named}/fail"]
    assert len(mail.mails) == 1


@pytest.mark.parametrize(
    "connection",
    [
        "{url}/p/key/{{watcher}}?state={{state}}",
        '{{"conn_type": "http", "host": "{url}/p/key?state={{state}}"}}',
    ],
)
def test_a_service_with_states_in_the_query(
    web: Received, monkeypatch: pytest.MonkeyPatch, connection: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CRONITOR", connection.format(url=f"http://127.0.0.1:{web.port}"))
    for signal in (ping.START, ping.SUCCESS, ping.FAIL, ping.LOG, "/3"):
        receivers.send_all([ping.Ping("cronitor", names_watcher=True).sending(signal, "mine", "run")])
    assert [path for path, _, _ in web.requests] == [
        f"/p/key/mine?state={state}" for state in ("run", "complete", "fail", "fail")
    ]


@pytest.mark.parametrize(
    ("make", "signal"),
    [
        (lambda: BashOperator(task_id="work", bash_command="exit 3"), "/3"),
        (lambda: CommandOperator(task_id="work", command="exit 255"), "/255"),
        (lambda: CommandOperator(task_id="work", command="kill -9 $$"), "/137"),
        (task(lambda: 1 / 0, task_id="work"), "/fail"),
    ],
)
def test_the_ping_of_a_command_has_its_exit_status(
    run_dag, redis_client: Client, web: Received, make: Callable, signal: str
) -> None:
    with Watcher("exits", schedule=None, ping="healthchecks", default_args=ONCE) as dag:
        make()
    run_dag(dag)
    assert web.paths == ["/ping-hunter22/start", f"/ping-hunter22{signal}"]
    assert "task work failed" in web.requests[1][2]


def test_the_exit_status_of_an_error() -> None:
    statuses = {
        "exit status 3; the log has what it printed": 3,
        "SSH operator error: exit status = 255": 255,
        "the run has no exit status": None,
        "exit code 0": None,
        "exit code 256": None,
        "": None,
    }
    assert {text: notice._exit_status(RuntimeError(text)) for text in statuses} == statuses
    assert notice._exit_status(None) is None


def test_the_example_for_a_pushgateway(run_dag, redis_client: Client, web: Received, tmp_path: Path) -> None:
    (text,) = [match[2] for match in CODE_BLOCK.finditer(PAGE.read_text()) if "def push" in match[2]]
    gateway = "http://pushgateway.example.com:9091"
    assert gateway in text
    (tmp_path / "file.py").write_text(text.replace(gateway, f"http://127.0.0.1:{web.port}"))
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    run_dag(bag.dags["clean_up"])
    ((path, _, body),) = web.requests
    assert path == "/metrics/job/iam-watcher/watcher/clean_up"
    assert re.fullmatch(r"# TYPE watcher_last_success gauge\nwatcher_last_success \d{10}\n", body)


def test_a_lost_lock_is_an_event_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "_loss", None)
    outer, inner = RuntimeError("x"), LockLost("x")
    outer.__cause__ = inner
    assert notice.lost_lock(outer) is inner
    assert notice.lost_lock(RuntimeError("x")) is None
    assert notice.lost_lock(None) is None


def test_a_task_that_loses_the_lock_and_fails_of_it_sends_that_notice(
    run_dag, redis_client: Client, redis_server: Redis, web: Received
) -> None:
    @task
    def lose() -> None:
        with redis_server.client() as client:
            client.set("iam-watcher:loses", "another")
        current._renewer.try_renew()
        raise RuntimeError("the connection broke")

    told = Notify(on="lost", to=Webhook("ops_webhook"))
    with Watcher("loses", schedule=None, notify=told, default_args=ONCE) as dag:
        lose()
    run_dag(dag)
    (one,) = bodies_of_webhook(web)
    assert one["event"] == "lost"
    assert one["what"].startswith("task lose failed: the connection broke. The run lost the lock")


@pytest.mark.parametrize(
    "dated",
    [pytest.param(True, id="scheduled", marks=pytest.mark.e2e), pytest.param(False, id="of an asset")],
)
def test_a_watcher_that_is_always_skipped_sends_a_notice(
    run_dag, redis_client: Client, web: Received, dated: bool
) -> None:
    """Counted from the run that worked last, with a logical date or without one."""
    told = Notify(on="stale", to=Webhook("ops_webhook"))
    limit = timedelta(hours=1)
    with Watcher(f"stale_{dated}", schedule=None, lock=QUICK, notify=told, stale_after=limit) as dag:
        work()
    key = f"iam-watcher:stale_{dated}"
    start = datetime.now(UTC)

    def run_at(hours: float, *, dated: bool = True) -> None:
        with time_machine.travel(start + timedelta(hours=hours)):
            run_dag(dag, logical_date=datetime.now(UTC) if dated else None)

    redis_client.set(key, "prod/stale/manual__1")
    run_at(0)
    run_at(0.9)
    assert web.requests == []  # no run has worked, but not for long yet
    run_at(1.1)
    (first,) = bodies_of_webhook(web)
    assert first["event"] == "stale"
    assert f"No run has worked since {start.isoformat(timespec='minutes')[:16]}" in first["what"]
    redis_client.delete(key)
    run_at(5, dated=dated)
    redis_client.set(key, "prod/stale/manual__1")
    run_at(5.5)
    assert len(web.requests) == 1
    run_at(6.1)
    assert len(web.requests) == 2


def test_an_overrun_is_noticed_by_what_the_triggerer_can_run(web: Received, mail: Received) -> None:
    own = Notify(to=[SmtpNotifier(to="ops@example.com, dba@example.com"), Webhook("ops_webhook"), print])
    own = (own, Notify(to=Webhook("ops_webhook")))  # twice, as by the settings
    with Watcher("slow", schedule=None, notify=own, expected=timedelta(minutes=5)) as dag:
        work()
    (alert,) = dag.deadline
    assert alert.interval == timedelta(minutes=5)
    assert DagSerialization.from_dict(DagSerialization.to_dict(dag)).dag_id == "slow"
    run = {"dag_id": "slow", "dag_run_id": "manual__1"}
    web.answers += [500]
    asyncio.run(overrun.tell_overrun(**alert.callback.kwargs, context={"dag_run": run}))
    assert [one["what"] for one in bodies_of_webhook(web)] == [
        "the run takes longer than the 0:05:00 that were expected"
    ] * 2
    assert "Subject: slow: the run takes longer" in mail.mails[0]


@pytest.mark.parametrize(
    ("texts", "subject", "body"),
    [
        (
            {"subject": "slow {{ notice.watcher }}", "html_content": "<b>{{ notice.event }}</b>"},
            "slow own",
            "<b>",
        ),
        (
            {"subject": "{{ ti.task_id }}", "html_content": "{{ x.y }}"},
            "own: the run takes longer",
            "<pre>own:",
        ),
        ({}, "own: the run takes longer", "<pre>own:"),
    ],
)
def test_an_overrun_is_sent_by_the_notifier_of_the_file(
    mail: Received, texts: dict[str, str], subject: str, body: str
) -> None:
    notifier = SmtpNotifier(
        to=("ops@example.com", "dba@example.com"),
        from_email="db-jobs@example.com",
        cc="lead@example.com",
        custom_headers={"X-Team": "db"},
        **texts,
    )
    with Watcher("own", schedule=None, notify=Notify(to=notifier), expected=timedelta(minutes=5)) as dag:
        work()
    kwargs = json.loads(json.dumps(dag.deadline[0].callback.kwargs))  # as Airflow stores them
    run = {"dag_id": "own", "dag_run_id": "manual__1"}
    asyncio.run(overrun.tell_overrun(**kwargs, context={"dag_run": run}))
    (sent,) = [email.message_from_string(text, policy=email.policy.default) for text in mail.mails]
    assert sent["From"] == "db-jobs@example.com"
    assert (sent["To"], sent["Cc"], sent["X-Team"]) == (
        "ops@example.com, dba@example.com",
        "lead@example.com",
        "db",
    )
    assert sent["Subject"].startswith(subject)
    assert sent.get_body().get_content().startswith(body)


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("https://hc.example.com/abc", "https://hc.example.com/abc"),
        ("https://hc.example.com:8443/a%2Fb/", "https://hc.example.com:8443/a/b"),
        ("https://hc.example.com/abc/{watcher}/x", "https://hc.example.com/abc/my%20dag/x"),
        ('{"conn_type": "http", "host": "https://hc.example.com/abc"}', "https://hc.example.com/abc"),
        ('{"conn_type": "http", "host": "hc.example.com", "schema": "https"}', "https://hc.example.com"),
    ],
)
def test_the_url_of_a_connection(uri: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Connection

    monkeypatch.setenv("AIRFLOW_CONN_HOOK", uri)
    connection = Connection.get("hook")
    assert http.url_of(connection, "my dag") == url
    if "watcher" not in uri:
        assert http.url_of(connection, "my dag", append=True) == f"{url}/my%20dag"


def test_a_query_of_the_host_stays_behind_the_signal(web: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    host = f"http://127.0.0.1:{web.port}/push/hunter22?status=up&msg=&ping="
    monkeypatch.setenv("AIRFLOW_CONN_KUMA", json.dumps({"conn_type": "http", "host": host}))
    receivers.send_all([ping.Ping("kuma").sending(ping.FAIL, "mine", "run")])
    (path,) = [path for path, _, _ in web.requests]
    assert path.startswith("/push/hunter22/fail?status=up&msg=&ping=&rid=")


@pytest.mark.parametrize("url", ["https://me:S3CRET@127.0.0.1/x", "http://127.0.0.1/services/S3 CRET"])
def test_a_url_that_is_not_valid_is_not_shown(url: str) -> None:
    with pytest.raises(NoticeError, match="there was no answer: InvalidURL"):
        http.post(url, b"", {})


def test_a_secret_at_the_cut_of_a_long_error_is_hidden() -> None:
    mask_secret("hunter-9912-token")
    assert notice._short("x" * (notice._LONGEST - 8) + "hunter-9912-token").endswith("xxx***")


def test_a_secret_in_the_error_of_a_notifier_is_hidden(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(receivers, "PAUSES", (0.0, 0.0))
    mask_secret("hunter-9913-token")

    def refused(context: dict[str, Any]) -> None:
        raise ConnectionError("https://hooks.example.com/hunter-9913-token refused it")

    found = notice.Notice("failure", "secrets", "run", "it failed", "https://airflow")
    receivers.send_all([receivers.sending("0", refused, {}, found)])
    monkeypatch.setattr(overrun, "PAUSES", (0.0, 0.0))

    async def refused_too(*_: Any) -> None:
        refused({})

    monkeypatch.setattr(overrun, "_send", refused_too)
    asyncio.run(overrun._tell({"webhook": "ops_webhook"}, found))
    assert caplog.text.count("was not sent: https://hooks.example.com/*** refused it") == 6
    assert "hunter-9913-token" not in caplog.text


@pytest.mark.parametrize("uri", ["mysql://host/x", "file:///etc/passwd", '{"conn_type": "http"}'])
def test_a_connection_without_a_url(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Connection

    monkeypatch.setenv("AIRFLOW_CONN_HOOK", uri)
    with pytest.raises(NoticeError, match="has no URL of http or https"):
        http.url_of(Connection.get("hook"), "w")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Notify(on="failed", to=print), "on='failed'; expected one of failure, lost, skip"),
        (lambda: Notify(on="keyword: ", to=print), "on='keyword: '; expected one of .*, keyword:TEXT"),
        (lambda: Notify(on={}, to=print), "on={}; expected one of failure"),
        (lambda: Notify(on=None, to=print), "on=None; expected one of failure"),
        (lambda: Notify(on="keyword:a\nb", to=print), "expected one of .*, keyword:TEXT"),
        (lambda: Notify(on=("failure", 5), to=print), "on=5; expected one of"),
        (lambda: Notify(on=(), to=print), r"on=\(\); expected at least one of"),
        (lambda: Notify(to="ops@example.com"), "to is a str that .*; expected a notifier"),
        (lambda: Watcher("w", schedule=None, notify=print), "expected a Notify"),
        (
            lambda: Watcher("w", schedule=None, expected=timedelta(1)),
            "needs a receiver to which the triggerer can send",
        ),
        (
            lambda: Watcher("w", schedule=None, expected=timedelta(1), notify=Notify(to=print)),
            "a Webhook, a Mail or an SmtpNotifier",
        ),
        (lambda: Watcher("w", schedule=None, expected=5, notify=Notify(to=print)), "timedelta above zero"),
        (lambda: Watcher("w", schedule=None, stale_after=timedelta(1)), "on='stale'"),
        (lambda: Watcher("w", schedule=None, stale_after=timedelta(0)), "timedelta above zero"),
        (
            lambda: Notify(to="https://hooks/hunter22"),
            "to is a str that is not valid .*; expected a notifier",
        ),
        (lambda: Notify(to=[print, "https://hooks/hunter22"]), "to is a list that .*; expected a notifier"),
        (
            lambda: Notify(to=asyncio.sleep),
            "to is a function that .*; expected .* a function that is not async",
        ),
        (lambda: Notify(to=SmtpNotifier), "to is a .*; expected a notifier"),
        *(
            (lambda address=address: Mail(address), "to of a Mail is .*; expected a mail address")  # type: ignore[misc]
            for address in (
                "",
                "ops_chat",
                None,
                5,
                ["a@x.org"],
                "a@x.org, b@x.org",
                "https://hooks/hunter22",
            )
        ),
        (lambda: Notify(to=[]), "to is a list that .*; expected a notifier"),
        (
            lambda: Watcher("w", schedule=None, notify="https://hooks/hunter22"),
            "notify is a str .*; expected a Notify",
        ),
        (
            lambda: Watcher("w", schedule=None, notify=["https://hooks/hunter22"]),
            "notify is a list .*; expected",
        ),
    ],
)
def test_wrong_arguments(make: Callable[[], object], text: str) -> None:
    with pytest.raises(WatcherError, match=text) as caught:
        make()
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("NOTIFY", "https://x/hunter22", "expected mailto:address or the id of an Airflow connection"),
        ("NOTIFY", "ops, user:hunter22@host", "expected mailto:address or the id of an Airflow connection"),
        ("NOTIFY", "mailto:a@x.org;b@x.org", "expected mailto:address or the id of an Airflow connection"),
        ("NOTIFY", "mailto:nobody", "expected mailto:address or the id of an Airflow connection"),
        ("PING", "https://hc-ping.com/hunter22", r"\[iam_watcher\] ping is a str that is not valid"),
        ("PING", "hc-ping.com/hunter22", r"\[iam_watcher\] ping is a str that is not valid"),
    ],
)
def test_a_wrong_configuration(
    option: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__IAM_WATCHER__{option}", value)
    with pytest.raises(WatcherError, match=expected) as caught:
        Watcher("w", schedule=None)
    assert "hunter22" not in str(caught.value)
