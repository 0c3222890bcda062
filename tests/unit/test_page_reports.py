"""The run reports of a run as the page gets them."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from iam_watcher.ui.runs import Run

AT = datetime(2027, 3, 10, 8, tzinfo=UTC)


def run_of(*returned, seed=0):
    """Return a run whose tasks returned reports (task, map index, report), in any order."""
    run = Run(7, "w", "r", "scheduled", "success", "success", AT, AT, AT, None, None)
    some = list(returned)
    random.Random(seed).shuffle(some)
    for task, part, report in some:
        facts = {"written": report["changed"], "before": report.get("changed_before")}
        run.take(task, part, report, **facts, dry_run=report["dry_run"])
    return run


def purged(number, **facts):
    return {"dry_run": False, "table": f"t{number}", "examined": 10, "changed": number, **facts}


def test_the_reports_are_in_a_fixed_order():
    returned = [("purge", part, purged(part)) for part in range(12)]
    returned += [("mark", -1, purged(1)), ("zap", -1, purged(2))]
    names = ["mark", *(f"purge/{part}" for part in range(12)), "zap"]
    for seed in range(5):
        shown = run_of(*returned, seed=seed).as_json()["reports"]
        assert list(shown) == names
        assert [shown[f"purge/{part}"]["table"] for part in range(12)] == [f"t{part}" for part in range(12)]


def test_the_reports_of_another_watchers_jobs_are_in_the_same_order():
    reports = {f"purge/{part}": purged(part, dry_run=True) for part in (10, 9, 0)}
    run = Run(7, "w", "r", "manual", "success", None, AT, AT, AT, None, None)
    run.take("dry_run", -1, {"dry_run": True, "reports": reports}, written=None, before=None, dry_run="true")
    assert list(run.as_json()["reports"]) == ["purge/0", "purge/9", "purge/10"]


def test_of_many_parts_the_last_ones_are_added_up():
    returned = [("purge", part, purged(part, skipped={"newest": 1})) for part in range(30)]
    broken = purged(25, error="OSError: no", stopped="max_rows")
    returned[25] = ("purge", 25, broken)
    returned.append(("count", -1, purged(3, dry_run=True)))
    for seed in range(5):
        run = run_of(*returned, seed=seed)
        shown = run.as_json()["reports"]
        whole = ["count", *(f"purge/{part}" for part in (*range(18), 25))]
        assert list(shown) == [*whole, "purge/+"]
        assert shown["purge/25"]["error"] == "OSError: no"
        rest = shown["purge/+"]
        assert (rest["parts"], rest["examined"], rest["skipped"]) == (11, 110, {"newest": 11})
        assert sum(report["changed"] for name, report in shown.items() if name != "count") == run.changed


def test_rows_of_earlier_tries_count():
    run = run_of(("mark", -1, purged(0, changed_before=300)), ("purge", -1, purged(7)))
    assert run.as_json()["changed"] == 307
    assert run.as_json()["reports"]["mark"]["changed_before"] == 300
    assert run_of(("purge", -1, purged(0, dry_run=True, changed_before=300))).changed == 0


def test_what_is_added_up_keeps_an_error_and_is_no_dry_run_of_others():
    returned = [("purge", part, purged(part, error=f"OSError: {part}")) for part in range(25)]
    returned += [("purge", part, purged(part, dry_run=True)) for part in range(25, 30)]
    shown = run_of(*returned).as_json()["reports"]
    assert shown["purge/+"]["error"] == "OSError: 20"
    assert (shown["purge/+"]["dry_run"], shown["purge/+dry"]["dry_run"]) == (False, True)
    assert (shown["purge/+"]["parts"], shown["purge/+dry"]["parts"]) == (5, 5)
