"""Users who are left alone, by their names or globs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iam_watcher.database.server_errors import STATEMENT_TIMEOUTS, code_of
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.accounts.account_columns import AccountColumns
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

# The column's collation decides what is equal, as it does for the unique key on the name.
EXACT_NAME = "{column} = %({value})s"
GLOB_NAME = "{column} LIKE %({value})s ESCAPE '|'"

# For each name or glob, 1 if an account has it, whatever the status of that account is.
MATCHED = "SELECT {matched} FROM {table} WHERE {where} AND ({any_of_them})"

NAMES_SHOWN = 10  # names in a message


def exempt_condition(column: Column, names: Sequence[str]) -> tuple[str, dict[str, object]]:
    """Return the SQL condition for names and globs, "" if there are none, and the values of its placeholders.

    `*` becomes `%` and `?` becomes `_`; what LIKE itself gives a meaning to is escaped. A name without a
    wildcard is compared by `=`, which like the unique key ignores trailing spaces.
    """
    conditions, values = _conditions(column, names)
    return " OR ".join(conditions), values


def warn_of_unmatched(db: Transactions, columns: AccountColumns, names: Sequence[str]) -> list[str]:
    """Return the names and globs that no account of the table has, and log them: one may be misspelt.

    Args:
        db: where.
        columns: of the accounts.
        names: names, or globs of them.
    """
    names = list(dict.fromkeys(names))
    conditions, values = _conditions(columns.name, names)
    if not conditions:
        return []
    query = MATCHED.format(
        matched=", ".join(f"MAX({condition})" for condition in conditions),
        table=columns.table.quoted,
        where=columns.where,
        any_of_them=" OR ".join(conditions),
    )

    def ask() -> list[str] | None:
        try:
            (matched,) = db.read(query, {**columns.values, **values})
        except db.error as error:
            if code_of(error) not in STATEMENT_TIMEOUTS:
                raise
            db.commit()
            return None
        db.commit()
        return [name for name, found in zip(names, matched, strict=True) if not found]

    unmatched = db.run(ask, what=f"the exempt names in {columns.table.name}")
    if unmatched is None:
        logger.warning(
            "The server could not say within its time limit for a statement whether accounts of %s match "
            "exempt_names. Check the spelling of exempt_names, or add an index on %s",
            columns.table.name,
            columns.name.name,
        )
    elif unmatched:
        logger.warning(
            "No account of %s matches %s of exempt_names, so the job leaves nobody alone for them. Check the "
            "spelling%s",
            columns.table.name,
            shown(unmatched),
            _advice(unmatched),
        )
    return unmatched or []


def shown(names: Sequence[str]) -> str:
    """Return names as a part of a sentence, the first ones if there are many."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:NAMES_SHOWN])) + more


def _advice(names: Sequence[str]) -> str:
    """Return what to write in place of the wildcard of LIKE, which a name may have too."""
    wrong = next((name for name in names if "%" in name), None)
    if wrong is None:
        return ""
    return f". `*` is any text, and `%` is only itself: write {wrong.replace('%', '*')!r} for {wrong!r}"


def _conditions(column: Column, names: Sequence[str]) -> tuple[list[str], dict[str, object]]:
    """Return the condition for each name or glob, and the values of all placeholders."""
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
    return conditions, values
