"""A purge of dates, of unix seconds and of any table, by the operator itself.

The tables of IAM and the scratch table need their own rows and helpers: hence the length.
"""

from __future__ import annotations

import logging
import re
from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from tests.integration.conftest import TaskInstance, numbers

DAY = timedelta(days=1)
NOW = "UTC_TIMESTAMP()"


def purge_audit(days=180, **options):
    return PurgeRowsOperator(
        task_id="purge", table="policy_audit", age_column="deletedAt", older_than_days=days, **options
    )


def audit(iam, name, deleted_at, key=None):
    key = key or iam.value("SELECT COALESCE(MAX(id), 0) + 1 FROM policy_audit")
    iam.run(
        f"INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (%s, %s, 'u', {deleted_at})",
        [key, name],
    )


def names(iam, table="policy_audit"):
    return set(iam.column(f"SELECT name FROM {table}"))


def test_only_rows_beyond_the_days_go(iam, perform):
    audit(iam, "old", f"{NOW} - INTERVAL 181 DAY")
    audit(iam, "just-old", f"{NOW} - INTERVAL 180 DAY - INTERVAL 5 SECOND")
    audit(iam, "just-not", f"{NOW} - INTERVAL 180 DAY + INTERVAL 60 SECOND")
    audit(iam, "fresh", NOW)
    audit(iam, "future", f"{NOW} + INTERVAL 1 DAY")
    audit(iam, "zero", "DEFAULT")
    report = perform(purge_audit())
    assert names(iam) == {"just-not", "fresh", "future", "zero"}
    assert {key: report[key] for key in ("examined", "matched", "changed", "skipped", "chunks")} == {
        "examined": 6,
        "matched": 2,
        "changed": 2,
        "skipped": {"zero_date": 1},
        "chunks": 1,
    }
    now = datetime.fromisoformat(report["now"])
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=30)
    assert datetime.fromisoformat(report["cut_off"]) == now - 180 * DAY
    assert 0 < report["longest_chunk_seconds"] <= report["duration_seconds"]


def test_a_second_run_changes_nothing(iam, perform):
    audit(iam, "old", f"{NOW} - INTERVAL 181 DAY")
    assert perform(purge_audit())["changed"] == 1
    assert perform(purge_audit())["changed"] == 0


def test_a_dry_run_says_what_would_go_and_writes_nothing(iam, perform):
    for number in range(7):
        audit(iam, f"old-{number}", f"{NOW} - INTERVAL 200 DAY")
    report = perform(purge_audit(dry_run="True"))
    assert len(names(iam)) == 7
    assert (report["matched"], report["changed"], report["chunks"]) == (7, 0, 0)
    assert [example["key"] for example in report["examples"]] == [1, 2, 3, 4, 5]
    assert report["examples"][0]["age_days"] == 200.0
    assert datetime.fromisoformat(report["examples"][0]["since"]).tzinfo == UTC


def test_a_dry_run_needs_no_right_to_delete(iam, mariadb, perform):
    audit(iam, "old", f"{NOW} - INTERVAL 200 DAY")
    iam.run(f"REVOKE DELETE ON iam.policy_audit FROM '{mariadb.user}'")
    assert perform(purge_audit(dry_run=True))["matched"] == 1


def test_a_missing_right_is_found_before_the_first_write_and_not_retried(iam, mariadb, perform):
    iam.run(f"REVOKE DELETE ON iam.policy_audit FROM '{mariadb.user}'")
    ti = TaskInstance("run")
    with pytest.raises(AirflowFailException, match=r"DELETE command denied.*grant"):
        perform(purge_audit(), ti)
    assert "DELETE command denied" in ti.xcom["return_value"]["error"]


def test_zero_days_turn_it_off(iam, perform):
    audit(iam, "old", f"{NOW} - INTERVAL 9999 DAY")
    with pytest.raises(AirflowSkipException, match="policy_audit is left alone: older_than_days is 0"):
        perform(purge_audit(days=0))
    assert names(iam) == {"old"}


@pytest.mark.parametrize("rendered", ["-1", -1, "", None, "1.5"])
def test_a_rendered_value_that_is_no_number_of_days_fails_for_good(iam, perform, rendered):
    audit(iam, "old", f"{NOW} - INTERVAL 9999 DAY")
    operator = purge_audit(days="{{ params.days }}")
    operator.older_than_days = rendered
    if rendered is None:
        operator.grace_days = None
    with pytest.raises(AirflowFailException, match="expected a whole number of days"):
        perform(operator)
    assert names(iam) == {"old"}


