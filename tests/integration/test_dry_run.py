"""What a dry run leaves for the one who decides: names, the whole list, and what the real run would do."""

from __future__ import annotations

import re

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.archive.format import ArchiveKind
from iam_watcher.archive.reader import find
from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import Transactions
from iam_watcher.errors import ArchiveError, JobArgumentError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator
from iam_watcher.jobs.table_job import dry_run
from iam_watcher.walk.pace import ChunkSize
from tests.integration.conftest import TaskInstance
from tests.integration.test_disable_users import disable, half_of_ten, user

OLD = "UTC_TIMESTAMP() - INTERVAL 200 DAY"


@pytest.fixture
def location(tmp_path, monkeypatch):
    url = f"file://{tmp_path}/archive"
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", url)
    return url


def listed(report):
    return [
        row
        for one in find(report["listed"], kind=ArchiveKind.DRY_RUN)
        for part in one.parts
        for row in one.read(part)
    ]


def test_the_examples_have_names_and_the_list_has_everybody(iam, perform, location, monkeypatch):
    monkeypatch.setattr("iam_watcher.walk.count.ChunkSize", lambda _: ChunkSize(1e-9, 1, 7))
    monkeypatch.setattr("iam_watcher.walk.pace.LEAST_SPAN", 7)
    monkeypatch.setattr(dry_run, "PART_ROWS", 10)
    users = [f"inactive-{number} é" for number in range(40)]
    for name in users:
        user(iam, name, logined=OLD)
        user(iam, f"active since {name}", logined="UTC_TIMESTAMP()")
    report = perform(disable(dry_run=True, undo_location=None))
    assert report["listed"].startswith(f"{location}/dry-runs/user/dag/run-")
    rows = listed(report)
    assert [row["name"] for row in rows] == users
    assert rows[:5] == report["examples"]
    assert [row["key"] for row in rows] == iam.column(
        "SELECT id FROM user WHERE name LIKE 'inactive-%%' ORDER BY id"
    )
    assert {round(row["age_days"]) for row in rows} == {200}
    assert len(find(report["listed"], kind=ArchiveKind.DRY_RUN)[0].parts) > 1


def test_reads_rest_and_ask_the_throttle_as_writes_do(iam, perform, location, monkeypatch):
    user(iam, "inactive", logined=OLD)
    user(iam, "due", logined="UTC_TIMESTAMP() - INTERVAL 178 DAY")
    throttled, rests = [], []
    monkeypatch.setattr(Throttler, "wait", lambda *_, **__: throttled.append("asked"))
    monkeypatch.setattr(Transactions, "sleep", lambda _, seconds: rests.append(seconds))
    report = perform(disable(dry_run=True, undo_location=None, warn_days=[7], pace="polite"))
    assert (report["matched"], report["also"]["due_in_7_days"]) == (1, 1)
    # One chunk of the count, and one of the search for the users who are due.
    assert (len(throttled), len(rests)) == (2, 2)
    assert min(rests) > 0


def test_a_table_without_names_is_listed_by_its_keys(scratch, perform, location):
    scratch.run("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME NOT NULL, name BLOB)")
    scratch.run(f"INSERT INTO t VALUES (1, {OLD}, 'x'), (7, {OLD}, 'y')")
    job = PurgeRowsOperator(
        task_id="purge",
        table="t",
        age_column="at",
        older_than_days=10,
        dry_run=True,
        mysql_conn_id="scratch",
    )
    report = perform(job)
    assert [sorted(row) for row in listed(report)] == [["age_days", "key", "since"]] * 2
    assert [row["key"] for row in report["examples"]] == [1, 7]


