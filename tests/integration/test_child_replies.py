"""Rows of a child table that refer to each other, such as replies: in which order they go, and which stay.

All tests use the same comments: hence the length.
"""

from __future__ import annotations

import random

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.jobs.children import Child
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import descendants, large_family
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import numbers
from tests.integration.test_child_records import rows_of_children
from tests.integration.test_children import purge

pytestmark = pytest.mark.every_server

RULES = ["RESTRICT", "CASCADE", "SET NULL"]
KEYS = {"int": ("int", "id"), "descending": ("int", "id DESC"), "text": ("varchar(9)", "id")}
COMMENTS = [Child("comments", key="post_id")]


@pytest.fixture(params=[20_000, 5], ids=["together", "large"])
def large(request, monkeypatch):
    """Whether families are deleted in several transactions."""
    monkeypatch.setattr(descendants, "MOST_ROWS", request.param)
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", request.param)
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=10))
    monkeypatch.setattr(large_family, "PAGE", 7)
    return request.param == 5


@pytest.fixture(params=[True, False], ids=["archive", "no archive"])
def archive(request, tmp_path):
    return f"file://{tmp_path}" if request.param else None


def create(database, rule, key="int", enforced=True):
    """Create posts, of which all but 9 are old, and an empty table of comments."""
    kind, primary = KEYS[key]
    database.run("CREATE TABLE posts (id int PRIMARY KEY, at datetime NOT NULL)")
    database.run("INSERT INTO posts VALUES (1, '2020-01-01'), (2, '2020-01-01'), (9, '2999-01-01')")
    own = ", FOREIGN KEY (post_id) REFERENCES posts (id)" if enforced else ""
    database.run(
        f"CREATE TABLE comments (id {kind} NOT NULL, post_id int NULL, answers {kind} NULL,"
        f" PRIMARY KEY ({primary}), UNIQUE (id), INDEX (post_id), CONSTRAINT answers"
        f" FOREIGN KEY (answers) REFERENCES comments (id) ON DELETE {rule}{own})"
    )


def fill(database, rows):
    """Insert comments: id, post, and the comment that it answers."""
    database.run_many("INSERT INTO comments VALUES (%s, %s, NULL)", [(one, post) for one, post, _ in rows])
    database.run_many(
        "UPDATE comments SET answers = %s WHERE id = %s", [(to, one) for one, _, to in rows if to is not None]
    )


def content(database):
    return sorted(database.rows("SELECT id, post_id, answers FROM comments"), key=str)


def archived(report):
    rows = rows_of_children(report).get("comments", [])
    return sorted(((row["id"], row["post_id"], row["answers"]) for row in rows), key=str)


def purge_posts(perform, archive, **options):
    return perform(purge(**{"table": "posts", "children": COMMENTS, "archive": archive, **options}))


