"""Notices through the real notifiers of Airflow's providers, each one line in a watcher file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from iam_watcher.notices import receivers
from tests.dags.receivers import Received, http_receiver
from tests.dags.test_docs import CODE_BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import DAG
    from redis import Redis as Client

PAGE = Path(__file__).parents[2] / "docs" / "notices.md"
(FILE,) = [match[2] for match in CODE_BLOCK.finditer(PAGE.read_text()) if "AppriseNotifier" in match[2]]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    monkeypatch.setattr(receivers, "PAUSES", (0.0, 0.0))
    with http_receiver() as received:
        base = f"http://127.0.0.1:{received.port}"
        for name, connection in {
            "slack_default": {
                "conn_type": "slackwebhook",
                "host": f"{base}/services",
                "password": "T00/B00/hunter22",
            },
            "http_default": {"conn_type": "http", "host": base, "login": "me", "password": "hunter22"},
            "apprise_default": {
                "conn_type": "apprise",
                "extra": {"config": {"path": f"json://127.0.0.1:{received.port}/apprise", "tag": "all"}},
            },
        }.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        yield received


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    """The file of the page, with work that fails."""
    # The first import of three providers takes long on a busy machine.
    monkeypatch.setenv("AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT", "300")
    assert "...\n" in FILE
    (tmp_path / "file.py").write_text(FILE.replace("...\n", "raise ValueError('the disk is full')\n"))
    bag = DagBag(str(tmp_path))
    assert bag.import_errors == {}
    (found,) = bag.dags.values()
    for task in found.tasks:
        task.retries = 0
    return found


@pytest.mark.filterwarnings("ignore:.imghdr. is deprecated:DeprecationWarning")  # in the libraries of Apprise
def test_the_notifiers_send_our_text(
    dag: DAG, run_dag: Callable, redis_client: Client, web: Received, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_dag(dag)
    assert run.state == "failed"
    bodies: dict[str, Any] = {path: json.loads(body) for path, _, body in web.requests}
    assert set(bodies) == {"/services/T00/B00/hunter22", "/hook", "/apprise"}
    slack, http, apprise = (bodies[path] for path in ("/services/T00/B00/hunter22", "/hook", "/apprise"))
    for text in (slack["text"], http["text"], apprise["message"]):
        assert text.startswith(f"{dag.dag_id}: task {dag.dag_id} failed: the disk is full")
        assert run.run_id in text
        assert f"/dags/{dag.dag_id}/runs/" in text
    assert apprise["title"] == f"{dag.dag_id}: task {dag.dag_id} failed: the disk is full"
    (headers,) = [headers for path, headers, _ in web.requests if path == "/hook"]
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'me:hunter22').decode()}"
    assert "hunter22" not in caplog.text


def test_an_answer_that_is_an_error_is_tried_again_and_changes_nothing(
    dag: DAG, run_dag: Callable, redis_client: Client, web: Received, caplog: pytest.LogCaptureFixture
) -> None:
    web.answers += [500, 200, 200, 200]
    run = run_dag(dag)
    assert run.state == "failed"
    assert [path for path, _, _ in web.requests].count("/services/T00/B00/hunter22") == 2
    assert "the notice 'failure' to SlackWebhookNotifier was not sent" in caplog.text
    assert "another try follows after" in caplog.text
    assert "hunter22" not in caplog.text
