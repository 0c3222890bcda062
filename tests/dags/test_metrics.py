"""The metrics that whole runs send, to a StatsD and to an OpenTelemetry collector on this machine.

Metrics, alert rules and dashboard are compared with the same runs: hence the length.
"""

from __future__ import annotations

import atexit
import re
import shutil
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import yaml
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, task
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk._shared.observability.metrics.otel_logger import flush_otel_metrics
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import otel_logger, statsd_logger
from opentelemetry.metrics import get_meter_provider
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from iam_watcher import Lock, Watcher
from iam_watcher.errors import LockLost
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.lock import current
from iam_watcher.notices import metrics
from tests.dags.receivers import http_receiver
from tests.dags.runs import extra_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis as Client

    from dev.servers import DatabaseServer

TI = SimpleNamespace(dag_id="measured", task_id="work", start_date=datetime(2026, 11, 27, tzinfo=UTC))
FULL_REPORT = {
    "examined": 9,
    "changed": 5,
    "skipped": {"zero_date": 1},
    "longest_chunk_seconds": 0.1,
    "archive_bytes": 700,
    "oldest_pending_seconds_after": 60.0,
}
PAGE = Path(__file__).parents[2] / "docs" / "notices.md"
NOT_OF_A_PURGE = {metrics.LOCK_LOST, metrics.FAILED_RENEWALS, metrics.OLDEST_PENDING}
KINDS = {"c": "counter", "ms": "timer", "g": "gauge"}


