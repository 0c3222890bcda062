"""What a walk does besides to go along a key, with keys of texts, of two columns and of binaries.

The model in Python knows a row by its number `n`; only the order of the keys comes from the server.

Every test goes through the same kinds of keys, with the same model: hence the length.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.reader import find
from iam_watcher.database import key as key_module
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.anonymize_rows import NOW, AnonymizeRowsOperator
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.jobs.table_job import age_sample, dry_run
from iam_watcher.walk import index_order, key_order, pace, walk
from iam_watcher.walk.index_order import AgeIndex, IndexOrder
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import ChunkSize, Pace
from iam_watcher.walk.row_change import RowChange
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import numbers
from tests.integration.keys import Keyed
from tests.integration.test_keys import Small, Store, Variables, run_with

ROWS = 120
GENERAL = "varchar(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"

# Texts that are equal for the server have one of these; it takes all characters of four bytes for equal.
SAME = {"a": "aAáÁ", "b": "bB", "c": "cC", "😀": "😀🎉𝄞"}


def _texts(rows):
    return [
        "".join(rows.choice("".join(SAME.values())) for _ in range(rows.randint(0, 3))) for _ in range(300)
    ]


def folded(text):
    """What the server takes for equal."""
    return "".join(next(one for one, letters in SAME.items() if letter in letters) for letter in text)


def _binaries(rows):
    ends = [b"\0" * 16, b"\0" * 15 + b"\1", b"\xff" * 16, b"a" + b"\0" * 15, b"a" + b" " * 15, b"'%\\\n" * 4]
    return ends + [rows.randbytes(16) for _ in range(300)]


_RANDOM = random.Random(14)
PAIR = Keyed("text_and_desc", (GENERAL, "int"), (_texts(_RANDOM), range(-2, 4)), frozenset({1}))
BINARY = Keyed("binary16", ("binary(16)",), (_binaries(_RANDOM),))


@pytest.fixture(params=[PAIR, BINARY], ids=lambda key: key.name)
def key(request):
    return request.param


@pytest.fixture
def table(scratch, key):
    """The table of a key, with an index on the age; about half of its rows are old."""
    key.create(scratch)
    scratch.run("ALTER TABLE t ADD INDEX by_age (age)")
    key.fill(scratch, ROWS, seed=2)
    return scratch


@pytest.fixture
def in_sevens(monkeypatch):
    """Chunks of seven rows, and no more keys in a window than eleven."""
    monkeypatch.setattr(pace, "LEAST_ROWS", 1)
    monkeypatch.setattr(walk, "ChunkSize", Small)
    monkeypatch.setattr("iam_watcher.walk.count.ChunkSize", Small)


def purge(**options):
    arguments = {"table": "t", "age_column": "age", "older_than_days": 1, "mysql_conn_id": "scratch"}
    return PurgeRowsOperator(task_id="purge", **{**arguments, **options})


def left(database):
    return set(database.column("SELECT n FROM t"))


def in_order(database, key, condition="TRUE"):
    """Return the numbers of rows in the order of the key."""
    columns = ", ".join(
        f"{name} DESC" if at in key.descending else name for at, name in enumerate(key.columns)
    )
    return database.column(f"SELECT n FROM t WHERE {condition} ORDER BY {columns}")


def change_of(session, **options):
    db = Transactions(session)
    found = read_table(db, "t")
    change = RowChange("`t`", found.key, "`age` < '2020-01-01'", size=found.size)
    return db, replace(change, **options)


INDEX = AgeIndex("`by_age`", "`age`", 1_000_000, "`age` < '2020-01-01'")


@pytest.mark.every_server
def test_by_the_index_on_the_age(table, key, perform, in_sevens):
    """The ages of few rows, many alike: chunks end within an age, and go on behind a key."""
    table.run("UPDATE t SET age = '2090-01-01'")
    rows = table.column("SELECT n FROM t ORDER BY n")
    old = dict.fromkeys(rows[::2], "2001-01-01") | dict.fromkeys(rows[1::8], "2002-02-02 02:02:02")
    table.run_many("UPDATE t SET age = %s WHERE n = %s", [(age, n) for n, age in old.items()])
    keys = "CONCAT('z', seq), 0" if key is PAIR else "UNHEX(LEFT(SHA2(seq, 256), 32))"
    names = ", ".join(key.columns)
    table.run(f"INSERT INTO t ({names}, n, age) SELECT {keys}, 1000 + seq, '2090-01-01' FROM {numbers(2000)}")
    table.run("ANALYZE TABLE t")
    before = left(table)
    assert len(before) > 10 * len(old)
    report = perform(purge())
    assert (report["order"], report["changed"], report["examined"]) == ("index", len(old), len(old))
    assert (left(table), report["skipped"]) == (before - old.keys(), {})


def refer(table, key, parents):
    """Create a table whose rows refer to these rows."""
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in zip(key.columns, key.types, strict=True))
    names = ", ".join(key.columns)
    table.run(f"CREATE TABLE child ({columns}, FOREIGN KEY ({names}) REFERENCES t ({names}))")
    table.run(f"INSERT INTO child SELECT {names} FROM t WHERE n IN ({','.join(map(str, parents))})")


@pytest.mark.every_server
@pytest.mark.parametrize("way", ["listed", "dense", "index"])
def test_rows_that_a_foreign_key_protects(table, key, session, monkeypatch, in_sevens, way):
    monkeypatch.setattr(key_order, "DENSE", 1000 if way == "dense" else 0)
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    old, young = key.model(table)
    protected = set(sorted(old)[::4]) | set(sorted(old)[:5])
    refer(table, key, protected | set(sorted(young)[:3]))
    db, change = change_of(session)
    # With no time for a second statement, each half is a transaction of its own.
    job = Walk(db, change, index=INDEX if way == "index" else None, pace=Pace(target=1e-9, duty=1))
    job.order._dense = way == "dense"
    done = job.write()
    assert left(table) == young | protected
    assert (done.matched, done.changed, done.skipped) == (
        len(old),
        len(old - protected),
        {"foreign_key": len(protected)},
    )


@pytest.mark.parametrize("index", [None, INDEX], ids=["key", "index"])
def test_rows_that_refer_to_each_other_go_in_one_run(table, key, session, monkeypatch, in_sevens, index):
    """Each refers to that of half its number, wherever the key of that one stands."""
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    names = ", ".join(key.columns)
    ups = [f"up_{name}" for name in key.columns]
    for up, kind in zip(ups, key.types, strict=True):
        table.run(f"ALTER TABLE t ADD COLUMN {up} {kind} NULL")
    table.run(f"ALTER TABLE t ADD FOREIGN KEY ({', '.join(ups)}) REFERENCES t ({names})")
    setting = ", ".join(f"t.{up} = up.{name}" for up, name in zip(ups, key.columns, strict=True))
    table.run(f"UPDATE t JOIN t AS up ON up.n = t.n DIV 2 AND up.n <> t.n SET {setting}")
    old, young = key.model(table)
    parents = {n: n // 2 for n in old | young if n and n // 2 in old | young}
    stay = set(young)
    while more := {parents[n] for n in stay if n in parents} - stay:
        stay |= more
    db, change = change_of(session)
    done = Walk(db, change, index=index, pace=Pace(target=1000, duty=1)).write()
    assert left(table) == stay
    assert (done.changed, done.skipped["foreign_key"]) == (len(old - stay), len(old & stay))
    assert 0 < len(old & stay) < len(old)


@pytest.mark.every_server
@pytest.mark.parametrize("dense", [True, False])
def test_a_time_limit_and_the_next_runs(table, key, monkeypatch, in_sevens, dense):
    """Each run goes on where the last one stopped: no row is read twice, and none is passed by."""
    monkeypatch.setattr(key_order, "DENSE", 1000 if dense else 0)
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    table.run("ALTER TABLE t DROP INDEX by_age")
    Variables.kept = {}
    old, young = key.model(table)
    places, examined, changed = [None], 0, 0
    for run in range(100):
        clock = itertools.count()
        monkeypatch.setattr(walk, "time", SimpleNamespace(monotonic=lambda clock=clock: float(next(clock))))
        report = run_with(purge(time_budget=timedelta(seconds=9)), Store(), f"run-{run}")
        assert report["began_after"] == places[-1]
        places.append(report["position"])
        examined += report["examined"]
        changed += report["changed"]
        if report["stopped"] is None:
            break
        assert report["stopped"] == "time_budget"
    assert len(places) > 3
    assert places[-1] is None
    assert (left(table), changed, examined) == (young, len(old), len(old) + len(young))


@pytest.mark.every_server
def test_the_share_of_a_walk_that_resumes(table, key, session, monkeypatch):
    monkeypatch.setattr(pace, "LEAST_ROWS", 10)
    table.run("ANALYZE TABLE t")
    db, change = change_of(session, predicate="TRUE")
    total = len(left(table))
    places = db.read(f"SELECT {change.key.selected} FROM t ORDER BY {change.key.ordered}")
    for done in (total // 4, total // 2, total - 3):
        after = change.key.take(places[done - 1])
        order = KeyOrder(db, change, ChunkSize(1e9, rows=10, span=100), after=after, expected=total)
        order.begin()
        told = [order.share]
        while not order.finished:
            order.advance(order.next_chunk(10, exact=True))
            told.append(order.share)
        assert told[0] == pytest.approx(done / total, abs=0.05)
        assert told == sorted(told)
        assert [share == 1 for share in told] == [False] * (len(told) - 1) + [True]
        assert order._examined == total - done


@pytest.mark.parametrize("way", ["listed", "dense", "index"])
def test_a_chunk_has_a_limit_of_bytes(table, key, session, monkeypatch, way):
    monkeypatch.setattr(pace, "MOST_BYTES", 10_000)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(1e-9, rows=200, span=1000))
    monkeypatch.setattr(key_order, "DENSE", 1000 if way == "dense" else 0)
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    table.run("ALTER TABLE t MODIFY note longtext NULL")
    table.run("UPDATE t SET note = IF(n MOD 5 = 0, NULL, REPEAT('n', IF(n > 60, 3000, 10)))")
    old, young = key.model(table)
    sizes, write = [], Walk._write_chunk

    def noted(walk, chunk, until):
        condition = chunk.within or change.key.among(chunk.keys)
        sizes.append(
            table.value(f"SELECT SUM(LENGTH(note)) FROM t WHERE {condition} AND age < '2020-01-01'") or 0
        )
        return write(walk, chunk, until)

    monkeypatch.setattr(Walk, "_write_chunk", noted)
    db, change = change_of(session)
    job = Walk(db, change, index=INDEX if way == "index" else None)
    job.order._dense = way == "dense"
    done = job.write()
    assert (left(table), done.changed) == (young, len(old))
    assert done.examined == (len(old) if way == "index" else len(old) + len(young))
    assert len(sizes) > 4
    assert max(sizes) <= (20_000 if way == "dense" else 10_000)


@pytest.mark.every_server
def test_a_dry_run_lists_each_row_by_its_key(table, key, perform, tmp_path, monkeypatch, in_sevens):
    monkeypatch.setattr(dry_run, "PART_ROWS", 10)
    old, _ = key.model(table)
    names = ", ".join(key.columns)
    keys = {n: rest for n, *rest in table.rows(f"SELECT n, {names} FROM t")}
    expected = [keys[n] for n in in_order(table, key, "age < '2020-01-01'")]
    if key is BINARY:
        expected = [f"0x{value.hex()}" for (value,) in expected]
    report = perform(purge(dry_run=True, archive=f"file://{tmp_path}"))
    parts = [(one, part) for one in find(report["listed"], kind=ArchiveKind.DRY_RUN) for part in one.parts]
    rows = [row for one, part in parts for row in one.read(part)]
    assert [row["key"] for row in rows] == expected
    assert (report["matched"], report["examples"], len(parts) > 1) == (len(old), rows[:5], True)
    assert perform(purge(dry_run=True))["examples"] == rows[:5]


@pytest.mark.every_server
@pytest.mark.parametrize("per", [None, "grp"])
@pytest.mark.parametrize("archived", [True, False])
def test_the_newest_rows_stay(table, key, perform, tmp_path, in_sevens, per, archived):
    """Of the same age, those with the larger keys are the newer ones."""
    table.run("ALTER TABLE t ADD COLUMN grp int NOT NULL DEFAULT 0, ADD INDEX by_group (grp, age)")
    if key is PAIR:
        # Behind these indexes the descending number is in the wrong order.
        with pytest.raises(AirflowFailException, match=r"begins with \(age, k0, k1\); .* Create one"):
            perform(purge(keep_last=1))
        table.run("ALTER TABLE t DROP INDEX by_age, ADD INDEX by_age (age, k0, k1)")
        table.run("ALTER TABLE t DROP INDEX by_group, ADD INDEX by_group (grp, age, k0, k1)")
    table.run("UPDATE t SET grp = n % 5, age = IF(n % 7 = 0, '2003-03-03', '2001-01-01')")
    ranks = {
        n: rank for rank, n in enumerate(table.column(f"SELECT n FROM t ORDER BY {', '.join(key.columns)}"))
    }
    groups = {}
    for n in sorted(ranks, key=lambda n: (n % 7 == 0, ranks[n]), reverse=True):
        groups.setdefault(n % 5 if per else None, []).append(n)
    keep = 4 if per else 30
    stay = {n for group in groups.values() for n in group[:keep]}
    options = {"keep_last": keep, "per": per}
    assert perform(purge(dry_run=True, **options))["matched"] == len(ranks) - len(stay)
    report = perform(purge(archive=f"file://{tmp_path}" if archived else None, **options))
    assert (left(table), report["changed"]) == (stay, len(ranks) - len(stay))
    assert report["skipped"] == {"newest": len(stay)}


@pytest.mark.every_server
def test_orphans_go_and_no_others(table, key, perform, in_sevens):
    """The parents' keys are texts or binaries too; the server says which are equal."""
    kind = key.types[0]
    refers = {n: value for n, value in table.rows("SELECT n, k0 FROM t") if n % 10}
    fold = folded if key is PAIR else bytes
    here = sorted({fold(value) for value in refers.values()})[::2]
    # In other letters than the children have them.
    other = {"a": "Á", "b": "B", "c": "C", "😀": "𝄞"}
    parents = ["".join(other[letter] for letter in text) for text in here] if key is PAIR else here
    table.run(f"CREATE TABLE p (id {kind} PRIMARY KEY)")
    table.run_many("INSERT INTO p VALUES (%s)", [[parent] for parent in parents])
    table.run(f"ALTER TABLE t ADD COLUMN p_id {kind} NULL")
    table.run("UPDATE t SET p_id = k0 WHERE n MOD 10 <> 0")
    old, young = key.model(table)
    gone = {n for n, value in refers.items() if n in old and fold(value) not in here}
    report = perform(purge(orphans_of="p", key="p_id"))
    assert (left(table), report["changed"]) == ((old | young) - gone, len(gone))
    assert 10 < len(gone) < len(old) - 10


