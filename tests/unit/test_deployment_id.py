"""What an Airflow says that has no id, or one that can't be."""

from __future__ import annotations

from datetime import timedelta

import pytest

from iam_watcher.errors import DeploymentIdError
from iam_watcher.lock.deployment import deployment_id, standby_delay


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "deployment_id is empty; expected 1 to 64 letters"),
        ("redis://:hunter2@host", r"deployment_id can't be an id \(21 characters, not shown\); expected"),
        ("hunter2" * 10, r"\(70 characters, not shown\)"),
    ],
)
def test_an_id_that_cannot_be_is_not_shown(monkeypatch, value, expected):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID", value)
    with pytest.raises(DeploymentIdError, match=expected) as caught:
        deployment_id()
    assert "hunter2" not in str(caught.value)
    assert "Set AIRFLOW__IAM_WATCHER__DEPLOYMENT_ID" in str(caught.value)


@pytest.mark.parametrize(("value", "seconds"), [("", 0), ("0", 0), ("120", 120)])
def test_the_delay_of_a_standby(monkeypatch, value, seconds):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__STANDBY_DELAY", value)
    assert standby_delay() == timedelta(seconds=seconds)


@pytest.mark.parametrize("value", ["-1", "2m", "1.5", "True", "9999999"])
def test_a_delay_that_is_not_valid(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__STANDBY_DELAY", value)
    with pytest.raises(
        DeploymentIdError, match=f"standby_delay = '{value}' is not valid. Use a whole number"
    ):
        standby_delay()
