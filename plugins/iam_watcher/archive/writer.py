"""Writes an archive: parts of JSON lines, each durable before the commit of its transaction."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from iam_watcher.archive.format import CHILDREN, COMPLETE, FORMAT, MANIFEST, PART, child_folder
from iam_watcher.errors import ArchiveError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from iam_watcher.archive.storage import Folder

logger = get_logger(__name__)

# Level of compression: the transaction waits for it. Intel's library, which is quick on other processors
# too, needs a quarter of the time of zlib, and that was most of what an archive cost.
QUICK = 1


@dataclass(frozen=True)
class Packed:
    """Rows as a part has them: how many, the bytes of their lines, and these compressed."""

    rows: int
    size: int
    data: bytes

    @classmethod
    def of(cls, rows: int, lines: Iterable[bytes]) -> Packed:
        """Return JSON lines, compressed."""
        packer = Packer()
        for line in lines:
            packer.add(line)
        return packer.done(rows)


class Packer:
    """Compresses JSON lines piece by piece."""

    def __init__(self) -> None:
        self._size = 0
        self._gzip = isal_zlib.compressobj(QUICK, isal_zlib.DEFLATED, isal_zlib.MAX_WBITS | 16)
        self._pieces: list[bytes] = []

    def add(self, lines: bytes) -> None:
        """Compress the next lines."""
        self._size += len(lines)
        self._pieces.append(self._gzip.compress(lines))

    def done(self, rows: int) -> Packed:
        """Return what was compressed, which is so many rows."""
        return Packed(rows, self._size, b"".join((*self._pieces, self._gzip.flush())))


class PartBuffer:
    """The rows that one transaction adds to an archive: they become one part.

    Args:
        archive: gets the part.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._packed: list[Packed] = []

    def __len__(self) -> int:
        """Return how many times rows were added."""
        return len(self._packed)

    def add(self, packed: Packed) -> None:
        """Keep rows."""
        self._packed.append(packed)

    def drop(self, mark: int) -> None:
        """Forget what was added after the first `mark` times."""
        del self._packed[mark:]

    def store(self) -> None:
        """Write the rows as a part; they are durable when this returns.

        Raises:
            ArchiveError: they could not be written.
        """
        packed, self._packed = self._packed, []
        if packed:
            # Compressed files one behind the other are a compressed file.
            rows, size = sum(one.rows for one in packed), sum(one.size for one in packed)
            self._archive.add(Packed(rows, size, b"".join(one.data for one in packed)))


class Archive:
    """The files of one try of a run; they are made with the first rows.

    Args:
        run: the folder of the run.
        facts: of the manifest: `kind`, `table`, `now` (the database's) and what else a reader needs.

    Attributes:
        rows: how many were written.
        bytes: how many the parts have, compressed, those of children too.
    """

    def __init__(self, run: Folder, facts: Mapping[str, Any]) -> None:
        self.rows = 0
        self.bytes = 0
        self._run = run
        self._facts = dict(facts)
        # Made by the try, not its number: a cleared task begins to count anew.
        self._folder = run / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
        self._parts: list[dict[str, Any]] = []
        self._begun = False
        self._above: Archive | None = None
        self._children: dict[str, Archive] = {}

    def child(self, table: str, facts: Mapping[str, Any]) -> Archive:
        """Return the archive of a child table: a folder within the folder of this one."""
        child = Archive(self._run, {**self._facts, **facts, "table": table})
        child._folder = self._folder / CHILDREN / child_folder(table)
        child._above = self
        self._children[table] = child
        return child

    def begin(self) -> None:
        """Write the manifest, if that was not done.

        Raises:
            ArchiveError: it could not be written.
        """
        if self._begun:
            return
        if self._above is not None:
            # Without its manifest, nobody would look for what is in the folder.
            self._above.begin()
        self._write(MANIFEST, {"format": FORMAT, **self._facts})
        self._begun = True

    def add(self, packed: Packed) -> None:
        """Write rows as a part; they are durable when this returns.

        Raises:
            ArchiveError: they could not be written.
        """
        self.begin()
        sha256 = hashlib.sha256(packed.data).hexdigest()
        number = len(self._parts) + 1
        name = PART.format(number=number, rows=packed.rows, size=packed.size, sha256=sha256)
        self._folder.write(name, packed.data)
        self._parts.append({"name": name, "rows": packed.rows, "bytes": len(packed.data), "sha256": sha256})
        self.rows += packed.rows
        self.bytes += len(packed.data)
        if self._above is not None:
            self._above.bytes += len(packed.data)

    def close(self) -> None:
        """Write the list of the parts, if there are any, and those of the children before it."""
        for child in self._children.values():
            child.close()
        if self._begun:
            children = {"children": {name: child.rows for name, child in self._children.items()}}
            more = children if self._children else {}
            self._write(COMPLETE, {"rows": self.rows, "parts": self._parts, **more})

    def url(self) -> str | None:
        """Return the URL of the run's folder, or None if no try of the run has written anything."""
        if self._begun:
            return self._run.url
        try:
            return self._run.url if self._run.names() else None
        except ArchiveError as error:
            logger.info("The job can't find out whether an earlier try wrote something: %s", error)
            return self._run.url

    def _write(self, name: str, facts: Mapping[str, Any]) -> None:
        self._folder.write(name, json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n")
