"""Files below a URL, in an object store or a folder: each is there whole and durable, or not at all.

Everything goes through Airflow's ObjectStoragePath, so `s3://connection@bucket/...`, `gs://...` and the
like work with their providers. `file://` is handled here: only so can a file's mode be set and the file
be flushed to the disk. One class has all that a store must promise, and the reasons for each step: hence
the length.
"""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from iam_watcher.errors import ArchiveError, JobArgumentError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import ObjectStoragePath

logger = get_logger(__name__)

LOCAL = ("file", "local")
UNFINISHED = ".unfinished"

# Seconds. While a file is written, a transaction with locks is open.
WRITE_WITHIN = 30
READ_WITHIN = 300

MOUNTS = Path("/proc/mounts")
LOST_WITH_THE_CONTAINER = frozenset({"overlay", "aufs", "tmpfs", "ramfs"})
SHARED = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "gpfs", "9p", "virtiofs", "beegfs"})
EXECUTORS_HERE = frozenset({"LocalExecutor", "SequentialExecutor"})

Result = TypeVar("Result")


@dataclass(frozen=True)
class Folder:
    """A folder, or what an object store has in place of one: a prefix.

    Attributes:
        url: with a scheme; a connection id may stand before the host, as Airflow has it.
    """

    url: str

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url.rstrip('/')}/{name}")

    def check_connection(self) -> None:
        """Find out whether Airflow has the connection that the URL names.

        Without one, some of Airflow's stores would use whatever rights the machine has.

        Raises:
            JobArgumentError: there is none of that id.
        """
        from airflow.sdk import Connection
        from airflow.sdk.exceptions import AirflowNotFoundException

        conn_id, at, _ = urlsplit(self.url).netloc.rpartition("@")
        if not at:
            return
        try:
            Connection.get(conn_id)
        except AirflowNotFoundException as error:
            raise JobArgumentError(
                f"{self.url} names the connection {conn_id!r}, which Airflow doesn't have; create it, or "
                "leave out the id and '@' to use the machine's own credentials"
            ) from error

    def warn_of_own_disk(self) -> None:
        """Log it if only this worker may see the folder, as far as that can be known."""
        if not self.is_local:
            return
        kind = _file_system(Path(urlsplit(self.url).path))
        others = _executors_on_other_machines()
        where = f"{self.url} is on the file system {kind} of the worker {socket.gethostname()}"
        if kind in LOST_WITH_THE_CONTAINER:
            logger.warning(
                "%s, which is lost with the worker's container or at a restart. Use a folder that all "
                "workers mount, or an object store",
                where,
            )
        elif others and kind not in SHARED and not kind.startswith("fuse"):
            logger.warning(
                "%s. With %s, tasks also run on other machines: make sure that all of them mount this folder",
                where,
                ", ".join(others),
            )

    def is_inside(self, top: Folder) -> bool:
        """Return whether it lies below another, links followed; an object store has no links."""
        if not self.is_local:
            return True
        path, limit = (Path(urlsplit(one.url).path).resolve() for one in (self, top))
        return path.is_relative_to(limit)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder that this machine sees as one."""
        return urlsplit(self.url).scheme in LOCAL

    @property
    def seen_from(self) -> str:
        """For messages: the worker on whose disk it is; "" for a store, which is the same for all."""
        return f" (on the disk of the worker {socket.gethostname()})" if self.is_local else ""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, mode 0600 where files have one; it is durable when this returns.

        Raises:
            ArchiveError: it could not be written within WRITE_WITHIN; a file of that name that was there
                before still is.
        """

        def write(path: ObjectStoragePath) -> None:
            if path.protocol in LOCAL:
                _write_local(Path(path.path), data)
            else:
                path.fs.pipe_file(path.path, data)

        self._ask(name, "write", write, within=WRITE_WITHIN)

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Raises:
            ArchiveError: it could not be read within READ_WITHIN.
        """
        return self._ask(name, "read", lambda path: bytes(path.fs.cat_file(path.path)), within=READ_WITHIN)

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            ArchiveError: it could not be removed within WRITE_WITHIN.
        """
        self._ask(name, "remove", lambda path: path.fs.rm_file(path.path), within=WRITE_WITHIN)

    def names(self) -> list[str]:
        """Return the names of what is in it, sorted; none if there is no such folder.

        Raises:
            ArchiveError: the store can't be asked.
        """

        def names(path: ObjectStoragePath) -> list[str]:
            try:
                # A store's client may remember what it saw here before others wrote.
                path.fs.invalidate_cache()
                found = path.fs.ls(path.path, detail=False)
            except FileNotFoundError:
                return []
            return sorted({entry.rstrip("/").rpartition("/")[2] for entry in found})

        return self._ask("", "list", names, within=READ_WITHIN)

    def _ask(
        self, name: str, verb: str, work: Callable[[ObjectStoragePath], Result], *, within: float
    ) -> Result:
        """Return what `work` returns, or give up on it: a store that hangs must not hold a transaction."""
        from airflow.sdk import ObjectStoragePath

        url = (self / name).url if name else self.url
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(work(path))
            except BaseException as error:  # noqa: BLE001  goes to the thread that waits
                future.set_exception(error)

        try:
            path = ObjectStoragePath(url)
            path.fs  # noqa: B018  asks Airflow for the connection, which is this thread's business
            # A daemon: a process that ends does not wait for it.
            threading.Thread(target=run, name=f"archive {verb}", daemon=True).start()
            wait([future], timeout=within)
            if future.done():
                return future.result()
        except Exception as error:
            # Each store has errors of its own.
            raise ArchiveError(f"can't {verb} {url}: {type(error).__name__}: {error}") from error
        raise ArchiveError(f"can't {verb} {url}: no answer within {within:g} s")


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path is on, or will be; "unknown" where Linux doesn't say."""
    path, found = path.resolve(), ("", "unknown")
    with suppress(OSError):
        for line in MOUNTS.read_text().splitlines():
            _, mounted_at, kind, *_ = line.split()
            # The last of several at one place is the one on top.
            if path.is_relative_to(mounted_at) and len(mounted_at) >= len(found[0]):
                found = mounted_at, kind
    return found[1]


def _executors_on_other_machines() -> list[str]:
    from airflow.sdk.configuration import conf

    configured = (conf.get("core", "executor", fallback="") or "").split(",")
    return [name for one in configured if (name := one.strip()) and name not in EXECUTORS_HERE]


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
    """Flush a folder, so that a crash of the machine can't lose the names in it, where that is possible."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        _say_once_that_folders_stay_unflushed(str(error))


@cache
def _say_once_that_folders_stay_unflushed(error: str) -> None:
    logger.warning(
        "The file system of the archive can't flush folders (%s). The job continues, but a crash of that "
        "machine could lose the files that were written last.",
        error,
    )
