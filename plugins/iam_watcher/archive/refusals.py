"""Finds rows that could not be restored from an archive as they are. The purge leaves and counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from iam_watcher.archive.column_formats import UTF8
from iam_watcher.database.checks import checks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions

# The columns that can hold a value over max_allowed_packet. The server gives NULL, or an empty text, in
# place of such a value, and would take none. A byte of some character sets becomes three of UTF-8.
LARGE = (
    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
    " AND TABLE_NAME = %(table)s AND CHARACTER_OCTET_LENGTH * 3 >= @@max_allowed_packet"
)
# With the number, not with the variable, which is unsafe in a binary log of statements.
IS_LARGE = "LENGTH({column}) >= {most}"
# The same for text of another character set, which an archive has in UTF-8. Only what may be too long then is
# converted to find out.
IS_LARGE_IN_UTF8 = (
    f"{IS_LARGE} OR LENGTH({{column}}) * 3 >= {{most}}"
    " AND LENGTH(CONVERT({column} USING utf8mb4)) >= {most}"
)
PACKET = "SELECT @@max_allowed_packet"

# The same for MySQL's type JSON, whose text is longer than what is stored.
JSON_IS_LARGE = "CONVERT({column} USING utf8mb4) = ''"

# MySQL's JSON can hold values of SQL types, whose text is that of a JSON string or number: the type is lost.
OF_JSON = "('NULL', 'OBJECT', 'ARRAY', 'BOOLEAN', 'INTEGER', 'UNSIGNED INTEGER', 'DOUBLE', 'STRING')"
OTHER_WITHIN = (
    "EXISTS (SELECT 1 FROM JSON_TABLE({column}, '{path}' COLUMNS (v JSON PATH '$')) AS part"
    " WHERE JSON_TYPE(part.v) NOT IN {types})"
)
PATHS_WITHIN = ("$**[*]", "$**.*")
OTHER_TYPE = "JSON_TYPE({column}) NOT IN {types}"

NO_REFUSAL = -1


@dataclass(frozen=True)
class Refusals:
    """Why rows of a table can't be archived.

    Attributes:
        sql: the number of the first reason that applies to a row, or NO_REFUSAL; None if none can apply.
        reasons: by number: what the report calls it, and what of the table it is about.
    """

    sql: str | None
    reasons: Sequence[tuple[str, str]]


def refusals(db: Transactions, table: Table, columns: Sequence[Column], *, is_mariadb: bool) -> Refusals:
    """Return the reasons that can apply to rows of a table.

    Args:
        db: where to ask.
        table: of the rows.
        columns: to be archived.
        is_mariadb: whether the server is a MariaDB.
    """
    found: list[tuple[str, str, str]] = []
    ((most,),) = db.read(PACKET)
    large = {name for (name,) in db.read(LARGE, {"table": table.name})}
    for column in columns:
        if column.name in large:
            is_large = IS_LARGE_IN_UTF8 if column.charset and column.charset not in UTF8 else IS_LARGE
            found.append((is_large.format(column=column.quoted, most=most), "archive_too_large", column.name))
        if column.data_type == "json":
            found += [
                (JSON_IS_LARGE.format(column=column.quoted), "archive_too_large", column.name),
                (_has_other_types(column), "archive_json_type", column.name),
            ]
    if is_mariadb:
        # Its sessions can switch these checks off (check_constraint_checks), so rows may break them.
        for name, clause in checks_of(db, table.name):
            # A percent sign would be read as a placeholder by the driver.
            found.append((f"NOT ({clause.replace('%', '%%')})", "archive_check", name))
    if not found:
        return Refusals(None, ())
    cases = " ".join(f"WHEN {condition} THEN {number}" for number, (condition, _, _) in enumerate(found))
    return Refusals(f"CASE {cases} ELSE {NO_REFUSAL} END", [(reason, name) for _, reason, name in found])


def _has_other_types(column: Column) -> str:
    within = [OTHER_WITHIN.format(column=column.quoted, path=path, types=OF_JSON) for path in PATHS_WITHIN]
    return " OR ".join((OTHER_TYPE.format(column=column.quoted, types=OF_JSON), *within))
