"""Trees of tables of random shape: what a purge with children deletes is what a model of sets says."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

import pytest

from iam_watcher.jobs.children import Child
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.walk import descendants
from iam_watcher.walk.pace import Pace

pytestmark = pytest.mark.every_server

TREES = int(os.environ.get("RANDOM_TREES", "6"))

# Kind of a key → the types of its columns, and the values of a row's number. "text" ignores the case.
KINDS = {
    "int": (("int",), lambda number: (number,)),
    "bigint": (("bigint unsigned",), lambda number: (number + 2**40,)),
    "text": (
        ("varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",),
        lambda number: (random.choice((str.upper, str.lower))(f"Key-{number:04}"),),
    ),
    "bytes": (("binary(4)",), lambda number: (number.to_bytes(4, "little"),)),
    "pair": (("int", "varchar(3) CHARACTER SET ascii"), lambda number: (number % 7, f"{number // 7:03}")),
}


@dataclass
class Node:
    """A table; `rows` has the number of each row and those of its parents, one for each node above."""

    name: str
    kind: str
    parents: list[Node] = field(default_factory=list)
    enforced: bool = False
    rows: dict[int, list[int | None]] = field(default_factory=dict)

    def columns(self, prefix, kind):
        return [f"{prefix}{place}" for place in range(len(KINDS[kind][0]))]

    def create(self, database):
        columns = [
            f"{name} {kind}"
            for name, kind in zip(self.columns("k", self.kind), KINDS[self.kind][0], strict=True)
        ]
        keys = [f"PRIMARY KEY ({', '.join(self.columns('k', self.kind))})"]
        for number, parent in enumerate(self.parents):
            names = self.columns(f"p{number}_", parent.kind)
            columns += [
                f"{name} {kind} NULL" for name, kind in zip(names, KINDS[parent.kind][0], strict=True)
            ]
            keys.append(f"INDEX ({', '.join(names)})")
            if self.enforced:
                to = ", ".join(self.columns("k", parent.kind))
                keys.append(f"FOREIGN KEY ({', '.join(names)}) REFERENCES {parent.name} ({to})")
        database.run(
            f"CREATE TABLE {self.name} (number int, at datetime, {', '.join([*columns, *keys])})"
            " CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
        )

    def fill(self, database, count, old):
        for number in range(1, count + 1):
            above = []
            for parent in self.parents:
                free = random.random() < 0.1
                # A few parents have most of the children.
                chosen = random.choice(list(parent.rows)[: random.choice((2, 100))])
                above.append(None if free else chosen if self.enforced or random.random() < 0.9 else 999)
            self.rows[number] = above
            values = [number, f"{2000 if number in old else 2999}-01-01", *KINDS[self.kind][1](number)]
            for parent, one in zip(self.parents, above, strict=True):
                width = len(KINDS[parent.kind][0])
                values += [None] * width if one is None else KINDS[parent.kind][1](one)
            places = ", ".join(["%s"] * len(values))
            database.run(f"INSERT INTO {self.name} VALUES ({places})", values)


def random_tree():
    """Return tables, the top first; some have two parents, if these have no key of two columns."""
    nodes = [Node("top", random.choice(list(KINDS)))]
    for number in range(random.randint(1, 5)):
        parents = random.sample(nodes, min(len(nodes), random.choice((1, 1, 2))))
        nodes.append(Node(f"t{number}", random.choice(list(KINDS)), parents, enforced=random.random() < 0.6))
    return nodes


def children(nodes, above):
    return [
        Child(
            node.name,
            key=[f"p{number}_{place}" for place in range(len(KINDS[above.kind][0]))],
            children=children(nodes, node),
        )
        for node in nodes
        for number, parent in enumerate(node.parents)
        if parent is above
    ]


def family(nodes, number):
    """Return (table, row) of all that belongs to a row of the top."""
    found = {("top", number)}
    for node in nodes[1:]:
        for row, above in node.rows.items():
            if any((parent.name, one) in found for parent, one in zip(node.parents, above, strict=True)):
                found.add((node.name, row))
    return found


def content(database, nodes):
    return {(node.name, row[0]): row for node in nodes for row in database.rows(f"SELECT * FROM {node.name}")}


@pytest.mark.parametrize("number", range(TREES))
def test_the_database_and_the_model_agree(scratch, perform, tmp_path, monkeypatch, number):
    seed = f"{os.environ.get('RANDOM_SEED', '1')}-{number}"
    random.seed(seed)
    # Families of any size go in one transaction, or in many.
    monkeypatch.setattr(descendants, "MOST_ROWS", random.choice((3, 10, 20_000)))
    monkeypatch.setattr(descendants, "FIRST_TOGETHER", random.choice((3, 30, 1_000)))
    nodes = random_tree()
    old = set(random.sample(range(1, 41), 25))
    for node in nodes:
        node.create(scratch)
        node.fill(scratch, 40 if node is nodes[0] else random.choice((5, 60, 150)), old)
    held = hold(scratch, nodes) if number % 2 else set()
    before = content(scratch, nodes)
    options = {
        "table": "top",
        "age_column": "at",
        "older_than": "1d",
        "children": children(nodes, nodes[0]),
        "archive": f"file://{tmp_path}/archive" if number % 3 else None,
        "pace": Pace(target=random.choice((0.01, 0.1)), duty=1),
        "mysql_conn_id": "scratch",
    }
    dry = perform(PurgeRowsOperator(task_id="purge", dry_run=True, **options))
    assert content(scratch, nodes) == before
    report = perform(PurgeRowsOperator(task_id="purge", **options))

    families = {one: family(nodes, one) for one in old}
    going = {one for one in old if not families[one] & held}
    gone = set().union(*(families[one] for one in going))
    assert content(scratch, nodes) == {key: row for key, row in before.items() if key not in gone}, seed
    counts = {node.name: sum(table == node.name for table, _ in gone) for node in nodes[1:]}
    named = {name: counts[name] for name in report["children"]}
    assert (report["changed"], report["children"]) == (len(going), named), seed
    assert report["skipped"].get("foreign_key", 0) == len(old) - len(going)
    assert sum(counts.values()) == sum(named.values()), seed
    if not held:
        assert (dry["matched"], dry["children"]) == (report["changed"], report["children"]), seed
    if options["archive"] and gone:
        undo = {"path": report["archive"], "tables": [node.name for node in nodes]}
        perform(
            RestoreRowsOperator(task_id="undo", location=options["archive"], mysql_conn_id="scratch", **undo)
        )
        assert content(scratch, nodes) == before, seed


def hold(database, nodes):
    """Let rows of another table refer to some rows; return which."""
    node = random.choice(nodes)
    kinds = KINDS[node.kind][0]
    names, to = node.columns("h", node.kind), node.columns("k", node.kind)
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
    database.run(
        f"CREATE TABLE holds ({columns}, FOREIGN KEY ({', '.join(names)}) REFERENCES {node.name}"
        f" ({', '.join(to)})) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    )
    rows = random.sample(list(node.rows), 3)
    for row in rows:
        places = ", ".join(["%s"] * len(kinds))
        database.run(f"INSERT INTO holds VALUES ({places})", KINDS[node.kind][1](row))
    return {(node.name, row) for row in rows}
