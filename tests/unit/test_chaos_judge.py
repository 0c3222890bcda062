"""The judgement of `make chaos`: each broken invariant makes its verdict red, and nothing else does."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from dev.airflow import ROOT
from dev.chaos.faults import FAULTS
from dev.chaos.judge import LETS_GO_WITHIN, judge
from dev.chaos.periods import PERIODS
from dev.chaos.record import Change, Record, Run, Step, dropped

START, END = 1_800_000_000, 1_800_000_240


def _run(dag_id, tick, work="success", **others):
    return Run(
        dag_id,
        float(tick),
        **{"queued": tick + 1.0, "ended": tick + 5.0, "state": "success"} | others,
        work=work,
    )


def _good():
    """A record of four minutes in which everything went well."""
    record = Record()
    for dag_id, (period, offset) in PERIODS.items():
        ticks = range(START + offset, END + 60, period)
        record.runs += [_run(dag_id, tick) for tick in ticks]
    record.changes = [
        Change("purge", 1, True, 10, START + 1.0),
        Change("purge", 2, True, 10, START + 2.0),
        Change("purge", 3, True, 11, START + 31.0),
        Change("rows", 7, True, 12, START + 3.0),
    ]
    record.effects = Counter([7])
    record.rows = {7: "done"}
    record.purge_rows = {5: False}
    record.steps = [
        Step("chaos_cron", "a", worker, str(tick), f"hold-{tick}", what, START + tick + second)
        for tick, worker in ((10, "worker-1"), (20, "worker-2"))
        for second, what in enumerate(("begin", "step", "end"))
    ]
    return record


def _faults(record, **others):
    found = judge(
        record,
        since=START,
        until=END,
        young=[5],
        workers=["worker-1", "worker-2"],
        last_fault=START,
        **others,
    )
    return {what for what, texts in found.faults.items() if texts}, found


def test_a_good_record_holds():
    faults, found = _faults(_good())
    assert faults == set()
    assert found.ticks["due"] == found.ticks["run"] == 23 + 3 + 2 + 2 + 2
    assert found.beside == 0


def _without(record, dag_id, tick):
    record.runs = [run for run in record.runs if (run.dag_id, run.tick) != (dag_id, tick)]


def _two_sessions_in_turns(record):
    record.changes.insert(3, Change("purge", 4, True, 10, START + 32.0))


def _step_of_an_older_hold(record):
    late = START + 20 + LETS_GO_WITHIN + 1.0
    record.steps.append(Step("chaos_cron", "a", "worker-1", "10", "hold-10", "step", late))


@pytest.mark.parametrize(
    ("breaks", "what"),
    [
        (lambda record: _without(record, "chaos_cron", START + 50), "scheduled time missed without a reason"),
        (
            lambda record: record.done_by_other.add(("chaos_purge", START + 60.0)),
            "scheduled time done by two deployments",
        ),
        (_two_sessions_in_turns, "overlapping writes"),
        (_step_of_an_older_hold, "overlapping writes"),
        (
            lambda record: record.changes.append(Change("user", 9, False, 13, START + 9.0)),
            "row outside of the predicate",
        ),
        (lambda record: record.purge_rows.pop(5), "row lost"),
        (lambda record: record.purge_rows.update({6: True}), "row left over"),
        (
            lambda record: record.changes.append(Change("rows", 7, True, 13, START + 9.0)),
            "row not finished once",
        ),
        (lambda record: record.rows.update({8: "work"}), "row not finished once"),
        (lambda record: record.effects.clear(), "row not finished once"),
        (lambda record: record.steps.__delitem__(slice(3, None)), "worker that never worked again"),
        (lambda record: record.unfinished.append("chaos_cron.work queued"), "left over"),
        (lambda record: record.queue.append("1 unacknowledged"), "left over"),
    ],
)
def test_each_broken_invariant_is_found(breaks, what):
    record = _good()
    breaks(record)
    assert _faults(record)[0] == {what}


def test_a_scheduled_time_without_a_run_may_have_a_reason():
    record = _good()
    _without(record, "chaos_cron", START + 50)
    _without(record, "chaos_cron", START + 60)
    record.runs.append(_run("chaos_cron", START + 40, ended=START + 55.0))
    record.dropped[("chaos_cron", START + 60.0)] = "it was missed"
    faults, found = _faults(record)
    assert faults == set()
    assert found.ticks["skipped"] == 2
    assert found.reasons == {"another run was active then": 1, "it was missed": 1}


def test_a_task_that_lost_its_lock_may_go_on_for_some_seconds():
    record = _good()
    step = Step("chaos_cron", "a", "worker-1", "10", "hold-10", "step", START + 20 + LETS_GO_WITHIN - 1.0)
    record.steps.append(step)
    faults, found = _faults(record)
    assert (faults, found.beside) == (set(), 1)


def test_the_reasons_are_read_from_a_scheduler_log(tmp_path):
    log = tmp_path / "scheduler.log"
    log.write_text(
        "[error] TickDropped: the run of 'chaos_cron' at 2027-01-15T08:00:50+00:00: "
        "another run was active then; the next is at 2027-01-15T08:01:00+00:00\n"
    )
    assert dropped(log) == {("chaos_cron", START + 50.0): "another run was active then"}


def test_the_page_has_the_bound_of_each_fault():
    page = (ROOT / "docs" / "operate.md").read_text()
    rows = re.findall(r"^\| ([^|`]+) \| [^|]+ \| (\d+) s \| [^|]+ \|$", page, re.MULTILINE)
    assert {name: int(bound) for name, bound in rows} == {fault.name: fault.bound for fault in FAULTS}
