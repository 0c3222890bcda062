"""Users who are left alone, by their names or globs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.column import Column

# The column's collation decides what is equal, as it does for the unique key on the name.
EXACT_NAME = "{column} = %({value})s"
GLOB_NAME = "{column} LIKE %({value})s ESCAPE '|'"


def exempt_condition(column: Column, names: Sequence[str]) -> tuple[str, dict[str, object]]:
    """Return the SQL condition for names and globs, "" if there are none, and the values of its placeholders.

    `*` becomes `%` and `?` becomes `_`; what LIKE itself gives a meaning to is escaped. A name without a
    wildcard is compared by `=`, which like the unique key ignores trailing spaces.
    """
    conditions, values = [], dict[str, object]()
    for number, name in enumerate(names):
        value = f"exempt{number}"
        if "*" in name or "?" in name:
            conditions.append(GLOB_NAME.format(column=column.quoted, value=value))
            escaped = name.replace("|", "||").replace("%", "|%").replace("_", "|_")
            values[value] = escaped.replace("*", "%").replace("?", "_")
        else:
            conditions.append(EXACT_NAME.format(column=column.quoted, value=value))
            values[value] = name
    return " OR ".join(conditions), values
