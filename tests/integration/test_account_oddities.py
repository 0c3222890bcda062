"""What an attacker, or an accident, may leave in an account table."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from iam_watcher.accounts.disable_recorder import DisableRecorder
from iam_watcher.jobs.account_table import AccountTable
from tests.integration.account_shapes import (
    DJANGO,
    KEYCLOAK,
    NEW,
    SHAPES,
    STATUS_TEXT,
    Shape,
    as_date,
    disable,
    enable,
    location,
    replace_shape,
)
from tests.integration.test_keys import Variables

__all__ = ["location"]

pytestmark = pytest.mark.every_server


def test_an_admin_flag_that_is_null_may_be_one(scratch, perform, location):
    scratch.run(STATUS_TEXT.create)
    STATUS_TEXT.add(scratch, "old")
    STATUS_TEXT.add(scratch, "unknown", is_owner=None)
    report = perform(disable(STATUS_TEXT, location))
    assert report["skipped"] == {"admin": 1}
    assert STATUS_TEXT.of(scratch, "active") == {"unknown"}


def test_only_the_very_text_is_the_status(scratch, perform, location):
    """The collation takes these for equal; an undo would not bring them back."""
    scratch.run(STATUS_TEXT.create)
    STATUS_TEXT.add(scratch, "old")
    others = ["Active", "ACTIVE", "active ", "áctive", "suspende", "", None]
    for number, other in enumerate(others):
        STATUS_TEXT.add(scratch, f"other-{number}", state=other)
    before = scratch.rows("SELECT login, state FROM members WHERE login <> 'old' ORDER BY login")
    report = perform(disable(STATUS_TEXT, location))
    assert (report["matched"], report["changed"]) == (1, 1)
    assert scratch.rows("SELECT login, state FROM members WHERE login <> 'old' ORDER BY login") == before
    scratch.run("UPDATE members SET state = 'Suspended' WHERE login = 'old'")
    assert perform(enable(STATUS_TEXT, location, report["undo_record"]))["enabled"] == 0
    assert perform(enable(STATUS_TEXT, location, None, names=["old"]))["enabled"] == 0


@pytest.mark.parametrize(
    ("shape_name", "change", "reason"),
    [
        ("django", {"last_login": "1970-01-01 00:00:00"}, "zero_date"),
        ("django", {"last_login": "1979-12-31 23:59:59"}, "zero_date"),
        ("django", {"last_login": None, "date_joined": "1970-01-01 00:00:00"}, "zero_date"),
        ("keycloak", {"LAST_LOGIN": -1}, "zero_date"),
        ("keycloak", {"LAST_LOGIN": 1}, "zero_date"),
        ("keycloak", {"LAST_LOGIN": 0, "CREATED_TIMESTAMP": 0}, "zero_date"),
        ("keycloak", {"LAST_LOGIN": None, "CREATED_TIMESTAMP": None}, "no_date"),
        ("keycloak", {"LAST_LOGIN": 0, "CREATED_TIMESTAMP": None}, "no_date"),
        ("keycloak", {"USERNAME": None}, "no_name"),
        ("status text", {"seen_at": 0, "made_at": 0}, "zero_date"),
    ],
)
def test_who_has_no_date_or_no_name_is_left_and_counted(
    scratch, perform, location, shape_name, change, reason
):
    shape = SHAPES[shape_name]
    scratch.run(shape.create)
    shape.add(scratch, "old")
    name = shape.accounts.name
    shape.add(scratch, "odd", **{name: "odd", **change})
    report = perform(disable(shape, location, exempt_names=["nobody"]))
    assert (report["changed"], report["skipped"]) == (1, {reason: 1})
    query = f"SELECT COUNT(*) FROM `{shape.accounts.table}` WHERE `{shape.accounts.status}` = %s"
    assert scratch.value(query, [shape.active]) == 1


@pytest.fixture(params=["date", "datetime", "datetime(6)"])
def without_null(scratch, request):
    """Django's table of accounts, with a last login that can't be NULL."""
    scratch.run("SET sql_mode = ''")
    scratch.run(DJANGO.create)
    scratch.run(f"ALTER TABLE auth_user MODIFY last_login {request.param} NOT NULL DEFAULT '0000-00-00'")
    return scratch


@pytest.mark.parametrize("created", ["date_joined", None])
def test_a_zero_date_in_a_column_without_null_does_not_mean_that_nobody_logged_in(
    without_null, perform, location, monkeypatch, created
):
    """MariaDB takes IS NULL in WHERE for it, and the user would count from the creation."""
    shape = replace_shape(DJANGO, created=created)
    DJANGO.add(without_null, "zero", last_login="0000-00-00")
    DJANGO.add(without_null, "zero-due", last_login="0000-00-00", date_joined=as_date(timedelta(days=178)))
    DJANGO.add(without_null, "old")
    monkeypatch.setattr(Variables, "kept", {})
    monkeypatch.setattr("iam_watcher.accounts.due_users.Variable", Variables)
    told = []
    warning = {"warn_days": [3], "on_warning": lambda context: told.extend(context["due_users"])}
    dry = perform(disable(shape, location, dry_run=True))
    assert [one["name"] for one in dry["examples"]] == ["old"]
    report = perform(disable(shape, location, **warning))
    assert dry["matched"] == report["changed"] == 1
    assert dry["skipped"] == report["skipped"] == {"zero_date": 2}
    assert (shape.of(without_null, 1), told) == ({"zero", "zero-due"}, [])


def test_a_user_whose_login_becomes_a_zero_date_meanwhile_stays(without_null, perform, location, monkeypatch):
    DJANGO.add(without_null, "old")
    lock = DisableRecorder.lock

    def after_others(recorder, keys):
        without_null.run("UPDATE auth_user SET last_login = '0000-00-00'")
        return lock(recorder, keys)

    monkeypatch.setattr(DisableRecorder, "lock", after_others)
    report = perform(disable(DJANGO, location))
    assert (report["changed"], report["skipped"]) == (0, {"changed_meanwhile": 1})
    assert DJANGO.of(without_null, 1) == {"old"}


def test_the_time_that_the_server_sets_in_each_disabled_account_is_said(scratch, perform, location, caplog):
    scratch.run(DJANGO.create)
    DJANGO.add(scratch, "new", last_login=as_date(NEW))
    perform(disable(DJANGO, location))
    scratch.run("ALTER TABLE auth_user ADD seen timestamp NULL ON UPDATE CURRENT_TIMESTAMP")
    perform(disable(DJANGO, location))
    assert "ON UPDATE" not in caplog.text
    scratch.run("ALTER TABLE auth_user ADD changed datetime NULL ON UPDATE CURRENT_TIMESTAMP")
    perform(disable(DJANGO, location, dry_run=True))
    assert "sets changed of auth_user, a DATETIME, to the current time in UTC (ON UPDATE)" in caplog.text
    assert "a restore sets the column" not in caplog.text


def test_users_of_another_where_in_the_record_stay_disabled(scratch, perform, location):
    scratch.run(KEYCLOAK.create)
    KEYCLOAK.add(scratch, "old")
    KEYCLOAK.add(scratch, "customer", REALM_ID="customers")
    everyone = replace_shape(KEYCLOAK, where=[("SERVICE_ACCOUNT_CLIENT_LINK", "is null")])
    report = perform(disable(everyone, location))
    assert report["changed"] == 2
    for dry_run in (True, False):
        back = perform(enable(KEYCLOAK, location, report["undo_record"], dry_run=dry_run))
        assert (back["listed"], back["enabled"], back["skipped"]) == (2, 1, {"gone": 1})
        assert [(one["name"], one["why"]) for one in back["examples"]] == [("customer", "gone")]
    assert KEYCLOAK.of(scratch, 1) == {"old"}
    assert perform(enable(everyone, location, report["undo_record"]))["enabled"] == 1
    assert KEYCLOAK.of(scratch, 1) == {"old", "customer"}


def test_accounts_outside_of_where_are_none(scratch, perform, location):
    scratch.run(KEYCLOAK.create)
    KEYCLOAK.add(scratch, "old")
    KEYCLOAK.add(scratch, "other-realm", REALM_ID="customers")
    KEYCLOAK.add(scratch, "service", SERVICE_ACCOUNT_CLIENT_LINK="client", ENABLED=0)
    report = perform(disable(KEYCLOAK, location))
    assert report["changed"] == 1
    assert KEYCLOAK.of(scratch, 1) == {"other-realm"}
    # Nor are they enabled by name.
    back = perform(enable(KEYCLOAK, location, None, names=["service", "old"]))
    assert (back["enabled"], back["skipped"]) == (1, {"gone": 1})
    assert KEYCLOAK.of(scratch, 1) == {"other-realm", "old"}


def test_users_of_one_name_are_chosen_together(scratch, perform, location):
    scratch.run(STATUS_TEXT.create)
    for org in (1, 2, 3):
        STATUS_TEXT.add(scratch, "ann", org=org)
    STATUS_TEXT.add(scratch, "bob", org=2)
    scratch.run("UPDATE members SET seen_at = UNIX_TIMESTAMP() WHERE org = 3")
    report = perform(disable(STATUS_TEXT, location))
    scratch.run("UPDATE members SET state = 'suspended' WHERE org = 3")
    query = "SELECT org, login FROM members WHERE state = 'active' ORDER BY org, login"
    back = perform(enable(STATUS_TEXT, location, report["undo_record"], names=["ann"]))
    assert (back["enabled"], scratch.rows(query)) == (2, [(1, "ann"), (2, "ann")])
    # Without a record: whoever has the name.
    perform(enable(STATUS_TEXT, location, None, names=["ann"]))
    assert scratch.rows(query) == [(1, "ann"), (2, "ann"), (3, "ann")]


def test_without_a_creation_those_who_never_logged_in_stay(scratch, perform, location):
    scratch.run(KEYCLOAK.create)
    KEYCLOAK.add(scratch, "old")
    KEYCLOAK.add(scratch, "never", LAST_LOGIN=None)
    report = perform(disable(replace_shape(KEYCLOAK, created=None), location))
    assert (report["changed"], report["skipped"]) == (1, {"no_date": 1})


def test_an_inverted_flag(scratch, perform, location):
    scratch.run(DJANGO.create)
    scratch.run("ALTER TABLE auth_user CHANGE is_active blocked tinyint NOT NULL")
    shape = replace(
        replace_shape(DJANGO, status="blocked", active=False, disabled=True), active=0, disabled=1
    )
    shape.add(scratch, "old")
    shape.add(scratch, "new", last_login=as_date(NEW))
    report = perform(disable(shape, location))
    assert shape.of(scratch, 1) == {"old"}
    perform(enable(shape, location, report["undo_record"]))
    assert shape.of(scratch, 0) == {"old", "new"}


def test_an_enum_and_a_local_time(scratch, perform, location):
    scratch.run(
        "CREATE TABLE t (id binary(16) PRIMARY KEY, n char(20) CHARACTER SET latin1,"
        " s enum('on','off','gone'), seen datetime, made date) ENGINE=InnoDB"
    )
    accounts = AccountTable(
        table="t", name="n", status="s", active="on", disabled="off", last_login="seen", created="made",
        time_zone="Asia/Shanghai",
    )  # fmt: skip
    shape = Shape(accounts, "", as_date)
    now = datetime.now(UTC)
    # 180 days ago, an hour more and an hour less, by the clock in Shanghai.
    for name, hours in (("before", 1), ("after", -1)):
        seen = now - timedelta(days=180, hours=hours) + timedelta(hours=8)
        scratch.run("INSERT INTO t VALUES (%s, %s, 'on', %s, '2001-01-01')", [uuid.uuid4().bytes, name, seen])
    scratch.run("INSERT INTO t VALUES (%s, 'gone', 'gone', '2001-01-01', '2001-01-01')", [uuid.uuid4().bytes])
    scratch.run("INSERT INTO t VALUES (%s, 'never', 'on', NULL, '2001-01-01')", [uuid.uuid4().bytes])
    report = perform(disable(shape, location))
    assert scratch.column("SELECT n FROM t WHERE s = 'off' ORDER BY n") == ["before", "never"]
    perform(enable(shape, location, report["undo_record"]))
    assert scratch.column("SELECT n FROM t WHERE s = 'off'") == []
    ((first, last),) = scratch.rows("SELECT MIN(seen), MAX(seen) FROM t WHERE n IN ('before', 'never')")
    shanghai = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=8)
    assert timedelta(0) <= shanghai - first < timedelta(minutes=5)
    assert timedelta(0) <= shanghai - last < timedelta(minutes=5)
