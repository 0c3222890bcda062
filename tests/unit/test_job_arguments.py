"""The arguments of the operators: what each refuses when the DAG file is parsed, and with which words.

The tables have a line for each wrong value: hence the length.
"""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path

import pytest
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DAG, task

from iam_watcher import arguments
from iam_watcher.accounts.exempt_names import exempt_condition
from iam_watcher.database.column import Column
from iam_watcher.database.throttle import Throttle
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.announce import Announcement
from iam_watcher.jobs.children import Child
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk.pace import Pace


async def soon(context):
    raise AssertionError


def piece_by_piece(context):
    yield


class Soon:
    async def __call__(self, context):
        raise AssertionError


NAME = Column("name", "varchar", nullable=False)


@pytest.mark.parametrize(
    ("value", "number"), [(0, 0), (180, 180), ("180", 180), (" 7 ", 7), (36_500, 36_500)]
)
def test_days(value, number):
    assert arguments.days("d", value) == number


@pytest.mark.parametrize(
    "value", [-1, "-1", 1.5, "1.5", "", "x", None, True, 36_501, "9" * 30, Decimal(5), "٣", [1]]
)
def test_other_days_are_refused_by_name_and_value(value):
    with pytest.raises(JobArgumentError, match=r"older_than_days is .*; expected a whole number of days"):
        arguments.days("older_than_days", value)


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1), ("1", 1), (" 20 ", 20), (10**18 - 1, 10**18 - 1), (None, None)],
)
def test_row_count(value, number):
    assert arguments.row_count("n", value) == number


@pytest.mark.parametrize("value", [0, "0", -1, 1.0, "1.5", "", True, 10**18, "٣", [1], "None", Decimal(5)])
def test_other_row_counts_are_refused_by_name_and_value(value):
    with pytest.raises(JobArgumentError, match=r"max_rows is .*; expected a whole number of rows"):
        arguments.row_count("max_rows", value)


def test_an_identifier_may_have_one_to_64_characters():
    assert [arguments.identifier("n", "x" * length) for length in (1, 64)] == ["x", "x" * 64]
    with pytest.raises(JobArgumentError, match="up to 64 characters"):
        arguments.identifier("n", "x" * 65)


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


@pytest.mark.parametrize("value", ["x", "/x/", "s3://bucket/iam/x/", " x "])
def test_a_folder_below_a_location(value):
    assert arguments.below("path", value, "s3://bucket/iam") == "s3://bucket/iam/x"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "None",
        None,
        "s3://bucket/iam",
        "s3://bucket/iam2/x",
        "s3://b/x",
        "../x",
        "a/../x",
        "a//x",
        "./x",
        "x#y",
    ],
)
def test_a_folder_that_is_not_below_a_location_is_refused(value):
    with pytest.raises(JobArgumentError, match=r"path is .*; expected a folder below s3://bucket/iam"):
        arguments.below("path", value, "s3://bucket/iam")


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (arguments.identifier, "user"),
        (arguments.connection_id, "iam_mysql"),
        (arguments.boolean, True),
        (arguments.duration, timedelta(seconds=1)),
        (partial(arguments.one_of, known=("a", "b")), "b"),
        (arguments.text, "any"),
        (arguments.names, ["a", "b"]),
    ],
)
def test_what_is_right_is_returned_as_it_is(check, value):
    assert check("name", value) == value


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ("ann@example.com", True),
        ("Ann <ann@example.com>", True),
        ("ann@example.com, bob@example.com", False),
        ("ann", False),
        (None, False),
    ],
)
def test_one_mail_address(value, is_one):
    assert arguments.is_mail_address(value) is is_one


def test_names_of_the_arguments_of_an_operator_and_of_its_bases():
    class Base:
        def __init__(self, first, *, second=1, **kwargs):
            raise AssertionError

    class Operator(Base):
        def __init__(self, *args, third, **kwargs):
            raise AssertionError

    assert arguments.names_of(Operator) == {"first", "second", "third"}


def test_the_name_that_is_most_like_an_unknown_one():
    known = ["max_rows", "max_row_size", "dry_run"]
    assert arguments.nearest(["maxRow", "else"], known) == ["max_rows"]


def test_a_folder_with_a_password_is_refused_and_not_shown():
    with pytest.raises(JobArgumentError, match="path has a password in it") as refused:
        arguments.below("path", "s3://key:hidden@bucket/iam/x", "s3://bucket/iam")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "value", ["file://a/b", "file://localhost/mnt/iam", "file:////mnt/iam", "local://a/b", "file://../x"]
)
def test_a_place_that_is_no_absolute_path_is_refused(value):
    """Two slashes and a name would lie below the worker's working directory."""
    with pytest.raises(JobArgumentError, match=r"undo_location is .*expected (three slashes|a URL)"):
        arguments.location("undo_location", value)


