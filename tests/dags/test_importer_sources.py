"""Jobs of dkron, Kubernetes and the Go iam-watcher as watcher files that Airflow parses.

Each source with an input of its own: hence the length.
"""

from __future__ import annotations

import http.server
import json
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from iam_watcher import Mail, Notify
from iam_watcher.importer.__main__ import main
from iam_watcher.schedule import parse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def imported(capsys, tmp_path: Path, source: str, text: str, *more: str) -> tuple[dict[str, Any], str]:
    path = tmp_path / "input"
    path.write_text(text)
    main([source, str(path), "--output", str(tmp_path / "dags"), *more])
    bag = DagBag(str(tmp_path / "dags"))
    assert bag.import_errors == {}
    assert all(dag.is_paused_upon_creation for dag in bag.dags.values())
    return dict(bag.dags), capsys.readouterr().out


SHELL = {"executor": "shell", "executor_config": {"command": "echo $HOME", "shell": "true"}}
DKRON = [
    {
        "name": "Nightly report",
        "timezone": "Europe/Berlin",
        "schedule": "0 30 2 * * *",
        "owner_email": "ops@example.com",
        "retries": 2,
        "concurrency": "forbid",
        "starts_at": "2027-01-01T00:00:00Z",
        "executor": "shell",
        "executor_config": {
            "command": "report --title 'two  words' $HOME",
            "shell": "false",
            "env": "A=1,TOKEN=x=y",
            "cwd": "/srv",
            "su": "report",
            "timeout": "90s",
        },
    },
    {"name": "rate", "schedule": "@every 10m", "concurrency": "allow", "disabled": True, **SHELL},
    {"name": "hashed", "schedule": "0 ~ ~ * * *", "concurrency": "forbid", **SHELL},
    {"name": "once", "schedule": "@at 2027-01-31T08:00:00Z", "concurrency": "forbid", **SHELL},
    {"name": "by hand", "schedule": "@manually", "concurrency": "forbid", **SHELL},
    {"name": "each minute", "schedule": "@minutely", "concurrency": "forbid", **SHELL},
    {"name": "child", "schedule": "", "parent_job": "by hand", "concurrency": "forbid", **SHELL},
    {"name": "later", "schedule": "@after 2027-01-31T08:00:00Z", **SHELL},
    {"name": "five", "schedule": "30 2 * * * * *", **SHELL},
    {"name": "queue", "schedule": "@hourly", "executor": "kafka", "executor_config": {}},
    {"name": "typed", "schedule": "@hourly", "retries": "many", **SHELL},
    {"name": "", "schedule": "@hourly", **SHELL},
]


def test_jobs_of_dkron(capsys, tmp_path: Path) -> None:
    dags, report = imported(capsys, tmp_path, "dkron", json.dumps(DKRON), "--timezone", "Asia/Tokyo")
    nightly = dags["nightly_report"]
    assert str(nightly.timetable.schedule) == "CRON_TZ=Europe/Berlin 0 30 2 * * *"
    assert nightly.start_date is None
    assert "starts_at 2027-01-01T00:00:00Z: unpause the watcher after this time, not before" in report
    assert nightly.max_active_runs == 1
    assert nightly.notices.notify == (Notify(to=[Mail("ops@example.com")]),)
    task = nightly.get_task("run")
    assert task.command == "report --title 'two  words' '$HOME'"  # without a shell, $HOME is a text
    assert task.env == {"A": "1", "TOKEN": "x=y"}
    assert (task.cwd, task.user, task.retries) == ("/srv", "report", 2)
    assert task.execution_timeout == timedelta(seconds=90)
    assert "TOKEN is in the DAG file now" in report
    assert "by sudo as report" in report

    assert str(dags["rate"].timetable.schedule) == "@every 10m"
    assert (dags["rate"].timetable.overlap, dags["rate"].max_active_runs) == ("allow", 16)
    assert "leave the watcher paused" in report
    assert dags["hashed"].timetable.schedule == parse("CRON_TZ=Asia/Tokyo 0 ~ ~ * * *", dag_id="hashed")
    assert "the watcher's name decides the values of ~" in report
    assert str(dags["once"].timetable.schedule) == "@at 2027-01-31T08:00:00Z"
    assert str(dags["each_minute"].timetable.schedule) == "CRON_TZ=Asia/Tokyo 0 * * * * *"
    assert dags["by_hand"].schedule is None
    parent = dags["by_hand"].get_task("run")
    assert [asset.name for asset in parent.outlets] == ["dkron-job-by hand"]
    condition = dags["child"].timetable.asset_condition
    assert [asset.name for asset in condition.objects] == ["dkron-job-by hand"]

    refused = [line for line in report.splitlines() if "not translated:" in line]
    assert [line.partition(":")[0] for line in refused] == [
        f"job {number} ({name!r})"
        for number, name in ((8, "later"), (9, "five"), (10, "queue"), (11, "typed"), (12, ""))
    ]
    assert "retries is 'many'; expected a whole number" in refused[3]


