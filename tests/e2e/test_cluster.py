"""`make cluster`: two clusters that share Redis and MariaDB, from their first lines to Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from contextlib import ExitStack, contextmanager

import pytest

from dev.airflow import ROOT
from dev.cluster.cluster import COMPONENTS
from dev.processes import listening
from dev.sessions import session_members, wait_until
from tests.e2e.deployments import until

PYTHON = ROOT / ".venv-cluster" / "bin" / "python"
PATIENCE = 300
WATCHER = """
'''An Airflow DAG that deletes old audit rows twice a minute.'''
from iam_watcher import Watcher
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

with Watcher("clean_often", schedule="*/30 * * * * *"):
    PurgeRowsOperator(task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=730)
"""


class _Cluster:
    """A running `make cluster`, as its output says."""

    def __init__(self, process, said):
        self.process = process
        self.said = said
        self.url = re.search(r"http://127\.0\.0\.1:\d+", said).group()
        self._token = self._call(
            "/auth/token",
            {"username": self._after("user"), "password": self._after("password")},
        )["access_token"]

    def _after(self, word):
        return re.search(rf"  {word} +(\S+)", self.said).group(1)

    def _call(self, path, body=None, method=None):
        request = urllib.request.Request(  # noqa: S310  our own http address
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        if path != "/auth/token":
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310  the same
            return json.load(answer)

    def api(self, path, body=None, method=None):
        return self._call(f"/api/v2{path}", body, method)

    def unpause(self, dag_id):
        until(lambda: dag_id in [dag["dag_id"] for dag in self.api("/dags")["dags"]], "its file", PATIENCE)
        self.api(f"/dags/{dag_id}", {"is_paused": False}, "PATCH")

    def successes(self, dag_id):
        runs = self.api(f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]
        return [run["dag_run_id"] for run in runs if run["state"] == "success"]

    def skipped(self, dag_id, run_id):
        return self.api(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/purge")["state"] == "skipped"

    def ports(self):
        return [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", self.said)]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        rest = self.process.communicate()[0]
        assert self.process.returncode == 0, rest
        assert rest.rstrip().endswith("Everything that this cluster started has been stopped.")


@contextmanager
def _running(folder, dags, name):
    command = [str(PYTHON), "-m", "dev.cluster", "--name", name, "--folder", str(folder), "--dags", str(dags)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            said = ""
            for line in process.stdout:
                said += line
                if line.startswith("Ctrl-C"):
                    break
            assert "healthy after" in said, said
            yield _Cluster(process, said)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate()


@pytest.mark.e2e
def test_two_clusters_share_the_work_until_ctrl_c(tmp_path):
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "clean_often.py").write_text(WATCHER)
    with ExitStack() as stack:
        first = stack.enter_context(_running(tmp_path / "cluster", dags, "a"))
        pids = dict(re.findall(r"^  ([\w-]+) +(\d+)$", first.said, re.MULTILINE))
        assert pids.keys() == set(COMPONENTS)
        assert all(session_members(int(pid)) for pid in pids.values())
        second = stack.enter_context(_running(tmp_path / "cluster", dags, "b"))
        for cluster in (first, second):
            cluster.unpause("clean_often")

        # The same scheduled times, and each is done by one of the two.
        def done():
            both = set(first.successes("clean_often")) & set(second.successes("clean_often"))
            return both if len(both) >= 3 else None

        for run_id in until(done, "runs of both", PATIENCE):
            assert first.skipped("clean_often", run_id) != second.skipped("clean_often", run_id), run_id

        # Without the first one, the second one does all, with the same Redis and database.
        shared = set(first.ports()) & set(second.ports())
        assert len(shared) == 2  # MariaDB and Redis
        first.stop()
        assert [port for port in first.ports() if listening(port)] == [
            port for port in first.ports() if port in shared
        ]
        before = set(second.successes("clean_often"))
        runs = until(lambda: set(second.successes("clean_often")) - before, "a run of the second", PATIENCE)
        assert any(not second.skipped("clean_often", run_id) for run_id in runs)
        second.stop()
    notes = [path.read_text().split()[0] for path in (tmp_path / "cluster").rglob("*.process")]
    assert [pid for pid in [*pids.values(), *notes] if session_members(int(pid))] == []
    assert wait_until(lambda: not any(listening(port) for port in first.ports() + second.ports()), 10)
