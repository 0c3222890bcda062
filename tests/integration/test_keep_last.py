"""The newest rows stay, of the table or of each group, and each kind of rows has its own period.

The model and the random tables are used by every test: hence the length.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.walk.row_locks import RowLocks
from tests.integration.conftest import numbers

DAY = timedelta(days=1)
DAYS = 30
ROWS = 600


def purge(**options):
    arguments = {"task_id": "purge", "table": "t", "age_column": "at", "mysql_conn_id": "scratch"}
    return PurgeRowsOperator(**{**arguments, **options})


@pytest.fixture
def table(scratch):
    """A function that makes a table of rows with many equal ages, groups and NULLs; returns key → row."""

    def table(index="KEY by_group (grp, at), KEY by_age (at)"):
        rng = random.Random(7)
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        scratch.run(
            "CREATE TABLE t (id int PRIMARY KEY, at datetime NULL, grp int NULL, level varchar(9) NULL,"
            f" {index})"
        )
        rows = {}
        for key in rng.sample(range(10_000), ROWS):
            at = rng.choice([None, "0000-00-00 00:00:00", *[now - rng.randrange(60) * DAY - DAY / 2] * 30])
            rows[key] = (at, rng.choice([None, *range(20)]), rng.choice(["info", "debug", "DEBUG", "", None]))
        scratch.run("SET sql_mode = ''")
        scratch.run_many("INSERT INTO t VALUES (%s, %s, %s, %s)", [(key, *row) for key, row in rows.items()])
        return {
            key: (None if isinstance(at, str) else at and now - at, group, level)
            for key, (at, group, level) in rows.items()
        }

    return table


def model(rows, *, keep, per, days, level):
    """Return the keys of rows to be deleted."""
    groups = {}
    for key, (age, group, its_level) in rows.items():
        if age is not None and (level is None or its_level == level):
            groups.setdefault(group if per else None, []).append((age, -key))
    return {-key for group in groups.values() for age, key in sorted(group)[keep:] if age > days * DAY}


@pytest.mark.every_server
@pytest.mark.parametrize("per", [None, "grp"])
@pytest.mark.parametrize("days", [None, DAYS])
@pytest.mark.parametrize("level", [None, "info"])
def test_the_newest_rows_stay(scratch, perform, table, tmp_path, per, days, level):
    rows = table()
    keep = 3 if per else 250 if level is None else 60
    expected = model(rows, keep=keep, per=per, days=days or 0, level=level)
    assert 20 < len(expected) < ROWS
    where = [("level", "=", level)] if level else []
    options = {"keep_last": keep, "per": per, "older_than_days": days, "where": where}
    dry = perform(purge(dry_run=True, **options))
    real = perform(purge(archive=f"file://{tmp_path}" if days else None, **options))
    assert set(rows) - set(scratch.column("SELECT id FROM t")) == expected
    assert dry["matched"] == real["changed"] == len(expected)
    wanted = {level} if level else {row[2] for row in rows.values()}
    old = [row for row in rows.values() if row[0] and row[0] > (days or 0) * DAY and row[2] in wanted]
    assert real["skipped"].get("newest", 0) == len(old) - len(expected)
    assert perform(purge(**options))["changed"] == 0


@pytest.mark.every_server
@pytest.mark.parametrize("per", [None, "grp"])
def test_by_an_index_on_the_age_too(scratch, perform, table, per):
    rows = table()
    scratch.run_many(
        "INSERT INTO t VALUES (%s, NOW() - INTERVAL 1 DAY, NULL, NULL)",
        [[key] for key in range(20_000, 29_000)],
    )
    scratch.run("ANALYZE TABLE t")
    rows |= dict.fromkeys(range(20_000, 29_000), (DAY, None, None))
    expected = model(rows, keep=2, per=per, days=DAYS, level=None)
    report = perform(purge(keep_last=2, per=per, older_than_days=DAYS))
    assert report["order"] == "index"
    assert set(rows) - set(scratch.column("SELECT id FROM t")) == expected


@pytest.mark.every_server
@pytest.mark.parametrize("name", ["newest", "newest of newest"])
def test_any_name_of_a_table_will_do(scratch, perform, name):
    scratch.run(
        f"CREATE TABLE `{name}` (id int PRIMARY KEY, grp int NOT NULL, at datetime NOT NULL, KEY (grp, at))"
    )
    scratch.run(
        f"INSERT INTO `{name}` SELECT seq, seq % 3, '2020-01-01' + INTERVAL seq DAY FROM {numbers(30)}"
    )
    perform(purge(table=name, keep_last=2, per="grp"))
    assert scratch.column(f"SELECT id FROM `{name}` ORDER BY id") == [25, 26, 27, 28, 29, 30]


def test_fewer_rows_than_are_kept(scratch, perform, table):
    table()
    assert perform(purge(keep_last=ROWS))["changed"] == 0
    assert scratch.value("SELECT COUNT(*) FROM t") == ROWS


def test_rows_that_became_the_newest_meanwhile_stay(scratch, perform, table, monkeypatch):
    """Someone deletes newer rows between the search and the transaction that deletes."""
    rows = table()
    lock, done = RowLocks.lock, []

    def after_others(locks, keys):
        if not done:
            done.append(scratch.run("DELETE FROM t WHERE grp = 1 AND at > NOW() - INTERVAL %s DAY", [DAYS]))
        return lock(locks, keys)

    monkeypatch.setattr(RowLocks, "lock", after_others)
    perform(purge(keep_last=3, per="grp", older_than_days=DAYS))
    assert done[0] > 3
    left = {key: row for key, row in rows.items() if row[1] == 1 and row[0] and row[0] > DAYS * DAY}
    newest = sorted((row[0], -key) for key, row in left.items())[:3]
    assert {-key for _, key in newest} <= set(scratch.column("SELECT id FROM t WHERE grp = 1"))


@pytest.mark.every_server
def test_each_row_is_compared_with_a_few_rows_of_its_group(scratch, perform):
    """With groups of 400 rows, a search without the index on group and age would read 400 rows for each."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at datetime NOT NULL, grp int, KEY by_group (grp, at))")
    rows = [(key, datetime(2020, 1, 1) + key * DAY / 10, key % 5) for key in range(2000)]  # noqa: DTZ001  as the column
    scratch.run_many("INSERT INTO t VALUES (%s, %s, %s)", rows)
    scratch.run("ANALYZE TABLE t")

    def reads():
        return sum(int(count) for _, count in scratch.rows("SHOW GLOBAL STATUS LIKE 'Handler_read%'"))

    before = reads()
    assert perform(purge(keep_last=3, per="grp", dry_run=True))["matched"] == 2000 - 15
    assert reads() - before < 2000 * 40


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("index", "options", "message"),
    [
        ("KEY by_age (at)", {"per": "grp"}, r"an index of t that begins with \(grp, at\); .* Create one"),
        ("KEY by_group (grp, at)", {}, r"an index of t that begins with \(at\); .* Create one"),
        ("KEY by_group (grp), KEY by_age (at)", {"per": "grp"}, r"begins with \(grp, at\)"),
        ("KEY by_age (at)", {"per": "absent"}, "no column 'absent'"),
        (
            "KEY by_age (at)",
            {"age_column": "level", "age_format": "%d.%m.%Y"},
            "needs ages whose order is that of their times",
        ),
    ],
)
def test_an_index_is_needed(scratch, perform, table, index, options, message, dry_run):
    table(index)
    with pytest.raises(AirflowFailException, match=message):
        perform(purge(keep_last=3, dry_run=dry_run, **options))