@pytest.mark.parametrize("key", [BINARY], ids=["binary16"])
@pytest.mark.parametrize("kind", ["binary(20)", "varbinary(16)", "char(16)"])
def test_parents_of_another_binary_type_are_refused(table, perform, kind):
    """A BINARY(20) has zeros behind each value: no BINARY(16) ever equals it, and every row would go."""
    table.run(f"CREATE TABLE p (id {kind} PRIMARY KEY)")
    table.run("INSERT INTO p VALUES ('parent')")
    table.run("ALTER TABLE t ADD COLUMN p_id binary(16) NULL")
    table.run("UPDATE t SET p_id = 'parent'")
    before = left(table)
    with pytest.raises(AirflowFailException, match="expected the same type"):
        perform(purge(orphans_of="p", key="p_id"))
    assert left(table) == before


@pytest.mark.every_server
@pytest.mark.parametrize("mark", [{}, {"done": NOW}], ids=["values", "now"])
def test_rows_are_changed_once_and_restored(table, key, perform, tmp_path, in_sevens, mark):
    table.run("ALTER TABLE t ADD COLUMN done datetime NULL")
    table.run("UPDATE t SET note = CONCAT('old ', n)")
    names = ", ".join(f"HEX({name})" for name in key.columns)

    def everything():
        return {n: rest for n, *rest in table.rows(f"SELECT n, note, done, age, {names} FROM t")}

    before = everything()
    old, _ = key.model(table)
    location = f"file://{tmp_path}"
    anonymize = AnonymizeRowsOperator(
        task_id="anonymize",
        table="t",
        age_column="age",
        older_than_days=1,
        set={"note": "gone", **mark},
        archive=location,
        mysql_conn_id="scratch",
    )
    report = perform(anonymize)
    assert (report["matched"], report["changed"], report["skipped"]) == (len(old), len(old), {})
    after = everything()
    assert {n for n in after if after[n] != before[n]} == old
    assert {after[n][0] for n in old} == {"gone"}
    assert perform(anonymize)["changed"] == 0
    since, deleted, *_ = sorted(old)
    table.run("UPDATE t SET note = 'since', done = NULL WHERE n = %s", [since])
    table.run("DELETE FROM t WHERE n = %s", [deleted])
    restore = RestoreRowsOperator(
        task_id="restore",
        path=report["archive"],
        location=location,
        tables=["t"],
        mysql_conn_id="scratch",
    )
    back = perform(restore)
    assert (back["restored"], back["skipped"]) == (len(old) - 2, {"changed_since": 1, "gone": 1})
    found = everything()
    assert found.keys() == before.keys() - {deleted}
    assert {n for n in found if found[n] != before[n]} == {since}


