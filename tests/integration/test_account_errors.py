"""An account table that does not fit is an error, or a warning, before the first write."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.integration.account_shapes import (
    DJANGO,
    KEYCLOAK,
    OLD,
    SHAPES,
    STATUS_TEXT,
    as_seconds,
    disable,
    enable,
    everything,
    location,
    replace_shape,
)

__all__ = ["location"]

pytestmark = pytest.mark.every_server


@pytest.mark.parametrize(
    ("shape_name", "change", "message"),
    [
        ("django", {"name": "user"}, "auth_user has no column 'user'; it has id, password"),
        ("django", {"status": "email"}, "column 'email' of auth_user is varchar; expected"),
        (
            "django",
            {"active": "yes", "disabled": "no"},
            "column 'is_active' of auth_user is tinyint; expected",
        ),
        ("django", {"active": 1, "disabled": 300}, "accounts has is_active = 300, expected a whole number"),
        ("django", {"last_login": "first_name"}, "column 'first_name' of auth_user is varchar"),
        ("django", {"time_unit": "unix_seconds"}, "have dates. Leave time_unit out"),
        ("django", {"admin": "email"}, "column 'email' of auth_user is varchar"),
        ("django", {"updated": "changed"}, "auth_user has no column 'changed'"),
        ("django", {"active": 5, "disabled": 4}, "has neither 5 nor 4 in a sample of the accounts; it has 1"),
        ("django", {"where": [("realm", "=", "x")]}, "auth_user has no column 'realm'"),
        ("django", {"status": "id"}, "status is 'id', but this column of auth_user is in the key"),
        ("keycloak", {"active": 2}, "accounts has ENABLED = 2, expected a whole number from 0 to 1"),
        ("keycloak", {"time_unit": None}, "is bigint.*, a number, and time_unit is not given"),
        ("keycloak", {"time_unit": "unix_seconds"}, "Set time_unit='unix_milliseconds'"),
        ("keycloak", {"time_unit": "unix_seconds", "created": None}, "Set time_unit='unix_milliseconds'"),
        ("keycloak", {"time_unit": "unix_microseconds"}, "Set time_unit='unix_milliseconds'"),
        ("status text", {"active": "aktiv", "disabled": "gesperrt"}, "has neither 'aktiv' nor 'gesperrt'"),
        ("status text", {"active": 1, "disabled": 0}, "column 'state' of members is varchar; expected"),
        ("status text", {"disabled": "s" * 21}, "expected a text of up to 20 characters"),
        (
            "status text",
            {"status": "org", "active": 1, "disabled": 0},
            "is in the key PRIMARY",
        ),
        ("status text", {"time_unit": "unix_milliseconds"}, "Set time_unit='unix_seconds'"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_does_not_fit_the_table_is_an_error_before_the_first_write(
    scratch, perform, location, shape_name, change, message, dry_run
):
    shape = SHAPES[shape_name]
    scratch.run(shape.create)
    for number in range(3):
        shape.add(scratch, f"old-{number}")
    before = everything(shape, scratch)
    wrong = replace_shape(shape, **change)
    with pytest.raises(AirflowFailException, match=message):
        perform(disable(wrong, location, dry_run=dry_run))
    assert everything(shape, scratch) == before


def test_a_wrong_unit_is_an_error_though_nobody_has_logged_in(scratch, perform, location):
    scratch.run(KEYCLOAK.create)
    KEYCLOAK.add(scratch, "never", LAST_LOGIN=None)
    with pytest.raises(AirflowFailException, match="Set time_unit='unix_milliseconds'"):
        perform(disable(replace_shape(KEYCLOAK, time_unit="unix_seconds"), location))


def test_a_mail_address_is_needed_for_warnings_only(scratch, perform, location):
    scratch.run(DJANGO.create)
    DJANGO.add(scratch, "old")
    wrong = replace_shape(DJANGO, email="mail")
    with pytest.raises(AirflowFailException, match="auth_user has no column 'mail'"):
        perform(disable(wrong, location, warn_days=[3]))
    assert perform(disable(wrong, location))["changed"] == 1


def test_a_misspelt_status_is_logged(scratch, perform, location, caplog):
    scratch.run(STATUS_TEXT.create)
    STATUS_TEXT.add(scratch, "old")
    STATUS_TEXT.add(scratch, "off", state="suspended")
    STATUS_TEXT.add(scratch, "of another system", org=8, state="suspendid")
    misspelt = replace_shape(STATUS_TEXT, disabled="suspendid", where=[("org", "=", 7)])
    perform(disable(misspelt, location, dry_run=True))
    assert (
        "No account in a sample of members has state='suspendid'. It has 'active', 'suspended'" in caplog.text
    )


def test_a_last_login_that_can_not_be_set_has_no_undo(scratch, perform, location):
    scratch.run(STATUS_TEXT.create)
    scratch.run("ALTER TABLE members DROP COLUMN seen_at, ADD seen_at bigint AS (made_at + 1) STORED")
    insert = "INSERT INTO members (org, login, state, made_at, is_owner) VALUES (1, 'old', 'active', %s, 0)"
    scratch.run(insert, [as_seconds(OLD)])
    with pytest.raises(AirflowFailException, match=r"last_login is 'seen_at', but .* is computed"):
        perform(disable(STATUS_TEXT, location))
    with pytest.raises(AirflowFailException, match=r"last_login is 'seen_at', but .* is computed"):
        perform(enable(STATUS_TEXT, location, None, names=["old"]))
    assert perform(disable(STATUS_TEXT, location, undo_location="none"))["changed"] == 1


def test_a_trigger_is_logged(scratch, perform, location, caplog):
    scratch.run(DJANGO.create)
    DJANGO.add(scratch, "old")
    scratch.run("CREATE TRIGGER noted BEFORE UPDATE ON auth_user FOR EACH ROW SET NEW.first_name = 'x'")
    perform(disable(DJANGO, location, dry_run=True))
    assert "trigger noted" in caplog.text
