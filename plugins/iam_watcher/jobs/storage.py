"""Files below a URL, in an object store or a folder: each is there whole and durable, or not at all.

Everything goes through Airflow's ObjectStoragePath, so `s3://connection@bucket/...`, `gs://...` and the
like work with their providers. `file://` is handled here: only so can a file's mode be set and the file
be flushed to the disk.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iam_watcher.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import ObjectStoragePath

LOCAL = ("file", "local")
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Folder:
    """A folder, or what an object store has in place of one: a prefix.

    Attributes:
        url: with a scheme; a connection id may stand before the host, as Airflow has it.
    """

    url: str

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url.rstrip('/')}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Write a file, mode 0600 where files have one; it is durable when this returns.

        Raises:
            ArchiveError: it could not be written; a file of that name that was there before still is.
        """
        with self._path(name, "write") as path:
            if path.protocol in LOCAL:
                _write_local(Path(path.path), data)
            else:
                path.fs.pipe_file(path.path, data)

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Raises:
            ArchiveError: it could not be read.
        """
        with self._path(name, "read") as path:
            return bytes(path.fs.cat_file(path.path))

    def names(self) -> list[str]:
        """Return the names of what is in it, sorted; none if there is no such folder.

        Raises:
            ArchiveError: the store can't be asked.
        """
        with self._path("", "list") as path:
            try:
                # A store's client may remember what it saw here before others wrote.
                path.fs.invalidate_cache()
                found = path.fs.ls(path.path, detail=False)
            except FileNotFoundError:
                return []
            return sorted({entry.rstrip("/").rpartition("/")[2] for entry in found})

    @contextmanager
    def _path(self, name: str, verb: str) -> Iterator[ObjectStoragePath]:
        from airflow.sdk import ObjectStoragePath

        url = (self / name).url if name else self.url
        try:
            yield ObjectStoragePath(url)
        except Exception as error:
            # Each store has errors of its own.
            raise ArchiveError(f"can't {verb} {url}: {type(error).__name__}: {error}") from error


def _write_local(path: Path, data: bytes) -> None:
    _make_folder(path.parent)
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    _flush_folder(path.parent)


def _make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, so that a crash of the machine can't lose them."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _flush_folder(path.parent)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
