"""Rows are archived before they are deleted, also when the worker is killed between the two."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import pytest

import iam_watcher.database.hook  # noqa: F401  else each worker would import it when its time runs already
from iam_watcher.archive.writer import Archive
from iam_watcher.walk.walk import Walk
from tests.integration.conftest import TaskInstance
from tests.integration.test_archive import UNHURRIED, fill, kept, location, purge

pytestmark = pytest.mark.usefixtures("path_for_forks")

__all__ = ["location"]

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.integration.test_archive_kills"])


WAITING = {
    "between archive and commit": (Archive, "add"),
    "between commit and commit": (Walk, "_next_transaction"),
}


def work(location, moment, ready):
    """Delete rows; with a moment to stop at, tell when it is reached and wait to be killed."""

    def stop():
        ready.send(moment)
        ready.recv()

    if moment in WAITING:
        kind, name = WAITING[moment]
        original = getattr(kind, name)
        calls = iter(range(1_000_000))

        def and_stop(self, *arguments):
            original(self, *arguments)
            if next(calls) == 1:
                stop()

        setattr(kind, name, and_stop)
    else:
        ready.send(moment)
    purge(location, pace=UNHURRIED).execute({"ti": TaskInstance("killed")})


def run_url(location):
    (run,) = Path(location.removeprefix("file://"), "policy_audit", "dag").iterdir()
    return f"file://{run}"


def kill(location, moment):
    ours, theirs = FORKS.Pipe()
    worker = FORKS.Process(target=work, args=(location, moment, theirs))
    worker.start()
    theirs.close()
    ours.recv()
    if moment == "any":
        worker.join(random.uniform(0.01, 0.3))
    worker.kill()
    worker.join()


def test_a_kill_between_archive_and_commit_loses_no_row(iam, perform, location):
    fill(iam, 3000)
    kill(location, "between archive and commit")
    left = set(iam.column("SELECT id FROM policy_audit"))
    url = run_url(location)
    before = kept(url)
    assert len(before) + len(left) > 3000, "the last part is in the archive and in the table"
    report = perform(purge(location), TaskInstance("killed", try_number=2))
    assert report["archive"] == url
    assert sorted(kept(url)) == [3 * number for number in range(1, 3001)]
    assert iam.value("SELECT COUNT(*) FROM policy_audit") == 0


def test_kills_at_any_moment_lose_no_row(iam, perform, location):
    rows = 6000
    fill(iam, rows)
    for moment in ["between commit and commit", *["any"] * 8]:
        kill(location, moment)
        left = set(iam.column("SELECT id FROM policy_audit"))
        if Path(location.removeprefix("file://")).exists():
            url = run_url(location)
            assert left | set(kept(url)) == {3 * number for number in range(1, rows + 1)}
    perform(purge(location), TaskInstance("killed", try_number=99))
    assert sorted(kept(url)) == [3 * number for number in range(1, rows + 1)]
