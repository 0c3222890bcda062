"""An Airflow deployment and its runs, as a test starts, watches and disturbs them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from dev.airflow import Airflow
from dev.sessions import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

DAGS = Path(__file__).parent / "dags"
PATIENCE = 120.0  # seconds for anything to happen; a busy machine is slow


def until(what: Callable[[], Any], why: str, seconds: float = PATIENCE) -> Any:
    """Wait until something is true and return it."""
    found: list[Any] = []

    def true() -> bool:
        found[:] = [what()]
        return bool(found[0])

    assert wait_until(true, seconds, pause=0.1), f"waited {seconds:g} s in vain: {why}"
    return found[0]


def cpu_waits() -> float:
    """Return the seconds, of all so far, in which some process had to wait for a CPU.

    A time limit for Airflow's own work stretches by what the machine is short of; 0 where the kernel
    doesn't say.
    """
    with suppress(OSError):
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1_000_000
    return 0.0


class Deployment(Airflow):
    """An Airflow whose runs a test can start, watch and disturb."""

    name: str

    def api(self, path: str, body: object = None, *, method: str = "") -> Any:
        """Call the API. Airflow's SQLite refuses a write if another component kept it locked for a minute."""
        try:
            return super().api(path, body, method=method)
        except HTTPError as error:
            if body is None or error.code != HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
        return super().api(path, body, method=method)

    def trigger(self, dag_id: str) -> Run:
        answer = self.api(f"/dags/{dag_id}/dagRuns", {"logical_date": None})
        return Run(self, dag_id, answer["dag_run_id"])

    def pause(self, dag_id: str, paused: bool = True) -> None:
        self.api(f"/dags/{dag_id}", {"is_paused": paused}, method="PATCH")

    def scheduled(self, dag_id: str) -> list[Run]:
        found = self.api(f"/dags/{dag_id}/dagRuns?order_by=run_after&limit=100&run_type=scheduled")
        return [Run(self, dag_id, run["dag_run_id"]) for run in found["dag_runs"]]

    def ready(self) -> bool:
        wanted = (DAGS / "lock_rows.py").read_text().count("\nwatch(")
        return self.api("/dags?limit=100")["total_entries"] == wanted


@dataclass(frozen=True)
class Run:
    """One DAG run."""

    airflow: Deployment
    dag_id: str
    id: str

    @property
    def owner(self) -> str:
        return f"{self.airflow.name}/{self.dag_id}/{self.id}"

    @property
    def _path(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{self.id}"

    def state(self) -> str:
        return str(self.airflow.api(self._path)["state"])

    def task(self, task_id: str = "work") -> dict[str, Any]:
        found: dict[str, Any] = self.airflow.api(f"{self._path}/taskInstances/{task_id}")
        return found

    def task_state(self, task_id: str = "work") -> str:
        return str(self.task(task_id)["state"])

    def wait(self, state: str, task_id: str = "") -> None:
        """Wait for a state of the run, or of one of its tasks."""
        look = (lambda: self.task_state(task_id)) if task_id else self.state
        try:
            until(lambda: look() == state, f"{state} {task_id} of {self.owner}")
        except AssertionError:
            states = {name: self.task_state(name) for name in ("acquire", "work", "release")}
            raise AssertionError(
                f"{self.owner} {task_id}: expected {state}, is {self.state()}: {states}"
            ) from None

    def holder(self) -> dict[str, Any]:
        """Return who `acquire` says holds the lock."""
        value = self.airflow.api(f"{self._path}/taskInstances/acquire/xcomEntries/holder")["value"]
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def log(self, task_id: str = "work", attempt: int = 1) -> str:
        return json.dumps(self.airflow.api(f"{self._path}/taskInstances/{task_id}/logs/{attempt}"))

    def mark_failed(self) -> None:
        self.airflow.api(f"{self._path}/taskInstances/work", {"new_state": "failed"}, method="PATCH")

    def clear(self) -> None:
        body = {"dry_run": False, "dag_run_id": self.id, "task_ids": ["work"], "only_failed": False}
        self.airflow.api(f"/dags/{self.dag_id}/clearTaskInstances", body)
