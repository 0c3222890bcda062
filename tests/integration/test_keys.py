"""A purge of tables with every kind of key, against a model in Python that knows the rows by a number.

Every test goes through the same kinds of keys, with the same model: hence the length.
"""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iam_watcher.database import transactions
from iam_watcher.database.catalogue import read_table
from iam_watcher.errors import WalkError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import key_order, walk
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import TaskInstance
from tests.integration.keys import ALL

pytestmark = pytest.mark.every_server

ROWS = 120

# Those that `make test` tries.
SHORT = {
    "decimal",
    "datetime6",
    "varbinary",
    "char_utf8mb4_general_ci",
    "varchar_utf8mb4_0900_ai_ci",
    "varchar_utf8mb4_unicode_ci",
    "day_id",
    "three",
    "desc_first",
    "enum_year_bit",
    "unique_pair",
}
# What only one kind of server has.
NEEDS = {"mariadb": "address-types", "mysql": "typed-json"}


def marks(key):
    found = [pytest.mark.needs(NEEDS[key.servers])] if key.servers in NEEDS else []
    return found if key.name in SHORT else [*found, pytest.mark.e2e]


KEYS = [pytest.param(key, id=key.name, marks=marks(key)) for key in ALL]


class Small(ChunkSize):
    """A few rows for each chunk, so that there are many; spans grow, or integers would take for ever."""

    def __init__(self, _):
        super().__init__(target=1.0, rows=7, span=11)

    def wrote(self, rows, seconds):
        pass

    def read(self, seconds, *, whole_span):
        self.span *= 1 + whole_span


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(walk, "ChunkSize", Small)
    monkeypatch.setattr("iam_watcher.walk.count.ChunkSize", Small)


def purge(**options):
    return PurgeRowsOperator(
        task_id="purge", table="t", age_column="age", older_than_days=1, mysql_conn_id="scratch", **options
    )


class Store:
    """Airflow's store for the state of a task."""

    def __init__(self):
        self.kept = {}

    def get(self, key):
        return self.kept.get(key)

    def set(self, key, value):
        self.kept[key] = value

    def delete(self, key):
        self.kept.pop(key, None)


@pytest.fixture
def table(scratch, request, small):
    """The table of a key, filled with what the server takes."""
    key = request.param
    key.create(scratch)
    key.fill(scratch, ROWS, seed=len(key.name))
    return key


def everything(scratch, key):
    columns = ", ".join(
        f"HEX({name}), {name} + 0" if "time" in key.types[0] else f"HEX({name})" for name in key.columns
    )
    return sorted(scratch.rows(f"SELECT {columns}, n, age FROM t"))


@pytest.mark.parametrize("table", KEYS, indirect=True)
@pytest.mark.parametrize("dense", [True, False])
def test_exactly_the_old_rows_go_and_all_are_counted(scratch, perform, monkeypatch, table, dense):
    old, young = table.model(scratch)
    assert len(old) > 0 or len(young) < 3
    monkeypatch.setattr(key_order, "DENSE", 1000 if dense else 0)
    report = perform(purge(dry_run=True))
    assert (report["matched"], report["examined"]) == (len(old), len(old) + len(young))
    report = perform(purge())
    assert table.model(scratch) == (set(), young)
    assert (report["matched"], report["changed"], report["skipped"]) == (len(old), len(old), {})
    # MySQL reads one row twice if the smallest key is the smallest of its type.
    assert report["examined"] - len(old) - len(young) in ({0, 1} if "unsigned" in table.name else {0})
    assert perform(purge())["changed"] == 0


@pytest.mark.parametrize("table", KEYS, indirect=True)
def test_an_archive_brings_back_the_same_rows(scratch, perform, tmp_path, table):
    old, young = table.model(scratch)
    before = everything(scratch, table)
    location = f"file://{tmp_path}/archive"
    report = perform(purge(archive=location))
    assert (report["changed"], report["skipped"]) == (len(old), {})
    assert table.model(scratch) == (set(), young)
    restore = partial(
        RestoreRowsOperator,
        task_id="restore",
        path=report["archive"],
        location=location,
        tables=["t"],
        mysql_conn_id="scratch",
    )
    restored = perform(restore())
    assert (restored["restored"], restored["skipped"], restored["altered"]) == (len(old), {}, {})
    assert everything(scratch, table) == before
    again = perform(restore())
    assert (again["restored"], again["skipped"]) == (0, {"exists": len(old)} if old else {})


