"""Converts a column's values to JSON and back, so that a restore inserts the same values.

The driver can't do this: it reads a zero date as NULL, and text in the character set of the connection. So
the server converts values to text, and text to bytes of UTF-8. If this would lose information, the archive
has another form of the value:

- Text that changes when it is converted to UTF-8 and back is an object, `{"bytes": …, "charset": …}`: its
  bytes as base64, and their character set.
- An ENUM whose text is empty, and a SET that has, or may have, an empty member, is a number, because an empty
  text may be a member, no member or an error.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iam_watcher.database.column import AS_UTF8, INTEGERS, TEXTS
from iam_watcher.errors import ArchiveDamaged, TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from iam_watcher.database.column import Column

# What is UTF-8 already needs no conversion, which takes longer than all the rest of a long text.
UTF8 = frozenset({"utf8", "utf8mb3", "utf8mb4"})

# No text in UTF-8 begins with one of these bytes.
RAW, NUMBER = b"\xff", b"\xfe"

BYTES = "CAST({column} AS BINARY)"

# Text of other character sets: in some of them two codes are one character, or a code is none.
CHECKED = (
    "IF(CAST(CONVERT(CONVERT({column} USING utf8mb4) USING {charset}) AS BINARY) = CAST({column} AS BINARY),"
    f" {AS_UTF8}, CONCAT(X'{RAW.hex()}', {BYTES}))"
)
NUMBERED = f"IF({{condition}}, CONCAT(X'{NUMBER.hex()}', {{column}} + 0), {CHECKED})"
MEMBER = NUMBERED.format(column="{column}", charset="{charset}", condition="{column} = ''")
MEMBERS = NUMBERED.format(
    column="{column}",
    charset="{charset}",
    condition=(
        "{column} = '' OR BIT_COUNT({column} + 0)"
        " <> CHAR_LENGTH({column}) - CHAR_LENGTH(REPLACE({column}, ',', '')) + 1"
    ),
)

Bound = tuple[str, Any]
"""SQL with a {value} in it, and the value: a number, or bytes, which SQL has to have as a binary string."""


@dataclass(frozen=True)
class Format:
    """The form of some data types in an archive.

    Attributes:
        name: in a manifest.
        types: the data types that are written so.
        select: SQL that reads a {column} of a {charset}.
        read: returns what turns a value of `select` into what JSON has, for a character set; None if it is
            that already. Bytes are base64 in JSON.
        write: turns a JSON value into SQL that writes it. Raises ValueError, TypeError, KeyError or
            AttributeError if that is no value of this format.
    """

    name: str
    types: frozenset[str]
    select: str
    read: Callable[[str | None], Callable[[bytes], Any]] | None
    write: Callable[[Any], Bound]

    def selected(self, column: Column) -> str:
        """Return the SQL that reads a column."""
        return self.select.format(column=column.quoted, charset=column.charset)

    @property
    def is_utf8(self) -> bool:
        """Whether `bytes.decode`, which is quick, reads a value, or raises UnicodeDecodeError."""
        return self.read is _read_utf8

    def reading(self, column: Column) -> Callable[[bytes], Any] | None:
        """Return what turns a value that was read into what JSON has; None if it is that already."""
        return self.read(column.charset) if self.read else None

    def bind(self, value: Any, charsets: Collection[str] | None = None) -> Bound:
        """Return the SQL that writes a value of an archive, and what to bind.

        Args:
            value: the JSON value, not NULL.
            charsets: of the server; None while it is not known: the SQL must not be used then.

        Raises:
            ArchiveDamaged: it is no value of this format.
        """
        try:
            if charsets is not None and isinstance(value, dict) and value["charset"] not in charsets:
                raise ArchiveDamaged(
                    f"a value has the character set {value['charset']!r}, which this server doesn't know"
                )
            return self.write(value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArchiveDamaged(f"{str(value)[:100]!r} is no value of the format {self.name!r}") from error


def _read_utf8(charset: str | None) -> Callable[[bytes], Any]:
    def read(value: bytes) -> Any:
        try:
            return value.decode()
        except UnicodeDecodeError:  # half a surrogate pair, which MariaDB lets pass
            return {"bytes": base64.b64encode(value).decode(), "charset": charset}

    return read


def _read_checked(charset: str | None) -> Callable[[bytes], Any]:
    decode = _read_utf8("utf8mb4")

    def read(value: bytes) -> Any:
        if value[:1] == RAW:
            return {"bytes": base64.b64encode(value[1:]).decode(), "charset": charset}
        return int(value[1:]) if value[:1] == NUMBER else decode(value)

    return read


def _write_number(value: Any) -> Bound:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return "{value}", value


def _write_text(value: Any) -> Bound:
    if isinstance(value, dict):
        raw = base64.b64decode(value["bytes"], validate=True)
        return f"CONVERT({{value}} USING {value['charset']})", raw
    return "CONVERT({value} USING utf8mb4)", value.encode()


def _write_member(value: Any) -> Bound:
    return _write_text(value) if isinstance(value, (str, dict)) else _write_number(value)


def _write_bytes(value: Any) -> Bound:
    return "{value}", base64.b64decode(value, validate=True)


OF_TIME = frozenset({"date", "time", "datetime", "timestamp"})

TEXT = Format("text", TEXTS, CHECKED, _read_checked, _write_text)
UTF8_TEXT = Format("text", TEXTS, BYTES, _read_utf8, _write_text)

FORMATS = (
    Format("number", INTEGERS | {"double", "year"}, "{column}", None, _write_number),
    # The server shows a FLOAT with six digits; as a DOUBLE it shows all it has.
    Format("number", frozenset({"float"}), "{column} + 0e0", None, _write_number),
    Format("number", frozenset({"bit"}), "{column} + 0", None, _write_number),
    TEXT,
    Format("text", frozenset({"enum"}), MEMBER, _read_checked, _write_member),
    Format("text", frozenset({"set"}), MEMBERS, _read_checked, _write_member),
    Format(
        "text",
        OF_TIME | {"json", "decimal", "uuid", "inet4", "inet6"},
        AS_UTF8,
        _read_utf8,
        _write_text,
    ),
    Format(
        "base64",
        frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"}),
        BYTES,
        None,
        _write_bytes,
    ),
)


def format_of(column: Column, table: str) -> Format:
    """Return the format of a column's values.

    Raises:
        TableError: its type has no format.
    """
    form = format_of_type(column.data_type)
    if form is None:
        raise TableError(
            f"column {column.name!r} of {table} is {column.data_type}, which an archive can't keep; "
            "name it in redact to leave it out"
        )
    return UTF8_TEXT if form is TEXT and column.charset in UTF8 else form


def format_of_type(data_type: str) -> Format | None:
    """Return the format of the values of a data type, or None if it has none."""
    return next((form for form in FORMATS if data_type in form.types), None)


def same(archived: Any, found: Any) -> bool:
    """Return whether a value of an archive is one that was read from the table.

    Bytes are base64 in an archive. An ENUM or SET with an empty text is a text in the format 1.
    """
    if isinstance(found, bytes):
        found = base64.b64encode(found).decode()
    return bool(archived == found) or (archived == "" and isinstance(found, int))


def has_value(column: Column, bound: str) -> str:
    """Return the condition for a column that has a bound value; of a text, byte by byte in any collation."""
    if column.charset is None or column.data_type not in TEXTS:
        return f"{column.quoted} <=> %({bound})s"
    stored = BYTES.format(column=f"CONVERT(%({bound})s USING {column.charset})")
    return f"{BYTES.format(column=column.quoted)} <=> {stored}"
