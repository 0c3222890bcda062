"""The key of an archived row: what tells it from other rows, and as SQL that finds it in the table."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from iam_watcher.archive.reader import Row
    from iam_watcher.database.key import Key
    from iam_watcher.database.key_column import KeyColumn

    RowKey = Hashable

# Text of UTF-8, in the character set of the column: one value for the server, so that it can look it up.
TEXT = "CONVERT(_utf8mb4 X'{digits}' USING {charset}) COLLATE {collation}"
RAW = "CONVERT(CONVERT(X'{digits}' USING {raw}) USING {charset}) COLLATE {collation}"

NO_MEMBER = -1  # equals no value of an ENUM


def row_key(row: Row, key: Key) -> RowKey:
    """Return the key of a row, as an archive has it or as it was read from the table in the same formats."""
    found = tuple(hashable(row[name]) for name in key.names)
    return found[0] if len(found) == 1 else found


def hashable(value: Any) -> Hashable:
    """Return a value of an archive, or of a row that was read in its formats, so that a set can have it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def literals_of(row: Row, key: Key) -> list[str]:
    """Return the key of an archived row as SQL: literals of the columns' own types."""
    return [_literal(row[part.column.name], part) for part in key.columns]


def _literal(value: Any, part: KeyColumn) -> str:
    column = part.column
    if column.data_type in {"char", "varchar"}:
        if not isinstance(value, dict):
            digits = value.encode().hex()
            return TEXT.format(digits=digits, charset=column.charset, collation=column.collation)
        digits = base64.b64decode(value["bytes"]).hex()
        if value["charset"] == column.charset:
            return part.literal(bytes.fromhex(digits))
        return RAW.format(
            digits=digits, raw=value["charset"], charset=column.charset, collation=column.collation
        )
    if column.data_type in {"binary", "varbinary"}:
        value = base64.b64decode(value)
    elif column.data_type == "enum" and isinstance(value, str):
        members = column.members
        value = members.index(value) + 1 if value in members else NO_MEMBER
    elif column.data_type == "decimal":
        value = Decimal(value)
    return part.literal(value)
