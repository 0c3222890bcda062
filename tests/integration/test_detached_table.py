"""The table that the rows of a partition are detached as: its name, and who may work on it."""

from __future__ import annotations

import pytest

from iam_watcher.database.detached_table import COMMENT, DetachedTable, detached_name
from iam_watcher.errors import WalkError
from iam_watcher.walk.walk import Walk
from tests.integration.partitioned import EACH, archived, create, fill, ids, partitions, purge, tables
from tests.integration.test_drop_partitions import ALL, DROPPED, YOUNGER, before, insert

pytestmark = pytest.mark.every_server


@pytest.fixture
def table(scratch):
    create(scratch)
    fill(scratch)
    return scratch


def test_a_later_version_finds_the_table_of_an_earlier_one():
    assert detached_name("t") == "t_detached_e3b98a4d"
    assert [len(detached_name("x" * length)) for length in (1, 40, 41, 64)] == [19, 58, 58, 58]
    assert detached_name("x" * 41) != detached_name("x" * 42)


@pytest.mark.parametrize("step", ["exchange", "drop"])
def test_a_table_that_another_session_has_made_meanwhile_is_left_alone(table, perform, monkeypatch, step):
    name, others = detached_name("t"), COMMENT.format(token="0" * 32, partition="p1", table="t")
    before(monkeypatch, DetachedTable, step, lambda: table.run(f"ALTER TABLE {name} COMMENT=%s", [others]))
    with pytest.raises(WalkError, match=f"another session has worked on {name} meanwhile; run again"):
        perform(purge())
    assert set(table.column(f"SELECT id FROM {name}")) | ids(table) == ALL
    assert partitions(table) == ["p1", "p2", "p3", "later"]
    # As after a run that was killed.
    assert perform(purge())["partitions"] == DROPPED
    assert (ids(table), tables(table)) == (YOUNGER, ["t"])


def test_other_sessions_may_work_on_the_partitions_while_the_rest_is_walked(table, perform, monkeypatch):
    locks, seen = [], []
    begin, write = DetachedTable.__init__, Walk._write

    def note(detached, *arguments):
        begin(detached, *arguments)
        locks.append(detached._lock["name"])

    def look(walk, *arguments):
        seen.append(table.value("SELECT IS_USED_LOCK(%s)", locks))
        return write(walk, *arguments)

    monkeypatch.setattr(DetachedTable, "__init__", note)
    monkeypatch.setattr(Walk, "_write", look)
    before(
        monkeypatch,
        DetachedTable,
        "exchange",
        lambda: seen.append(table.value("SELECT IS_USED_LOCK(%s) IS NOT NULL", locks)),
    )
    assert perform(purge())["partitions"] == DROPPED
    assert seen == [1, None]
    # The same in each version: two of them never work on the partitions at the same time.
    assert locks == ["iam-watcher:partitions:1829b031f5fba29a20705c51c7273184"]


@pytest.mark.needs("check-off")
def test_a_row_that_an_archive_could_not_restore_and_that_comes_at_the_last_moment_stays(
    table, perform, tmp_path, monkeypatch, caplog
):
    table.run("SET check_constraint_checks = 0")
    before(monkeypatch, DetachedTable, "exchange", lambda: insert(table, -5, "2000-05-05"))
    report = perform(purge(archive=f"file://{tmp_path}"))
    assert ids(table) == {*YOUNGER, -5}
    assert report["partitions"] == DROPPED[1:]
    assert f"some of its rows stay: rows={EACH + 1} old={EACH + 1} archived={EACH}." in caplog.text
    assert archived(tmp_path) == ALL - YOUNGER
