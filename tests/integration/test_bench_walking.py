"""The benchmarks run the jobs as users do: with a record of each row, and with log lines."""

from __future__ import annotations

import json

import pytest

from bench import walking
from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

pytestmark = pytest.mark.usefixtures("airflow_db")  # where the jobs look for Variables

LONG_AGO = "UTC_TIMESTAMP() - INTERVAL 181 DAY"


@pytest.fixture
def users(iam):
    iam.run(
        "INSERT INTO user (name, nickname, password, email, loginedAt, createdAt)"
        f" SELECT name, '', '', '', {LONG_AGO}, {LONG_AGO} FROM (SELECT 'ann' AS name UNION SELECT 'bob') u"
    )


def operator(**options):
    return DisableInactiveUsersOperator(task_id="disable", max_inactive_days=180, max_share=1, **options)


def logged(server):
    (log,) = server.folder.glob("job-*.log")
    return [json.loads(line)["event"] for line in log.read_text().splitlines()]


def test_without_an_undo_record_the_names_are_in_the_log_and_not_on_the_terminal(
    iam, iam_schema, users, capfd
):
    assert walking.walk(iam_schema, operator(undo_location="none")) > 0
    assert iam.column("SELECT status FROM user") == [0, 0]
    assert "Disabling these users, without an undo record: 'ann', 'bob'" in logged(iam_schema)
    assert capfd.readouterr() == ("", "")


def test_an_undo_record_has_the_users(iam, iam_schema, users, tmp_path):
    report = walking.perform(iam_schema, operator(undo_location=tmp_path.as_uri()))
    (record,) = reader.find(report["undo_record"], kind=ArchiveKind.DISABLED_USERS)
    assert sorted(row["name"] for row in record.rows()) == ["ann", "bob"]


def test_a_job_that_may_not_write_does_not_seem_fast(iam, iam_schema, users):
    with pytest.raises(JobArgumentError, match="undo_location"):
        walking.walk(iam_schema, operator())
    assert iam.column("SELECT status FROM user") == [1, 1]


def test_an_archive_has_the_deleted_rows(iam, iam_schema, tmp_path):
    iam.run(
        "INSERT INTO policy_audit (id, name, username, policyShadow, deletedAt)"
        f" VALUES (7, 'n', 'u', 'p', {LONG_AGO})"
    )
    purge = PurgeRowsOperator(
        task_id="purge",
        table="policy_audit",
        age_column="deletedAt",
        older_than_days=180,
        archive=tmp_path.as_uri(),
    )
    report = walking.perform(iam_schema, purge)
    assert (report["changed"], iam.column("SELECT id FROM policy_audit")) == (1, [])
    (written,) = reader.find(report["archive"], kind=ArchiveKind.DELETED_ROWS)
    assert [row["id"] for row in written.rows()] == [7]