PURGE = {"task_id": "t", "table": "policy_audit", "age_column": "deletedAt", "older_than_days": 180}
DISABLE = {"task_id": "t", "max_inactive_days": 180}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"older_than_days": -1}, "older_than_days is -1"),
        ({"older_than_days": "-1"}, "older_than_days is '-1'"),
        ({"older_than_days": None, "grace_days": -2}, "grace_days is -2"),
        ({"older_than_days": None}, "expected one of older_than"),
        ({"grace_days": 1}, "expected one of older_than"),
        ({"table": "`user`"}, "table is"),
        ({"table": "a" * 65}, "table is"),
        ({"table": " user"}, "table is"),
        ({"table": "user\n"}, "table is"),
        ({"table": ""}, "table is ''; expected a name of up to 64 characters as the database has it"),
        ({"table": None}, "table is None"),
        ({"age_column": 1}, "age_column is 1"),
        ({"age_column": "{{ params.column }}"}, "age_column is"),
        ({"age_unit": "days"}, "age_unit is 'days'"),
        ({"age_timezone": "Mars/Olympus"}, "age_timezone is 'Mars/Olympus'"),
        ({"pace": "slow"}, "pace is 'slow'; expected one of fast, polite"),
        ({"dry_run": "maybe"}, "dry_run is 'maybe'"),
        ({"max_rows": 0}, "max_rows is 0; expected a whole number of rows, 1 or more"),
        ({"time_budget": timedelta(0)}, "time_budget is datetime.timedelta(0); expected a timedelta over 0"),
        ({"max_rows": "-5"}, "max_rows is '-5'"),
        ({"max_rows": 5.0}, "max_rows is 5.0"),
        ({"max_rows": [5]}, "max_rows is [5]"),
        (
            {"older_than_days": timedelta(days=30)},
            "older_than_days is datetime.timedelta(days=30); expected a",
        ),
        ({"older_than_days": True}, "older_than_days is True"),
        ({"older_than_days": [30]}, "older_than_days is [30]"),
        ({"older_than_days": None, "grace_days": timedelta(1)}, "grace_days is datetime.timedelta(days=1)"),
        ({"age_unit": None}, "age_unit is None"),
        ({"age_unit": ["date"]}, "age_unit is ['date']"),
        ({"age_timezone": None}, "age_timezone is None"),
        ({"age_timezone": UTC}, "age_timezone is datetime.timezone.utc"),
        ({"age_timezone": "../etc/passwd"}, "age_timezone is '../etc/passwd'"),
        ({"max_share": "50%"}, "max_share is '50%'"),
        ({"max_share": [0.5]}, "max_share is [0.5]"),
        ({"announce": "SecretChanged"}, "announce is 'SecretChanged'; expected an Announcement"),
        ({"announce": Announcement}, "announce is <class"),
        ({"archive": Path("/mnt/iam")}, "archive is PosixPath('/mnt/iam')"),
        ({"archive": True}, "archive is True"),
        ({"redact": "password"}, "redact is 'password'; expected a list of names"),
        ({"redact": "['password']"}, "redact is \"['password']\"; expected a list of names"),
        ({"redact": None}, "redact is None"),
        ({"redact": [1]}, "redact is [1]"),
        ({"redact": ["{{ params.column }}"]}, "redact has '{{ params.column }}'"),
        ({"dry_run": 1}, "dry_run is 1"),
        ({"dry_run": None}, "dry_run is None"),
        ({"pace": 0.5}, "pace is 0.5; expected one of fast, polite, or a Pace(...)"),
        ({"pace": None}, "pace is None"),
        ({"pace": Pace}, "pace is <class"),
        (
            {"time_budget": 3600},
            "time_budget is 3600; expected a timedelta over 0, such as timedelta(hours=1)",
        ),
        ({"time_budget": "1h"}, "time_budget is '1h'"),
        ({"time_budget": timedelta(-1)}, "time_budget is datetime.timedelta(days=-1)"),
        ({"throttle": None}, "throttle is None; expected a Throttle(...)"),
        ({"throttle": {"max_threads_running": 5}}, "throttle is {'max_threads_running': 5}"),
        ({"mysql_conn_id": None}, "mysql_conn_id is None; expected the id of an Airflow connection"),
        ({"mysql_conn_id": ""}, "mysql_conn_id is ''"),
        ({"mysql_conn_id": "{{ params.conn }}"}, "mysql_conn_id is a str that is not valid"),
        ({"max_share": 1.5}, "max_share is 1.5"),
        ({"archive": "/mnt/iam"}, "archive is '/mnt/iam'; expected a URL such as"),
        ({"where": "status = 1"}, "where is 'status = 1'; expected a list of (column, operator, value)"),
        ({"where": ["status = 1"]}, "where has 'status = 1'; expected (column, operator, value)"),
        ({"where": [("status", "=")]}, "expected (column, operator, value)"),
        ({"where": [("`status`", "=", 1)]}, "where is '`status`'; expected a name"),
        ({"where": [(1, "=", 1)]}, "where is 1; expected a name"),
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
        ({"drop_partitions": "yes"}, "drop_partitions is 'yes'; expected True or False"),
        ({"drop_partitions": True, "where": [("a", "=", 1)]}, "drop_partitions is set, and so is where"),
        ({"drop_partitions": True, "keep_last": 5}, "drop_partitions is set, and so is keep_last, 5"),
        ({"drop_partitions": True, "max_rows": "{{ x }}"}, "drop_partitions is set, and so is max_rows"),
        ({"drop_partitions": True, "orphans_of": "a", "key": "b"}, "and so is orphans_of, 'a'"),
        (
            {"drop_partitions": True, "older_than_days": None, "older_than": {"column": "c", "x": "3d"}},
            "drop_partitions is set, and so is older_than",
        ),
        ({"drop_partitions": True, "age_unit": "ulid"}, "drop_partitions is set, and age_unit is 'ulid'"),
        ({"children": "all"}, "children is 'all'; expected a list such as [Child("),
        ({"children": ["order_lines"]}, "children is ['order_lines']; expected a list such as [Child("),
        ({"children": None}, "children is None; expected a list such as [Child("),
        ({"drop_partitions": True, "children": "auto"}, "drop_partitions is set, and so is children, 'auto'"),
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
        ({"exempt_names": None}, "exempt_names is None"),
        ({"exempt_names": "['svc-*']"}, "exempt_names is \"['svc-*']\"; expected a list"),
        ({"exempt_names": [1]}, "exempt_names is [1]"),
        # Such a name equals no user's, who would be disabled.
        (
            {"exempt_names": ["ann", "{{ var.value.chief }}"]},
            "exempt_names has '{{ var.value.chief }}'; expected",
        ),
        ({"exempt_names": ["svc-* "]}, "exempt_names has 'svc-* '; expected a name as the database has it"),
        ({"exempt_names": [" ann"]}, "exempt_names has ' ann'"),
        ({"exempt_names": ["ann\n"]}, "exempt_names has 'ann\\n'"),
        ({"exempt_names": [State.OPEN]}, "exempt_names has <State.OPEN"),
        ({"exempt_admins": "false"}, "exempt_admins is 'false'; expected True or False"),
        ({"exempt_admins": None}, "exempt_admins is None"),
        ({"max_inactive_days": timedelta(180)}, "max_inactive_days is datetime.timedelta(days=180)"),
        ({"max_inactive_days": None}, "max_inactive_days is None"),
        ({"min_age_days": timedelta(1)}, "min_age_days is datetime.timedelta(days=1)"),
        ({"min_age_days": None}, "min_age_days is None"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"max_rows": 2.5}, "max_rows is 2.5"),
        ({"undo_location": Path("/mnt")}, "undo_location is PosixPath('/mnt')"),
        ({"undo_location": 1}, "undo_location is 1"),
        (
            {"on_disable": "expire-secrets"},
            "on_disable is 'expire-secrets'; expected 'keep' or 'expire_secrets'",
        ),
        ({"on_disable": "Expire_Secrets"}, "on_disable is 'Expire_Secrets'"),
        ({"on_disable": None}, "on_disable is None"),
        ({"on_disable": True}, "on_disable is True"),
        ({"warn_days": 14}, "warn_days is 14; expected a list of whole numbers, such as (14, 3)"),
        ({"warn_days": "14"}, "warn_days is '14'"),
        ({"warn_days": None}, "warn_days is None"),
        ({"warn_days": ["14"]}, "warn_days is ['14']"),
        ({"warn_days": [True]}, "warn_days is [True]"),
        ({"warn_days": [-1]}, "warn_days is -1"),
        (
            {"warn_days": [3, 14], "max_inactive_days": 14},
            "warn_days has 14, and max_inactive_days is 14: a user would be listed",
        ),
        ({"warn_days": [3, 0]}, "warn_days has 0; expected days before a user is disabled"),
        (
            {"warn_days": [3], "on_warning": "mail"},
            "on_warning is 'mail'; expected a notifier, or a function",
        ),
        # A call of one of these does nothing yet.
        ({"warn_days": [3], "on_warning": soon}, "on_warning is <function soon"),
        ({"warn_days": [3], "on_warning": partial(soon)}, "on_warning is functools.partial(<function soon"),
        ({"warn_days": [3], "on_warning": piece_by_piece}, "on_warning is <function piece_by_piece"),
        ({"warn_days": [3], "on_warning": Soon()}, "on_warning is <tests.unit.test_job_arguments.Soon"),
        ({"warn_days": [3], "on_warning": SmtpNotifier}, "on_warning is <class"),
        ({"on_warning": print}, "on_warning is given, but warn_days is empty"),
        ({"table": "{{ params.table }}"}, "table is '{{ params.table }}'"),
        ({"time_budget": 3600}, "time_budget is 3600"),
    ],
)
def test_the_same_for_users(change, message):
    with pytest.raises(JobArgumentError) as refused:
        DisableInactiveUsersOperator(**{**DISABLE, **change})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("operator", "change", "message"),
    [
        (RestoreRowsOperator, {"path": None}, "path is None; expected a text"),
        (RestoreRowsOperator, {"path": Path("/a")}, "path is PosixPath('/a')"),
        (
            RestoreRowsOperator,
            {"tables": "policy_audit"},
            "tables is 'policy_audit'; expected a list of names",
        ),
        (RestoreRowsOperator, {"tables": None}, "tables is None"),
        (RestoreRowsOperator, {"location": 1}, "location is 1"),
        (RestoreRowsOperator, {"from_database": 1}, "from_database is 1; expected a text"),
        (RestoreRowsOperator, {"dry_run": "perhaps"}, "dry_run is 'perhaps'"),
        (RestoreRowsOperator, {"mysql_conn_id": 1}, "mysql_conn_id is 1"),
        (RestoreRowsOperator, {"pace": 1}, "pace is 1; expected one of fast, polite"),
        (RestoreRowsOperator, {"throttle": None}, "throttle is None; expected a Throttle(...)"),
        (ReenableUsersOperator, {"undo_record": 1}, "undo_record is 1; expected a text"),
        (ReenableUsersOperator, {"names": "ann"}, "names is 'ann'; expected a list of names"),
        (ReenableUsersOperator, {"names": {"ann": 1}}, "names is {'ann': 1}"),
        (ReenableUsersOperator, {"names": ["ann", 1]}, "names is ['ann', 1]"),
        (ReenableUsersOperator, {"names": ["ann", ""]}, "names is ['ann', '']"),
        (ReenableUsersOperator, {"names": "('ann', 'bob')"}, "expected a list of names"),
        (ReenableUsersOperator, {"location": True}, "location is True"),
        (ReenableUsersOperator, {"from_database": ["iam"]}, "from_database is ['iam']; expected a text"),
        (ReenableUsersOperator, {"dry_run": 0}, "dry_run is 0"),
        (ReenableUsersOperator, {"table": 1}, "table is 1"),
        (ReenableUsersOperator, {"mysql_conn_id": ["a"]}, "mysql_conn_id is a list that is not valid"),
    ],
)
def test_the_same_for_what_undoes_a_run(operator, change, message):
    given = {"path": "s3://b/x", "tables": ["t"]} if operator is RestoreRowsOperator else {"names": ["ann"]}
    with pytest.raises(JobArgumentError) as refused:
        operator(**{"task_id": "t", **given, **change})
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            Throttle,
            {"max_threads_running": "50"},
            "max_threads_running is '50'; expected a whole number",
        ),
        (Throttle, {"max_threads_running": -1}, "max_threads_running is -1"),
        (Throttle, {"max_threads_running": True}, "max_threads_running is True"),
        (Throttle, {"replica_conn_ids": "iam"}, "replica_conn_ids is a str that is not valid"),
        (Throttle, {"replica_conn_ids": None}, "replica_conn_ids is None"),
        (Throttle, {"replica_conn_ids": [None]}, "replica_conn_ids is None; expected the id"),
        (Throttle, {"max_replica_lag": 10}, "max_replica_lag is 10; expected a timedelta"),
        (Throttle, {"max_replica_lag": None}, "max_replica_lag is None"),
        (Throttle, {"patience": 600}, "patience is 600; expected a timedelta over 0"),
        (Throttle, {"patience": timedelta(0)}, "patience is datetime.timedelta(0)"),
        (Announcement, {"command": None}, "command of an Announcement is None; expected a text"),
        (Announcement, {"channel": ""}, "channel of an Announcement is ''"),
        (Announcement, {"redis_conn_id": 1}, "redis_conn_id of an Announcement is 1"),
        (Pace, {"target": "fast"}, "Pace(target='fast', duty=1): expected a target over 0 s"),
        (Pace, {"target": timedelta(seconds=1)}, "expected a target over 0 s"),
        (Pace, {"target": float("nan")}, "expected a target over 0 s"),
        (Pace, {"target": float("inf")}, "expected a target over 0 s"),
        (Pace, {"target": True}, "expected a target over 0 s"),
        (Pace, {"duty": None}, "a duty over 0 and up to 1"),
    ],
)
def test_the_same_for_what_a_job_is_given(kind, change, message):
    given = {Pace: {"target": 0.1, "duty": 1}, Announcement: {"command": "c"}, Throttle: {}}[kind]
    with pytest.raises(JobArgumentError) as refused:
        kind(**{**given, **change})
    assert message in str(refused.value)


