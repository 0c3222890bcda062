"""The CHECK constraints of a table, as the server's catalogue or the table's definition has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from iam_watcher.database.catalogue import DEFINITION
from iam_watcher.database.column import quoted
from iam_watcher.database.server_errors import DENIED, code_of

if TYPE_CHECKING:
    from iam_watcher.database.transactions import Transactions

VERSION = "SELECT VERSION()"

CHECKS = (
    "SELECT CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS"
    " WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s"
)
# The table of a constraint is not in MySQL's list of CHECK constraints.
CHECKS_OF_MYSQL = (
    "SELECT CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS"
    " JOIN information_schema.TABLE_CONSTRAINTS USING (CONSTRAINT_SCHEMA, CONSTRAINT_NAME)"
    " WHERE CONSTRAINT_SCHEMA = DATABASE() AND TABLE_NAME = %(table)s AND CONSTRAINT_TYPE = 'CHECK'"
    " AND ENFORCED = 'YES' ORDER BY CONSTRAINT_NAME"
)

# MariaDB's catalogue hides them from accounts without rights on the whole database. The table's definition
# has them, each at the end of a line: of its column, or of its own. Other quoted texts are skipped.
_NAME, _TEXT = r"`((?:[^`]|``)+)`", r"`(?:[^`]|``)*`|'(?:[^'\\]|''|\\.)*'"
DEFINED = re.compile(rf"^  (?:CONSTRAINT )?{_NAME}(?:[^`'\n]|{_TEXT})*? CHECK \((.*)\),?$", re.MULTILINE)


def checks_of(db: Transactions, table: str) -> list[tuple[str, str]]:
    """Return the names and conditions of the CHECK constraints of a table.

    On MariaDB, an account with rights on single columns alone sees none.
    """
    ((version,),) = db.read(VERSION)
    if "MariaDB" in version:
        return sorted(db.read(CHECKS, {"table": table})) or _defined(db, table)
    # MySQL's catalogue has the clause as a text within quotes.
    return [
        (name, re.sub(r"\\(.)", r"\1", clause, flags=re.DOTALL))
        for name, clause in db.read(CHECKS_OF_MYSQL, {"table": table})
    ]


def _defined(db: Transactions, table: str) -> list[tuple[str, str]]:
    try:
        ((_, text, *_),) = db.read(DEFINITION.format(table=quoted(table)))
    except db.error as error:
        if code_of(error) not in DENIED:
            raise
        return []
    return sorted((name.replace("``", "`"), clause) for name, clause in DEFINED.findall(text))