@pytest.mark.every_server
@pytest.mark.parametrize(
    ("index", "per", "needed"),
    [
        ("FULLTEXT (at), PRIMARY KEY (id)", None, "at"),
        ("KEY (at(4)), PRIMARY KEY (id)", None, "at"),
        ("KEY (name(4), at), PRIMARY KEY (id)", None, "at"),
        ("KEY (grp, name(4)), PRIMARY KEY (at, id)", "grp", "grp, at"),
        ("KEY (at, name(4)), PRIMARY KEY (id)", None, None),
        pytest.param(
            *("KEY ((grp + 1), at), PRIMARY KEY (id)", None, "at"),
            marks=pytest.mark.needs("expression-index"),
        ),
        ("KEY (grp, id, at), PRIMARY KEY (id)", "grp", "grp, at"),
        ("KEY (at), PRIMARY KEY (id DESC)", None, "at, id"),
        ("KEY (at, id), PRIMARY KEY (id DESC)", None, None),
        ("KEY (grp, at), PRIMARY KEY (id)", "grp", None),
        # InnoDB has the primary key behind the columns of the index.
        ("KEY (grp), PRIMARY KEY (at, id)", "grp", None),
        ("KEY (grp, id), PRIMARY KEY (at, id)", "grp", "grp, at"),
    ],
)
def test_which_index_finds_the_newest_rows(scratch, perform, index, per, needed):
    scratch.run(
        "CREATE TABLE t (id int NOT NULL, at varchar(8) NOT NULL, grp int NOT NULL, name varchar(9) NOT NULL,"
        f" {index})"
    )
    scratch.run_many("INSERT INTO t VALUES (%s, %s, 1, '')", [(n, f"2020010{n}") for n in range(1, 6)])
    job = purge(keep_last=3, per=per, age_unit="YYYYMMDD")
    if needed:
        with pytest.raises(AirflowFailException, match=rf"an index of t that begins with \({needed}\)"):
            perform(job)
    else:
        perform(job)
    left = scratch.column("SELECT id FROM t ORDER BY id")
    assert left == [*range(1, 6)] if needed else left == [3, 4, 5]


