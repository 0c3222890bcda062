from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum, IntEnum

import pytest

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs import arguments
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.exempt_names import exempt_condition
from iam_watcher.jobs.purge_rows import PurgeRowsOperator


@pytest.mark.parametrize(
    ("value", "number"), [(0, 0), (180, 180), ("180", 180), (" 7 ", 7), (36_500, 36_500)]
)
def test_days(value, number):
    assert arguments.days("d", value) == number


@pytest.mark.parametrize("value", [-1, "-1", 1.5, "1.5", "", "x", None, True, 36_501, "9" * 30, "٣", [1]])
def test_other_days_are_refused_by_name_and_value(value):
    with pytest.raises(JobArgumentError, match=r"older_than_days is .*; expected a whole number of days"):
        arguments.days("older_than_days", value)


@pytest.mark.parametrize(("value", "number"), [(0, 0), (1, 1), (0.5, 0.5), ("0.25", 0.25)])
def test_share(value, number):
    assert arguments.share("s", value) == number


@pytest.mark.parametrize("value", [-0.1, 1.1, "50%", None, True, "nan", float("inf")])
def test_other_shares_are_refused(value):
    with pytest.raises(JobArgumentError, match="max_share is"):
        arguments.share("max_share", value)


@pytest.mark.parametrize(
    ("value", "truth"), [(True, True), (False, False), ("True", True), ("false", False), (" true ", True)]
)
def test_flag(value, truth):
    assert arguments.flag("f", value) is truth


@pytest.mark.parametrize("value", ["", "yes", 1, 0, None, "{{ x }}"])
def test_other_flags_are_refused(value):
    with pytest.raises(JobArgumentError, match="dry_run is"):
        arguments.flag("dry_run", value)


@pytest.mark.parametrize(
    "value", ["s3://bucket/iam", "s3://connection@bucket/iam/", "file:///mnt/iam", "file:///mnt/a:b@c"]
)
def test_location(value):
    assert arguments.location("archive", value) == value.rstrip("/")


@pytest.mark.parametrize(
    "value", ["s3", "/mnt/iam", "s3://", "s3://bucket/../other", "s3://bucket/iam#x", "", 1]
)
def test_other_locations_are_refused(value):
    with pytest.raises(JobArgumentError, match=r"archive is .*; expected a URL such as"):
        arguments.location("archive", value)


@pytest.mark.parametrize("value", ["s3://key:hidden@bucket/iam", "key:hidden@bucket", "s3:/:hidden@bucket"])
def test_a_location_with_a_password_is_refused_and_not_shown(value):
    with pytest.raises(JobArgumentError, match="archive has a password in it; put user and") as refused:
        arguments.location("archive", value)
    assert "hidden" not in str(refused.value)


class State(str, Enum):  # noqa: UP042  as many have it
    OPEN = "open"


class Level(IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "value", ["s3://bucket/iam?X-Amz-Signature=hidden", "https://host/iam?sig=hidden", "iam?hidden"]
)
def test_a_signed_url_is_refused_and_not_shown(value):
    for check in (arguments.location, lambda name, text: arguments.below(name, text, "s3://bucket")):
        with pytest.raises(JobArgumentError, match=r"archive has a '\?' in it") as refused:
            check("archive", value)
        assert "hidden" not in str(refused.value)


def test_a_folder_with_a_password_is_refused_and_not_shown():
    with pytest.raises(JobArgumentError, match="path has a password in it") as refused:
        arguments.below("path", "s3://key:hidden@bucket/iam/x", "s3://bucket/iam")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "value", ["file://a/b", "file://localhost/mnt/iam", "file:////mnt/iam", "local://a/b", "file://../x"]
)
def test_a_place_that_is_no_absolute_path_is_refused(value):
    """Two slashes and a name would lie below the worker's working directory."""
    with pytest.raises(JobArgumentError, match=r"report_to is .*expected (three slashes|a URL)"):
        arguments.location("report_to", value)


