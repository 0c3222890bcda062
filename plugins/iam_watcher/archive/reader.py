"""Reads archives, and checks everything in them: whoever can write there may have changed them.

What finds an archive and what reads its parts rely on the same checks: hence the length.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from isal import igzip, isal_zlib

from iam_watcher.archive.format import (
    CHILDREN,
    COMPLETE,
    FORMAT,
    MANIFEST,
    Completion,
    Facts,
    OldManifest,
    Part,
    child_folder,
    parts_among,
)
from iam_watcher.archive.storage import Folder
from iam_watcher.errors import ArchiveDamaged, JobArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

Row = dict[str, Any]

# A line of a part that doesn't say how many bytes it unpacks to (format 1) is no longer than this.
LONGEST_LINE = 256 * 1024 * 1024

# What is raised for bytes that are no gzip, and for JSON that is none, has other types or is too deep.
NO_GZIP: tuple[Any, ...] = (OSError, EOFError, isal_zlib.error)
NO_JSON = (ValueError, RecursionError)


@dataclass(frozen=True)
class ArchivedTry:
    """The archive of one try, as a reader finds it.

    Attributes:
        folder: of the try.
        manifest: its facts.
        parts: first to last.
        complete: whether the try ended in order, so that a part that is gone would be missed.
        began: the database's time when the try began.
        children: child table → its rows, as the try lists them if it ended in order.
    """

    folder: Folder
    manifest: Mapping[str, Any]
    parts: Sequence[Part]
    complete: bool
    began: datetime
    children: Mapping[str, int] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """Return the rows, those of the last part first: of a row in two parts the newer one counts.

        Raises:
            ArchiveDamaged: a part is not what was written.
            ArchiveError: a part can't be read.
        """
        for part in reversed(self.parts):
            yield from self.read(part)

    def read(self, part: Part) -> Iterator[Row]:
        """Return the rows of a part; for what it raises see `rows`."""
        where = f"{self.folder.url}/{part.name}"
        data = self.folder.read(part.name)
        found = hashlib.sha256(data).hexdigest()
        if found != part.sha256:
            raise ArchiveDamaged(f"{where} has the SHA-256 {found}; expected {part.sha256}")
        rows = 0
        for line in _lines(data, part.size, where):
            rows += 1
            if rows > part.rows:
                raise ArchiveDamaged(f"{where} has more rows than the {part.rows} of its name")
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except NO_JSON as error:
                raise ArchiveDamaged(f"{where}, row {rows}: {error}; expected a JSON object") from error
        if rows != part.rows:
            raise ArchiveDamaged(f"{where} has {rows} rows; expected {part.rows}")


def find(url: str, *, kind: str | tuple[str, ...], below: str | None = None) -> list[ArchivedTry]:
    """Return the archives in the folder of a run or of a try, the last try first.

    Args:
        url: of the folder.
        kind: that is expected, or kinds; all tries have one of them.
        below: the location that nothing may lead out of, by links; default: the folder itself.

    Raises:
        JobArgumentError: there is nothing, or something of another kind.
        ArchiveDamaged: something is missing, leads out of the location, or is not what was written.
        ArchiveError: it can't be read.
    """
    kinds = (kind,) if isinstance(kind, str) else kind
    folder, top = Folder(url), Folder(below or url)
    folder.check_connection()
    names = _names(folder, top)
    tries = [folder] if MANIFEST in names or parts_among(names) else [folder / name for name in names]
    listed = [(one, _names(one, top)) for one in tries]
    found = [_find(one, names, top) for one, names in listed if names]
    if not any(found):
        raise JobArgumentError(
            f"{url}{folder.seen_from} has no {MANIFEST}, nor has a folder in it; expected the folder "
            "that a run report names"
        )
    written = [one for one in found if one is not None]
    for one in written:
        if one.manifest["kind"] not in kinds or one.manifest["kind"] != written[0].manifest["kind"]:
            raise JobArgumentError(
                f"{one.folder.url} has {one.manifest['kind']!r}; expected "
                f"{' or '.join(repr(str(kind)) for kind in kinds)}. Name the folder that the run report of "
                "a real run names as `archive`"
            )
    return sorted(written, key=lambda one: (one.began, one.folder.url), reverse=True)


def find_children(written: ArchivedTry, *, below: str) -> dict[str, ArchivedTry]:
    """Return the archives of the child tables of a try, in an order in which their rows can be restored.

    Args:
        written: the try.
        below: the location that nothing may lead out of.

    Raises:
        ArchiveDamaged: one is missing, leads out of the location, or is not what was written.
        ArchiveError: it can't be read.
    """
    top, found = Folder(below), {}
    for table in written.manifest.get("children", []):
        folder = written.folder / CHILDREN / child_folder(table)
        child = _find(folder, _names(folder, top), top)
        rows, expected = 0, written.children.get(table, 0)
        if child is not None:
            rows = sum(part.rows for part in child.parts)
            if (child.manifest["table"], child.manifest["kind"]) != (table, written.manifest["kind"]):
                raise ArchiveDamaged(
                    f"{folder.url} has {child.manifest['kind']!r} of {child.manifest['table']}; expected "
                    f"{written.manifest['kind']!r} of {table}"
                )
            found[table] = child
        # A part that was stored without an answer is behind those that are listed.
        if rows < expected:
            raise ArchiveDamaged(
                f"{folder.url} has {rows} rows of {table}; expected {expected}, as {written.folder.url} "
                "lists. Bring the folder back from a backup"
            )
    return found


def verify(found: Iterable[ArchivedTry], check: Callable[[Row], None] = lambda _: None) -> int:
    """Read all parts and return how many rows they have.

    Args:
        found: as `find` returns it.
        check: called with each row; raises ArchiveDamaged if the row is not valid.

    Raises:
        ArchiveDamaged: a part is not what was written.
    """
    rows = 0
    for written in found:
        for row in written.rows():
            check(row)
            rows += 1
    return rows


def _names(folder: Folder, top: Folder) -> list[str]:
    _stay_inside(folder, top)
    return folder.names()


def _find(folder: Folder, names: Sequence[str], top: Folder) -> ArchivedTry | None:
    """Return what a try's folder has; None if it is none."""
    parts = parts_among(names)
    if MANIFEST not in names:
        if parts or COMPLETE in names:
            raise ArchiveDamaged(
                f"{folder.url} has no {MANIFEST}, which is written before everything else, but "
                f"{len(parts)} parts. Bring it back from a backup, or move the folder elsewhere to do without"
            )
        return None
    for name in (MANIFEST, COMPLETE, *(part.name for part in parts)):
        if name in names:
            _stay_inside(folder / name, top)
    manifest, facts = _manifest(folder)
    children: Mapping[str, int] = {}
    if facts.format == 1:
        old = _convert(folder, MANIFEST, manifest, OldManifest)
        complete, listed = old.complete, old.parts
    else:
        complete = COMPLETE in names
        completion = _convert(folder, COMPLETE, _json(folder, COMPLETE), Completion) if complete else None
        listed, children = (completion.parts, completion.children) if completion else ([], {})
    numbers = [part.number for part in parts]
    in_list = [part.name for part in listed] if complete else []
    # A part behind the listed ones was stored without an answer: no rows were changed with it.
    if numbers != list(range(1, len(parts) + 1)) or [p.name for p in parts][: len(in_list)] != in_list:
        raise ArchiveDamaged(
            f"{folder.url} has the parts {numbers}; expected 1 to {max(len(in_list), *numbers, 0)} without a "
            f"gap{', as it lists them' if in_list else ''}"
        )
    return ArchivedTry(folder, manifest, parts, complete, facts.now, children)