@pytest.mark.every_server
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("index", "unique"),
    [
        ("PRIMARY KEY (grp)", "PRIMARY"),
        ("PRIMARY KEY (id), UNIQUE one (grp)", "one"),
        ("PRIMARY KEY (id), UNIQUE one (grp), KEY (grp, at)", "one"),
        ("PRIMARY KEY (id, grp), UNIQUE (grp, name(2)), UNIQUE (grp, at)", None),
    ],
)
def test_groups_of_one_row_are_refused(scratch, perform, index, unique, dry_run):
    scratch.run(
        f"CREATE TABLE t (id int NOT NULL, at datetime NOT NULL, grp int NOT NULL, name varchar(9), {index})"
    )
    scratch.run("INSERT INTO t VALUES (1, '2020-01-01', 7, 'a'), (2, '2020-01-02', 8, 'b')")
    job = purge(keep_last=1, per="grp", dry_run=dry_run)
    if unique:
        with pytest.raises(AirflowFailException) as refused:
            perform(job)
        assert f"the index {unique} of t makes grp unique, so each row is a group of" in str(refused.value)
    else:
        assert perform(job)["matched"] == 0


@pytest.mark.every_server
def test_members_of_an_enum_are_in_the_order_of_its_declaration(scratch, perform):
    """Of the same age, the rows with the largest keys are the newest."""
    scratch.run("CREATE TABLE t (id enum('b', 'c', 'a') PRIMARY KEY, at datetime NOT NULL, KEY (at))")
    scratch.run("INSERT INTO t VALUES ('a', '2020-01-01'), ('b', '2020-01-01'), ('c', '2020-01-01')")
    perform(purge(keep_last=2))
    assert set(scratch.column("SELECT id FROM t")) == {"c", "a"}


@pytest.mark.every_server
def test_ids_in_upper_and_lower_case_are_kept_by_their_time(scratch, perform):
    """A binary collation sorts all letters in upper case before those in lower case."""
    ids = [f"0190000{digit}-0000-7000-8000-000000000000" for digit in "89abcdef"]
    ids[1::2] = map(str.upper, ids[1::2])
    for collation in ("bin", "general_ci"):
        scratch.run("DROP TABLE IF EXISTS t")
        scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at char(36) COLLATE ascii_{collation}, KEY (at))")
        scratch.run_many("INSERT INTO t VALUES (%s, %s)", list(enumerate(ids)))
        if collation == "bin":
            with pytest.raises(AirflowFailException, match="has UUIDv7 of collation ascii_bin"):
                perform(purge(keep_last=3, age_unit="uuid7"))
            assert scratch.value("SELECT COUNT(*) FROM t") == len(ids)
        else:
            perform(purge(keep_last=3, age_unit="uuid7"))
            assert scratch.column("SELECT id FROM t ORDER BY id") == [5, 6, 7]


@pytest.mark.parametrize("per", [None, "grp"])
def test_values_that_are_no_times_do_not_count_as_the_newest(scratch, perform, per):
    """As texts they are behind all days."""
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, at varchar(8) NOT NULL, grp int, KEY (grp, at), KEY (at))"
    )
    days = [f"{datetime.now(UTC) - number * DAY:%Y%m%d}" for number in range(3, 103)]
    scratch.run_many("INSERT INTO t VALUES (%s, %s, 1)", list(enumerate(days, 1)))
    scratch.run_many("INSERT INTO t VALUES (%s, %s, 1)", [(200 + n, f"zzzz{n}") for n in range(50)])
    perform(purge(keep_last=10, per=per, age_unit="YYYYMMDD"))
    assert scratch.column("SELECT id FROM t ORDER BY id") == [*range(1, 11), *range(200, 250)]


KINDS = {"column": "level", "info": "20d", "debug": "5d"}


