"""A purge of tables with every kind of key, against a model in Python that knows the rows by a number."""

from __future__ import annotations

from functools import partial

import pytest

from dev.databases import MySQL
from iam_watcher.database import transactions
from iam_watcher.errors import WalkError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import key_order, walk
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import TaskInstance
from tests.integration.keys import ALL

pytestmark = pytest.mark.every_server

ROWS = 120

SHORT = [
    key
    for key in ALL
    if key.name
    in {
        "bigint_unsigned",
        "bigint_desc",
        "bigint_unique",
        "decimal",
        "float",
        "varbinary",
        "datetime6",
        "timestamp0",
        "enum",
        "uuid",
        "char_utf8mb4_general_ci",
        "varchar_utf8mb4_unicode_ci",
        "varchar_utf8mb4_0900_ai_ci",
        "varchar_cp932_japanese_ci",
        "day_id",
        "three",
        "texts",
        "desc_first",
        "unique_pair",
    }
]
KEYS = [pytest.param(key, id=key.name) for key in SHORT] + [
    pytest.param(key, id=key.name, marks=pytest.mark.e2e) for key in ALL if key not in SHORT
]


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
def table(scratch, mariadb, request, small):
    """The table of a key, filled; skipped rows are those that the server refuses."""
    key = request.param
    kind = "mysql" if isinstance(mariadb, MySQL) else "mariadb"
    if key.servers not in {"all", kind}:
        return None
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
    if table is None:
        return
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
    if table is None:
        return
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
    if table is None:
        return
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
