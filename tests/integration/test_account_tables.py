"""Accounts of other systems: tables of other shapes are disabled, warned and re-enabled as IAM's is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive import reader
from iam_watcher.ui.people import disabled_users
from tests.integration.account_shapes import (
    DJANGO,
    KEYCLOAK,
    NEW,
    NOW,
    OLD,
    SHAPES,
    STATUS_TEXT,
    as_date,
    as_milliseconds,
    disable,
    enable,
    everything,
    location,
    replace_shape,
)
from tests.integration.conftest import TaskInstance
from tests.integration.test_keys import Variables

__all__ = ["location"]

pytestmark = pytest.mark.every_server


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request, scratch):
    scratch.run(request.param.create)
    return request.param


def test_only_the_inactive_are_disabled(shape, scratch, perform, location):
    login, created, status = shape.accounts.last_login, shape.accounts.created, shape.accounts.status
    shape.add(scratch, "old")
    shape.add(scratch, "new", **{login: shape.time(NEW)})
    shape.add(scratch, "off", **{status: shape.disabled})
    shape.add(scratch, "exempt-1")
    for number, never in enumerate(shape.never):
        shape.add(scratch, f"never-{number}", **{login: never})
        shape.add(scratch, f"never-new-{number}", **{login: never, created: shape.time(NEW)})
    for admin in shape.accounts.admins:
        shape.add(scratch, f"admin-{admin}", **{admin: 1})
    if shape.other is not None:
        shape.add(scratch, "third", **{status: shape.other})
    before = shape.of(scratch, shape.active)
    gone = {"old", *(f"never-{number}" for number in range(len(shape.never)))}
    for dry_run in (True, False):
        report = perform(disable(shape, location, exempt_names=["exempt-*"], dry_run=dry_run))
        assert report["matched"] == len(gone)
        assert report["skipped"].get("admin", 0) == len(shape.accounts.admins)
        assert report["skipped"]["exempt_name"] == 1
        assert shape.of(scratch, shape.active) == before - (set() if dry_run else gone)
    assert report["changed"] == len(gone)
    assert shape.of(scratch, shape.disabled) == {*gone, "off"}
    if shape.other is not None:
        assert shape.of(scratch, shape.other) == {"third"}
    assert perform(disable(shape, location, exempt_names=["exempt-*"]))["changed"] == 0


def test_a_dry_run_lists_names_and_days(shape, scratch, perform, location):
    shape.add(scratch, "old")
    shape.add(scratch, "never", **{shape.accounts.last_login: shape.never[0]})
    report = perform(disable(shape, location, dry_run=True))
    found = {one["name"]: one["age_days"] for one in report["examples"]}
    assert found == pytest.approx({"old": 200, "never": 200}, abs=0.1)


def test_re_enabling_is_exact(shape, scratch, perform, location):
    for name in ("one", "two", "changed", "back", "gone"):
        shape.add(scratch, name)
    shape.add(scratch, "off", **{shape.accounts.status: shape.disabled})
    shape.add(scratch, "new", **{shape.accounts.last_login: shape.time(NEW)})
    before = everything(shape, scratch)
    report = perform(disable(shape, location))
    assert report["changed"] == 5
    table, name = shape.accounts.table, shape.accounts.name
    later = "+ 1" if shape.accounts.time_unit else "+ INTERVAL 1 SECOND"
    scratch.run(
        f"UPDATE `{table}` SET `{shape.accounts.created}` = `{shape.accounts.created}` {later}"
        f" WHERE `{name}` = 'changed'"
    )
    scratch.run(
        f"UPDATE `{table}` SET `{shape.accounts.status}` = %s WHERE `{name}` = 'back'", [shape.active]
    )
    scratch.run(f"DELETE FROM `{table}` WHERE `{name}` = 'gone'")
    for dry_run in (True, False):
        back = perform(enable(shape, location, report["undo_record"], dry_run=dry_run))
        assert back["skipped"] == {"changed_since": 1, "enabled_already": 1, "gone": 1}
        assert (back["listed"], back["enabled"]) == (5, 2)
    assert shape.of(scratch, shape.active) == {"one", "two", "back", "new"}
    # All else is as before, but for the last login, which is now.
    columns = scratch.column(f"SHOW COLUMNS FROM `{table}`")
    after = {
        row[columns.index(name)]: dict(zip(columns, row, strict=True)) for row in everything(shape, scratch)
    }
    for row in before:
        then = dict(zip(columns, row, strict=True))
        if then[name] in {"one", "two"}:
            now = after[then[name]]
            login = now.pop(shape.accounts.last_login)
            then.pop(shape.accounts.last_login)
            assert now == then
            moment = login.replace(tzinfo=UTC).timestamp() if isinstance(login, datetime) else login
            moment /= 1000 if shape is KEYCLOAK else 1
            assert abs(moment - datetime.now(UTC).timestamp()) < 300
    assert perform(enable(shape, location, report["undo_record"]))["enabled"] == 0
    assert perform(disable(shape, location))["changed"] == 1, "only the one whom the test re-enabled"


def test_names_choose_users_with_and_without_a_record(shape, scratch, perform, location):
    for name in ("one", "two"):
        shape.add(scratch, name)
    shape.add(scratch, "off", **{shape.accounts.status: shape.disabled})
    report = perform(disable(shape, location))
    back = perform(enable(shape, location, report["undo_record"], names=["two", "off"]))
    assert back["skipped"] == {"not_in_record": 1}
    assert shape.of(scratch, shape.active) == {"two"}
    perform(enable(shape, location, None, names=["off"]))
    assert shape.of(scratch, shape.active) == {"two", "off"}


def test_users_are_warned(shape, scratch, perform, location, monkeypatch):
    accounts = shape.accounts
    monkeypatch.setattr(Variables, "kept", {})
    monkeypatch.setattr("iam_watcher.accounts.due_users.Variable", Variables)
    day = timedelta(days=1)
    shape.add(scratch, "due-2", **{accounts.last_login: shape.time(178 * day)})
    shape.add(scratch, "due-10", **{accounts.last_login: shape.time(170 * day)})
    shape.add(
        scratch, "never", **{accounts.last_login: shape.never[0], accounts.created: shape.time(178 * day)}
    )
    shape.add(
        scratch, "young", **{accounts.last_login: shape.time(178 * day), accounts.created: shape.time(day)}
    )
    shape.add(scratch, "fine", **{accounts.last_login: shape.time(NEW)})
    shape.add(scratch, "off", **{accounts.last_login: shape.time(178 * day), accounts.status: shape.disabled})
    told = []
    operator = disable(
        shape,
        location,
        min_age_days=30,
        warn_days=[3, 14],
        on_warning=lambda context: told.extend(context["due_users"]),
    )
    report = perform(operator)
    assert {(one["name"], one["days"]) for one in told} == {("due-2", 3), ("never", 3), ("due-10", 14)}
    assert report["also"] == {"due_in_3_days": 2, "due_in_14_days": 1}
    due = {one["name"]: datetime.fromisoformat(one["due"]) for one in told}
    assert abs(due["due-2"] - NOW - 2 * day) < timedelta(seconds=5)
    emails = {one["email"] for one in told}
    assert emails == ({"a@example.invalid"} if shape is DJANGO else {None})


def test_limits_hold(shape, scratch, perform, location, monkeypatch):
    monkeypatch.setattr(Variables, "kept", {})
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    for number in range(6):
        shape.add(scratch, f"user-{number}")
    with pytest.raises(AirflowFailException, match=r"more than max_share=0\.5"):
        perform(disable(shape, location, max_share=0.5))
    assert len(shape.of(scratch, shape.active)) == 6
    assert perform(disable(shape, location, max_rows=4))["changed"] == 4
    assert len(shape.of(scratch, shape.active)) == 2
    assert perform(disable(shape, location, max_rows=4))["changed"] == 2


def test_a_record_of_another_shape_is_refused(shape, scratch, perform, location):
    shape.add(scratch, "old")
    report = perform(disable(shape, location))
    accounts = shape.accounts
    other = {"active": "on", "disabled": "off"} if shape is STATUS_TEXT else {"active": 3, "disabled": 2}
    before = everything(shape, scratch)
    with pytest.raises(AirflowFailException, match=r"had accounts with active=.* this job has active="):
        perform(enable(replace_shape(shape, **other), location, report["undo_record"]))
    with pytest.raises(AirflowFailException, match="had accounts with"):
        perform(enable(shape, location, report["undo_record"], accounts=None, table=accounts.table))
    assert everything(shape, scratch) == before


def test_other_columns_than_in_the_record_are_refused(shape, scratch, perform, location):
    """Without a column that changes with each change, only the checksum shows who was changed."""
    shape.add(scratch, "old")
    report = perform(disable(shape, location))
    scratch.run(f"ALTER TABLE `{shape.accounts.table}` DROP COLUMN `{shape.accounts.created}`, ADD more int")
    without = replace_shape(shape, created=None)
    with pytest.raises(AirflowFailException, match="has other columns than when the undo record was written"):
        perform(enable(without, location, report["undo_record"]))
    assert shape.of(scratch, shape.active) == set()
    perform(enable(without, location, None, names=["old"]))
    assert shape.of(scratch, shape.active) == {"old"}


def test_the_page_shows_the_users_of_a_record(shape, scratch, perform, location):
    shape.add(scratch, "old")
    shape.add(scratch, "never", **{shape.accounts.last_login: shape.never[-1]})
    report = perform(disable(shape, location))
    found = disabled_users(report["undo_record"], below=location, begin=0)
    assert {one["name"]: one["seen"] and one["seen"][:19] for one in found["users"]} == {
        "old": as_date(OLD),
        "never": None,
    }


def test_the_record_is_for_people_too(scratch, perform, location):
    scratch.run(KEYCLOAK.create)
    KEYCLOAK.add(scratch, "old")
    report = perform(disable(KEYCLOAK, location), TaskInstance("run"))
    (written,) = reader.find(report["undo_record"], kind="disabled_users")
    (line,) = written.rows()
    assert line["name"] == "old"
    assert line["loginedAt"] == str(as_milliseconds(OLD))
    assert line["why"].startswith(f"last login {as_date(OLD)} before ")
    key = scratch.value("SELECT ID FROM USER_ENTITY")
    assert bytes.fromhex(line["id"]).decode() == key


def test_a_new_account_with_an_old_login_is_left(shape, scratch, perform, location):
    shape.add(scratch, "copied", **{shape.accounts.created: shape.time(NEW)})
    report = perform(disable(shape, location, min_age_days=30))
    assert (report["changed"], report["skipped"]) == (0, {"new_account": 1})
