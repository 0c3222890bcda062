"""The tree of tables whose rows are deleted together: as the arguments name it, or by the foreign keys.

A tree is looked at as a whole before anything is written, and an error shows all of it. Finding, checking and
ordering the tables, and finding what protects their rows, go by the same facts of the catalogue, so they are
one class: hence the length.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.column import quoted
from iam_watcher.database.foreign_keys import (
    DELETES_WITH_IT,
    REFUSES,
    ForeignKey,
    index_columns,
    references_to,
)
from iam_watcher.database.key import Key
from iam_watcher.database.key_column import KeyColumn, why_not
from iam_watcher.errors import TableError
from iam_watcher.jobs.children import AUTO
from iam_watcher.jobs.table_job.branch import Branch, Meeting, in_order, is_strict, same_row
from iam_watcher.jobs.table_job.reference import why_another_table, why_no_reference, why_not_equal
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.child_rows import ChildTable, Family, Reference
from iam_watcher.walk.row_change import RowChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.children import Child

logger = get_logger(__name__)

NAME_THEM = f"With children={AUTO!r} that can't be done: name the children that are to be deleted"


class ChildTree:
    """Reads the tables below the table of a job.

    Args:
        db: where.
        table: of the job.
        children: as the arguments name them, or "auto".
        archived: whether the archive must have the rows as they were.
    """

    def __init__(
        self, db: Transactions, table: Table, children: Sequence[Child] | str, *, archived: bool
    ) -> None:
        self._db = db
        self._tables = {table.name: table}
        self._foreign_keys: dict[str, list[ForeignKey]] = {}
        self._indexes: dict[str, dict[str, list[str]]] = {}
        self._top = Branch(table.name)
        self._is_auto = isinstance(children, str)
        if isinstance(children, str):
            self._find(self._top, (table.name,))
        else:
            self._top.children = [self._named(child, table.name, (table.name,)) for child in children]
        for branch in self._top.all():
            branch.children = in_order(branch.children, self._references_to)
        self._at_once = set[int]()
        self._archived = archived

    def family(self) -> Family:
        """Return the tables with how their rows are found.

        Raises:
            TableError: rows of one of them can't be deleted with those above them. It shows the tree. Or no
                table was found by the foreign keys.
        """
        if self._is_auto and not self._top.children:
            raise TableError(
                f"children is {AUTO!r}, but the account sees no foreign key of another table that refers to "
                f"{self._top.name} and refuses a delete or has ON DELETE CASCADE. Grant the account SELECT "
                "on the child tables, or name the children. If there are none, remove children"
            )
        for *_, above, branch in reversed([way for way in self._top.paths() if way[1:]]):
            if branch.problem is None:
                try:
                    branch.problem = self._problem(above, branch)
                except TableError as error:
                    branch.problem = str(error)
        self._note_order()
        problems = [f"{branch.name}: {branch.problem}" for branch in self._top.all() if branch.problem]
        if problems:
            raise TableError(
                f"rows of {self._top.name} can't be deleted with their children. {'. '.join(problems)}. "
                f"The tree is {self._top.shown}"
            )
        children = tuple(self._child((self._top, branch)) for branch in self._top.children)
        self._warn_of_protection()
        tables = self._parents_first()
        return Family(
            children,
            self._protected_by((self._top,)),
            tuple(self._tables[name] for name in tables if name != self._top.name),
        )

    def _find(self, above: Branch, path: tuple[str, ...]) -> None:
        """Find the children of a table by the foreign keys that refer to it."""
        for key in self._references_to(above.name):
            if key.table == above.name and key.is_here:
                continue  # Rows of the same table: deleted in an order that the foreign key allows, or not.
            if key.on_delete not in REFUSES | {DELETES_WITH_IT}:
                continue  # The server sets the columns to NULL.
            branch = Branch(key.table, key.columns, key.referenced)
            above.children.append(branch)
            if not key.is_here:
                branch.problem = (
                    f"it is in another database, {key.schema!r}, so its rows must stay. Delete them first, "
                    "by a job of their own"
                )
            elif key.table in path:
                branch.problem = (
                    f"the foreign keys are a cycle, {' > '.join([*path, key.table])}. {NAME_THEM}"
                )
            else:
                self._find(branch, (*path, key.table))

    def _named(self, child: Child, above: str, path: tuple[str, ...]) -> Branch:
        keys = [
            key
            for key in self._references_to(above)
            if key.is_here and key.table == child.table and set(key.columns) == set(child.columns)
        ]
        columns, referenced = (keys[0].columns, keys[0].referenced) if keys else (child.columns, None)
        branch = Branch(child.table, columns, referenced)
        if child.table in path:
            branch.problem = (
                f"it is its own child, {' > '.join([*path, child.table])}. Name it once in a branch"
            )
        else:
            branch.children = [self._named(one, child.table, (*path, child.table)) for one in child.children]
        return branch

    def _child(self, way: tuple[Branch, ...]) -> ChildTable:
        """Return a table with those below it."""
        above, branch = way[-2:]
        table = self._tables[branch.name]
        index, columns = self._index(branch.name, branch.columns) or ("", [])
        # InnoDB has the rows of a secondary index in the order of the primary key behind its columns.
        is_primary = table.key.index == "PRIMARY"
        behind = columns[len(branch.columns) :]
        return ChildTable(
            table,
            RowChange(
                table.quoted,
                table.key,
                table.any_row(beyond={*table.key.names, *columns}),
                size=table.size,
            ),
            Reference(
                table.quoted,
                self._key(branch.name, branch.columns, index),
                self._key(above.name, self._referenced(above, branch), self._tables[above.name].key.index),
                checked_by=self._checked_by(above.name, self._referenced(above, branch)),
            ),
            tuple(self._child((*way, one)) for one in branch.children),
            self._protected_by(way),
            in_key_order=is_primary and index != "PRIMARY" and not behind and not _descending(table),
            to_itself=self._to_itself(branch.name),
            at_once=id(branch) in self._at_once,
            waiting=self._waiting(way),
        )

    def _problem(self, above: Branch, branch: Branch) -> str | None:
        """Return why the rows of a table can't be found by their parents, or None."""
        if above.problem is not None:
            return None  # It is the one to report.
        table, parents = self._table(branch.name), self._table(above.name)
        columns = [table.column(name) for name in branch.columns]
        referenced = self._referenced(above, branch)
        if branch.referenced is None and parents.key.index != "PRIMARY":
            return f"{above.name} has no primary key that {', '.join(branch.columns)} could refer to"
        if len(columns) != len(referenced):
            return (
                f"the key {', '.join(branch.columns)} has {len(columns)} columns, and "
                f"{', '.join(referenced)}, the primary key of {above.name}, has {len(referenced)}"
            )
        if branch.referenced is None and (
            why := why_no_reference(
                table, branch.columns, parents, referenced, self._references_to(above.name)
            )
            or why_another_table(self._db, table, branch.columns, parents, referenced)
        ):
            return why
        for column, name in zip(columns, referenced, strict=True):
            if why := _why_not_compared(column, parents.column(name), above.name):
                return why
        return self._why_not_found(above, branch)

    def _why_not_found(self, above: Branch, branch: Branch) -> str | None:
        """Return why a search for the rows of some parents would be slow, or ambiguous, or None."""
        table = self._tables[branch.name]
        twins = [
            one
            for one in above.children
            if (one.name, set(one.columns)) == (branch.name, set(branch.columns))
        ]
        if len(twins) > 1:
            return f"it is named twice with the key {', '.join(branch.columns)}"
        own = [key for key in self._references_to(branch.name) if key.is_here and key.table == branch.name]
        for names, of in (
            (branch.columns, "children"),
            *((key.columns, "rows that refer to it") for key in own),
        ):
            if self._index(branch.name, names) is None:
                listed = ", ".join(table.column(name).quoted for name in names)
                return (
                    f"it needs an index that begins with {', '.join(names)}, else each search for {of} reads "
                    f"the whole table: CREATE INDEX {quoted('_'.join(names))} ON {table.quoted} ({listed}). "
                    "An index on the first characters of a column does not count"
                ).replace("%%", "%")
        return None

    def _referenced(self, above: Branch, branch: Branch) -> tuple[str, ...]:
        return branch.referenced or self._tables[above.name].key.names

    def _index(self, table: str, names: Sequence[str]) -> tuple[str, list[str]] | None:
        """Return the quoted name of an index that begins with columns of a table, and its columns."""
        if table not in self._indexes:
            self._indexes[table] = index_columns(self._db, table)
        wanted = set(names)
        fitting = [
            (len(columns), quoted(name) if name != "PRIMARY" else name, columns)
            for name, columns in self._indexes[table].items()
            if set(columns[: len(wanted)]) == wanted
        ]
        return min(fitting)[1:] if fitting else None

    def _checked_by(self, table: str, referenced: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return `Reference.checked_by` for columns of a table.

        The server takes the first index that begins with the columns, and the primary key comes first. Which
        of the others comes first, the catalogue does not tell.
        """
        found, width = self._tables[table], len(referenced)
        key = found.key
        if key.index == "PRIMARY" and key.names[:width] == tuple(referenced):
            return ()  # Each lock on a row is in the primary key, too.
        return tuple(
            (quoted(name), found.any_row(beyond={*key.names, *columns}))
            for name, columns in index_columns(self._db, table, whole=False).items()
            if columns[:width] == [*referenced] and quoted(name) != key.index
        )

    def _key(self, table: str, columns: Sequence[str], index: str) -> Key:
        found = self._tables[table]
        return Key(tuple(KeyColumn(found.column(name)) for name in columns), index)

    def _to_itself(self, name: str) -> tuple[Reference, ...]:
        """Return the foreign keys by which rows of a table refer to rows of the same table.

        If the table is in the tree twice, a row can be deleted before one of the other branch that refers to
        it. The archive must not have that one as the server changes it: so it protects the row.
        """
        table = self._tables[name]
        must_stay = self._archived and sum(one.name == name for one in self._top.all()) > 1
        return tuple(
            Reference(
                table.quoted,
                self._key(name, key.columns, (self._index(name, key.columns) or ("",))[0]),
                self._key(name, key.referenced, ""),
                on_delete=key.on_delete if is_strict(key) or not must_stay else DELETES_WITH_IT,
                checked_by=self._checked_by(name, key.referenced),
            )
            for key in self._references_to(name)
            if key.is_here and key.table == name
        )

    def _protected_by(self, way: tuple[Branch, ...]) -> tuple[Reference, ...]:
        """Return the foreign keys for which rows of a branch may have to stay, with all of their family.

        A foreign key from outside of the tree counts if the server refuses the delete. One from a table of
        the tree counts for rows that are not deleted before, in each of the transactions of a large family.

        Args:
            way: from the top to the branch.
        """
        branch, found = way[-1], []
        table = self._tables[branch.name]
        for key in self._references_to(branch.name):
            also = self._also(key, way)
            if also is None:
                continue
            to = Key(tuple(KeyColumn(table.column(name)) for name in key.referenced))
            # Of the same types, since the foreign key says so.
            by = Key(
                tuple(
                    KeyColumn(replace(part.column, name=name))
                    for part, name in zip(to.columns, key.columns, strict=True)
                ),
                "",
            )
            checked_by = self._checked_by(branch.name, key.referenced)
            found.append(Reference(key.quoted_table, by, to, also, checked_by=checked_by))
        return tuple(found)

    def _also(self, key: ForeignKey, way: tuple[Branch, ...]) -> str | None:
        """Return which of the rows that refer by a foreign key protect a row; None if none of them does."""
        branch = way[-1]
        if branch.has_child(key) or (key.is_here and key.table == branch.name and is_strict(key) and way[1:]):
            return None  # They are deleted before, or `to_itself` says which of them protect a row.
        ways = [Meeting(way, by) for by in self._ways_to(key)]
        before = "".join(
            f" AND {self._belong(key, one, one.depth)} = 0"
            for one in ways
            if one.depth >= 0 and (one.is_in_order or self._waits(key, one))
        )
        if key.on_delete in REFUSES:
            return before
        later = [one for one in ways if one.depth > 0 or not (one.is_in_order or self._waits(key, one))]
        if not later:
            return None  # Those of the family are gone; of others the server changes or deletes what it must.
        return f" AND {' + '.join(self._belong(key, one, 0) for one in later)} > 0{before}"

    def _waits(self, key: ForeignKey, ways: Meeting) -> bool:
        """Return whether a row can go together with its parent, because the parent refers to it.

        So the parent is recorded before the server sets its column to NULL. The row must not refer to other
        rows, which may go earlier.
        """
        names = [one.name for one in self._top.all()]
        *above, branch = ways.to
        return (
            list(ways.by) == above
            and not is_strict(key)
            and names.count(branch.name) == names.count(key.table) == 1
            and not any(
                other.is_here
                and other.table == branch.name
                and not (name == above[-1].name and above[-1].has_child(other))
                for name in names
                for other in self._references_to(name)
            )
        )

    def _waiting(self, way: tuple[Branch, ...]) -> str:
        """Return SQL for a number that is not 0 for rows that go together with their parent."""
        parent, branch = way[-2:]
        alias = "parent" if branch.name != "parent" else "above"
        referenced = self._referenced(parent, branch)
        keys = [
            key
            for key in self._references_to(branch.name)
            if key.is_here and key.table == parent.name and self._waits(key, Meeting(way, way[:-1]))
        ]
        return " + ".join(
            same_row(
                parent.name,
                alias,
                (*key.columns, *referenced),
                branch.name,
                (*key.referenced, *branch.columns),
            )
            for key in keys
        )

    def _ways_to(self, key: ForeignKey) -> list[tuple[Branch, ...]]:
        """Return the ways to the table of a foreign key; none if it is not in the tree."""
        return [way for way in self._top.paths() if key.is_here and way[-1].name == key.table]

    def _belong(self, key: ForeignKey, ways: Meeting, depth: int) -> str:
        names = self._tables[ways.to[depth].name].key.names
        return ways.belong(key, depth, names, self._referenced)

    def _meetings(self) -> Iterator[tuple[ForeignKey, Meeting]]:
        """Yield the foreign keys between tables of the tree by which the server changes or deletes rows."""
        for way in self._top.paths():
            for key in self._references_to(way[-1].name):
                if key.on_delete not in REFUSES and way[1:] and not way[-1].has_child(key):
                    yield from ((key, Meeting(way, by)) for by in self._ways_to(key))

    def _note_order(self) -> None:
        """Note for which tables no order is right, and which have to be read as a whole."""
        if any(branch.problem for branch in self._top.all()):
            return
        for key, ways in self._meetings():
            branch = ways.to[-1]
            self._at_once |= {id(one) for one in ways.to[1 : ways.depth + 1]}
            harmless = key.table == branch.name or (
                not is_strict(key) and (ways.is_upward or not self._archived)
            )
            if not ways.is_in_order and not harmless:
                instead = (
                    f"Name {key.table} as a child of {branch.name}, with the key {', '.join(key.columns)}"
                )
                branch.problem = (
                    f"{key.shown} refers to it with ON DELETE {key.on_delete}, and the job deletes rows of "
                    f"{key.table} later: the server would {'delete' if is_strict(key) else 'change'} them "
                    f"before the job reads them. {'C' if ways.is_upward else f'{instead}, or c'}hange the "
                    "foreign key"
                )

    def _warn_of_protection(self) -> None:
        in_tree = {one.name for one in self._top.all()}
        outside = {
            f"{key.shown} refers to {name}"
            for name in sorted(in_tree)
            for key in self._references_to(name)
            if key.on_delete in REFUSES and not (key.is_here and key.table in in_tree)
        }
        if outside:
            logger.warning(
                "Rows of %s stay with all of their children if the server protects one of them by a foreign "
                "key of a table that is not in the tree: %s. The tree is %s",
                self._top.name,
                "; ".join(sorted(outside)),
                self._top.shown,
            )

    def _parents_first(self) -> list[str]:
        """Return the names of all tables in an order in which their rows can be inserted."""
        names = list(dict.fromkeys(one.name for one in self._top.all()))
        below: dict[str, set[str]] = {name: set() for name in names}
        for branch in self._top.all():
            below[branch.name] |= {child.name for child in branch.children}
        referring = {
            name: {key.table for key in self._references_to(name) if key.is_here and key.table != name}
            for name in names
        }
        found: list[str] = []
        while rest := [name for name in names if name not in found]:
            free = [name for name in rest if not any(name in below[one] for one in rest)]
            freer = [name for name in free if not any(name in referring[one] for one in rest)]
            found.append((freer or free or rest)[0])
        return found

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            self._tables[name] = read_table(self._db, name)
        return self._tables[name]

    def _references_to(self, name: str) -> list[ForeignKey]:
        if name not in self._foreign_keys:
            self._foreign_keys[name] = references_to(self._db, name)
        return self._foreign_keys[name]


def _descending(table: Table) -> bool:
    return any(part.descending for part in table.key.columns)


def _why_not_compared(column: Column, to: Column, parents: str) -> str | None:
    """Return why rows can't be found by a column that has the values of another one, or None."""
    why = why_not(replace(column, nullable=False), prefix=False)
    if why is not None:
        return f"rows can't be found by {column.name}: {why}"
    return why_not_equal(column, to, parents)