class _Answer(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, str, str]]
    body = b"all well"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.seen.append((self.path, self.headers["X-Kind"] or "", self.rfile.read(length).decode()))
        moved = self.path == "/old"
        self.send_response(307 if moved else 500 if self.path == "/broken" else 201)
        if moved:
            self.send_header("Location", "/broken")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[_Answer]]]:
    handler = type("Answer", (_Answer,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def test_an_http_request_of_dkron_is_sent(
    capsys, tmp_path: Path, receiver: tuple[str, type[_Answer]]
) -> None:
    url, answer = receiver
    job = {
        "name": "ask",
        "schedule": "@hourly",
        "concurrency": "forbid",
        "executor": "http",
        "executor_config": {
            "method": "POST",
            "url": f"{url}/check?a=1",
            "headers": '["X-Kind: a b"]',
            "body": '{"x": "{{ 1 }}"}',
            "timeout": "5",
            "expectCode": "200, 201",
            "expectBody": "all w.ll",
        },
    }
    dags, _ = imported(capsys, tmp_path, "dkron", json.dumps(job))
    ask = dags["ask"].get_task("work").python_callable
    ask()
    answer.body = b"out of order"
    with pytest.raises(RuntimeError, match="the body is not as expected"):
        ask()
    assert answer.seen == [("/check?a=1", "a b", '{"x": "{{ 1 }}"}')] * 2


@pytest.mark.parametrize("more", [{}, {"expectCode": ""}])
def test_an_http_request_of_dkron_accepts_any_code(
    capsys, tmp_path: Path, receiver: tuple[str, type[_Answer]], more: dict[str, str]
) -> None:
    """And a redirect is followed, with the body."""
    url, answer = receiver
    config = {"method": "POST", "url": f"{url}/old", "body": "x", **more}
    jobs = [
        {"name": name, "schedule": "@hourly", "executor": "http", "executor_config": {**config, **pattern}}
        for name, pattern in (("any", {}), ("pattern", {"expectBody": "all w.ll"}))
    ]
    dags, _ = imported(capsys, tmp_path, "dkron", json.dumps(jobs))
    for name in ("any", "pattern"):
        dags[name].get_task("work").python_callable()
    assert answer.seen == [("/old", "", "x"), ("/broken", "", "x")] * 2
    answer.body = b"out of order"
    with pytest.raises(RuntimeError, match="the body is not as expected"):
        dags["pattern"].get_task("work").python_callable()


@pytest.mark.parametrize("code", ["{answer.url}", "}", "{", 'a"\'\\\n{1}"""', "{{x}}"])
def test_an_expected_code_of_dkron_is_never_code_of_the_file(
    capsys, tmp_path: Path, receiver: tuple[str, type[_Answer]], code: str
) -> None:
    config = {"method": "POST", "url": f"{receiver[0]}/check", "expectCode": code}
    job = {"name": "ask", "schedule": "@hourly", "executor": "http", "executor_config": config}
    dags, _ = imported(capsys, tmp_path, "dkron", json.dumps(job))
    with pytest.raises(RuntimeError) as caught:
        dags["ask"].get_task("work").python_callable()
    assert str(caught.value) == f"HTTP status 201; expected one of {[code]}"


KUBERNETES = """
apiVersion: v1
kind: List
items:
- kind: CronJob
  metadata: {name: report-job}
  spec:
    schedule: "30 2 * * *"
    timeZone: Europe/Berlin
    concurrencyPolicy: Forbid
    startingDeadlineSeconds: 200
    jobTemplate:
      spec:
        backoffLimit: 3
        activeDeadlineSeconds: 600
        template:
          spec:
            containers:
            - name: report
              image: registry/report:1
              command: [report, --all]
              env: [{name: DB_PASSWORD, value: hunter22}]
- kind: Service
  metadata: {name: web}
---
kind: CronJob
metadata: {name: replacing}
spec: {schedule: "@hourly", concurrencyPolicy: Replace}
---
kind: CronJob
metadata: {name: many}
spec: {schedule: "*/5 * * * *", suspend: true}
"""


def test_cronjobs_of_kubernetes(capsys, tmp_path: Path) -> None:
    dags, report = imported(capsys, tmp_path, "kubernetes", KUBERNETES, "--timezone", "UTC")
    job = dags["report_job"]
    assert str(job.timetable.schedule) == "CRON_TZ=Europe/Berlin 0 30 2 * * *"
    assert job.timetable.missed_grace == timedelta(seconds=200)
    assert job.timetable.overlap == "delay"  # the controller starts one run when the job ends
    task = job.get_task("work")
    assert (task.retries, task.execution_timeout) == (3, timedelta(seconds=600))
    assert "image: registry/report:1" in job.doc_md
    assert "env: DB_PASSWORD" in job.doc_md
    assert "hunter22" not in report + job.doc_md
    with pytest.raises(NotImplementedError, match="report-job"):
        task.python_callable()
    assert (dags["many"].timetable.overlap, dags["many"].get_task("work").retries) == ("allow", 6)
    assert "object 2: not translated: it is a Service, not a CronJob" in report
    assert "object 3 ('replacing'): not translated: concurrencyPolicy Replace" in report
    assert "it is suspended" in report


PARALLEL = """
kind: CronJob
metadata: {name: parallel}
spec:
  schedule: "@hourly"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      parallelism: 3
      completions: 5
      template:
        spec:
          initContainers: [{name: first, image: migrate:1}]
          containers: [{name: work, envFrom: [{secretRef: {name: s}}]}]
"""


def test_what_is_not_kept_of_a_cronjob(capsys, tmp_path: Path) -> None:
    _, report = imported(capsys, tmp_path, "kubernetes", PARALLEL)
    for key in ("parallelism", "completions", "initContainers", "envFrom of a container"):
        assert f"not kept: {key}\n" in report
    assert (
        "without startingDeadlineSeconds, Kubernetes makes up for the latest missed time at any age" in report
    )
    plain = PARALLEL.replace("parallelism: 3", "parallelism: 1").replace("completions: 5", "completions: 1")
    _, report = imported(capsys, tmp_path, "kubernetes", plain, "--prefix", "one_")
    assert "parallelism" not in report
    assert "completions" not in report


GO = """
watcher:
  clean: {max-reserve-days: 90}
  task: {max-inactive-days: -1}
  mine: {x: 1}
mysql: {password: hunter22}
"""


def test_the_settings_of_the_go_iam_watcher(capsys, tmp_path: Path) -> None:
    dags, report = imported(capsys, tmp_path, "iam-watcher", GO)
    assert list(dags) == ["clean_policy_audit"]
    task = dags["clean_policy_audit"].get_task("purge")
    assert (task.older_than_days, task.is_dry_run, dags["clean_policy_audit"].lock.key) == (90, True, "clean")
    assert "watcher.task: not translated: max-inactive-days is -1; expected 0 (off) to 36500" in report
    assert "watcher.mine: not translated" in report
    assert "mysql: use the Airflow connection iam_mysql" in report
    assert "hunter22" not in report
