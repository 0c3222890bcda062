"""The way back: exactly those whom a run disabled and who are unchanged since, with their secrets."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.jobs.pace import Pace
from tests.integration.conftest import TaskInstance
from tests.integration.test_account_lifecycle import (
    SECRET_CHANGED,
    disable,
    enable,
    expiries,
    later,
    location,
    told,
    with_secrets,
)
from tests.integration.test_announce import heard
from tests.integration.test_disable_users import LONG_AGO, enabled, user

__all__ = ["heard", "location", "with_secrets"]


def test_the_way_back_is_exact(with_secrets, perform, location, heard):
    before = expiries(with_secrets)
    user(with_secrets, "disabled-before", status=0)
    report = perform(disable(location, on_disable="expire_secrets"))
    heard()
    back = perform(enable(location, report["archive"]))
    assert enabled(with_secrets) == {"inactive", "active"}
    assert expiries(with_secrets) == before
    assert (back["listed"], back["enabled"], back["secrets_restored"]) == (1, 1, 2)
    assert heard() == [SECRET_CHANGED]
    assert with_secrets.value(
        "SELECT loginedAt > UTC_TIMESTAMP() - INTERVAL 60 SECOND FROM user WHERE name = 'inactive'"
    )
    assert perform(disable(location))["changed"] == 0, "the clock of inactivity began anew"


def test_a_second_way_back_changes_nothing(with_secrets, perform, location, redis_client):
    report = perform(disable(location, on_disable="expire_secrets"))
    perform(enable(location, report["archive"]))
    later(with_secrets)
    before = with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")
    back = perform(enable(location, report["archive"]))
    assert (back["enabled"], back["secrets_restored"], back["skipped"]) == (0, 0, {"enabled_already": 1})
    assert (with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")) == before


def test_who_was_changed_since_is_left(iam, perform, location):
    for name in ("same", "mail", "gone", "again", "other-state"):
        user(iam, name)
    report = perform(disable(location), TaskInstance("first"))
    later(iam)
    iam.run("UPDATE user SET email = 'new' WHERE name = 'mail'")
    iam.run("UPDATE user SET status = 2 WHERE name = 'other-state'")
    iam.run("DELETE FROM user WHERE name = 'gone'")
    perform(enable(location, None, names=["again"]))
    iam.run(f"UPDATE user SET loginedAt = {LONG_AGO} WHERE name = 'again'")
    second = perform(disable(location), TaskInstance("second"))
    assert set(told(second["archive"])) == {"again"}
    back = perform(enable(location, report["archive"]))
    assert enabled(iam) == {"same"}
    assert back["skipped"] == {"changed_since": 3, "gone": 1}
    assert {(one["name"], one["why"]) for one in back["examples"]} == {
        ("mail", "changed_since"),
        ("again", "changed_since"),
        ("other-state", "changed_since"),
        ("gone", "gone"),
    }


def test_secrets_that_were_changed_since_are_left(with_secrets, perform, location, redis_client):
    report = perform(disable(location, on_disable="expire_secrets"))
    with_secrets.run("UPDATE secret SET expires = 5 WHERE name = 'never-expires'")
    with_secrets.run("DELETE FROM secret WHERE name = 'expires-later'")
    back = perform(enable(location, report["archive"]))
    assert (back["enabled"], back["secrets_restored"]) == (1, 0)
    assert back["secrets_left"] == {"changed_since": 1, "gone": 1}
    assert expiries(with_secrets)["never-expires"] == 5


def test_a_dry_run_changes_nothing(with_secrets, perform, location, heard):
    report = perform(disable(location, on_disable="expire_secrets"))
    heard()
    before = with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")
    back = perform(enable(location, report["archive"], dry_run="True"))
    assert (back["enabled"], back["secrets_restored"]) == (1, 2)
    assert (with_secrets.rows("SELECT * FROM user"), with_secrets.rows("SELECT * FROM secret")) == before
    assert heard() == []


def test_some_of_a_run_can_be_picked(iam, perform, location):
    for name in ("one", "two", "three"):
        user(iam, name)
    report = perform(disable(location))
    back = perform(enable(location, report["archive"], names="['one', 'nobody']"))
    assert enabled(iam) == {"one"}
    assert (back["listed"], back["enabled"], back["skipped"]) == (2, 1, {"not_in_report": 1})


def test_names_alone_will_do(iam, perform, location):
    user(iam, "disabled", status=0)
    user(iam, "Müller", status=0)
    user(iam, "usable")
    back = perform(enable(location, "", names=["DISABLED", "Müller", "usable", "nobody"]))
    assert enabled(iam) == {"disabled", "Müller", "usable"}
    assert (back["report"], back["enabled"]) == (None, 2)
    assert back["skipped"] == {"enabled_already": 1, "gone": 1}


def test_many_users_come_back_in_batches(iam, perform, location):
    iam.run(
        "INSERT INTO user (name, nickname, password, email, loginedAt)"
        f" SELECT seq, '', '', '', {LONG_AGO} FROM seq_1_to_1700"
    )
    report = perform(disable(location, pace=Pace(0.002, 0.5)))
    assert perform(enable(location, report["archive"]))["enabled"] == 1700
    assert iam.value("SELECT COUNT(*) FROM user WHERE status = 0") == 0


@pytest.mark.parametrize("report", ["", None, "None", "file:///elsewhere", "../x"])
def test_without_a_report_or_names_nobody_is_enabled(iam, perform, location, report):
    user(iam, "disabled", status=0)
    with pytest.raises(AirflowFailException, match=r"neither report nor names|expected a folder below"):
        perform(enable(location, report))
    assert enabled(iam) == set()


def test_an_archive_of_rows_is_no_report(iam, perform, location):
    from tests.integration.test_archive import fill, purge

    fill(iam, 1)
    with pytest.raises(AirflowFailException, match="has 'rows'; expected 'disabled_users'"):
        perform(enable(location, perform(purge(location))["archive"]))


def test_a_missing_right_to_enable_is_told(iam, mariadb, perform, location):
    user(iam, "inactive")
    report = perform(disable(location))
    iam.run(f"REVOKE UPDATE (loginedAt) ON iam.user FROM '{mariadb.user}'")
    with pytest.raises(AirflowFailException, match=r"UPDATE command denied.*grant"):
        perform(enable(location, report["archive"]))
    assert enabled(iam) == set()
