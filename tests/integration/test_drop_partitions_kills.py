"""A worker that is killed while it drops partitions loses no row, and the next run completes its work."""

from __future__ import annotations

import os

import pytest

from iam_watcher.archive.writer import Archive
from iam_watcher.database.detached_table import DetachedTable, detached_name
from tests.integration.conftest import TaskInstance
from tests.integration.forks import FORKS
from tests.integration.partitioned import (
    EACH,
    OLD,
    YOUNG,
    archived,
    create,
    fill,
    ids,
    partitions,
    purge,
    tables,
)

pytestmark = [pytest.mark.every_server, pytest.mark.usefixtures("path_for_forks")]

# When the worker is killed: before or after which call of a method.
MOMENTS = {
    "after CREATE": (DetachedTable, "create", "after", 1),
    "after EXCHANGE": (DetachedTable, "exchange", "after", 1),
    "within the archive": (Archive, "add", "after", 2),
    "before DROP TABLE": (DetachedTable, "drop", "before", 1),
    "after DROP TABLE": (DetachedTable, "drop", "after", 1),
    "after DROP PARTITION": (DetachedTable, "drop_partition", "after", 1),
    "after the second EXCHANGE": (DetachedTable, "exchange", "after", 2),
}


def work(environment, location, moment, ready):
    """Drop partitions up to a moment, say so, and wait to be killed."""
    os.environ.update(environment)
    owner, name, when, call = MOMENTS[moment]
    original, calls = getattr(owner, name), iter(range(1, 1_000_000))

    def stop():
        ready.send(moment)
        ready.recv()

    def changed(*arguments):
        is_it = next(calls) == call
        if is_it and when == "before":
            stop()
        result = original(*arguments)
        if is_it and when == "after":
            stop()
        return result

    setattr(owner, name, changed)
    # Two parts for each partition.
    from iam_watcher.walk import record

    class Small(record.ChunkSize):
        def __init__(self, target):
            super().__init__(target, rows=EACH // 2, span=EACH)

        def wrote(self, rows, seconds):
            pass

    record.ChunkSize = Small
    purge(archive=location).execute({"ti": TaskInstance("killed")})


@pytest.mark.parametrize(
    ("moment", "keeps"),
    [(moment, True) for moment in MOMENTS]
    + [(moment, False) for moment in MOMENTS if "archive" not in moment],
)
def test_a_kill_between_two_steps_loses_no_row(scratch, perform, tmp_path, moment, keeps):
    create(scratch)
    fill(scratch)
    everyone, young = set(range(1, OLD + YOUNG + 1)), set(range(OLD + 1, OLD + YOUNG + 1))
    location = f"file://{tmp_path}" if keeps else None
    ours, theirs = FORKS.Pipe()
    worker = FORKS.Process(target=work, args=(dict(os.environ), location, moment, theirs))
    worker.start()
    theirs.close()
    assert ours.recv() == moment
    worker.kill()
    worker.join()

    found = ids(scratch)
    if detached_name("t") in tables(scratch):
        found |= set(scratch.column(f"SELECT id FROM {detached_name('t')}"))
    gone = everyone - found
    if keeps:
        assert gone <= archived(tmp_path)
    assert gone == (set(range(1, EACH + 1)) if moment in GONE else set())

    report = perform(purge(archive=location), TaskInstance("killed", try_number=2))
    assert ids(scratch) == young
    assert (partitions(scratch), tables(scratch)) == (["later"], ["t"])
    assert report["changed"] == OLD - len(gone)
    assert archived(tmp_path) == (everyone - young if keeps else set())


# Then the rows of the first partition are gone.
GONE = {"after DROP TABLE", "after DROP PARTITION", "after the second EXCHANGE"}