def test_a_list_is_not_taken_for_an_archive_and_lies_beside_none(iam, perform, location):
    """Also if the run is cleared and is a real one then."""
    user(iam, "inactive")
    run = TaskInstance("run")
    dry = perform(disable(dry_run=True, undo_location=None), run)
    real = perform(disable(undo_location=None), run)
    assert len(find(real["undo_record"], kind="disabled_users")) == 1
    with pytest.raises(JobArgumentError, match="has 'dry_run'; expected 'disabled_users'"):
        find(dry["listed"], kind="disabled_users")
    restore = RestoreRowsOperator(task_id="restore", path=dry["listed"], tables=["user"])
    with pytest.raises(AirflowFailException, match="'dry_run'"):
        restore.execute({"ti": run})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"undo_location": None}, "write its undo record below {location}"),
        ({"max_share": 0.3}, "be stopped by the safety limit: 5 of 10, more than max_share=0.3"),
        ({"undo_location": "none"}, "write no undo record: users can be re-enabled only by name"),
    ],
)
def test_it_says_what_would_become_of_the_real_run(iam, perform, location, options, expected, caplog):
    half_of_ten(iam)
    with caplog.at_level("INFO"):
        report = perform(disable(dry_run=True, exempt_names=["svc-*"], **options))
    assert report["real_run"] == [expected.format(location=location)]
    assert f"The real run would {expected.format(location=location)}" in caplog.messages


def test_it_says_that_the_user_limit_would_end_the_real_run(iam, perform, location):
    half_of_ten(iam)
    report = perform(disable(dry_run=True, exempt_names=["svc-*"], max_rows=3))
    assert report["real_run"][0] == "change 3 of them (row limit); later runs change the rest"


def test_it_says_that_the_real_run_would_fail_without_a_location(iam, perform, caplog):
    user(iam, "inactive")
    with caplog.at_level("INFO"):
        report = perform(disable(dry_run=True, undo_location=None))
    assert report["listed"] is None
    (why,) = report["real_run"]
    assert why.startswith("fail before its first write: undo_location is not set")
    assert "Dry run: 1 of 1 users would be disabled in" in caplog.text
    assert "there is no list of them" in caplog.text


def test_its_log_lines_are_short_and_have_the_names(iam, perform, location, caplog):
    for number in range(3):
        user(iam, f"eve {number}\n2026 INFO", logined=OLD)
    user(iam, "admin", admin=1)
    with caplog.at_level("INFO"):
        perform(disable(dry_run=True, undo_location=None))
    said = next(line for line in caplog.messages if line.startswith("Dry run: "))
    assert re.match(r"Dry run: 3 of 4 users would be disabled \(1 admin left alone\) in [\d.]+ s", said)
    examples = [line for line in caplog.messages if line.startswith("example: ")]
    assert [line.split(" since=")[0] for line in examples] == [
        f'example: key={key} name="eve {number}\\n2026 INFO"' for number, key in enumerate((1, 2, 3))
    ]
    assert f"List of all of them: {location}/dry-runs/user/dag/run-" in caplog.text
    assert max(len(line) for line in caplog.messages if location not in line) <= 130


def test_a_list_that_cannot_be_written_fails_the_dry_run(iam, perform, tmp_path, monkeypatch):
    user(iam, "inactive")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}/file")
    with pytest.raises(ArchiveError):
        perform(disable(dry_run=True, undo_location=None))


def test_a_restore_and_a_re_enabling_are_reported_in_the_same_way(
    iam, perform, location, caplog, redis_client
):
    user(iam, "inactive", logined=OLD)
    iam.run(f"INSERT INTO policy_audit (id, name, username, deletedAt) VALUES (1, 'a', 'u', {OLD})")
    users = perform(disable(undo_location=None))
    job = {"task_id": "t", "table": "policy_audit", "age_column": "deletedAt", "older_than_days": 180}
    rows = perform(PurgeRowsOperator(archive="configured", **job))
    with caplog.at_level("INFO"):
        for _ in range(2):
            perform(ReenableUsersOperator(task_id="t", undo_record=users["undo_record"]))
            perform(RestoreRowsOperator(task_id="t", path=rows["archive"], tables=["policy_audit"]))
    assert "1 of 1 users were re-enabled" in caplog.messages
    assert "0 of 1 users were re-enabled (1 enabled already left alone)" in caplog.messages
    assert "1 of 1 rows of policy_audit were restored" in caplog.messages
    assert "0 of 1 rows of policy_audit were restored (1 that exists left alone)" in caplog.messages
    assert f"Verifying the archive {rows['archive']}" in caplog.messages
    assert any(line.startswith("event=run_report table=policy_audit") for line in caplog.messages)
    assert "example: name=inactive why=enabled_already" in caplog.messages