def test_clocks_that_differ_stop_it_before_the_first_write(iam, perform):
    audit(iam, "old", f"{NOW} - INTERVAL 9999 DAY")
    for offset in (-61, 61):
        with (
            time_machine.travel(datetime.now(UTC) + timedelta(seconds=offset), tick=True),
            pytest.raises(AirflowFailException, match=r"clocks .* differ: database .*, worker .* 60 s"),
        ):
            perform(purge_audit())
    assert names(iam) == {"old"}


def test_clocks_that_differ_a_little_are_normal(iam, perform):
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=30), tick=True):
        perform(purge_audit())


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_configured_archive_that_is_not_set_is_a_warning(
    iam, perform, caplog, monkeypatch, tmp_path, dry_run
):
    warning = "no archive: [iam_watcher] archive is not set, and this job has archive='configured'"
    job = {"archive": "configured", "dry_run": dry_run}

    def warned():
        lines = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        caplog.clear()
        return [line for line in lines if line.startswith(warning)]

    monkeypatch.delenv("AIRFLOW__IAM_WATCHER__ARCHIVE", raising=False)
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIV", f"file://{tmp_path}")
    perform(purge_audit(**job))
    assert len(warned()) == 1
    perform(purge_audit(dry_run=dry_run))  # Without archive=, no archive is what the file asks for.
    assert warned() == []
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}")
    perform(purge_audit(**job))
    assert warned() == []


def test_the_report_is_a_sentence_and_short_lines_of_facts(iam, perform, caplog):
    audit(iam, "old", f"{NOW} - INTERVAL 200 DAY")
    audit(iam, "zero", "'0000-00-00'")
    with caplog.at_level(logging.INFO):
        perform(purge_audit())
    lines = [record.getMessage() for record in caplog.records]
    first = lines.index(next(line for line in lines if line.startswith("event=run_report")))
    assert re.fullmatch(
        r"1 of 2 rows of policy_audit deleted \(1 with a zero date or one before 1980 left alone\)"
        r" in \d+\.\d s; no archive: the rows can't be restored",
        lines[first - 1],
    )
    assert "table=policy_audit dry_run=false" in lines[first]
    assert "examined=2 matched=1 changed=1 changed_before=0" in " ".join(lines[first:])
    assert max(map(len, lines)) < 150


# Unix seconds


def purge_secrets(**options):
    return PurgeRowsOperator(
        **{
            "task_id": "purge",
            "table": "secret",
            "age_column": "expires",
            "age_unit": "unix_seconds",
            "grace_days": 0,
            **options,
        }
    )


def secrets(iam, **expires):
    iam.run("INSERT INTO user (name, nickname, password, email) VALUES ('u', 'u', '', '')")
    for name, when in expires.items():
        iam.run(
            "INSERT INTO secret (name, username, secretID, secretKey, expires)"
            f" VALUES (%s, 'u', %s, 'not-a-secret', {when})",
            [name, name],
        )


def test_expired_secrets_go_and_those_that_never_expire_stay(iam, perform):
    secrets(
        iam,
        expired="UNIX_TIMESTAMP() - 5",
        long_expired=315_532_800,
        early=1,
        living="UNIX_TIMESTAMP() + 60",
        far=2**32 - 1,
        never=0,
        default="DEFAULT",
    )
    report = perform(purge_secrets())
    assert names(iam, "secret") == {"living", "far", "never", "early"}
    assert report["skipped"] == {"never_expires": 2}
    assert report["changed"] == 3


def test_grace_keeps_them_a_while(iam, perform):
    secrets(iam, expired="UNIX_TIMESTAMP() - 86400 * 6", long_expired="UNIX_TIMESTAMP() - 86400 * 8")
    perform(purge_secrets(grace_days="7"))
    assert names(iam, "secret") == {"expired"}


def test_the_wrong_unit_is_refused_and_not_guessed(iam, perform):
    with pytest.raises(AirflowFailException, match="'expires' of secret is int; expected date or datetime"):
        perform(purge_secrets(age_unit="date"))
    with pytest.raises(AirflowFailException, match="'deletedAt' of policy_audit is timestamp; expected big"):
        perform(purge_audit(age_unit="unix_seconds"))


# Tables of any shape


def purge_scratch(**options):
    arguments = {"task_id": "purge", "table": "t", "age_column": "age", "older_than_days": 10, **options}
    return PurgeRowsOperator(mysql_conn_id="scratch", **arguments)


def test_null_is_no_age(scratch, perform):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age timestamp NULL)")
    scratch.run("INSERT INTO t VALUES (1, NULL), (2, UTC_TIMESTAMP() - INTERVAL 11 DAY)")
    assert perform(purge_scratch())["skipped"] == {"no_date": 1}
    assert scratch.column("SELECT id FROM t") == [1]