@pytest.mark.every_server
@pytest.mark.parametrize("others", [{}, {None: "40d"}, {None: "0"}, {None: "1d"}])
@pytest.mark.parametrize("index", [False, True])
def test_each_kind_has_its_period(scratch, perform, table, others, index):
    rows = table()
    if index:
        values = [[key] for key in range(20_000, 29_000)]
        scratch.run_many("INSERT INTO t VALUES (%s, NOW(), NULL, 'debug')", values)
        scratch.run("ANALYZE TABLE t")
    periods = {"info": 20, "debug": 5}
    rest = {"40d": 40, "1d": 1}.get(others.get(None), 10**6)
    expected = {
        key
        for key, (age, _, level) in rows.items()
        if age is not None and age > periods.get((level or "").lower(), rest) * DAY
    }
    options = {"older_than": {**KINDS, **others}}
    assert perform(purge(dry_run=True, **options))["matched"] == len(expected)
    report = perform(purge(**options))
    assert set(rows) - set(scratch.column("SELECT id FROM t")) == expected
    assert report["order"] == ("index" if index else "key")


@pytest.mark.every_server
def test_kinds_that_are_equal_for_the_column_are_refused(scratch, perform, table):
    table()
    with pytest.raises(
        AirflowFailException, match="'debug', 'DEBUG'; for column 'level' of t some of them are"
    ):
        perform(purge(older_than={"column": "level", "debug": "3d", "DEBUG": "3d"}))
    scratch.run("ALTER TABLE t MODIFY level varchar(9) COLLATE utf8mb4_bin NULL")
    report = perform(purge(older_than={"column": "level", "debug": "3d", "DEBUG": "0"}))
    assert report["changed"] == 600 - scratch.value("SELECT COUNT(*) FROM t") > 0
    assert (
        scratch.value(
            "SELECT COUNT(*) FROM t WHERE level = 'debug' AND at < NOW() - INTERVAL 3 DAY AND at > 0"
        )
        == 0
    )


def test_no_period_at_all_is_off(perform, table):
    table()
    for options in (
        {"older_than": {"column": "level", "debug": "0", None: "0d"}},
        {"older_than": "0", "keep_last": 1},
    ):
        with pytest.raises(AirflowSkipException, match="older_than is 0, which turns this job off"):
            perform(purge(**options))


@pytest.mark.parametrize("name", ["older_than", "older_than_days", "grace", "grace_days"])
@pytest.mark.parametrize("keep_last", [None, 1])
def test_a_period_that_is_rendered_to_nothing_is_not_taken_for_none(scratch, perform, table, name, keep_last):
    """Without a period every row would be old."""
    table()
    operator = purge(keep_last=keep_last, **{name: "{{ params.period }}"})
    for rendered in (None, "None", ""):
        setattr(operator, name, rendered)
        with pytest.raises(AirflowFailException, match=f"{name} is {rendered!r}; expected"):
            perform(operator)
    assert scratch.value("SELECT COUNT(*) FROM t") == ROWS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_last": 0}, "keep_last is 0"),
        ({"keep_last": 10**9 + 1}, "expected a whole number of rows from 1 to 1,000,000,000"),
        ({"keep_last": True}, "keep_last is True"),
        ({"keep_last": "5"}, "keep_last is '5'"),
        ({"keep_last": 5, "per": ""}, "per is ''"),
        ({"per": "grp", "older_than": "1d"}, "per is 'grp', but keep_last is not set"),
        ({}, "none is given; expected one of older_than, older_than_days, grace, grace_days, or keep_last"),
        ({"older_than": {"debug": "3d"}}, "older_than['column'] is None"),
        ({"older_than": {"column": "level", None: "3d"}}, "expected a kind and its period"),
        ({"older_than": {"column": "level", "debug": 3}}, "older_than is 3"),
        ({"older_than": {"column": "level", ("a",): "3d"}}, "where has ('level', '=', ('a',))"),
        ({"grace": {"column": "level", "debug": "3d"}}, "grace is {"),
        *[
            ({name: value}, f"{name} is '6m15d', which could mean minutes or months; write '195d'")
            for name, value in (
                ("older_than", "6m15d"),
                ("grace", "6m15d"),
                ("older_than", {"column": "level", "debug": "6m15d"}),
                ("older_than", {"column": "level", "debug": "3d", None: "6m15d"}),
            )
        ],
    ],
)
def test_bad_literals_are_refused_when_the_dag_file_is_parsed(options, message):
    with pytest.raises(JobArgumentError) as refused:
        purge(**options)
    assert message in str(refused.value)