@pytest.mark.parametrize("aged", [slice(5), slice(-5, None), slice(30, -30)], ids=["first", "last", "midst"])
def test_ages_of_another_unit_are_refused(table, key, perform, monkeypatch, in_sevens, aged):
    """The sample is of both ends of the key; if no row there has an age, a search goes along the key."""
    monkeypatch.setattr(age_sample, "BY_KEY", age_sample.BY_KEY.replace("LIMIT 500", "LIMIT 5"))
    monkeypatch.setattr(age_sample, "ChunkSize", Small)
    if aged.start != 30:
        monkeypatch.setattr(age_sample, "_to_go", lambda *_: [])
    table.run("ALTER TABLE t ADD COLUMN at bigint NULL")
    some = ",".join(map(str, in_order(table, key)[aged]))
    table.run(f"UPDATE t SET at = 20240101 + n MOD 20 WHERE n IN ({some})")
    options = {"age_column": "at", "age_unit": "unix_seconds"}
    before = left(table)
    with pytest.raises(AirflowFailException, match="They look like YYYYMMDD"):
        perform(purge(**options))
    assert left(table) == before
    table.run("UPDATE t SET at = 1000000000 + n WHERE at IS NOT NULL AND n MOD 2 = 0")
    table.run("UPDATE t SET at = UNIX_TIMESTAMP() WHERE at IS NOT NULL AND n MOD 2 <> 0")
    gone = set(table.column("SELECT n FROM t WHERE at < 1100000000"))
    assert perform(purge(**options))["changed"] == len(gone)
    assert left(table) == before - gone


