"""An account table that is wrong by itself is an error when the DAG file is parsed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.account_table import IAM_ACCOUNTS, AccountTable, account_table
from iam_watcher.jobs.conditions import AnyOf, Column
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator

FIELDS = {
    "table": "members",
    "name": "login",
    "status": "state",
    "last_login": "seen_at",
    "created": "made_at",
    "admin": "is_owner",
}
DISABLE = {"task_id": "t", "max_inactive_days": 180}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": ""}, "table is ''; expected a name"),
        ({"name": "{{ params.name }}"}, "name is '{{ params.name }}'"),
        ({"status": None}, "status is None"),
        ({"last_login": "a`b"}, "last_login is 'a`b'"),
        ({"created": 1}, "created is 1"),
        ({"email": ["a"]}, "email is ['a']"),
        ({"updated": " x"}, "updated is ' x'"),
        ({"admin": None}, "admin is None; expected the name of a column, or a list of names"),
        ({"admin": {"a"}}, "admin is {'a'}; expected the name of a column"),
        ({"admin": ["is_owner", 1]}, "admin is 1; expected a name"),
        ({"last_login": "login"}, "name and last_login are both 'login'; expected different columns"),
        ({"created": "SEEN_AT"}, "last_login and created are both 'SEEN_AT'"),
        ({"admin": ["is_staff", "state"]}, "status and admin are both 'state'"),
        ({"active": None}, "active is None; expected a whole number or a text"),
        ({"disabled": 0.5}, "disabled is 0.5; expected a whole number or a text"),
        ({"active": "on"}, "active is 'on' and disabled is 0; expected two numbers or two texts"),
        ({"disabled": "0"}, "active is 1 and disabled is '0'; expected two numbers or two texts"),
        ({"active": 0}, "active is 0 and disabled is 0; expected two values that differ"),
        (
            {"active": True, "disabled": 1},
            "active is True and disabled is 1; expected two values that differ",
        ),
        ({"active": "On", "disabled": "on "}, "by more than capitals and spaces"),
        ({"active": "a\ud800", "disabled": "b"}, "accounts has active="),
        ({"time_unit": "seconds"}, "time_unit is 'seconds'; expected 'unix_seconds' or"),
        ({"time_unit": "date"}, "time_unit is 'date'; expected 'unix_seconds' or"),
        ({"time_zone": "Beijing"}, "time_zone is 'Beijing'; expected an IANA name"),
        ({"time_zone": None}, "time_zone is None; expected an IANA name"),
        ({"where": "state = 1"}, "where is 'state = 1'; expected a list"),
        ({"where": [("state", "~", 1)]}, "where has the operator '~'; expected one of"),
    ],
)
def test_what_is_wrong_is_an_error(change, message):
    with pytest.raises(JobArgumentError) as refused:
        AccountTable(**{**FIELDS, **change})
    assert message in str(refused.value)


NOT_ACTIVE = (
    *("blocked", "Locked", "is_disabled", "isSuspended", "INACTIVE", "account_deleted", "banned_flag"),
    *("del_flag", "USERBlocked", "not_active_blocked"),
)
ACTIVE = (
    *("is_active", "enabled", "account_non_locked", "accountNonLocked", "is_not_deleted", "unlocked"),
    *("blockedness", "clock", "deleter", "status"),
)


@pytest.mark.parametrize("status", NOT_ACTIVE)
def test_a_status_that_is_1_for_accounts_that_are_not_active_needs_both_values(status):
    with pytest.raises(JobArgumentError) as refused:
        AccountTable(**{**FIELDS, "status": status})
    assert f"status is {status!r}, and by the word " in str(refused.value)
    assert "Give active= and disabled= explicitly, such as active=0, disabled=1" in str(refused.value)
    with pytest.raises(JobArgumentError, match="The defaults are active=1 and disabled=0"):
        AccountTable(**{**FIELDS, "status": status, "active": 2})
    with pytest.raises(JobArgumentError, match=f"status is '{status}'"):
        replace(AccountTable(**FIELDS), status=status)
    for active, disabled in ((0, 1), (1, 0), ("yes", "no")):
        given = AccountTable(**{**FIELDS, "status": status, "active": active, "disabled": disabled})
        assert replace(given, email="mail").active == active


@pytest.mark.parametrize("status", ACTIVE)
def test_any_other_status_has_its_default_values(status):
    accounts = AccountTable(**{**FIELDS, "status": status})
    assert (accounts.active, accounts.disabled) == (1, 0)
    assert accounts == AccountTable(**{**FIELDS, "status": status, "active": 1, "disabled": 0})
    assert [type(accounts.shape[name]) for name in ("active", "disabled")] == [int, int]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accounts": "auth_user"}, "accounts is 'auth_user'; expected an AccountTable(...)"),
        ({"accounts": FIELDS}, "expected an AccountTable(...)"),
        (
            {"accounts": AccountTable(**FIELDS), "table": "members"},
            "accounts names the table 'members'; leave",
        ),
    ],
)
def test_both_operators_take_an_account_table_or_the_name_of_iams(options, message):
    for operator, arguments in (
        (DisableInactiveUsersOperator, DISABLE),
        (ReenableUsersOperator, {"task_id": "t"}),
    ):
        with pytest.raises(JobArgumentError) as refused:
            operator(**arguments, **options)
        assert message in str(refused.value)
        assert operator(**arguments, accounts=AccountTable(**FIELDS)).table == "members"
        assert operator(**arguments, table="people").accounts.is_iam
        assert operator(**arguments).table == "user"


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"admin": ()},
            {},
            "names no column of administrators, so the job can't leave them alone. Set admin",
        ),
        ({"created": None}, {"min_age_days": 30}, "min_age_days is 30, but the AccountTable names no column"),
        ({"created": None}, {"min_age_days": "{{ 30 }}"}, "min_age_days is '{{ 30 }}', but the AccountTable"),
        (
            {},
            {"on_disable": "expire_secrets"},
            "needs the table `secret` of IAM; expected 'keep' for the accounts",
        ),
    ],
)
def test_what_the_table_can_not_have_is_refused(change, options, message):
    with pytest.raises(JobArgumentError) as refused:
        DisableInactiveUsersOperator(**DISABLE, accounts=AccountTable(**{**FIELDS, **change}), **options)
    assert message in str(refused.value)


def test_what_the_table_does_not_need_is_taken():
    without = AccountTable(**{**FIELDS, "admin": (), "created": None})
    DisableInactiveUsersOperator(**DISABLE, accounts=without, exempt_admins=False)
    DisableInactiveUsersOperator(**DISABLE, table="people", on_disable="expire_secrets")
    assert account_table(None, None) is IAM_ACCOUNTS


def test_a_record_and_its_reader_agree_on_all_that_an_undo_writes():
    shape = AccountTable(**FIELDS).shape
    assert shape.keys() >= {"name", "status", "active", "disabled", "last_login", "time_unit", "time_zone"}
    other = {
        "name": "x",
        "status": "x",
        "last_login": "x",
        "active": 3,
        "disabled": 4,
        "updated": "x",
        "time_unit": "unix_seconds",
        "time_zone": "Asia/Shanghai",
    }
    for field, value in other.items():
        assert AccountTable(**{**FIELDS, field: value}).shape != shape, field


TEXTS = {"active": "active", "disabled": "suspended"}


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ({}, ("state", "=", 1)),
        ({}, ("STATE", "=", 1)),
        ({}, ("state", "in", [1, 2])),
        ({}, ("state", "<>", 0)),
        ({}, ("state", "is null")),
        ({}, ("state", ">", 0)),
        ({}, ("login", "=", Column("state"))),
        ({}, ("state", "<>", Column("login"))),
        ({}, AnyOf([("state", "=", 1), ("vip", "=", 1)])),
        (TEXTS, ("state", "not in", ["deleted", "Suspended"])),
        (TEXTS, ("state", "like", "a%")),
    ],
)
def test_a_condition_that_a_disabled_account_would_not_meet_is_an_error(change, condition):
    """The account could not be enabled again: it would count as gone."""
    with pytest.raises(JobArgumentError, match="a condition on 'state', the column of the status"):
        AccountTable(**{**FIELDS, **change, "where": [condition]})


@pytest.mark.parametrize(
    ("change", "condition"),
    [
        ({}, ("state", "in", [1, 0, 2])),
        ({}, ("state", "<>", 2)),
        ({}, ("state", "is not null")),
        (TEXTS, ("state", "not in", ["deleted", "new"])),
        (TEXTS, AnyOf([("state", "<>", "deleted"), ("vip", "=", 1)])),
    ],
)
def test_a_condition_that_active_and_disabled_accounts_meet_is_no_error(change, condition):
    assert AccountTable(**{**FIELDS, **change, "where": [condition]}).where == [condition]
