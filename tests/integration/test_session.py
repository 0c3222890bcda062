"""The session of a job is the same whatever the server's globals and the connection say."""

from __future__ import annotations

from contextlib import closing

import pytest

from iam_watcher.database.session import set_up
from iam_watcher.lock.renewal import HEARTBEAT_TTL
from tests.integration.test_account_lifecycle import disable, enable, secret
from tests.integration.test_archive import OLD, fill, purge
from tests.integration.test_disable_users import enabled, user
from tests.integration.test_restore_rows import restore

pytestmark = pytest.mark.every_server

# What an administrator can set for all sessions, and what would change what the jobs do.
HOSTILE = {
    "auto_increment_increment": 7,
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
    "max_execution_time": 1,
    "max_join_size": 1,
    "max_length_for_sort_data": 4,
    "max_seeks_for_key": 1,
    "max_sort_length": 64,
    "net_read_timeout": 1,
    "net_write_timeout": 1,
    "old_mode": "ZERO_DATE_TIME_CAST",
    "optimizer_max_sel_arg_weight": 1,
    "optimizer_max_sel_args": 1,
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
    "transaction_isolation": "SERIALIZABLE",
    "transaction_read_only": 1,
    "tx_isolation": "SERIALIZABLE",
    "tx_read_only": 1,
    "unique_checks": 0,
    "use_stat_tables": "NEVER",
    "wait_timeout": 1,
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
        numbers = {name: int(before[name]) for name in changed if before[name].isdecimal()}
        for name in changed:
            if before[name] == "DEFAULT":
                iam.run(f"SET GLOBAL {name} = DEFAULT")
            else:
                iam.run(f"SET GLOBAL {name} = %s", [numbers.get(name, before[name])])


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
        "CREATE TABLE logs (id int PRIMARY KEY, at datetime NOT NULL, who int NOT NULL, text char(19) NOT NULL,"
        " KEY by_who (who, at)) ENGINE InnoDB"
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
    ours = {
        "autocommit": "OFF",
        "character_set_client": "utf8mb4",
        "character_set_connection": "utf8mb4",
        "character_set_results": "utf8mb4",
        "check_constraint_checks": "ON",
        "completion_type": "NO_CHAIN",
        "foreign_key_checks": "ON",
        "idle_transaction_timeout": "0",
        "innodb_lock_wait_timeout": "1",
        "lock_wait_timeout": "1",
        "sql_auto_is_null": "OFF",
        "sql_big_selects": "ON",
        "sql_mode": "STRICT_TRANS_TABLES,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION",
        "sql_safe_updates": "OFF",
        "system_versioning_asof": "DEFAULT",
        "time_zone": "+00:00",
        "transaction_isolation": "READ-COMMITTED",
        "transaction_read_only": "OFF",
        "tx_isolation": "READ-COMMITTED",
        "tx_read_only": "OFF",
        "unique_checks": "ON",
        "wait_timeout": "60",
    }
    assert {name: found[name] for name in ours if name in found} == {
        name: value for name, value in ours.items() if name in found
    }


def test_a_statement_ends_before_the_mark_of_its_dead_worker(mariadb):
    """Otherwise a retry could begin while the server still works for the worker that was killed."""
    with closing(mariadb.connect()) as connection:
        set_up(connection)
        limits = {"max_statement_time": 1, "max_execution_time": 1000}  # in a second
        with closing(connection.cursor()) as cursor:
            cursor.execute("SHOW SESSION VARIABLES WHERE Variable_name IN %s", [list(limits)])
            ((name, value),) = cursor.fetchall()
        assert 0 < float(value) / limits[name] < HEARTBEAT_TTL