CHANGES = [
    (PAIR, "DROP PRIMARY KEY, ADD PRIMARY KEY (k0, k1)"),
    (PAIR, "DROP PRIMARY KEY, ADD PRIMARY KEY (k1, k0)"),
    (PAIR, "MODIFY k0 varchar(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"),
    (PAIR, "DROP PRIMARY KEY, ADD PRIMARY KEY (n)"),
    (BINARY, "DROP PRIMARY KEY, ADD PRIMARY KEY (k0 DESC)"),
    (BINARY, "MODIFY k0 varbinary(20) NOT NULL"),
    (BINARY, "DROP PRIMARY KEY, ADD PRIMARY KEY (n)"),
]


@pytest.mark.parametrize(("key", "change"), CHANGES, ids=[f"{key.name}: {change}" for key, change in CHANGES])
@pytest.mark.parametrize("same_run", [False, True])
def test_a_saved_position_is_ignored_when_the_key_has_changed(
    table, key, change, monkeypatch, caplog, in_sevens, same_run
):
    """Else rows that stand before it in the new order would be passed by, for as long as runs stop early."""
    monkeypatch.setattr("iam_watcher.jobs.table_job.saved_position.Variable", Variables)
    Variables.kept = {}
    table.run("ALTER TABLE t DROP INDEX by_age")
    old, young = key.model(table)
    store = Store()
    first = run_with(purge(max_rows=len(old) - 5), store, "run-1")
    assert first["position"] is not None
    table.run(f"ALTER TABLE t {change}")
    options = {"max_rows": 1000}
    report = run_with(purge(**options), store if same_run else Store(), "run-1" if same_run else "run-2")
    assert "The saved position is ignored, because the key of t has changed since" in caplog.text
    # The rows that this run has changed before still count to its limit.
    assert report["changed_before"] == (len(old) - 5 if same_run else 0)
    assert (report["began_after"], report["changed"], left(table)) == (None, 5, young)
    assert report["examined"] == 5 + len(young)


