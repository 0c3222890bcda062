"""How an Airflow gets its fingerprint, and stores in Redis that it uses its id."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis as Client

from dev.processes import free_port
from iam_watcher.errors import LockBusy, LockUnavailable
from iam_watcher.lock import deployment
from iam_watcher.lock.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKES_IT = "iam-watcher:fingerprint:test"


@pytest.fixture
def away() -> Iterator[Client]:
    """A client of a server that does not answer."""
    with Client(port=free_port(), retry=None) as client:
        yield client


def test_a_claim_needs_an_answer_only_if_there_is_one_server(
    redis_client: Client, away: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_IAM_WATCHER_FINGERPRINT", "ours")
    deployment.claim([away, redis_client, away])
    assert redis_client.get("iam-watcher:deployment:test") == b"ours"
    with pytest.raises(LockUnavailable, match="'iam-watcher:deployment:test'"):
        deployment.claim([away])


@pytest.mark.parametrize(("claimed", "by_another"), [(None, False), ("ours", False), ("theirs", True)])
def test_an_id_that_another_airflow_uses(
    redis_client: Client, monkeypatch: pytest.MonkeyPatch, claimed: str | None, by_another: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_IAM_WATCHER_FINGERPRINT", "ours")
    if claimed:
        redis_client.set("iam-watcher:deployment:test", claimed)
    assert deployment.claimed_by_another(redis_client) is by_another


class Airflow:
    """The Variables of an Airflow, and a clock that goes on while a task sleeps."""

    def __init__(self, comes_after: float | None) -> None:
        self.now = 0.0
        self.comes_after = comes_after
        self.made: list[str] = []
        self.looks = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.looks += 1
        assert self.looks < 100, "it looks for ever"
        comes = self.comes_after is not None and self.now >= self.comes_after
        return "another task's" if comes else (self.made or [default])[0]

    def set(self, name: str, value: str, description: str) -> None:
        self.made.append(value)

    def sleep(self, seconds: float) -> None:
        self.now += 1.0


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Airflow:
    made = Airflow(None)
    monkeypatch.setattr(deployment, "Variable", made)
    monkeypatch.setattr(deployment, "time", SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep))
    return made


def test_the_first_task_makes_the_fingerprint_once(redis_client: Client, airflow: Airflow) -> None:
    found = [deployment._fingerprint([redis_client], "test") for _ in range(2)]
    assert found == airflow.made * 2
    assert len(airflow.made) == 1
    assert redis_client.get(MAKES_IT) is None


@pytest.mark.parametrize("comes_after", [1.0, 20.0])
def test_the_others_wait_for_it(redis_client: Client, airflow: Airflow, comes_after: float) -> None:
    assert Lease(redis_client, MAKES_IT, "another task", ttl=60).acquire()
    airflow.comes_after = comes_after
    assert deployment._fingerprint([redis_client], "test") == "another task's"
    assert airflow.made == []


def test_the_others_wait_twice_as_long_as_its_task_may_need(redis_client: Client, airflow: Airflow) -> None:
    assert Lease(redis_client, MAKES_IT, "another task", ttl=60).acquire()
    with pytest.raises(LockBusy, match="is held by another task"):
        deployment._fingerprint([redis_client], "test")
    assert airflow.now == 2 * deployment.MADE_WITHIN + 1