@pytest.mark.parametrize("table", KEYS, indirect=True)
def test_limited_and_interrupted_runs_do_the_same_work(scratch, perform, monkeypatch, table):
    """Tries that fail after some chunks, each of at most a few rows, resume where the last one stopped."""
    old, young = table.model(scratch)
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    monkeypatch.setattr(transactions, "TRIES", 1)
    Variables.kept = {}
    changed = tries = 0
    for run in range(200):
        store = Store()
        calls = iter(range(1_000))

        def fail_now_and_then(db, *_, calls=calls, run=run):
            if run % 3 == 2 and next(calls) == 1:
                raise WalkError("made by the test")

        monkeypatch.setattr(transactions.Transactions, "sleep", fail_now_and_then)
        try:
            report = run_with(purge(max_rows=5), store, f"run-{run}")
        except WalkError:
            report = run_with(purge(max_rows=5), store, f"run-{run}")
            tries += 1
        assert report["changed"] + report["changed_before"] <= 5
        changed += report["changed"] + report["changed_before"]
        if report["stopped"] is None:
            break
    assert table.model(scratch) == (set(), young)
    assert changed == len(old)


class Variables:
    """Airflow's Variables."""

    kept: dict[str, object] = {}  # noqa: RUF012  of the test at work

    @classmethod
    def get(cls, name, default=None, **_):
        return cls.kept.get(name, default)

    @classmethod
    def set(cls, name, value, **_):
        cls.kept[name] = value

    @classmethod
    def delete(cls, name):
        del cls.kept[name]


def run_with(operator, store, run):
    return operator.execute({"ti": TaskInstance(run), "task_state_store": store})


@pytest.mark.parametrize("by", ["RANGE COLUMNS (k0)", "HASH (k1)"])
def test_a_partitioned_table(scratch, perform, small, by):
    key = next(key for key in ALL if key.name == "day_id")
    parts = "(PARTITION a VALUES LESS THAN ('2005-01-01'), PARTITION b VALUES LESS THAN (MAXVALUE))"
    key.create(scratch, options=f"PARTITION BY {by} {parts if 'RANGE' in by else 'PARTITIONS 3'}")
    key.fill(scratch, ROWS, seed=3)
    old, young = key.model(scratch)
    report = perform(purge())
    assert (report["changed"], key.model(scratch)) == (len(old), (set(), young))
    assert report["examined"] == len(old) + len(young)


@pytest.fixture
def pairs(scratch):
    """Tables of two columns, in each combination of directions."""
    for first in ("", " DESC"):
        for last in ("", " DESC"):
            scratch.run(
                f"CREATE TABLE t{first[1:]}_{last[1:]} (a int NOT NULL, b varchar(9) NOT NULL,"
                f" PRIMARY KEY (a{first}, b{last})) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
            )
    return scratch


PAIRS = st.tuples(st.integers(-2, 2), st.text("ab%", max_size=2))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.sets(PAIRS, max_size=12),
    position=PAIRS,
    first=st.sampled_from(["", " DESC"]),
    last=st.sampled_from(["", " DESC"]),
)
def test_rows_behind_a_position_of_two_columns(pairs, session, rows, position, first, last):
    name = f"t{first[1:]}_{last[1:]}"
    pairs.run(f"DELETE FROM {name}")
    pairs.run_many(f"INSERT INTO {name} VALUES (%s, %s)", sorted(rows))
    db = transactions.Transactions(session)
    key = read_table(db, name).key

    def found(condition):
        query = f"SELECT {key.selected} FROM {name} WHERE {condition} ORDER BY {key.ordered}"
        return [(a, b.decode()) for a, b in db.read(query)]

    def rank(pair):
        a, b = pair
        # With its spaces at the end, which the collation does not count, no text here is a part of another.
        letters = [ord(letter) for letter in b.ljust(2)]
        return (-a if first else a, [-letter for letter in letters] if last else letters)

    place = position[0], position[1].encode()
    ordered = sorted(rows, key=rank)
    assert found("TRUE") == ordered
    assert found(key.behind(place)) == [pair for pair in ordered if rank(pair) > rank(position)]
    assert found(key.up_to(place)) == [pair for pair in ordered if rank(pair) <= rank(position)]
    assert found(key.from_on(place)) == [pair for pair in ordered if rank(pair) >= rank(position)]
    if rows:
        taken = [(a, b.encode()) for a, b in ordered[::2]]
        assert found(key.among(taken)) == ordered[::2]
    db.commit()
