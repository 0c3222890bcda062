"""Archives: what a job wrote down before its changes were committed, in parts of JSON lines.

The layout below the location that a job is given:

    <table>/<DAG>/<run>/<try>/manifest.json
                              part-000001-<rows>-<SHA-256>.jsonl.gz
                              part-000002-...

A part holds the rows of one transaction and is durable before that transaction commits. So a crash may
leave a part whose rows were not changed after all, or a row in two parts, and never a change without its
row. A part's name has its own checksum, because a worker that is killed can't complete the manifest; the
manifest of a try that ended in order lists all parts.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from iam_watcher.errors import ArchiveDamaged, JobArgumentError
from iam_watcher.jobs import arguments
from iam_watcher.jobs.storage import Folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from airflow.sdk import Context

Row = dict[str, Any]

FORMAT = 1
MANIFEST = "manifest.json"
PART = "part-{number:06}-{rows}-{sha256}.jsonl.gz"
PART_NAME = re.compile(r"part-([0-9]{6,})-([0-9]+)-([0-9a-f]{64})\.jsonl\.gz")

# Level of compression: the transaction waits for it. Intel's library, which is quick on other processors
# too, needs a quarter of the time of zlib, and that was most of what an archive cost.
QUICK = 1


def configured_location() -> str | None:
    """Return `[iam_watcher] archive`, the location of reports and archives, or None if it is empty."""
    from airflow.sdk.configuration import conf

    value = conf.get("iam_watcher", "archive", fallback="") or None
    return arguments.location("[iam_watcher] archive", value)


def location_or_configured(value: object) -> str:
    """Return an operator's location or, if it has none, the configured one.

    Raises:
        JobArgumentError: there is neither.
    """
    location = arguments.location("archive", value) or configured_location()
    if location is None:
        raise JobArgumentError(
            "archive is None, and [iam_watcher] archive is empty; set one of them to a URL such as "
            "'s3://connection@bucket/folder'"
        )
    return location


def run_folder(location: str, table: str, context: Context) -> Folder:
    """Return the folder for what this run writes down about a table, whichever of its tries it is."""
    from airflow.sdk.configuration import conf

    ti = context["ti"]
    deployment = conf.get("iam_watcher", "deployment_id", fallback="")
    whole = "\0".join((deployment, ti.dag_id, ti.run_id, ti.task_id, str(getattr(ti, "map_index", -1))))
    # Run ids have characters that mean something in a URL; the digest tells apart what looks the same then.
    run = f"{_plain(ti.run_id)}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return Folder(location) / table / _plain(ti.dag_id) / run


@dataclass(frozen=True)
class Packed:
    """Rows as a part has them: how many, and their compressed lines, a JSON object each."""

    rows: int
    data: bytes


def compressor() -> Any:
    """Return what makes a gzip of bytes piece by piece; several gzips behind each other are one again."""
    return isal_zlib.compressobj(QUICK, isal_zlib.DEFLATED, isal_zlib.MAX_WBITS | 16)


def compress(lines: Iterable[bytes]) -> bytes:
    """Return a gzip of JSON lines."""
    gzip = compressor()
    return b"".join([*(gzip.compress(line) for line in lines), gzip.flush()])


class Archive:
    """What one try of a run writes down; its files come into being with its first rows.

    Args:
        run: the folder of the run.
        facts: of the manifest: `kind`, `table`, `now` (the database's) and what else a reader needs.

    Attributes:
        rows: how many were written.
    """

    def __init__(self, run: Folder, facts: Mapping[str, Any]) -> None:
        self.rows = 0
        self._run = run
        self._facts = dict(facts)
        # Made by the try, not its number: a cleared task begins to count anew.
        self._folder = run / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
        self._parts: list[dict[str, Any]] = []

    def add(self, packed: Packed) -> None:
        """Write rows as a part; they are durable when this returns.

        Raises:
            ArchiveError: they could not be written.
        """
        if not self._parts:
            self._write_manifest(complete=False)
        sha256 = hashlib.sha256(packed.data).hexdigest()
        name = PART.format(number=len(self._parts) + 1, rows=packed.rows, sha256=sha256)
        self._folder.write(name, packed.data)
        self._parts.append({"name": name, "rows": packed.rows, "bytes": len(packed.data), "sha256": sha256})
        self.rows += packed.rows

    def close(self) -> None:
        """Complete the manifest, if there is one."""
        if self._parts:
            self._write_manifest(complete=True)

    def url(self) -> str | None:
        """Return the URL of the run's folder, or None if no try of the run has written anything."""
        return self._run.url if self._parts or self._run.names() else None

    def _write_manifest(self, *, complete: bool) -> None:
        facts = {"format": FORMAT, **self._facts, "complete": complete}
        if complete:
            facts |= {"rows": self.rows, "parts": self._parts}
        self._folder.write(MANIFEST, json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n")


@dataclass(frozen=True)
class Written:
    """What one try has written down, as a reader finds it.

    Attributes:
        folder: of the try.
        manifest: its facts.
        parts: the names of the parts, first to last.
    """

    folder: Folder
    manifest: Mapping[str, Any]
    parts: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether the try ended in order, so that a part that is gone would be missed."""
        return bool(self.manifest["complete"])

    @property
    def began(self) -> datetime:
        """The database's time when the try began."""
        return datetime.fromisoformat(self.manifest["now"])

    def read(self, part: str) -> list[Row]:
        """Return the rows of a part.

        Raises:
            ArchiveDamaged: it is not what was written.
            ArchiveError: it can't be read.
        """
        _, rows, sha256 = _part(part).groups()
        data = self.folder.read(part)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise ArchiveDamaged(f"{self.folder.url}/{part} has the SHA-256 {found}; expected {sha256}")
        lines = [json.loads(line) for line in gzip.decompress(data).split(b"\n") if line]
        if len(lines) != int(rows):
            raise ArchiveDamaged(f"{self.folder.url}/{part} has {len(lines)} rows; expected {rows}")
        return lines

    def newest_first(self) -> Iterator[list[Row]]:
        """Return the rows, part by part, the last part first: of a row in two parts the newer one counts."""
        return (self.read(part) for part in reversed(self.parts))


def find(url: str, *, kind: str) -> list[Written]:
    """Return what is written down at a run's or a try's folder, the last try first.

    Args:
        url: of the folder.
        kind: that is expected.

    Raises:
        JobArgumentError: there is nothing.
        ArchiveDamaged: parts are missing, or a manifest is not one of ours.
        ArchiveError: it can't be read.
    """
    folder = Folder(url)
    names = folder.names()
    tries = [folder] if MANIFEST in names else [folder / name for name in names]
    found = [_find(one, one.names()) for one in tries if MANIFEST in one.names()]
    if not found:
        raise JobArgumentError(
            f"{url} has no {MANIFEST}, nor has a folder in it; expected the folder that a report names"
        )
    for written in found:
        if written.manifest.get("kind") != kind:
            raise ArchiveDamaged(
                f"{written.folder.url} has {written.manifest.get('kind')!r}; expected {kind!r}"
            )
    return sorted(found, key=lambda written: written.began, reverse=True)


def verify(found: Iterable[Written]) -> int:
    """Read all parts and return how many rows they have.

    Raises:
        ArchiveDamaged: a part is not what was written.
    """
    return sum(len(rows) for written in found for rows in written.newest_first())


def _find(folder: Folder, names: Sequence[str]) -> Written:
    try:
        manifest = json.loads(folder.read(MANIFEST))
        if manifest["format"] != FORMAT:
            raise ArchiveDamaged(f"{folder.url} has the format {manifest['format']!r}; expected {FORMAT}")
        datetime.fromisoformat(manifest["now"])
        listed = [part["name"] for part in manifest["parts"]] if manifest["complete"] else []
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveDamaged(f"{folder.url}/{MANIFEST} is not one of ours: {error!r}") from error
    parts = sorted(
        (name for name in names if PART_NAME.fullmatch(name)), key=lambda name: int(_part(name)[1])
    )
    numbers = [int(_part(name)[1]) for name in parts]
    # A part behind the listed ones was stored without an answer: no rows were changed with it.
    if numbers != list(range(1, len(parts) + 1)) or parts[: len(listed)] != listed:
        raise ArchiveDamaged(
            f"{folder.url} has the parts {numbers}; expected 1 to {len(listed or parts)} without a gap, "
            f"as {MANIFEST} has them"
        )
    return Written(folder, manifest, parts)


def _part(name: str) -> re.Match[str]:
    match = PART_NAME.fullmatch(name)
    if match is None:
        raise ArchiveDamaged(f"{name!r} is not the name of a part")
    return match


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:100]
