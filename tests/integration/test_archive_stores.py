"""Where archives are kept: stores and disks that hang, refuse or can't do everything."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from fsspec.implementations.memory import MemoryFileSystem

from iam_watcher.archive import storage
from iam_watcher.archive.location import run_folder
from iam_watcher.archive.storage import Folder
from iam_watcher.errors import ArchiveError
from tests.integration.conftest import TaskInstance
from tests.integration.test_archive import UNHURRIED, fill, purge
from tests.integration.test_restore_rows import restore

ARCHIVE = "memory://bucket/iam"


class Store(MemoryFileSystem):
    """An object store that records its requests, and hangs or refuses if it is set to."""

    cachable = False

    def __init__(self):
        super().__init__()
        self.asked = []
        self.refused = set()
        self.meanwhile = lambda name: None

    def _ask(self, verb, path):
        self.asked.append((verb, path.rpartition("/")[2]))
        if verb in self.refused:
            raise PermissionError(errno.EACCES, "Access Denied", path)

    def pipe_file(self, path, value, **kwargs):
        self._ask("put", path)
        self.meanwhile(path.rpartition("/")[2])
        if self.exists(path):
            self._ask("overwrite", path)
        super().pipe_file(path, value, **kwargs)

    def ls(self, path, **kwargs):
        self._ask("list", path)
        return super().ls(path, **kwargs)

    def cat_file(self, path, **kwargs):
        self._ask("read", path)
        return super().cat_file(path, **kwargs)


@pytest.fixture
def store(monkeypatch):
    from airflow.sdk.io.store import _STORE_CACHE, attach

    # Airflow keeps the first one that it is given for a scheme.
    monkeypatch.setitem(_STORE_CACHE, "memory", None)
    store = Store()
    assert attach("memory", fs=store).fs is store
    yield store
    store.refused, store.meanwhile = set(), lambda name: None
    store.rm("/", recursive=True)


def test_rights_to_put_will_do_and_nothing_is_written_twice(iam, perform, store):
    fill(iam, 2500)
    store.refused = {"list", "read", "overwrite"}
    report = perform(purge(ARCHIVE, pace=UNHURRIED))
    assert report["changed"] == 2500
    assert {verb for verb, _ in store.asked} == {"put"}
    names = [name.partition("-")[0] for _, name in store.asked]
    assert names == ["manifest.json", *["part"] * (len(names) - 2), "complete.json"]
    store.refused = {"overwrite"}
    assert perform(restore(ARCHIVE, report["archive"]))["restored"] == 2500


def test_a_try_that_deletes_nothing_succeeds_without_the_right_to_list(iam, perform, store):
    store.refused = {"list"}
    assert perform(purge(ARCHIVE))["error"] is None


def test_an_upload_that_hangs_ends_and_no_locks_are_held_after_it(iam, perform, store, monkeypatch):
    """What the job does at its end may hang as well: by then its transaction is over."""
    fill(iam, 2500)
    monkeypatch.setattr(storage, "WRITE_WITHIN", 0.3)
    over, lockable = threading.Event(), []

    def hang(name):
        if name.startswith("part-000002"):
            over.wait()
        elif name == "complete.json":
            left = iam.column("SELECT id FROM policy_audit")
            lockable.append(iam.rows("SELECT COUNT(*) FROM policy_audit FOR UPDATE NOWAIT") == [(len(left),)])

    store.meanwhile = hang
    ti = TaskInstance("run")
    try:
        with pytest.raises(ArchiveError, match=r"can't write memory://.*part-000002.*no answer within"):
            perform(purge(ARCHIVE, pace=UNHURRIED), ti)
    finally:
        over.set()
    assert lockable == [True]
    report = ti.xcom["return_value"]
    assert report["changed"] + iam.value("SELECT COUNT(*) FROM policy_audit") == 2500


def test_what_hangs_is_left_behind_when_the_process_ends():
    """A process waits at its end for all threads but daemons."""
    asked, over = threading.Event(), threading.Event()

    class Path:
        fs = None

        def __init__(self, url):
            self.url = url

    def hang(path):
        asked.set()
        over.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow.sdk.ObjectStoragePath", Path)
        with pytest.raises(ArchiveError, match="no answer within 0 s"):
            Folder("x://y")._ask("", "list", hang, within=0)
    asked.wait()
    (thread,) = [one for one in threading.enumerate() if one.name == "archive list"]
    over.set()
    thread.join()
    assert thread.daemon


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_connection_that_does_not_exist_is_an_error_before_any_request(iam, perform, store, dry_run):
    fill(iam, 10)
    with pytest.raises(AirflowFailException, match="names the connection 'nobody', which Airflow"):
        perform(purge("memory://nobody@bucket/iam", dry_run=dry_run))
    with pytest.raises(AirflowFailException, match="names the connection 'nobody'"):
        perform(restore("memory://nobody@bucket/iam", "x"))
    assert store.asked == []
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 10


def test_a_file_is_flushed_before_it_has_its_name_and_each_new_name_after(tmp_path, monkeypatch):
    """A transaction commits as soon as this returns, so a power cut must not take the file."""
    fsync, flushed = os.fsync, []

    def flush(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found = [one.name for one in path.iterdir()] if path.is_dir() else path.read_bytes()
        flushed.append((str(path.relative_to(tmp_path)), found))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    Folder(f"file://{tmp_path}/run/try").write("part", b"rows")
    assert flushed == [
        (".", ["run"]),
        ("run", ["try"]),
        ("run/try/.part.unfinished", b"rows"),
        ("run/try", ["part"]),
    ]
    opened = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
    assert [path for path in opened if path.is_relative_to(tmp_path)] == []


@pytest.fixture
def unflushable(monkeypatch):
    """A disk as CIFS and sshfs have it: a folder can't be flushed."""
    fsync = os.fsync

    def flush(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    storage._say_once_that_folders_stay_unflushed.cache_clear()


def test_a_folder_that_cannot_be_flushed_is_said_once(iam, perform, tmp_path, unflushable, caplog):
    fill(iam, 2500)
    report = perform(purge(f"file://{tmp_path}/archive", pace=UNHURRIED))
    assert report["changed"] == 2500
    said = [record for record in caplog.messages if "can't flush folders" in record]
    assert len(said) == 1
    assert "could lose the files that were written last" in said[0]


@pytest.mark.parametrize(
    ("mounts", "executor", "said"),
    [
        ("overlay / overlay rw 0 0", "LocalExecutor", "is on the file system overlay of the worker"),
        ("/dev/a / ext4 rw 0 0\ntmpfs {} tmpfs rw 0 0", "LocalExecutor", "the file system tmpfs of"),
        ("overlay / overlay rw 0 0\n/dev/b {} ext4 rw 0 0", "LocalExecutor", None),
        ("/dev/b {} ext4 rw 0 0\noverlay / overlay rw 0 0", "LocalExecutor", None),
        ("overlay / overlay rw 0 0\n/dev/b / ext4 rw 0 0", "LocalExecutor", None),
        (
            "/dev/a / ext4 rw 0 0",
            "CeleryExecutor",
            r"ext4 of .*\. With CeleryExecutor, tasks also",
        ),
        ("/dev/a / ext4 rw 0 0", "LocalExecutor, my.Executor", "With my.Executor, tasks"),
        ("/dev/a / ext4 rw 0 0\nhost:/x {} nfs4 rw 0 0", "CeleryExecutor", None),
        ("/dev/a / ext4 rw 0 0\nx@y:/x {} fuse.sshfs rw 0 0", "KubernetesExecutor", None),
    ],
)
def test_a_disk_that_only_this_worker_may_see_is_said(tmp_path, monkeypatch, caplog, mounts, executor, said):
    (tmp_path / "mounts").write_text(mounts.format(tmp_path))
    monkeypatch.setattr(storage, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    run_folder(f"file://{tmp_path}/archive", "t", {"ti": TaskInstance("run")})
    assert [bool(re.search(said or "", message)) for message in caplog.messages] == [True] * bool(said)