@pytest.fixture
def sent(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], list[tuple[str, str, dict[str, str], float]]]]:
    """A function that returns what came: name, kind, tags, value."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(listener.getsockname()[1]))
        monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
        loggers = []

        def logger() -> object:
            loggers.append(statsd_logger.get_statsd_logger())
            return loggers[-1]

        stats.initialize(factory=logger, export_legacy_names=False)

        def received() -> list[tuple[str, str, dict[str, str], float]]:
            found = []
            while True:
                try:
                    text = listener.recv(65536).decode()
                except BlockingIOError:
                    return found
                name, *tags = text.partition(":")[0].split(",")
                value, kind = text.partition(":")[2].split("|")[:2]
                if name.startswith("airflow.iam_watcher."):
                    pairs = dict(tag.split("=") for tag in tags)
                    found.append((name.removeprefix("airflow."), KINDS[kind], pairs, float(value)))

        yield received
        for made in loggers:
            made.statsd.close()
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)


def test_the_metrics_of_runs(
    run_dag, redis_client: Client, iam_schema: DatabaseServer, sent: Callable, tmp_path: Path
) -> None:
    old = "INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (%s, 'n', 'u', %s)"
    with iam_schema.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(old, [(1, "2001-01-01"), (2, "2001-01-01"), (3, "0000-00-00")])
        connection.commit()
    with Watcher("measured", schedule=None, lock=Lock(wait=timedelta(0))) as dag:
        PurgeRowsOperator(
            task_id="purge",
            table="policy_audit",
            age_column="deletedAt",
            older_than_days=1,
            max_share=None,
            archive=f"file://{tmp_path}",
            outlets=[Asset("purged")],
        )
    run_dag(dag)
    found = sent()
    for name, kind, tags, _ in found:
        assert (kind, set(tags)) == (metrics.TAGS[name][0], set(metrics.TAGS[name][1])), name
        assert tags["watcher"] == "measured"
    values = {(name, tags.get("outcome") or tags.get("reason")): value for name, _, tags, value in found}
    assert values["iam_watcher.runs", "success"] == 1
    assert values["iam_watcher.rows.examined", None] == 3
    assert values["iam_watcher.rows.changed", None] == 2
    assert values["iam_watcher.rows.skipped", "zero_date"] == 1
    assert values["iam_watcher.last_success", None] > 1_700_000_000
    assert 0 < values["iam_watcher.lock.held", None] < 600_000
    parts = sum(part.stat().st_size for part in tmp_path.rglob("*.jsonl.gz"))
    assert values["iam_watcher.archive.bytes", None] == parts > 0
    assert {name for name, _ in values} == set(metrics.TAGS) - NOT_OF_A_PURGE
    assert extra_of("purged")["changed"] == 2
    redis_client.set("iam-watcher:measured", "another")
    run_dag(dag)
    assert [(name, tags["outcome"]) for name, _, tags, _ in sent()] == [("iam_watcher.runs", "lock_busy")]


def test_a_run_whose_lock_is_held_counts_as_failed_if_that_is_a_failure(
    run_dag, redis_client: Client, sent: Callable
) -> None:
    with Watcher("busy", schedule=None, lock=Lock(on_busy="fail", wait=timedelta(0))) as dag:
        EmptyOperator(task_id="work")
    redis_client.set("iam-watcher:busy", "another")
    run_dag(dag)
    outcomes = [tags["outcome"] for name, _, tags, _ in sent() if name == metrics.RUNS]
    assert outcomes == ["failed"]


def test_a_scheduled_time_that_another_deployment_did_counts_as_done_by_another(
    run_dag, redis_client: Client, sent: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.utils.types import DagRunType

    create = SerializedDAG.create_dagrun
    scheduled = {"run_type": DagRunType.SCHEDULED}  # `dag.test()` would make a manual run
    monkeypatch.setattr(SerializedDAG, "create_dagrun", lambda dag, **given: create(dag, **given | scheduled))
    with Watcher("done", schedule="@daily", lock=Lock(wait=timedelta(0))) as dag:
        EmptyOperator(task_id="work")
    tick = datetime(2026, 11, 27, tzinfo=UTC)
    redis_client.set("{iam-watcher:done}:tick:done:2026-11-27T00:00:00.000000Z", "prod/done/scheduled__1")
    run_dag(dag, run_after=tick, logical_date=tick)
    assert [(name, tags) for name, _, tags, _ in sent()] == [
        (metrics.RUNS, {"watcher": "done", "outcome": "done_by_another"})
    ]


def test_a_run_whose_job_is_off_is_no_success(run_dag, redis_client: Client, sent: Callable) -> None:
    with Watcher("off", schedule=None) as dag:
        PurgeRowsOperator(task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=0)
    run_dag(dag)
    outcomes = {name: tags.get("outcome") for name, _, tags, _ in sent()}
    assert outcomes[metrics.RUNS] == "nothing_done"
    assert metrics.LAST_SUCCESS not in outcomes


def test_the_metrics_of_runs_that_fail(run_dag, redis_client: Client, sent: Callable) -> None:
    @task
    def lose() -> None:
        redis_client.set("iam-watcher:loser", "another")
        current._renewer.try_renew()
        raise LockLost("another took it")

    with Watcher("loser", schedule=None, default_args={"retries": 0}) as dag:
        lose()
    run_dag(dag)
    found = [(name, tags.get("outcome")) for name, _, tags, _ in sent()]
    assert ("iam_watcher.lock.lost", None) in found
    assert ("iam_watcher.lock.failed_renewals", None) in found
    assert ("iam_watcher.runs", "failed") in found
    assert metrics.LAST_SUCCESS not in dict(found)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"oldest_pending_seconds_after": 90.5, "remaining": 3}, {"rows.oldest_pending": 90.5}),
        ({"oldest_pending_seconds_after": None, "remaining": 0}, {"rows.oldest_pending": 0}),
        ({"oldest_pending_seconds_after": None, "remaining": 3}, {}),  # without `age_column`
        ({"claimed": 5, "done": 4}, {"rows.examined": 5, "rows.changed": 4}),
        # Each try sends its own rows.
        ({"examined": 7, "changed": 4, "changed_before": 300}, {"rows.examined": 7, "rows.changed": 4}),
        ({"dry_run": True, "claimed": 5, "oldest_pending_seconds_after": 1.0}, {}),
    ],
)
def test_the_metrics_of_a_run_report(sent: Callable, report: dict, expected: dict) -> None:
    metrics.worked(TI, report)
    assert {name: value for name, _, _, value in sent()} == {
        f"iam_watcher.{name}": value for name, value in expected.items()
    }


def test_open_telemetry_gets_the_same_names_and_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every metric, in the protocol of a collector."""
    with http_receiver() as collector:
        monkeypatch.setenv("AIRFLOW__METRICS__OTEL_HOST", "127.0.0.1")
        monkeypatch.setenv("AIRFLOW__METRICS__OTEL_PORT", str(collector.port))
        stats.initialize(factory=otel_logger.get_otel_logger, export_legacy_names=False)
        try:
            metrics.acquired(TI)
            metrics.released(TI, "2026-11-27T06:00:00+00:00", metrics.SUCCESS)
            metrics.lost(TI)
            metrics.renewed(TI, 2)
            metrics.worked(TI, FULL_REPORT)
            provider = get_meter_provider()
            provider.force_flush()
            provider.shutdown()
        finally:
            stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
            atexit.unregister(flush_otel_metrics)
    assert set(collector.paths) == {"/v1/metrics"}
    found = {}
    for _, _, body in collector.requests:
        request = ExportMetricsServiceRequest.FromString(body.encode(errors="surrogateescape"))
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    tags = {pair.key for point in data.data_points for pair in point.attributes}
                    found[metric.name.removeprefix("airflow.")] = tags
    assert found == {name: set(tags) for name, (_, tags) in metrics.TAGS.items()}