@pytest.mark.every_server
@pytest.mark.parametrize(
    "change",
    [
        "MODIFY id varchar(36) NOT NULL",
        "MODIFY id binary(16) NOT NULL",
        "MODIFY id bigint unsigned NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (id, email)",
        "MODIFY id bigint unsigned NOT NULL, DROP PRIMARY KEY, ADD UNIQUE KEY by_id (id)",
        "MODIFY id bigint unsigned NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (name)",
        "MODIFY id bigint unsigned NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (createdAt, name)",
    ],
)
def test_users_are_disabled_and_enabled_along_any_key(iam, perform, change, tmp_path):
    for name, logined in (("on", "2001-01-01"), ("Süd", "2001-01-01"), ("new", "2100-01-01")):
        iam.run(
            "INSERT INTO user (name, nickname, password, email, loginedAt, createdAt)"
            " VALUES (%s, 'n', 'p', 'e', DATE(LEAST(%s, NOW())), '2001-01-01')",
            [name, logined],
        )
    iam.run(f"ALTER TABLE user {change}")
    location = f"file://{tmp_path}"
    disable = DisableInactiveUsersOperator(
        task_id="disable", max_inactive_days=100, max_share=1, undo_location=location
    )
    report = perform(disable)
    query = "SELECT name FROM user WHERE status = 1 ORDER BY name"
    assert (report["changed"], iam.column(query)) == (2, ["new"])
    undo = {"location": location, "undo_record": report["undo_record"]}
    back = perform(ReenableUsersOperator(task_id="enable", names=["Süd"], **undo))
    assert (back["enabled"], iam.column(query)) == (1, ["new", "Süd"])
    back = perform(ReenableUsersOperator(task_id="enable", **undo))
    assert (back["enabled"], back["skipped"]) == (1, {"enabled_already": 1})
    assert len(iam.column(query)) == 3


