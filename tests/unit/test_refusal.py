"""What the error of a run that doesn't get the lock says, also about the run that triggered it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.lock.grant import Grant
from iam_watcher.lock.holder import Holder
from iam_watcher.lock.outcome import Verdict
from iam_watcher.lock.refusal import hint_of_parent, refuse

GRANT = Grant("clean", "ours/child/run-2", ["iam_redis"], 60.0)
PARENT = Holder("clean", "ours/parent/run-1", datetime(2026, 1, 1, tzinfo=UTC))


def hint(run_type, holder):
    return hint_of_parent({"dag_run": SimpleNamespace(run_type=run_type)}, holder, GRANT)


def test_the_error_of_a_run_that_held_the_lock_for_too_long_says_what_to_do():
    grant = replace(GRANT, max_hold=60.0)
    with pytest.raises(AirflowFailException, match=r"run-2 for max_hold=60 s\. .* or raise max_hold"):
        refuse(SimpleNamespace(verdict=Verdict.MAX_HOLD), None, grant)


def test_a_run_that_a_task_triggered_gets_a_hint_about_that_task():
    assert "give the two watchers locks with different keys" in hint("operator_triggered", PARENT)


@pytest.mark.parametrize(
    ("run_type", "holder"),
    [
        ("scheduled", PARENT),
        ("manual", PARENT),
        ("operator_triggered", None),
        ("operator_triggered", Holder("clean", "another/parent/run-1", PARENT.since)),
        ("operator_triggered", Holder("clean", "ours", None)),  # a random text of the Go program
    ],
)
def test_any_other_run_gets_none(run_type, holder):
    assert hint(run_type, holder) == ""
