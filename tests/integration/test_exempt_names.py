"""Exempt names that no account has: the log and the run report name them, since one may be misspelt."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.database.transactions import Transactions
from tests.integration.account_shapes import DJANGO, disable, location, replace_shape
from tests.integration.conftest import TaskInstance
from tests.integration.test_disable_users import disable as disable_iam
from tests.integration.test_disable_users import enabled, user

__all__ = ["location"]

pytestmark = pytest.mark.every_server

ADVICE = "`*` is any text, and `%` is only itself: write 'svc-*' for 'svc-%'"


def warnings(caplog):
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [message for message in messages if "exempt_names" in message]


@pytest.mark.parametrize("dry_run", [True, False])
def test_names_that_no_account_has_are_logged_and_reported(iam, perform, caplog, dry_run):
    for name in ("svc-a", "bob"):
        user(iam, name)
    user(iam, "gone", status=0)
    names = ["svc-%", "bobb", "BOB", "svc-?", "go*", "bobb", "x?"]
    report = perform(disable_iam(exempt_names=names, dry_run=dry_run))
    assert report["unmatched"] == ["svc-%", "bobb", "x?"]
    (warning,) = warnings(caplog)
    assert "No account of user matches 'svc-%', 'bobb', 'x?' of exempt_names, so " in warning
    assert ADVICE in warning
    left_alone = "leave nobody alone for 'svc-%', 'bobb', 'x?' of exempt_names: no account matches"
    assert (left_alone in report["real_run"]) is dry_run
    assert enabled(iam) == {"svc-a", "bob"}


@pytest.mark.parametrize("names", [[], ["bob"], ["*", "svc-*"], ["100%*", "100%-a"], {"bob", "svc-?"}])
def test_names_that_accounts_have_are_not_logged(iam, perform, caplog, names):
    for name in ("svc-a", "bob", "100%-a"):
        user(iam, name)
    report = perform(disable_iam(exempt_names=names, dry_run=True))
    assert (report["unmatched"], warnings(caplog)) == ([], [])
    assert len(report["real_run"]) == 1


def test_a_run_that_the_safety_limit_ends_reports_them_too(iam, perform):
    user(iam, "svc-a")
    ti = TaskInstance("run")
    with pytest.raises(AirflowFailException, match=r"1 of 1 eligible rows of user .* max_share=0\.5\."):
        perform(disable_iam(exempt_names=["svc-%"], max_share=0.5), ti)
    assert ti.xcom["return_value"]["unmatched"] == ["svc-%"]


def test_no_account_at_all_has_none_of_the_names(iam, perform, caplog):
    report = perform(disable_iam(exempt_names=[f"svc-{number}" for number in range(12)], dry_run=True))
    assert len(report["unmatched"]) == 12
    assert "'svc-9' and 2 more of exempt_names" in caplog.text
    assert ADVICE not in caplog.text


def test_only_the_rows_that_are_accounts_have_names(scratch, perform, location, caplog):
    scratch.run(DJANGO.create)
    shape = replace_shape(DJANGO, where=[("username", "<>", "bot")])
    for name in ("ann", "bot"):
        shape.add(scratch, name)
    report = perform(disable(shape, location, exempt_names=["bot", "an*"], dry_run=True))
    assert report["unmatched"] == ["bot"]


def test_a_table_that_takes_too_long_to_search_stops_nothing(iam, perform, caplog, monkeypatch):
    for name in ("svc-a", "bob"):
        user(iam, name)
    read, mine = Transactions.read, []

    def too_long(self, query, values=None):
        if query.startswith("SELECT MAX("):
            mine.append(query)
            raise self.error(1969, "Query execution was interrupted (max_statement_time exceeded)")
        return read(self, query, values)

    monkeypatch.setattr(Transactions, "read", too_long)
    report = perform(disable_iam(exempt_names=["bob"]))
    assert len(mine) == 1
    assert report["unmatched"] == []
    assert enabled(iam) == {"bob"}
    assert "whether accounts of user match exempt_names" in caplog.text
