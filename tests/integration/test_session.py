"""The session of a job is the same whatever the server's globals and the connection say.

The settings of a server that hurt, and those of a job in place of them, are two long lists: hence the length.
"""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from dev.sessions import wait_until
from iam_watcher.database import session as job_session
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.lock.renewal import HEARTBEAT_TTL
from tests.integration.conftest import numbers
from tests.integration.test_account_lifecycle import disable, enable, secret
from tests.integration.test_archive import OLD, fill, purge
from tests.integration.test_disable_users import enabled, user
from tests.integration.test_key_plans import plans
from tests.integration.test_restore_rows import restore

__all__ = ["plans"]

pytestmark = pytest.mark.every_server

# What an administrator can set for all sessions, and what would change what the jobs do.
HOSTILE = {
    "auto_increment_increment": 7,
    "auto_increment_offset": 5,
    "autocommit": 0,
    "big_tables": 1,
    "character_set_client": "latin1",
    "character_set_connection": "latin1",
    "character_set_results": "latin1",
    "check_constraint_checks": 0,
    "collation_connection": "latin1_bin",
    "completion_type": "RELEASE",
    "default_regex_flags": "EXTENDED",
    "default_storage_engine": "MEMORY",
    "default_week_format": 3,
    "div_precision_increment": 0,
    "eq_range_index_dive_limit": 1,
    "explain_format": "TREE",
    "foreign_key_checks": 0,
    "group_concat_max_len": 4,
    "idle_readonly_transaction_timeout": 1,
    "idle_transaction_timeout": 1,
    "idle_write_transaction_timeout": 1,
    "in_predicate_conversion_threshold": 2,
    "information_schema_stats_expiry": 31536000,
    "innodb_lock_wait_timeout": 1000,
    "innodb_snapshot_isolation": 1,
    "innodb_strict_mode": 0,
    "interactive_timeout": 1,
    "join_buffer_size": 128,
    "lc_messages": "de_DE",
    "lc_time_names": "de_DE",
    "lock_wait_timeout": 1000,
    "low_priority_updates": 1,
    "max_error_count": 0,
    "max_execution_time": 1,
    "max_join_size": 1,
    "max_length_for_sort_data": 4,
    "max_seeks_for_key": 1,
    "max_sort_length": 64,
    "max_statement_time": 1000,
    "net_read_timeout": 1,
    "net_write_timeout": 1,
    "old_mode": "ZERO_DATE_TIME_CAST",
    "optimizer_max_sel_arg_weight": 1,
    "optimizer_max_sel_args": 1,
    "optimizer_search_depth": 1,
    "range_optimizer_max_mem_size": 1,
    "show_gipk_in_create_table_and_information_schema": 0,
    "sql_auto_is_null": 1,
    "sql_big_selects": 0,
    "sql_buffer_result": 1,
    "sql_mode": "ANSI,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH",
    "sql_notes": 0,
    "sql_quote_show_create": 0,
    "sql_safe_updates": 1,
    "sql_select_limit": 1,
    "system_versioning_asof": "2001-01-01 00:00:00",
    "time_zone": "+08:00",
    "sql_warnings": 1,
    "transaction_isolation": "SERIALIZABLE",
    "transaction_read_only": 1,
    "tx_isolation": "SERIALIZABLE",
    "tx_read_only": 1,
    "unique_checks": 0,
    "use_stat_tables": "NEVER",
    "wait_timeout": 1,
}

