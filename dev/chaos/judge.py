"""The judgement of a chaos: which invariants its record proves broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dev.chaos.periods import PERIODS
from dev.soak.witness import interleaved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dev.chaos.record import Record, Run, Step

# A plain task that lost its lock gets SIGTERM within 2 s and ends 5 s later (docs/lock.md).
LETS_GO_WITHIN = 10
_LOCKED = ("purge", "user")  # the jobs that have the database lock too


@dataclass
class Verdict:
    """What was counted, and what is wrong.

    Args:
        ticks: Scheduled times by what became of them.
        reasons: Why scheduled times were skipped.
        beside: Steps of a plain task in the seconds that its lock was lost, which a lease can't exclude.
        faults: A text for each broken invariant, by kind.
    """

    ticks: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    beside: int = 0
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def judge(
    record: Record,
    *,
    since: float,
    until: float,
    young: Iterable[int] = (),
    workers: Iterable[str] = (),
    last_fault: float = 0.0,
) -> Verdict:
    """Return the verdict about a record.

    Args:
        record: The facts.
        since: The first scheduled time that counts, in seconds since 1970.
        until: The last one.
        young: Rows that no purge may delete.
        workers: Those that must have worked after the last fault.
        last_fault: When it was over.
    """
    verdict = Verdict()
    _judge_ticks(record, since, until, verdict)
    _judge_writes(record, verdict)
    _judge_rows(record, set(young), verdict)
    awake = {step.worker for step in record.steps if step.what == "end" and step.at > last_fault}
    verdict.faults["worker that never worked again"] += sorted(set(workers) - awake)
    verdict.faults["left over"] += [*record.unfinished, *record.queue, *record.locks]
    return verdict


def _judge_ticks(record: Record, since: float, until: float, verdict: Verdict) -> None:
    runs: defaultdict[str, dict[float, Run]] = defaultdict(dict)
    for each in record.runs:
        if each.scheduled:
            runs[each.dag_id][each.tick] = each
    for dag_id, (period, offset) in PERIODS.items():
        first = int((since - offset) // period + 1) * period + offset
        for tick in range(first, int(until), period):
            verdict.ticks["due"] += 1
            run = runs[dag_id].get(float(tick))
            what, reason = _fate(tick, run, runs[dag_id].values())
            if what == "missed" and (said := record.dropped.get((dag_id, float(tick)))):
                what, reason = "skipped", said
            verdict.ticks[what] += 1
            if reason:
                verdict.reasons[reason] += 1
            if what == "missed":
                verdict.faults["scheduled time missed without a reason"].append(f"{dag_id} at {tick}")
            if (dag_id, float(tick)) in record.done_by_other and run and run.work == "success":
                verdict.faults["scheduled time done by two deployments"].append(f"{dag_id} at {tick}")


def _fate(tick: int, run: Run | None, others: Iterable[Run]) -> tuple[str, str]:
    """Return what became of a scheduled time, and the reason if it did not work."""
    if run is not None:
        if run.work == "skipped":
            return "skipped", "the lock was busy, or the other deployment did it"
        return ("failed", f"its run ended as {run.state}") if run.work != "success" else ("run", "")
    if any(other.queued <= tick and (other.ended is None or other.ended >= tick) for other in others):
        return "skipped", "another run was active then"
    return "missed", ""


def _judge_writes(record: Record, verdict: Verdict) -> None:
    locked = [(change.kind, str(change.session)) for change in record.changes if change.kind in _LOCKED]
    verdict.faults["overlapping writes"] += interleaved(locked)
    plain: defaultdict[str, list[Step]] = defaultdict(list)
    for step in record.steps:
        plain[step.watcher].append(step)
    for watcher, steps in plain.items():
        current, since, gone = "", 0.0, set()
        for step in steps:
            if step.hold in gone:
                if step.at - since > LETS_GO_WITHIN:
                    verdict.faults["overlapping writes"].append(
                        f"{watcher}: {step.hold} went on {step.at - since:.1f} s after {current} began"
                    )
                else:
                    verdict.beside += 1
            elif step.hold != current:
                gone.add(current)
                current, since = step.hold, step.at


def _judge_rows(record: Record, young: set[int], verdict: Verdict) -> None:
    wrong = [change for change in record.changes if not change.good]
    verdict.faults["row outside of the predicate"] += [f"{change.kind} {change.row_id}" for change in wrong]
    verdict.faults["row lost"] += [f"purge {row}" for row in sorted(young - record.purge_rows.keys())]
    verdict.faults["row left over"] += [
        f"purge {row}" for row, old in sorted(record.purge_rows.items()) if old
    ]
    finished = Counter(change.row_id for change in record.changes if change.kind == "rows")
    for row, state in sorted(record.rows.items()):
        if finished[row] != 1 or state not in {"done", "failed"}:
            verdict.faults["row not finished once"].append(
                f"{row} is {state}, finished {finished[row]} times"
            )
        if not record.effects[row]:
            verdict.faults["row not finished once"].append(f"{row}: its function was never called")