@pytest.mark.parametrize("age_type", ["datetime", "timestamp"])
def test_a_datetime_is_in_the_time_zone_it_is_said_to_be_in(scratch, perform, age_type):
    """Shanghai is 8 hours ahead: its wall clock shows a later time for the same moment."""
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, age {age_type} NOT NULL)")
    scratch.run(
        "INSERT INTO t SELECT seq, UTC_TIMESTAMP() - INTERVAL 10 DAY"
        f" + INTERVAL (CAST(seq AS SIGNED) - 12) HOUR - INTERVAL 30 MINUTE FROM {numbers(24)}"
    )
    report = perform(purge_scratch(age_timezone="Asia/Shanghai"))
    assert report["changed"] == {"datetime": 20, "timestamp": 12}[age_type]


def test_a_date_is_over_only_when_its_day_is(scratch, perform):
    today = datetime.now(UTC).date()
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL)")
    days = [date(1980, 1, 1), *(today - day * DAY for day in (9, 10, 11))]
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", list(enumerate(days)))
    scratch.run("INSERT INTO t VALUES (9, '0000-00-00')")
    report = perform(purge_scratch())
    assert scratch.column("SELECT id FROM t ORDER BY id") == [1, 2, 9]
    assert report["skipped"] == {"zero_date": 1}