# What the session of a job has in place of it.
OURS = {
    "autocommit": "OFF",
    "character_set_client": "utf8mb4",
    "character_set_connection": "utf8mb4",
    "character_set_results": "utf8mb4",
    "check_constraint_checks": "ON",
    "collation_connection": "utf8mb4_general_ci",
    "completion_type": "NO_CHAIN",
    "default_regex_flags": "",
    "foreign_key_checks": "ON",
    "group_concat_max_len": "1048576",
    "idle_readonly_transaction_timeout": "0",
    "idle_transaction_timeout": "0",
    "idle_write_transaction_timeout": "0",
    "in_predicate_conversion_threshold": "0",
    "information_schema_stats_expiry": "0",
    "innodb_lock_wait_timeout": "1",
    "lock_wait_timeout": "1",
    "max_execution_time": "5000",
    "max_join_size": "18446744073709551615",
    "max_statement_time": "5.000000",
    "net_read_timeout": "30",
    "net_write_timeout": "60",
    "old_mode": "",
    "optimizer_max_sel_arg_weight": "0",
    "optimizer_max_sel_args": "0",
    "range_optimizer_max_mem_size": "0",
    "show_gipk_in_create_table_and_information_schema": "ON",
    "sql_auto_is_null": "OFF",
    "sql_big_selects": "ON",
    "sql_mode": "STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION",
    "sql_quote_show_create": "ON",
    "sql_safe_updates": "OFF",
    "sql_select_limit": "18446744073709551615",
    "system_versioning_asof": "DEFAULT",
    "time_zone": "+00:00",
    "transaction_isolation": "READ-COMMITTED",
    "transaction_read_only": "OFF",
    "tx_isolation": "READ-COMMITTED",
    "tx_read_only": "OFF",
    "unique_checks": "ON",
    "wait_timeout": "60",
}

INIT_CONNECT = (
    "SET NAMES latin1, SESSION sql_select_limit = 1, SESSION foreign_key_checks = 0, SESSION autocommit = 0,"
    " SESSION completion_type = 2, SESSION time_zone = '+09:00', SESSION lock_wait_timeout = 77"
)


def setting(connection, name):
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT @@SESSION.{name}")
        return cursor.fetchone()[0]


def isolation(connection):
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')"
        )
        (level,) = set(dict(cursor.fetchall()).values())
    return level


@pytest.fixture
def hostile(iam, scratch, redis_client):
    """Every global as it hurts most, for all sessions but that of `iam` itself."""
    before = dict(iam.rows("SHOW GLOBAL VARIABLES"))
    settings = {name: value for name, value in HOSTILE.items() if name in before}
    settings["init_connect"] = INIT_CONNECT
    changed = []
    try:
        for name, value in settings.items():
            changed.append(name)
            iam.run(f"SET GLOBAL {name} = %s", [value])
        yield settings
    finally:
        old = {
            name: float(before[name]) if "." in before[name] else int(before[name])
            for name in changed
            if before[name].replace(".", "").isdecimal()
        }
        for name in changed:
            if before[name] == "DEFAULT":
                iam.run(f"SET GLOBAL {name} = DEFAULT")
            else:
                iam.run(f"SET GLOBAL {name} = %s", [old.get(name, before[name])])


def test_the_jobs_do_the_same(hostile, iam, scratch, perform, tmp_path):
    location = f"file://{tmp_path}/archive"
    for name in ("one", "Ünal", "三"):
        user(iam, name)
        secret(iam, name, name, 0)
    report = perform(disable(location, on_disable="expire_secrets", exempt_names=["Ü*"]))
    assert (report["changed"], report["also"]["secrets_expired"]) == (2, 2)
    assert enabled(iam) == {"Ünal"}
    assert perform(enable(location, report["undo_record"]))["enabled"] == 2
    assert enabled(iam) == {"one", "Ünal", "三"}
    assert iam.column("SELECT expires FROM secret") == [0, 0, 0]

    fill(iam, 300)
    query = "SELECT * FROM policy_audit ORDER BY id"
    before = iam.rows(query)
    assert perform(purge(location, dry_run=True))["matched"] == 300
    report = perform(purge(location))
    assert (report["changed"], iam.rows(query)) == (300, [])
    perform(restore(location, report["archive"]))
    assert iam.rows(query) == before
    assert perform(purge(None, archive=None))["changed"] == 300

    scratch.run("CREATE TABLE t (id int PRIMARY KEY AUTO_INCREMENT, age timestamp NULL) ENGINE InnoDB")
    scratch.run(
        "CREATE TABLE child (id int PRIMARY KEY, t int, FOREIGN KEY (t) REFERENCES t (id)) ENGINE InnoDB"
    )
    scratch.run(f"INSERT INTO t VALUES (1, {OLD}), (2, {OLD}), (3, {OLD})")
    scratch.run("INSERT INTO child VALUES (1, 2)")
    report = perform(purge(None, archive=None, table="t", age_column="age", mysql_conn_id="scratch"))
    assert (report["changed"], report["skipped"]) == (2, {"foreign_key": 1})
    assert scratch.column("SELECT id FROM t") == [2]

    scratch.run(
        "CREATE TABLE logs (id int PRIMARY KEY, at datetime NOT NULL, who int NOT NULL,"
        " text char(19) NOT NULL, KEY by_who (who, at)) ENGINE InnoDB"
    )
    scratch.run("INSERT INTO logs VALUES (1, '2001-01-01', 1, '2001-01-01 00:00:00')")
    scratch.run("INSERT INTO logs VALUES (2, '2001-01-02', 1, '2001-01-02 12:00:00')")
    scratch.run("INSERT INTO logs VALUES (3, '2001-01-03', 1, '2999-01-03 00:00:00')")
    logs = {"table": "logs", "mysql_conn_id": "scratch"}
    report = perform(purge(None, archive=None, age_column="at", keep_last=2, per="who", **logs))
    assert (report["changed"], scratch.column("SELECT id FROM logs ORDER BY id")) == (1, [2, 3])
    report = perform(purge(None, archive=None, age_column="text", age_format="%Y-%m-%d %H:%M:%S", **logs))
    assert (report["changed"], scratch.column("SELECT id FROM logs")) == (1, [3])