def test_the_result_of_another_task_waits_until_it_is_there():
    with DAG("d", schedule=None):

        @task
        def earlier():
            return 1

        result = earlier()
        PurgeRowsOperator(**{**PURGE, "older_than_days": result, "dry_run": result, "max_rows": result})
        ReenableUsersOperator(task_id="r", undo_record=result, names=result)
        with pytest.raises(JobArgumentError, match=r"where has .* expected a text, a number"):
            PurgeRowsOperator(**{**PURGE, "task_id": "w", "where": [("status", "=", result)]})


@pytest.mark.parametrize(
    ("arguments_of_it", "message"),
    [
        ({"table": "{{ table }}", "key": "order_id"}, "table is '{{ table }}'"),
        ({"table": "order_lines", "key": ""}, "key is ''"),
        ({"table": "order_lines", "key": []}, "key is \\[\\]; expected the name of a column"),
        ({"table": "order_lines", "key": ["order_id", 1]}, "key is"),
        ({"table": "order_lines", "key": {"tenant_id", "order_id"}}, "in the order of the columns of the"),
        ({"table": "order_lines", "key": ["order_id", "order_id"]}, "a list that names each column once"),
        (
            {"table": "order_lines", "key": "order_id", "children": "auto"},
            "children is 'auto'; expected a list",
        ),
    ],
)
def test_a_child_that_can_not_be_meant_is_refused(arguments_of_it, message):
    with pytest.raises(JobArgumentError, match=message):
        Child(**arguments_of_it)


