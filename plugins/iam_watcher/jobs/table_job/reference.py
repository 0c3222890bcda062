"""Whether columns can say to which row of another table a row belongs, by what the catalogue says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.column import INTEGERS, SHORT_TEXTS, TEXTS_AND_MEMBERS
from iam_watcher.database.foreign_keys import references_of, references_to
from iam_watcher.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.foreign_keys import ForeignKey
    from iam_watcher.database.transactions import Transactions


def check_reference(db: Transactions, argument: str, table: Table, name: str, parents: Table) -> None:
    """Check that a column can say to which row of another table a row belongs.

    Args:
        db: where.
        argument: that names the parents.
        table: of the rows.
        name: of the column.
        parents: the other table, which has a primary key of one column.

    Raises:
        TableError: it can't.
    """
    why = why_no_reference(
        table, [name], parents, parents.key.names, references_to(db, parents.name), only_key=True
    ) or why_another_table(db, table, [name], parents, parents.key.names)
    if why is not None:
        raise TableError(f"{argument} names the parents {parents.name}, with key={name!r}. {why}")


def why_no_reference(
    table: Table,
    columns: Sequence[str],
    parents: Table,
    referenced: Sequence[str],
    foreign_keys: Sequence[ForeignKey],
    *,
    only_key: bool = False,
) -> str | None:
    """Return why columns don't refer to columns of another table, or None if they may.

    A wrong column has values, too, and would find the rows of other parents.

    Args:
        table: of the rows.
        columns: names of its columns.
        parents: the other table.
        referenced: names of the columns of `parents`, as many as `columns`.
        foreign_keys: that refer to `parents`.
        only_key: the argument takes no columns that refer to others than `referenced`.
    """
    declared = [key for key in foreign_keys if key.is_here and key.table == table.name]
    pairs = set(zip(columns, referenced, strict=True))
    if any(pairs <= set(zip(key.columns, key.referenced, strict=True)) for key in declared):
        return None
    wrong = ", ".join(columns)
    refers = f"If ({wrong}) of {table.name} does refer to {parents.name}, declare a foreign key on ({wrong})"
    if declared and set(columns) <= set(table.key.names):
        keys = " and ".join(
            f"({', '.join(key.columns)}) to ({', '.join(key.referenced)})" for key in declared
        )
        fitting = [_columns_for(key, referenced) if only_key else key.columns for key in declared]
        instead = " or ".join(f"key={_argument(one)}" for one in fitting if one)
        return (
            f"{table.name} has a foreign key to {parents.name}: {keys}; key says ({wrong}) to "
            f"({', '.join(referenced)}). {f'Write {instead}. ' if instead else ''}{refers}"
        )
    for name, to in zip(columns, referenced, strict=True):
        if table.column(name).own_id:
            return (
                f"{name} of {table.name} is its own id: the server makes a new value for each row, by "
                f"AUTO_INCREMENT or a default. Write the column of {table.name} that has {to} of "
                f"{parents.name}{_such_as(table, parents, to)}. {refers}"
            )
    ordered = _ordered(columns, referenced)
    if ordered != list(columns):
        return (
            f"The key of {table.name} is ({wrong}), and that of {parents.name} is ({', '.join(referenced)}), "
            f"which has a column of the same name at another position. Write key={_argument(ordered)}"
        )
    return None


def why_another_table(
    db: Transactions, table: Table, columns: Sequence[str], parents: Table, referenced: Sequence[str]
) -> str | None:
    """Return why columns can't refer to columns of another table by the foreign keys of both, or None.

    Columns that have a foreign key to a third table may refer to `parents` only if `referenced` have one to
    that table, too, as the keys of tables that share their ids do.
    """
    found = _referred(db, table.name, columns)
    if not found or {(parents.name, tuple(referenced)), *_referred(db, parents.name, referenced)} & {*found}:
        return None
    listed = ", ".join(columns)
    return (
        f"({listed}) of {table.name} has a foreign key to {found[0][0]}. Write the columns that refer to "
        f"{parents.name}. If ({listed}) does refer to {parents.name}, declare a foreign key on ({listed})"
    )


def why_not_equal(column: Column, to: Column, parents: str) -> str | None:
    """Return why a column can't have the values of a column of the table `parents`, or None if it can."""
    if _compared_as(column) == _compared_as(to):
        return None
    types = f"{column.name} is {_type(column)}, and {to.name} of {parents} is {_type(to)}"
    return f"{types}; expected the same type"


def _compared_as(column: Column) -> tuple[str, ...]:
    """Return what two columns must have in common for equal values to be equal, and to be written alike."""
    if column.data_type in INTEGERS:
        return ("integer",)
    # Members of an ENUM are compared by their numbers; a BINARY has zeros up to its length, and they count.
    whole = column.column_type if column.data_type in {"enum", "binary", "bit"} else ""
    collation = column.collation or ""
    # A CHAR loses spaces at its end. They count in a collation that does not pad: MySQL's new ones, and some.
    padded = column.data_type in SHORT_TEXTS and not any(part in collation for part in ("_0900_", "_nopad_"))
    return "text" if padded else column.data_type, collation, whole


def _type(column: Column) -> str:
    collation = f" of collation {column.collation}" if column.data_type in TEXTS_AND_MEMBERS else ""
    return f"{column.column_type}{collation}"


def _referred(db: Transactions, table: str, columns: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the tables and columns to which columns refer by foreign keys, directly or by way of others."""
    found = [(table, tuple(columns))]
    for name, names in found:  # It grows.
        for to, pairs in references_of(db, name):
            if pairs.keys() == set(names) and (one := (to, tuple(pairs[c] for c in names))) not in found:
                found.append(one)
    return found[1:]


def _columns_for(key: ForeignKey, referenced: Sequence[str]) -> Sequence[str]:
    """Return the columns of a foreign key that refer to these columns; none if it refers to others."""
    by_referenced = dict(zip(key.referenced, key.columns, strict=True))
    found = [by_referenced.get(name) for name in referenced]
    return [name for name in found if name is not None] if None not in found else ()


def _such_as(table: Table, parents: Table, to: str) -> str:
    """Return the other columns of the type of a parent's column, for messages."""
    kind = parents.column(to).data_type
    found = [one.name for one in table.columns.values() if one.data_type == kind and not one.own_id]
    return f" (of the same type: {', '.join(found)})" if found else ""


def _ordered(columns: Sequence[str], referenced: Sequence[str]) -> list[str]:
    """Return columns so that those with the name of a referenced column are at its position."""
    by_name = {name.lower(): name for name in columns}
    same = [by_name.get(name.lower()) for name in referenced]
    rest = iter([name for name in columns if name not in same])
    return [name if name is not None else next(rest) for name in same]


def _argument(columns: Sequence[str]) -> str:
    return repr(columns[0] if len(columns) == 1 else list(columns))