@pytest.fixture
def states(scratch):
    """Old rows in several states, and a young and an ageless one."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, age datetime NULL, state varchar(20), tries int)")
    old, young = "UTC_TIMESTAMP() - INTERVAL 20 DAY", "UTC_TIMESTAMP()"
    scratch.run(
        f"INSERT INTO t VALUES (1, {old}, 'done', 0), (2, {old}, 'open', 1), (3, {old}, NULL, 2),"
        f" (4, {young}, 'done', 3), (5, NULL, 'done', 4), (6, NULL, 'open', 5), (7, {old}, '50%_', 6)"
    )
    return scratch


@pytest.mark.parametrize(
    ("where", "deleted", "ageless"),
    [
        ([], {1, 2, 3, 7}, 2),
        ([("state", "=", "done")], {1}, 1),
        ([("state", "<>", "done")], {2, 7}, 1),
        ([("state", "in", ["done", "open"]), ("tries", "<", 1)], {1}, 0),
        ([("state", "not in", ["done"])], {2, 7}, 1),
        ([("state", "is", None)], {3}, 0),
        ([("state", "is not", None)], {1, 2, 7}, 2),
        ([("state", "like", "50%")], {7}, 0),
        ([("state", "=", "x' OR '1'='1")], set(), 0),
        ([("tries", ">=", 1), ("tries", "<=", 2)], {2, 3}, 0),
    ],
)
def test_more_conditions_can_be_given(states, perform, where, deleted, ageless):
    report = perform(purge_scratch(where=where))
    assert set(range(1, 8)) - set(states.column("SELECT id FROM t")) == deleted
    assert report["skipped"].get("no_date", 0) == ageless


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (("state", "=", 0), "'state' of t is varchar.*; where has state = 0, expected a text"),
        (
            ("tries", "in", [1, "2 or so"]),
            "'tries' of t is int.*; where has tries in '2 or so', expected a number",
        ),
        (("nothing", "=", 1), "t has no column 'nothing'"),
    ],
)
def test_a_value_of_the_wrong_type_is_not_left_to_the_database(states, perform, condition, message):
    with pytest.raises(AirflowFailException, match=message):
        perform(purge_scratch(where=[condition]))
    assert states.value("SELECT COUNT(*) FROM t") == 7


def test_a_purge_has_a_safety_limit_if_asked_for(states, perform):
    with pytest.raises(
        AirflowFailException, match=r"4 of 7 eligible rows of t match, more than max_share=0\.5"
    ):
        perform(purge_scratch(max_share="0.5"))
    with pytest.raises(AirflowFailException, match="1 of 3 eligible rows of t match"):
        perform(purge_scratch(max_share=0.3, where=[("state", "=", "done")]))
    assert perform(purge_scratch(max_share=0.6))["changed"] == 4


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "CREATE TABLE t (id int, age timestamp)",
            "unique key of NOT NULL columns, .* has none. Add a primary key",
        ),
        ("CREATE TABLE t (id int NULL, age timestamp, UNIQUE KEY u (id))", "u: id can be NULL"),
        ("CREATE TABLE t (id text, age timestamp, PRIMARY KEY (id(9)))", "only a prefix of id"),
        ("CREATE TABLE t (id set('a') PRIMARY KEY, age timestamp)", "id, which is a SET"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, age timestamp) ENGINE=MEMORY",
            "engine MEMORY; expected an InnoDB table: ALTER TABLE `t` ENGINE=InnoDB",
        ),
        ("CREATE VIEW t AS SELECT 1 AS id, NOW() AS age", "t is a VIEW .* name the table behind"),
        ("CREATE TABLE T (id int PRIMARY KEY, age timestamp)", "there is no table 't' in database 'scratch'"),
        ("CREATE TABLE t (id int PRIMARY KEY, Age timestamp)", "no column 'age'; it has id, Age"),
        ("CREATE TABLE t (id int PRIMARY KEY, age varchar(20))", "is varchar; expected date or datetime"),
    ],
)
def test_a_table_that_cannot_be_walked_is_refused_with_the_reason(scratch, perform, table, message):
    scratch.run(table)
    with pytest.raises(AirflowFailException, match=message):
        perform(purge_scratch())


def test_a_connection_without_a_database_says_so(mariadb, scratch, perform, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SCRATCH", mariadb.airflow_admin_uri.removesuffix("/iam"))
    with pytest.raises(AirflowFailException, match="a connection that names no database"):
        perform(purge_scratch())


def test_odd_names_in_a_table_do_no_harm(scratch, perform):
    scratch.run("CREATE TABLE `select` (`ke``y%s` int PRIMARY KEY, `order` timestamp NOT NULL)")
    scratch.run("INSERT INTO `select` VALUES (1, UTC_TIMESTAMP() - INTERVAL 11 DAY), (2, UTC_TIMESTAMP())")
    assert perform(purge_scratch(table="select", age_column="order"))["changed"] == 1


@pytest.mark.every_server
@pytest.mark.parametrize("index", ["", ", KEY `by-{{age}} %` ({age})"])
@pytest.mark.parametrize(
    ("table", "age", "key", "where"),
    [
        ("audit-2026", "ended-at", "row-id", "is-open"),
        ("my table", "Ended At", "row id", "is open?"),
        ("Protokoll (alt)", "geändert_am", "schlüssel", "größe"),
        ("审计", "时间", "编号", "状态"),
        ("a.b/c", "100% {age}", "%(after)s", "1=1 OR 'x'"),
        ("..", ";--", "{key}", "%s%%"),
    ],
)
def test_names_of_any_characters(scratch, perform, tmp_path, table, age, key, where, index):
    scratch.connection.set_character_set("utf8mb4")
    quoted = {"table": f"`{table}`", "age": f"`{age}`", "key": f"`{key}`", "where": f"`{where}`"}
    scratch.run(
        f"CREATE TABLE `{table}` (`{key}` int PRIMARY KEY, `{age}` datetime, `{where}` int"
        + index.format(**quoted)
        + ")"
    )
    names = ", ".join(quoted[name] for name in ("key", "age", "where"))
    insert = f"INSERT INTO `{table}` ({names})".replace("%", "%%")
    scratch.run_many(
        f"{insert} VALUES (%s, UTC_TIMESTAMP() - INTERVAL %s DAY, %s)", [(n, n, n % 2) for n in range(1, 101)]
    )
    before = scratch.rows(f"SELECT * FROM `{table}`")
    options = {"table": table, "age_column": age, "older_than_days": 50}
    conditions = [] if index else [(where, "=", 0)]
    report = perform(purge_scratch(**options, where=conditions, dry_run=True))
    assert report["matched"] == (51 if index else 26)
    report = perform(purge_scratch(**options, where=conditions, archive=tmp_path.as_uri()))
    assert report["changed"] == (51 if index else 26)
    assert [folder.parent for folder in tmp_path.glob("*/dag")] == list(tmp_path.iterdir())
    restore = RestoreRowsOperator(
        task_id="restore",
        path=report["archive"],
        location=tmp_path.as_uri(),
        tables=[table],
        mysql_conn_id="scratch",
    )
    assert perform(restore)["restored"] == report["changed"]
    assert scratch.rows(f"SELECT * FROM `{table}`") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "t; DROP TABLE t"}, "there is no table 't; DROP TABLE t' in database 'scratch'"),
        ({"age_column": "age) OR (1=1"}, r"t has no column 'age\) OR \(1=1'"),
        ({"where": [("1=1 OR state", "=", 1)]}, "t has no column '1=1 OR state'"),
    ],
)
def test_a_name_is_no_sql(states, perform, change, message):
    with pytest.raises(AirflowFailException, match=message):
        perform(purge_scratch(**change))
    assert states.value("SELECT COUNT(*) FROM t") == 7


@pytest.mark.usefixtures("_settings_of_a_server")
def test_the_servers_own_settings_change_nothing(iam, perform):
    for age in range(60):
        audit(iam, str(age), f"{NOW} - INTERVAL {age} HOUR - INTERVAL 30 MINUTE")
    audit(iam, "zero", "DEFAULT")
    report = perform(purge_audit(days=1))
    assert names(iam) == {*map(str, range(24)), "zero"}
    assert report["changed"] == 36