@pytest.mark.parametrize("dry", [True, False])
def test_a_status_in_the_key_and_secrets_without_an_integer_key_are_refused(iam, perform, dry, tmp_path):
    iam.run(
        "ALTER TABLE user MODIFY id bigint unsigned NOT NULL, DROP PRIMARY KEY, ADD PRIMARY KEY (id, status)"
    )
    common = {"task_id": "disable", "max_inactive_days": 1, "dry_run": dry}
    with pytest.raises(
        AirflowFailException, match="status is 'status', but this column of user is in the key"
    ):
        perform(DisableInactiveUsersOperator(**common, undo_location="none"))
    iam.run("ALTER TABLE user DROP PRIMARY KEY, ADD PRIMARY KEY (name)")
    with pytest.raises(AirflowFailException, match="expected a primary key of one integer column"):
        perform(
            DisableInactiveUsersOperator(
                **common, on_disable="expire_secrets", undo_location=f"file://{tmp_path}"
            )
        )


@pytest.mark.parametrize("order", ["key", "index"])
@pytest.mark.parametrize("archived", [True, False])
def test_no_statement_lists_too_many_keys(table, key, perform, tmp_path, monkeypatch, order, archived):
    """From long lists of two columns the servers take quadratic time to make ranges, or make none."""
    monkeypatch.setattr(key_module, "MOST_ALTERNATIVES", 10)
    monkeypatch.setattr(key_module, "MOST_LIST_BYTES", 500)
    monkeypatch.setattr(key_order, "DENSE", 0)
    monkeypatch.setattr(IndexOrder, "_is_range", lambda _: True)
    monkeypatch.setattr(index_order, "FEW_SHARE", 1)
    if order == "key":
        table.run("ALTER TABLE t DROP INDEX by_age")
    old, young = key.model(table)
    listed = []

    def noted(method):
        def note(db, query, values=None):
            if "FOR UPDATE" in query or (query.startswith("DELETE") and "FALSE" not in query):
                listed.append(query.count("X'"))
            return method(db, query, values)

        return note

    for name in ("read", "change"):
        monkeypatch.setattr(Transactions, name, noted(getattr(Transactions, name)))
    report = perform(purge(archive=f"file://{tmp_path}" if archived else None))
    assert (report["order"], left(table), report["changed"]) == (order, young, len(old))
    # As text, a binary is 35 characters long, and one of two columns at least twice as many.
    assert max(listed) <= (10 if key is PAIR else 14)
    assert len(listed) >= (1 + archived) * len(old) / 14