def test_what_the_session_needs_is_set(hostile, mariadb):
    with closing(mariadb.connect_as_watcher(charset="latin1")) as connection:
        set_up(connection)
        with closing(connection.cursor()) as cursor:
            cursor.execute("SHOW SESSION VARIABLES")
            found = dict(cursor.fetchall())
    assert {name: found[name] for name in OURS if name in found} == {
        name: value for name, value in OURS.items() if name in found
    }


def test_no_setting_of_the_session_is_without_a_test():
    names = {*re.findall(r"(\w+) = ", job_session.SETTINGS), *job_session.MORE_SETTINGS}
    assert sorted(names - OURS.keys()) == []
    assert sorted(names - HOSTILE.keys()) == []


def test_no_list_of_keys_is_read_by_a_scan(hostile, scratch, perform, plans, tmp_path):
    scratch.run("CREATE TABLE t (a int, b int, age timestamp NULL, PRIMARY KEY (a, b)) ENGINE InnoDB")
    scratch.run(f"INSERT INTO t SELECT seq, seq, IF(seq <= 300, {OLD}, NOW()) FROM {numbers(3000)}")
    scratch.run("ANALYZE TABLE t")
    location = f"file://{tmp_path}/archive"
    assert perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))["changed"] == 300
    lists = [(way, query) for query, way, _ in plans if " IN (" in query]
    assert len(lists) > 1
    assert [one for one in lists if one[0] in {"ALL", "index"}] == []


def test_the_number_of_rows_is_that_of_now(scratch, session):
    """MySQL shows others the number of an earlier look, for a day."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY)")
    scratch.rows("SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_NAME = 't'")
    scratch.run(f"INSERT INTO t SELECT seq FROM {numbers(5000)}")
    assert wait_until(lambda: read_table(Transactions(session), "t").rows > 4000, 10)


@pytest.mark.needs("generated-key")
def test_a_generated_invisible_key_is_a_key(hostile, scratch, perform, tmp_path):
    scratch.run("SET sql_generate_invisible_primary_key = 1")
    scratch.run("CREATE TABLE t (age timestamp NOT NULL, name varchar(9)) ENGINE InnoDB")
    scratch.run(f"INSERT INTO t (age, name) VALUES ({OLD}, 'a'), ({OLD}, 'b'), (NOW(), 'c'), ({OLD}, 'd')")
    query = "SELECT my_row_id, age, name FROM t ORDER BY my_row_id"
    before, location = scratch.rows(query), f"file://{tmp_path}/archive"
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert (report["changed"], scratch.rows(query)) == (3, [before[2]])
    perform(restore(location, report["archive"], tables=["t"], mysql_conn_id="scratch"))
    assert scratch.rows(query) == before


def test_a_statement_ends_before_the_mark_of_its_dead_worker(mariadb):
    """Otherwise a retry could begin while the server still works for the worker that was killed."""
    with closing(mariadb.connect()) as connection:
        set_up(connection)
        limits = {"max_statement_time": 1, "max_execution_time": 1000}  # in a second
        with closing(connection.cursor()) as cursor:
            cursor.execute("SHOW SESSION VARIABLES WHERE Variable_name IN %s", [list(limits)])
            ((name, value),) = cursor.fetchall()
        assert 0 < float(value) / limits[name] < HEARTBEAT_TTL
