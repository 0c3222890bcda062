"""What the manifest of an archive says of its rows, checked against the table that they are restored into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from iam_watcher.archive.column_formats import format_of, format_of_type
from iam_watcher.archive.format import MANIFEST, ArchiveKind
from iam_watcher.errors import ArchiveDamaged, TableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.archive.reader import ArchivedTry
    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column


def columns_to_write(table: Table, manifest: Mapping[str, Any]) -> tuple[list[Column], list[str]]:
    """Return the columns to be written, and the names of those that the archive does not have.

    Raises:
        TableError: the archived rows don't fit into the table any more, or a column that can't be empty
            was left out of the archive.
    """
    archived: Mapping[str, str] = manifest["columns"]
    if manifest["key"] != table.key.named:
        raise TableError(f"{table.name} has the key {table.key.named}; the archive has {manifest['key']}")
    columns = [table.column(name) for name in archived]
    for column in columns:
        was, form = format_of_type(archived[column.name]), format_of(column, table.name)
        if column.generated or was is None or was.name != form.name:
            now = "computed from others" if column.generated else column.data_type
            raise TableError(
                f"column {column.name!r} of {table.name} is {now}; in the archive it is "
                f"{archived[column.name]}. Restore into a table as it was"
            )
    if manifest["kind"] == ArchiveKind.CHANGED_ROWS:
        return columns, list(manifest.get("redacted", ()))
    absent = [c for c in table.columns.values() if c.name not in archived and not c.generated]
    needed = [column.name for column in absent if not (column.nullable or column.has_default)]
    if needed:
        raise TableError(
            f"{table.name} can't be restored: {', '.join(needed)} must not be empty, and the archive does "
            f"not have it (left out: {', '.join(manifest.get('redacted', ())) or 'nothing'})"
        )
    return columns, [column.name for column in absent]


def key_names(manifest: Mapping[str, Any]) -> list[str]:
    """Return the names of the columns of the key."""
    named = manifest["key"]
    return [named] if isinstance(named, str) else named


def archived_types(written: ArchivedTry) -> Mapping[str, str]:
    """Return column → data type.

    Raises:
        ArchiveDamaged: the key is not among them.
    """
    columns: Mapping[str, str] = written.manifest.get("columns", {})
    if not set(key_names(written.manifest)) <= columns.keys():
        raise ArchiveDamaged(
            f"{written.folder.url} has the columns {', '.join(columns) or '(none)'}; expected "
            f"{written.manifest['key']}, the primary key, among them"
        )
    return columns


class _Bytes(msgspec.Struct, forbid_unknown_fields=True):
    base64: bytes


def set_to(written: ArchivedTry) -> Mapping[str, str | int | bytes | None]:
    """Return column → what the archived try has set it to, apart from hashes.

    Raises:
        ArchiveDamaged: the manifest does not have that.
    """
    found = _converted(written, "set_to", None, dict[str, str | int | _Bytes | None])
    if not found:
        # Without columns to compare, a row that was changed since then would look unchanged.
        raise ArchiveDamaged(f"{written.folder.url}/{MANIFEST} has an empty set_to; expected a column")
    return {name: value.base64 if isinstance(value, _Bytes) else value for name, value in found.items()}


def hashed(written: ArchivedTry) -> Mapping[str, int]:
    """Return column → hexadecimal digits of the hashes that the archived try has set it to.

    An archive of an earlier version has none.

    Raises:
        ArchiveDamaged: the manifest has something else.
    """
    kind = dict[str, Annotated[int, msgspec.Meta(ge=1)]]
    found: dict[str, int] = _converted(written, "hashed", {}, kind)
    return found


def _converted(written: ArchivedTry, name: str, default: object, kind: Any) -> Any:
    try:
        return msgspec.convert(written.manifest.get(name, default), kind)
    except msgspec.ValidationError as error:
        raise ArchiveDamaged(f"{written.folder.url}/{MANIFEST} has no valid {name}: {error}") from error
