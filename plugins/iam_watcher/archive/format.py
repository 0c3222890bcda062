"""The format of an archive: files, their names, and what the files have in them.

Below the location that a job is given, each try of a run has a folder:

    <table>/<DAG>/<run>/<try>/manifest.json
                              part-000001-<rows>-<bytes>-<SHA-256>.jsonl.gz
                              part-000002-...
                              complete.json

A part holds the rows of one transaction, as compressed JSON lines, and is durable before that transaction
commits. So a crash may leave a part whose rows were not changed after all, or a row in two parts, and never
a change without its row. `manifest.json` is written before the first part. `complete.json` lists all parts;
a try that ended in order writes it last. A worker that is killed can't write it, so a part's name has the
number of its rows, the bytes that it unpacks to, and its checksum. No file is written twice.

The rows of child tables, which are deleted with the rows of a table, are in the folder of the same try. Each
child table has a folder of such files there, `children/<table>/`. The manifest above names these tables in
`children`, in an order in which their rows can be restored. It is written before their first part.
`complete.json` has the number of rows of each.

In the format 1, which is still read, the manifest was written again at the end with the list of the parts,
and the names of parts had no bytes.

An undo record and the list of a dry run have the same format; `kind` in the manifest tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  msgspec reads the annotations
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec

from iam_watcher.errors import ArchiveDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 2
MANIFEST, COMPLETE = "manifest.json", "complete.json"
CHILDREN = "children"
PART = "part-{number:06}-{rows}-{size}-{sha256}.jsonl.gz"
PART_NAME = re.compile(r"part-([0-9]{6,})-([0-9]+)-(?:([0-9]+)-)?([0-9a-f]{64})\.jsonl\.gz")


class ArchiveKind(StrEnum):
    """What an archive has rows of, as `kind` in its manifest names it."""

    DELETED_ROWS = "rows"
    CHANGED_ROWS = "changed_rows"
    DISABLED_USERS = "disabled_users"
    DRY_RUN = "dry_run"


class BelongsTo(msgspec.Struct):
    """How the rows of a child table belong to those of another table of the archive.

    Attributes:
        table: of the child.
        to: the table of its parents.
        columns: column of the child → column of the parent.
    """

    table: str
    to: str
    columns: dict[str, str]


class Facts(msgspec.Struct):
    """What every manifest has, as its types are checked; each kind has more."""

    format: int
    kind: str
    table: str
    key: str | list[str]
    now: Annotated[datetime, msgspec.Meta(tz=True)]
    columns: dict[str, str] = {}
    redacted: list[str] = []
    children: list[str] = []
    belongs_to: list[BelongsTo] = []


class PartFacts(msgspec.Struct):
    """A part in the list of a try that ended in order."""

    name: str


class Completion(msgspec.Struct):
    """What such a try wrote at its end."""

    parts: list[PartFacts]
    children: dict[str, int] = {}


class OldManifest(msgspec.Struct):
    """What the manifest of the format 1 has besides: the list is in it."""

    complete: bool
    parts: list[PartFacts] = []


@dataclass(frozen=True)
class Part:
    """A part as its name has it.

    Attributes:
        name: of the file.
        number: of the part, from 1.
        rows: in it.
        size: bytes that it unpacks to; None in the format 1.
        sha256: of the file, in hexadecimal digits.
    """

    name: str
    number: int
    rows: int
    size: int | None
    sha256: str


def child_folder(table: str) -> str:
    """Return the name of the folder of a child table: in it, other characters than these could mean more."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f".{ord(found[0]):x}.", table)


def parts_among(names: Sequence[str]) -> list[Part]:
    """Return the parts among the names of files, by number.

    Raises:
        ArchiveDamaged: a name begins as that of a part, and is none.
    """
    found = []
    for name in names:
        match = PART_NAME.fullmatch(name)
        if match is not None:
            number, rows, size, sha256 = match.groups()
            found.append(Part(name, int(number), int(rows), None if size is None else int(size), sha256))
        elif name.startswith("part-"):
            raise ArchiveDamaged(f"{name!r} is not the name of a part: was it renamed?")
    return sorted(found, key=lambda part: (part.number, part.name))
