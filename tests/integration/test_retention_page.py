"""The examples of docs/retention.md delete and change the rows that the page says."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from iam_watcher.jobs.reenable_users import ReenableUsersOperator
from iam_watcher.jobs.restore_rows import RestoreRowsOperator

PAGE = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {name: dict(BLOCK.findall(text)) for name, text in SECTION.findall(PAGE)}

NOW = datetime.now(UTC)


def ago(**period):
    return (NOW - timedelta(**period)).replace(tzinfo=None)


def unix(moment, parts=1):
    return int(moment.replace(tzinfo=UTC).timestamp() * parts)


def uuid7(moment):
    return uuid.UUID(int=unix(moment, 1000) << 80 | 7 << 76 | 2 << 62).bytes


# Section → rows without their keys, which are 1, 2, …; keys that are left.
ROWS: dict[str, tuple[dict[str, list[tuple[Any, ...]]], dict[str, list[int]]]] = {
    "Sessions": (
        {"session": [(1, 0), (1, unix(ago(hours=35))), (1, unix(ago(hours=37))), (1, unix(ago(days=-1)))]},
        {"session": [1, 2, 4]},
    ),
    "Audit log": (
        {
            "audit_log": [
                *[("debug", ago(days=2)), ("debug", ago(days=4)), ("info", ago(days=4))],
                *[
                    ("info", ago(days=31)),
                    ("error", ago(days=300)),
                    ("error", ago(days=400)),
                    (None, ago(days=400)),
                ],
            ]
        },
        {"audit_log": [1, 3, 5]},
    ),
    "Event store": (
        {"event": [(uuid7(ago(days=170)), "{}"), (uuid7(ago(days=190)), "{}"), (uuid.uuid4().bytes, "{}")]},
        {"event": [1, 3]},
    ),
    "Queue table": (
        {
            "job": [
                *[("done", 1, unix(ago(days=6), 1000)), ("done", 1, unix(ago(days=8), 1000))],
                *[("failed", 4, unix(ago(days=8), 1000)), ("failed", 5, unix(ago(days=8), 1000))],
                *[("new", 5, unix(ago(days=8), 1000)), ("done", 1, None)],
            ]
        },
        {"job": [1, 3, 5, 6]},
    ),
    "Rows of a day": (
        {"visit": [(int(f"{ago(days=88):%Y%m%d}"), ""), (int(f"{ago(days=92):%Y%m%d}"), ""), (20201301, "")]},
        {"visit": [1, 3]},
    ),
    "Partitions": (
        {"page_view": [("2020-05-05", ""), ("2021-05-05", ""), ("2022-05-05", ""), (ago(days=300), "")]},
        {"page_view": [4]},
    ),
    "Revisions": (
        {
            "revision": [(n % 2, ago(days=n)) for n in range(20, 60, 2)]
            + [(7, ago(days=n)) for n in range(40, 47)]
        },
        {"revision": [1, 2, 3, 4, 5, 21, 22, 23, 24, 25]},
    ),
    "The newest rows": (
        {"metric": [(ago(minutes=n), 0) for n in range(1, 1051)]},
        {"metric": [*range(1, 1001)]},
    ),
    "Soft delete": (
        {"message": [(ago(days=300), None), (ago(days=400), None), (ago(days=500), ago(days=40))]},
        {"message": [1, 2], "message WHERE deleted_at IS NOT NULL": [2]},
    ),
    "Personal data": (
        {
            "customer": [
                ("a", "A", ago(days=800), None),
                ("b", "B", ago(days=700), None),
                ("c", "C", None, None),
            ]
        },
        {
            "customer": [1, 2, 3],
            "customer WHERE email IS NULL AND LENGTH(name) = 64 AND anonymized_at > 0": [1],
        },
    ),
    "Parents and children": (
        {
            "orders": [(ago(days=4000),), (ago(days=4000),), (ago(days=10),)],
            "order_line": [(1,), (2,), (3,), (1,)],
            "line_event": [(4,), (3,), (4,), (9,)],
        },
        {"orders": [3], "order_line": [3], "line_event": [2, 4]},
    ),
    "Orphans": (
        {
            "author": [(), ()],
            "comment": [
                (1, ago(days=2)),
                (9, ago(days=2)),
                (9, ago(hours=1)),
                (None, ago(days=2)),
                (2, ago(days=2)),
            ],
        },
        {"comment": [1, 3, 4, 5]},
    ),
    "Accounts of Keycloak": (
        {
            "USER_ENTITY": [
                ("old", "shop", 1, 0, None, unix(ago(days=40), 1000)),
                ("confirmed", "shop", 1, 1, None, unix(ago(days=40), 1000)),
                ("new", "shop", 1, 0, None, unix(ago(days=20), 1000)),
                ("imported", "shop", 1, 0, None, None),
                ("old", "other", 1, 0, None, unix(ago(days=40), 1000)),
                ("service-account-app", "shop", 1, 0, "app", unix(ago(days=40), 1000)),
                ("admin", "shop", 1, 0, None, unix(ago(days=40), 1000)),
            ]
        },
        {"USER_ENTITY WHERE ENABLED = 0": [1]},
    ),
    "Accounts with a status": (
        {
            "account": [
                ("old", "user", "active", ago(days=400).date()),
                ("recent", "user", "active", ago(days=300).date()),
                ("root", "admin", "active", ago(days=400).date()),
                ("locked", "user", "locked", ago(days=400).date()),
                ("new", "user", "active", None),
                ("recent-2", "user", "active", ago(days=300).date()),
            ]
        },
        {"account WHERE status = 'disabled'": [1]},
    ),
}


def test_each_need_of_the_table_has_a_section():
    links = re.findall(r"^\| \[[^]]+\]\(#([a-z-]+)\)", PAGE, re.MULTILINE)
    assert links == [name.lower().replace(" ", "-") for name in SECTIONS]
    assert SECTIONS.keys() - ROWS.keys() == {"Accounts"}


@pytest.mark.every_server
@pytest.mark.parametrize("section", ROWS)
def test_an_example_does_what_its_section_says(scratch, perform, section, tmp_path, monkeypatch):
    blocks, (rows, left) = SECTIONS[section], ROWS[section]
    for statement in blocks["sql"].split(";")[:-1]:
        scratch.run(statement)
    for table, values in rows.items():
        for key, row in enumerate(values, 1):
            scratch.run(f"INSERT INTO {table} VALUES (%s{', %s' * len(row)})", [key, *row])
        scratch.run(f"ANALYZE TABLE {table}")
    with DAG("page", schedule=None, default_args={"mysql_conn_id": "scratch"}) as dag:
        exec(compile(blocks["python"], section, "exec"), {})  # noqa: S102  our own page
    monkeypatch.setenv("AIRFLOW__IAM_WATCHER__ARCHIVE", f"file://{tmp_path}")
    before = {table: scratch.rows(f"SELECT * FROM {table}") for table in rows}
    reports = [perform(operator) for operator in dag.tasks]
    key = "seq" if section == "Event store" else "id"
    assert {table: scratch.column(f"SELECT {key} FROM {table} ORDER BY {key}") for table in left} == left
    # Users who were disabled are enabled again.
    if reports[0].get("undo_record"):
        (operator,), (report,) = dag.tasks, reports
        undo = ReenableUsersOperator(
            task_id="enable",
            undo_record=report["undo_record"],
            accounts=operator.accounts,
            mysql_conn_id="scratch",
        )
        assert perform(undo)["enabled"] == report["changed"]
        return
    # What was archived comes back, the parents before their children.
    for report in reversed(reports):
        if report["archive"]:
            tables = [report["table"], *report["children"]]
            undo = RestoreRowsOperator(
                task_id="undo", path=report["archive"], tables=tables, mysql_conn_id="scratch"
            )
            perform(undo)
    if all(report["archive"] for report in reports if report["changed"]):
        assert {table: scratch.rows(f"SELECT * FROM {table}") for table in rows} == before
