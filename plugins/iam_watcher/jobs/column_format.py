"""How a column's values stand in JSON: as they came out of the database, so they can go back in.

The driver would not do: it reads a zero date as NULL, and text in the character set of the connection.
So the server itself turns values into text, and text into bytes of UTF-8.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import TableError
from iam_watcher.jobs.catalogue import INTEGERS, TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.jobs.catalogue import Column


@dataclass(frozen=True)
class Format:
    """One way to write values down.

    Attributes:
        name: in a manifest.
        types: the data types that are written so.
        select: SQL that reads a {column}.
        insert: SQL that writes a {value}, a placeholder.
        read: turns what `select` gives into what JSON has; None if it is that already. Bytes stand in
            JSON as base64.
        from_json: turns a JSON value into what `insert` takes.
    """

    name: str
    types: frozenset[str]
    select: str
    insert: str
    read: Callable[[Any], Any] | None
    from_json: Callable[[Any], Any]


TEXT = Format(
    "text",
    TEXTS | {"json", "decimal", "date", "time", "datetime", "timestamp"} | {"uuid", "inet4", "inet6"},
    "CAST(CONVERT({column} USING utf8mb4) AS BINARY)",
    "CONVERT({value} USING utf8mb4)",
    bytes.decode,
    lambda value: value.encode(),
)

# What is UTF-8 already needs no conversion, which takes longer than all the rest of a long text.
UTF8 = frozenset({"ascii", "utf8", "utf8mb3", "utf8mb4"})
UTF8_TEXT = replace(TEXT, select="CAST({column} AS BINARY)")

FORMATS = (
    Format("number", INTEGERS | {"double", "year"}, "{column}", "{value}", None, lambda v: v),
    # The server shows a FLOAT with six digits; as a DOUBLE it shows all it has.
    Format("number", frozenset({"float"}), "{column} + 0e0", "{value}", None, lambda v: v),
    Format("number", frozenset({"bit"}), "{column} + 0", "{value}", None, lambda v: v),
    TEXT,
    Format(
        "base64",
        frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}),
        "CAST({column} AS BINARY)",
        "{value}",
        None,
        base64.b64decode,
    ),
)


def format_of(column: Column, table: str) -> Format:
    """Return how a column's values are written down.

    Raises:
        TableError: that is not known for its type.
    """
    form = format_of_type(column.data_type)
    if form is None:
        raise TableError(
            f"column {column.name!r} of {table} is {column.data_type}, which an archive can't keep; "
            "name it in redact to leave it out"
        )
    return UTF8_TEXT if form is TEXT and column.charset in UTF8 else form


def format_of_type(data_type: str) -> Format | None:
    """Return how values of a data type are written down, or None if that is not known."""
    return next((form for form in FORMATS if data_type in form.types), None)
