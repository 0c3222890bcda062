"""The demo's judge: it must see every kind of wrong result."""

from __future__ import annotations

import copy

import pytest

from dev.expectations import differences


@pytest.fixture
def before():
    def user(key, nickname, status):
        return {"id": key, "name": f"u{key}", "nickname": nickname, "status": status, "updatedAt": "old"}

    def row(key, name):
        return {"id": key, "name": name, "status": "pending", "home": None, "attempts": "0", "error": None}

    return {
        "user": {
            "1": user("1", "expect-enabled", "1"),
            "2": user("2", "expect-disabled", "1"),
            "3": user("3", "expect-disabled", "0"),
        },
        "policy": {"1": {"id": "1", "name": "p"}},
        "policy_audit": {
            "1": {"id": "1", "name": "expect-kept-fresh-1"},
            "2": {"id": "2", "name": "expect-deleted-old-1"},
        },
        "secret": {"1": {"id": "1", "name": "expect-deleted-expired-1"}},
        "user_provisioning": {
            "1": row("1", "expect-normal-1"),
            "2": row("2", "expect failed 2"),
        },
    }


@pytest.fixture
def right(before):
    after = copy.deepcopy(before)
    after["user"]["2"].update(status="0", updatedAt="new")
    del after["policy_audit"]["2"], after["secret"]["1"]
    rows = after["user_provisioning"]
    rows["1"].update(status="normal", home="/home/expect-normal-1", attempts="1")
    rows["2"].update(status="failed", attempts="1", error="any")
    return after


def test_the_right_result_has_no_difference(before, right):
    assert differences(before, right) == []


def test_doing_nothing_is_not_enough(before):
    assert differences(before, copy.deepcopy(before)) == [
        "user 2 (u2): status is 1, expected 0",
        "policy_audit 2 (expect-deleted-old-1) is there, expected to be gone",
        "secret 1 (expect-deleted-expired-1) is there, expected to be gone",
        "user_provisioning 1 (expect-normal-1): status is pending, expected normal",
        "user_provisioning 1 (expect-normal-1): home is None, expected /home/expect-normal-1",
        "user_provisioning 1 (expect-normal-1): attempts is 0, expected 1",
        "user_provisioning 2 (expect failed 2): status is pending, expected failed",
        "user_provisioning 2 (expect failed 2): attempts is 0, expected 1",
    ]


def test_a_wrongly_disabled_user(before, right):
    right["user"]["1"]["status"] = "0"
    assert differences(before, right) == ["user 1 (u1): status is 0, expected 1"]


def test_another_column_of_a_disabled_user(before, right):
    right["user"]["2"]["name"] = "renamed"
    assert differences(before, right) == ["user 2 (u2): name is renamed, expected u2"]


def test_a_row_that_was_written_without_need(before, right):
    right["user"]["3"]["updatedAt"] = "new"
    assert differences(before, right) == ["user 3 (u3): updatedAt is new, expected old"]


def test_a_row_too_many_deleted(before, right):
    del right["policy_audit"]["1"], right["policy"]["1"], right["user"]["3"]
    assert differences(before, right) == [
        "user 3 (u3) is gone, expected to stay",
        "policy 1 (p) is gone, expected to stay",
        "policy_audit 1 (expect-kept-fresh-1) is gone, expected to stay",
    ]


def test_a_row_that_came_from_nowhere(before, right):
    right["secret"]["9"] = {"id": "9", "name": "new"}
    assert differences(before, right) == ["secret 9 (new) is there, expected to be gone"]
