"""Archives: what a job wrote down before its changes were committed, in parts of JSON lines.

The layout below the location that a job is given:

    <table>/<DAG>/<run>/<try>/manifest.json
                              part-000001-<rows>-<bytes>-<SHA-256>.jsonl.gz
                              part-000002-...
                              complete.json

A part holds the rows of one transaction and is durable before that transaction commits. So a crash may
leave a part whose rows were not changed after all, or a row in two parts, and never a change without its
row. `manifest.json` is written before the first part, and `complete.json`, which lists all parts, by a try
that ended in order. A worker that is killed can't write it, so a part's name has its rows, the bytes that
it unpacks to, and its checksum. No file is written twice.

In the format 1, which is still read, the manifest was written again at the end with the list of the parts,
and the names of parts had no bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from isal import isal_zlib

from iam_watcher import arguments
from iam_watcher.archive.storage import Folder
from iam_watcher.errors import ArchiveError, JobArgumentError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.sdk import Context

logger = get_logger(__name__)

FORMAT = 2
MANIFEST, COMPLETE = "manifest.json", "complete.json"
PART = "part-{number:06}-{rows}-{size}-{sha256}.jsonl.gz"

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
    """Return the folder for what this run writes down about a table, whichever of its tries it is.

    Raises:
        JobArgumentError: Airflow has no connection of the id that the location names.
    """
    from airflow.sdk.configuration import conf

    ti = context["ti"]
    deployment = conf.get("iam_watcher", "deployment_id", fallback="")
    whole = "\0".join((deployment, ti.dag_id, ti.run_id, ti.task_id, str(getattr(ti, "map_index", -1))))
    # Run ids have characters that mean something in a URL; the digest tells apart what looks the same then.
    run = f"{_plain(ti.run_id)}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    folder = Folder(location)
    folder.check_connection()
    folder.warn_of_own_disk()
    return folder / _plain(table) / _plain(ti.dag_id) / run


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
            self._write(MANIFEST, {"format": FORMAT, **self._facts})
        sha256 = hashlib.sha256(packed.data).hexdigest()
        number = len(self._parts) + 1
        name = PART.format(number=number, rows=packed.rows, size=packed.size, sha256=sha256)
        self._folder.write(name, packed.data)
        self._parts.append({"name": name, "rows": packed.rows, "bytes": len(packed.data), "sha256": sha256})
        self.rows += packed.rows

    def close(self) -> None:
        """Write the list of the parts, if there are any."""
        if self._parts:
            self._write(COMPLETE, {"rows": self.rows, "parts": self._parts})

    def url(self) -> str | None:
        """Return the URL of the run's folder, or None if no try of the run has written anything."""
        if self._parts:
            return self._run.url
        try:
            return self._run.url if self._run.names() else None
        except ArchiveError as error:
            logger.info("can't find out whether an earlier try wrote something: %s", error)
            return self._run.url

    def _write(self, name: str, facts: Mapping[str, Any]) -> None:
        self._folder.write(name, json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n")


def _plain(text: str) -> str:
    """Return a text as the name of a folder: ".." would be the folder above."""
    return re.sub(r"^\.+|[^A-Za-z0-9._-]+", "_", text)[:100]