@pytest.mark.every_server
@pytest.mark.parametrize("archived", [True, False])
@pytest.mark.parametrize("target", [0.1, 1e-9], ids=["together", "one by one"])
def test_a_list_of_keys_is_limited_by_their_bytes_also_after_a_foreign_key(
    scratch, perform, tmp_path, monkeypatch, archived, target
):
    """A few keys are far longer than the others, and each row is protected until the next one is deleted."""
    monkeypatch.setattr(key_module, "MOST_LIST_BYTES", 1500)
    scratch.run(
        "CREATE TABLE t (k varchar(200) CHARACTER SET utf8mb4 NOT NULL PRIMARY KEY, age datetime NOT NULL,"
        " parent varchar(200) CHARACTER SET utf8mb4, FOREIGN KEY (parent) REFERENCES t (k))"
    )
    keys = [f"{number:04}" + ("x" * 190 if number % 9 == 7 else "") for number in range(200)]
    scratch.run_many("INSERT INTO t (k, age) VALUES (%s, '2001-01-01')", [(one,) for one in keys])
    scratch.run_many("UPDATE t SET parent = %s WHERE k = %s", itertools.pairwise(keys))
    lists = []

    def noted(method):
        def note(db, query, values=None):
            lists.extend(map(len, re.findall(r" IN \((.*?)\)", query)))
            return method(db, query, values)

        return note

    for name in ("read", "change"):
        monkeypatch.setattr(Transactions, name, noted(getattr(Transactions, name)))
    pace = Pace(target=target, duty=1)
    report = perform(purge(archive=f"file://{tmp_path}" if archived else None, pace=pace))
    assert (report["changed"], scratch.value("SELECT COUNT(*) FROM t")) == (200, 0)
    assert 750 < max(lists) <= 1500


def test_protected_rows_that_are_too_many_for_a_list_are_tried_in_turn(scratch, session, monkeypatch):
    monkeypatch.setattr(key_module, "MOST_LIST_BYTES", 500)
    monkeypatch.setattr(walk, "ChunkSize", lambda _: ChunkSize(target=1000, rows=50, span=1000))
    scratch.run("CREATE TABLE t (id char(4) PRIMARY KEY, up char(4), FOREIGN KEY (up) REFERENCES t (id))")
    scratch.run(f"INSERT INTO t (id) SELECT LPAD(seq, 4, '0') FROM {numbers(100)}")
    scratch.run("UPDATE t SET up = LPAD(id - 1, 4, '0') WHERE id > 1")
    db = Transactions(session)
    done = Walk(db, RowChange("`t`", read_table(db, "t").key, "TRUE"), pace=Pace(1000, 1)).write()
    assert (done.changed, done.skipped, scratch.column("SELECT id FROM t")) == (100, {}, [])
