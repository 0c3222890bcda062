"""The run report as the log has it."""

from __future__ import annotations

from dataclasses import fields

import pytest

from iam_watcher.jobs.reenable_report import ReenableReport
from iam_watcher.jobs.restore_report import RestoreReport
from iam_watcher.jobs.row_processing.report import ProcessRowsReport
from iam_watcher.jobs.table_job.table_job_report import TableJobReport, Words, partitions_named

USERS = Words("users", "disabled", "undo record", "users can be re-enabled only by name")
NO_RECORD = "no undo record: users can be re-enabled only by name"
LOST_ANSWER = "2 more may be disabled, the answer to their commit was lost"
BY_EARLIER_TRIES = "were disabled by earlier tries of this run"
AT_LIMIT = "stopped at the row limit, the next run resumes there"
SKIPPED = {"admin": 5, "exempt_name": 15}


def lines(**facts):
    report = TableJobReport("user", facts.pop("dry_run", False), words=USERS)
    for name, value in facts.items():
        setattr(report, name, value)
    return report.as_lines()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {
                "changed": 1240,
                "examined": 2920,
                "skipped": SKIPPED,
                "duration_seconds": 0.21,
                "undo_record": "f",
            },
            [
                "1,240 of 2,920 users disabled (5 admins and 15 exempt names left alone) in 0.2 s",
                "Undo record: f",
            ],
        ),
        (
            {"changed": 1, "examined": 9, "skipped": {"admin": 1, "new_account": 2, "odd": 3}},
            [f"1 of 9 users disabled (1 admin, 2 new accounts and 3 odd left alone) in 0.0 s; {NO_RECORD}"],
        ),
        ({"examined": 9, "skipped": {"admin": 0}}, ["0 of 9 users disabled in 0.0 s"]),
        (
            {"changed": 7, "examined": 9, "unconfirmed": 2, "stopped": "max_rows", "undo_record": "f"},
            [
                f"7 of 9 users disabled in 0.0 s; {LOST_ANSWER}; {AT_LIMIT}",
                "Undo record: f",
            ],
        ),
        (
            {"changed": 7, "changed_before": 1300, "examined": 9, "undo_record": "f"},
            [
                f"7 of 9 users disabled in 0.0 s; 1,300 more {BY_EARLIER_TRIES}",
                "Undo record: f",
            ],
        ),
        (
            {"changed_before": 2, "examined": 9},
            [
                f"0 of 9 users disabled in 0.0 s; 2 more {BY_EARLIER_TRIES}; {NO_RECORD}",
            ],
        ),
        (
            {"examined": 9, "error": "WalkError: no"},
            ["0 of 9 users disabled in 0.0 s", "The run ended early: WalkError: no"],
        ),
        (
            {"dry_run": True, "matched": 7, "examined": 9, "listed": "f", "real_run": ["a", "b"]},
            [
                "Dry run: 7 of 9 users would be disabled in 0.0 s",
                "List of all of them: f",
                "The real run would a",
                "The real run would b",
            ],
        ),
        (
            {"dry_run": True, "matched": 7, "examined": 9},
            ["Dry run: 7 of 9 users would be disabled in 0.0 s; there is no list of them"],
        ),
    ],
)
def test_it_begins_with_sentences(facts, expected):
    said = lines(**facts)
    assert said[: len(expected)] == expected
    assert said[len(expected)].startswith("event=run_report table=user dry_run=")


def test_facts_stand_on_short_lines_and_none_is_cut():
    skipped = {f"reason_{number}": number for number in range(1, 30)}
    said = lines(examined=10**9, skipped=skipped, also={"due_in_3_days": 1}, stopped="time_budget")
    facts = said[1:]
    assert [line for line in facts if len(line) > 120 and not line.startswith("skipped={")] == []
    text = " ".join(facts)
    assert '"reason_29": 29}' in text
    assert 'also={"due_in_3_days": 1}' in text
    assert "\0" not in text


def test_examples_are_the_last_lines():
    assert lines(examples=[{"key": 1, "name": "a b"}, {"key": 2}])[-2:] == [
        'example: key=1 name="a b"',
        "example: key=2",
    ]


@pytest.mark.parametrize("report", [TableJobReport, RestoreReport, ReenableReport, ProcessRowsReport])
def test_a_report_of_a_run_that_has_not_begun_counts_nothing(report):
    counts = {field.name: field.default for field in fields(report) if field.type in {"int", "float"}}
    assert len(counts) > 2
    assert not any(counts.values()), counts


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a"], "the partition a"),
        (["a", "b", "c", "d", "e"], "5 partitions: a, b, c, d, e"),
        (["a", "b", "c", "d", "e", "f"], "6 partitions: a, b, c, d, …, f"),
    ],
)
def test_the_first_and_the_last_of_many_partitions_are_named(names, expected):
    assert partitions_named(names) == expected