@pytest.mark.parametrize("name", ["audit-2026", "my table", "Übersicht", "用户", "a.b", "100%", "x; DROP"])
def test_a_name_may_have_any_characters_but_quotes(name):
    assert arguments.identifier("table", name) == name


def test_templates_wait_until_they_are_rendered():
    PurgeRowsOperator(**{**PURGE, "older_than_days": "{{ params.days }}", "dry_run": "{{ params.dry_run }}"})
    DisableInactiveUsersOperator(task_id="t", max_inactive_days="{{ var.value.d }}", max_share="{{ 1 }}")


@pytest.mark.parametrize("rendered", ["None", None])
@pytest.mark.parametrize("name", ["archive", "max_share", "max_rows"])
def test_a_template_that_is_rendered_to_none_lifts_no_guard(name, rendered):
    operator = PurgeRowsOperator(**PURGE, **{name: "{{ params.p }}"})
    setattr(operator, name, rendered)
    with pytest.raises(JobArgumentError, match=f"{name} is '?None'?; expected a"):
        operator.job()


def test_a_guard_that_the_file_leaves_out_is_no_error():
    job = PurgeRowsOperator(**PURGE, archive=None, max_share=None, max_rows=None).job()
    assert (job.location, job.max_share, job.max_rows) == (None, None, None)


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
    condition, values = exempt_condition(NAME, [name])
    assert "LIKE" in condition
    assert list(values.values()) == [pattern]


def test_a_name_without_wildcards_is_compared_as_it_is():
    condition, values = exempt_condition(NAME, ["root_%", "svc-*"])
    assert condition == "`name` = %(exempt0)s OR `name` LIKE %(exempt1)s ESCAPE '|'"
    assert values == {"exempt0": "root_%", "exempt1": "svc-%"}