def test_the_page_has_the_same_table() -> None:
    row = re.compile(r"^\| `(iam_watcher\.[\w.]+)` \| (\w+) \| (.*?) \|", re.MULTILINE)
    table = {
        name: (kind, tuple(re.findall(r"`(\w+)`", tags)))
        for name, kind, tags in row.findall(PAGE.read_text())
    }
    assert table == metrics.TAGS


MONITORING = sorted((PAGE.parent / "monitoring").iterdir())


@pytest.mark.parametrize("path", MONITORING, ids=lambda path: path.name)
def test_the_files_for_prometheus_and_grafana_use_these_names(path: Path) -> None:
    """As the StatsD exporter makes them: dots become underscores, a timer has quantiles."""
    data = yaml.safe_load(path.read_text())  # JSON is YAML, too
    expressions = list(texts_of(data, "expr"))
    assert len(expressions) >= 4
    known = {f"airflow_{name}".replace(".", "_"): tags for name, (_, tags) in metrics.TAGS.items()}
    timers = {
        f"airflow_{name}".replace(".", "_") for name, (kind, _) in metrics.TAGS.items() if kind == "timer"
    }
    for expression in expressions:
        for name, labels in re.findall(r"(airflow_\w+)(?:\{(.*?)\})?", expression):
            used = set(re.findall(r"(\w+)\s*=", labels)) - ({"quantile"} if name in timers else set())
            assert used <= set(known[name]), expression
            shown = re.findall(r"by \((.*?)\)", expression)
            assert {label.strip() for labels in shown for label in labels.split(",")} <= set(known[name])
    outcomes = set(re.findall(r"outcome=~?\"([\w|]+)\"", " ".join(expressions)))
    assert {one for group in outcomes for one in group.split("|")} <= {
        *(metrics.SUCCESS, metrics.FAILED, metrics.NOTHING_DONE),
        "lock_busy",
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is a part of Prometheus")
def test_the_alerts_on_sample_series() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", Path(__file__).parent / "prometheus" / "alerts_test.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_every_metric() -> None:
    text = next(path for path in MONITORING if path.suffix == ".json").read_text()
    assert [name for name in metrics.TAGS if f"airflow_{name}".replace(".", "_") not in text] == []


def texts_of(data: object, key: str) -> Iterator[str]:
    if isinstance(data, dict):
        yield from (value for name, value in data.items() if name == key)
        data = list(data.values())
    if isinstance(data, list):
        for inner in data:
            yield from texts_of(inner, key)