def threads(shape):
    """Return 40 comments on post 1."""
    order = list(range(1, 41))
    if shape == "any":
        random.Random(5).shuffle(order)
    if shape == "larger":
        order.reverse()
    # Each answers one of those before it, or the one right before it.
    before = {one: order[at - 1 if shape != "any" else at // 3] for at, one in enumerate(order) if at}
    return [(one, 1, before.get(one)) for one in range(1, 41)]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("shape", ["smaller", "larger", "any"])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("rule", RULES)
def test_replies_go_before_what_they_answer_whatever_their_keys(scratch, perform, archive, rule, key, shape):
    create(scratch, rule, key)
    name = (lambda one: one and f"c{one * 37 % 41}") if key == "text" else int
    fill(scratch, [(name(one), post, to and name(to)) for one, post, to in threads(shape)])
    before = content(scratch)
    report = purge_posts(perform, archive)
    assert (report["changed"], report["skipped"], report["children"]) == (2, {}, {"comments": 40})
    assert content(scratch) == []
    if archive:
        assert archived(report) == before
        restore = {"path": report["archive"], "location": archive, "tables": ["posts", "comments"]}
        perform(RestoreRowsOperator(task_id="restore", mysql_conn_id="scratch", **restore))
        assert content(scratch) == before


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("post", [9, None])
@pytest.mark.parametrize("reply", [0, 20, 99])
@pytest.mark.parametrize("rule", RULES)
def test_a_reply_of_another_family_protects_what_it_answers(scratch, perform, archive, rule, reply, post):
    create(scratch, rule)
    rows = [(one, 1, None) for one in range(1, 41) if one != reply]
    fill(scratch, [*rows, (100, 2, None), (reply, post, 24)])
    before = content(scratch)
    report = purge_posts(perform, archive)
    if rule == "SET NULL":
        assert (report["changed"], content(scratch)) == (2, [(reply, post, None)])
    else:
        assert (report["changed"], report["skipped"]) == (1, {"foreign_key": 1})
        assert content(scratch) == [row for row in before if row[0] != 100]
    if archive:
        assert archived(report) == [row for row in before if row not in content(scratch) and row[0] != reply]


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("rule", RULES)
def test_a_reply_of_a_family_that_goes_as_well_protects_nothing(scratch, perform, archive, rule, caplog):
    create(scratch, rule)
    rows = [(one, 1, None) for one in range(1, 21)] + [(one, 2, 25 - one) for one in range(21, 25)]
    fill(scratch, rows)
    report = purge_posts(perform, archive)
    assert (report["changed"], report["skipped"], report["children"]) == (2, {}, {"comments": 24})
    warned = f"ON DELETE {rule} of scratch.comments (answers)" in caplog.text
    assert warned == (rule == "SET NULL")
    if archive:
        assert len(archived(report)) == 24


@pytest.mark.parametrize("rule", RULES)
def test_replies_in_a_circle(scratch, perform, archive, rule, large):
    """No order is right for them."""
    create(scratch, rule)
    circle = {3: 17, 17: 38, 38: 3}
    fill(scratch, [*((one, 1, circle.get(one)) for one in range(1, 41)), (50, 2, None)])
    before = content(scratch)
    report = purge_posts(perform, archive)
    gone = before if rule != "RESTRICT" and not large else [row for row in before if row[1] == 2]
    assert content(scratch) == [row for row in before if row not in gone]
    assert report["children"] == {"comments": len(gone)}
    assert report["skipped"].get("foreign_key", 0) == (len(gone) == 1)
    if archive:
        assert archived(report) == gone


@pytest.mark.parametrize("rule", ["RESTRICT", "CASCADE"])
def test_replies_in_a_circle_of_two_foreign_keys(scratch, perform, archive, rule):
    """A comment names the reply that was accepted: from the last one on, each of them can be deleted."""
    create(scratch, rule)
    fill(scratch, threads("smaller"))
    scratch.run(
        "ALTER TABLE comments ADD accepted int NULL,"
        " ADD FOREIGN KEY (accepted) REFERENCES comments (id) ON DELETE SET NULL"
    )
    scratch.run("UPDATE comments SET accepted = id + 1 WHERE id < 40")
    before = content(scratch)
    report = purge_posts(perform, archive)
    assert (report["changed"], report["children"]) == (2, {"comments": 40})
    if archive:
        assert archived(report) == before
        accepted = {row["id"]: row["accepted"] for row in rows_of_children(report)["comments"]}
        assert accepted == {one: one + 1 if one < 40 else None for one in range(1, 41)}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("rule", RULES)
def test_a_row_that_answers_itself(scratch, perform, archive, rule):
    """A foreign key that refuses a delete refuses this one as well."""
    create(scratch, rule)
    fill(scratch, [*((one, 1, 24 if one == 24 else None) for one in range(1, 41)), (50, 2, None)])
    before = content(scratch)
    report = purge_posts(perform, archive)
    assert report["skipped"] == ({"foreign_key": 1} if rule == "RESTRICT" else {})
    assert content(scratch) == ([row for row in before if row[1] == 1] if rule == "RESTRICT" else [])
    assert not archive or archived(report) == ([(50, 2, None)] if rule == "RESTRICT" else before)


@pytest.mark.parametrize("rule", ["RESTRICT", "CASCADE"])
def test_a_reply_to_a_row_of_another_parent(scratch, perform, archive, rule, large):
    """The thread 1 and the thread 2 belong to post 1."""
    create(scratch, rule, enforced=False)
    scratch.run("CREATE TABLE threads (id int PRIMARY KEY, post int NOT NULL, INDEX (post))")
    scratch.run("INSERT INTO threads VALUES (1, 1), (2, 1), (3, 2)")
    fill(scratch, [(one, 1 + one % 2, 41 - one if one > 35 else None) for one in range(1, 41)])
    before = content(scratch)
    tree = [Child("threads", key="post", children=COMMENTS)]
    report = purge_posts(perform, archive, children=tree)
    assert report["skipped"] == ({"foreign_key": 1} if large else {})
    assert content(scratch) == (before if large else [])


@pytest.mark.parametrize("post", [1, 9])
@pytest.mark.parametrize("rule", ["RESTRICT", "CASCADE"])
def test_a_reply_that_comes_while_a_large_family_goes(scratch, perform, archive, monkeypatch, rule, post):
    for name in ("MOST_ROWS", "FIRST_TOGETHER"):
        monkeypatch.setattr(descendants, name, 5)
    monkeypatch.setattr(large_family, "ChunkSize", lambda target: ChunkSize(target, rows=10))
    create(scratch, rule, enforced=False)
    fill(scratch, [(one, 1, None) for one in range(1, 41)])
    write, done = large_family.LargeFamilies._write, []

    def answer_first(self, *arguments):
        if len(done) < 2:
            done.append(scratch.run(f"INSERT INTO comments VALUES (-{len(done)}, {post}, 24)"))
        return write(self, *arguments)

    monkeypatch.setattr(large_family.LargeFamilies, "_write", answer_first)
    if post == 1:
        report = purge_posts(perform, archive)
        assert (report["changed"], report["children"]) == (2, {"comments": 42})
        assert content(scratch) == []
        assert not archive or len(archived(report)) == 42
    else:
        with pytest.raises(AirflowFailException, match=r"foreign_key.*after other descendants"):
            purge_posts(perform, archive)
        assert {-1, 0, 24} <= {row[0] for row in content(scratch)}


def test_many_replies_to_few_rows_of_a_page_go_first(scratch, perform, archive, large):
    create(scratch, "CASCADE")
    scratch.run(f"INSERT INTO comments SELECT 200 + seq, 1, NULL FROM {numbers(5)}")
    scratch.run(f"INSERT INTO comments SELECT seq, 1, 201 + seq % 5 FROM {numbers(150)}")
    report = purge_posts(perform, archive)
    assert report["children"] == {"comments": 155}
    assert (report["chunks"] > 4) == large
    assert not archive or len(archived(report)) == 155


@pytest.mark.parametrize("rule", RULES)
def test_few_of_the_replies_that_protect_a_row_are_locked(scratch, perform, archive, monkeypatch, rule):
    """With SET NULL, the server changes all of them, so it locks them."""
    create(scratch, rule)
    fill(scratch, [(1, 1, None), (2, 1, 1)])
    scratch.run(f"INSERT INTO comments SELECT 100 + seq, 9, 1 FROM {numbers(500)}")
    order, locked = descendants.in_order, []

    def look(*arguments, **options):
        try:
            return order(*arguments, **options)
        finally:
            locked.append(max(scratch.transactions().values()))

    monkeypatch.setattr(descendants, "in_order", look)
    report = purge_posts(perform, archive)
    assert report["changed"] == (2 if rule == "SET NULL" else 1)
    assert (max(locked) > 500) == (rule == "SET NULL")


def test_a_reply_needs_an_index_on_all_of_its_foreign_key(scratch, perform):
    """The server is content with one that has a part of another column behind it. FORCE INDEX is not."""
    scratch.run("CREATE TABLE posts (id int PRIMARY KEY, at datetime NOT NULL)")
    scratch.run(
        "CREATE TABLE comments (id int PRIMARY KEY, post_id int NULL, answers int NULL, slug text NOT NULL,"
        " KEY (post_id), KEY (answers, slug(10)), FOREIGN KEY (answers) REFERENCES comments (id))"
    )
    scratch.run(f"INSERT INTO posts SELECT seq, '2020-01-01' FROM {numbers(500)}")
    scratch.run("INSERT INTO comments VALUES (1, 400, NULL, 'a')")
    message = r"begins with answers.*refer to it reads.*CREATE INDEX `answers` ON `comments` \(`answers`\)"
    for dry_run in (True, False):
        with pytest.raises(AirflowFailException, match=message):
            purge_posts(perform, None, dry_run=dry_run)
    assert scratch.value("SELECT COUNT(*) FROM posts") == 500
    scratch.run("CREATE INDEX by_answers ON comments (answers)")
    assert purge_posts(perform, None)["children"] == {"comments": 1}