PURGE = {"task_id": "t", "table": "policy_audit", "age_column": "deletedAt", "older_than_days": 180}
DISABLE = {"task_id": "t", "max_inactive_days": 180}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"older_than_days": -1}, "older_than_days is -1"),
        ({"older_than_days": "-1"}, "older_than_days is '-1'"),
        ({"older_than_days": None, "grace_days": -2}, "grace_days is -2"),
        ({"older_than_days": None}, "expected one of them"),
        ({"grace_days": 1}, "expected one of them"),
        ({"table": "a; DROP TABLE user"}, "table is 'a; DROP TABLE user'"),
        ({"table": "`user`"}, "table is"),
        ({"age_column": "deletedAt) OR (1=1"}, "age_column is"),
        ({"age_column": "{{ params.column }}"}, "age_column is"),
        ({"age_unit": "days"}, "age_unit is 'days'"),
        ({"age_timezone": "Mars/Olympus"}, "age_timezone is 'Mars/Olympus'"),
        ({"pace": "slow"}, "pace is 'slow'; expected one of fast, polite"),
        ({"dry_run": "maybe"}, "dry_run is 'maybe'"),
        ({"max_rows": 0}, "max_rows is 0; expected a whole number of rows over 0"),
        ({"time_budget": timedelta(0)}, "time_budget is 0:00:00; expected a duration over 0"),
        ({"max_rows": "-5"}, "max_rows is '-5'"),
        ({"max_share": 1.5}, "max_share is 1.5"),
        ({"archive": "/mnt/iam"}, "archive is '/mnt/iam'; expected a URL such as"),
        ({"where": "status = 1"}, "where is 'status = 1'; expected a list of (column, operator, value)"),
        ({"where": ["status = 1"]}, "where has 'status = 1'; expected (column, operator, value)"),
        ({"where": [("status", "=")]}, "expected (column, operator, value)"),
        ({"where": [("1=1 OR status", "=", 1)]}, "where is '1=1 OR status'; expected a plain name"),
        ({"where": [("status", "= 1 OR 1", 1)]}, "where has the operator '= 1 OR 1'; expected one of"),
        ({"where": [("status", "in", [])]}, "expected a list after in"),
        ({"where": [("status", "in", "ab")]}, "expected a list after in"),
        ({"where": [("status", "=", None)]}, "None after is"),
        ({"where": [("status", "is", 1)]}, "None after is"),
        ({"where": None}, "where is None; expected a list of (column, operator, value)"),
        ({"where": {"status": 1}}, "where is {'status': 1}; expected a list"),
        ({"where": iter([])}, "expected a list of (column, operator, value)"),
        ({"where": [1]}, "where has 1; expected (column, operator, value)"),
        ({"where": [("status", ["="], 1)]}, "where has the operator ['=']; expected one of"),
        ({"where": [("status", "=", State.OPEN)]}, "expected the Enum's value 'open'"),
        ({"where": [("status", "in", [Level.LOW])]}, "expected the Enum's value 1"),
        ({"where": [("status", "=", {"a": 1})]}, "expected a text, a number, bytes, a date or a time, not"),
        ({"where": [("status", "=", object)]}, "expected a text, a number, bytes, a date or a time, not"),
        ({"where": [("status", "in", [1, None])]}, "expected a text, a number, bytes, a date or a time, not"),
        ({"where": [("status", "not in", ["a", ["b"]])]}, "expected a text, a number, bytes, a date"),
        ({"where": [("status", "in", b"ab")]}, "expected a list after in"),
        ({"where": [("status", "=", ["a"])]}, "else one value"),
        ({"where": [("status", "<", float("nan"))]}, "expected a finite number, not nan"),
        ({"where": [("status", "<", Decimal("Infinity"))]}, "expected a finite number"),
        ({"where": [("status", "=", "{{ ds }}")]}, "expected a text without a template, as where is not"),
        ({"where": [("status", "in", ["a", "{% if x %}"])]}, "expected a text without a template"),
        ({"where": [("status", "=", "\ud800")]}, "expected a text without lone surrogates"),
    ],
)
def test_a_bad_literal_is_refused_when_the_dag_file_is_parsed(change, message):
    with pytest.raises(JobArgumentError, match="argument of the job") as refused:
        PurgeRowsOperator(**{**PURGE, **change})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_inactive_days": -180}, "max_inactive_days is -180"),
        ({"max_share": 50}, "max_share is 50"),
        ({"exempt_names": "svc-*"}, "exempt_names is 'svc-*'; expected a list"),
        ({"exempt_names": ["svc-*", ""]}, "exempt_names is"),
    ],
)
def test_the_same_for_users(change, message):
    with pytest.raises(JobArgumentError) as refused:
        DisableInactiveUsersOperator(**{**DISABLE, **change})
    assert message in str(refused.value)


def test_templates_wait_until_they_are_rendered():
    PurgeRowsOperator(**{**PURGE, "older_than_days": "{{ params.days }}", "dry_run": "{{ params.dry_run }}"})
    DisableInactiveUsersOperator(task_id="t", max_inactive_days="{{ var.value.d }}", max_share="{{ 1 }}")


def test_no_name_and_no_connection_is_a_template():
    fields = {*PurgeRowsOperator.template_fields, *DisableInactiveUsersOperator.template_fields}
    assert fields >= {"older_than_days", "max_inactive_days", "max_share", "is_dry_run"}
    assert fields.isdisjoint(
        {"table", "age_column", "where", "exempt_admins", "exempt_names", "mysql_conn_id", "announce"}
    )


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("svc-*", "svc-%"),
        ("svc_?", "svc|__"),
        ("100%*", "100|%%"),
        ("a|b*", "a||b%"),
        ("back\\slash*", "back\\slash%"),
    ],
)
def test_globs_become_like_patterns(name, pattern):
    condition, values = exempt_condition([name])
    assert "LIKE" in condition
    assert list(values.values()) == [pattern]


def test_a_name_without_wildcards_is_compared_as_it_is():
    condition, values = exempt_condition(["root_%", "svc-*"])
    assert condition == "`name` = %(exempt0)s OR `name` LIKE %(exempt1)s ESCAPE '|'"
    assert values == {"exempt0": "root_%", "exempt1": "svc-%"}