def _manifest(folder: Folder) -> tuple[Mapping[str, Any], Facts]:
    manifest = _json(folder, MANIFEST)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ArchiveDamaged(
            f"{folder.url} has the format {version}; expected up to {FORMAT}. A later version of iam-watcher "
            "wrote it: restore with that"
        )
    facts = _convert(folder, MANIFEST, manifest, Facts)
    if facts.format < 1:
        raise ArchiveDamaged(f"{folder.url} has the format {facts.format}; expected 1 to {FORMAT}")
    return manifest, facts


def _json(folder: Folder, name: str) -> Any:
    try:
        return msgspec.json.decode(folder.read(name))
    except NO_JSON as error:
        raise ArchiveDamaged(f"{folder.url}/{name} is not a file of an archive: {error}") from error


def _convert(folder: Folder, name: str, value: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(value, kind)
    except NO_JSON as error:
        raise ArchiveDamaged(f"{folder.url}/{name} is not a file of an archive: {error}") from error


def _lines(data: bytes, size: int | None, where: str) -> Iterator[bytes]:
    """Unpack line by line, so that memory is needed for one line only, and stop where too much comes.

    Raises:
        ArchiveDamaged: it is no gzip, or unpacks to more or less than the size.
    """
    unpacked = 0
    lines: Any = igzip.IGzipFile(fileobj=io.BytesIO(data))  # type: ignore[no-untyped-call]  # it has no types
    while True:
        most = LONGEST_LINE if size is None else size - unpacked
        try:
            line = lines.readline(most + 1)
        except NO_GZIP as error:
            raise ArchiveDamaged(f"{where} can't be unpacked: {error}") from error
        if len(line) > most:
            expected = f"a line of at most {most} bytes" if size is None else f"{size} bytes"
            raise ArchiveDamaged(f"{where} unpacks to more than expected: {expected}")
        if not line:
            break
        unpacked += len(line)
        yield line
    if size is not None and unpacked != size:
        raise ArchiveDamaged(f"{where} unpacks to {unpacked} bytes; expected {size}")


def _stay_inside(folder: Folder, top: Folder) -> None:
    if not folder.is_inside(top):
        raise ArchiveDamaged(f"{folder.url} is a link that leads out of {top.url}; expected none")
