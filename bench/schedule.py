"""The time to find the next scheduled time of a cron spec: our Schedule and croniter, which Airflow uses.

Each spec is asked from the same moments. Both have read the time zone before; croniter reads the spec anew
for each question, as Airflow's timetables do.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from croniter import croniter  # type: ignore[import-untyped]

from bench.harness import Result, interleaved, ratio
from iam_watcher.schedule import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

ROUNDS = 25
MOMENTS = [datetime(2027, 1, 1, tzinfo=UTC) + timedelta(hours=37 * number) for number in range(50)]
ZONE = "America/New_York"
SPECS = {
    "every five minutes": "*/5 * * * *",
    "daily": "30 2 * * *",
    "weekdays": "0 9-17 * * 1-5",
    "29 February": "0 0 29 2 *",
}


def measure(folder: Path) -> list[Result]:  # noqa: ARG001  it needs no files
    """Return the microseconds of a question, and their ratio to croniter's."""
    found: list[Result] = []
    for name, spec in SPECS.items():
        schedule, zone = parse(spec, timezone=ZONE), ZoneInfo(ZONE)
        local = [moment.astimezone(zone) for moment in MOMENTS]
        figures = interleaved(
            {
                "ours": partial(_each, schedule.next, MOMENTS),
                "croniter": partial(_each, partial(_of_croniter, spec), local),
            },
            ROUNDS,
        )
        ours, theirs = figures["ours"], figures["croniter"]
        middle = statistics.median(ours)
        detail = f"{middle:.1f} against {statistics.median(theirs):.0f} µs"
        found += [
            Result(f"next scheduled time of {spec!r} ({name}), µs", middle, at_most=50),
            Result(
                f"next scheduled time of {spec!r} / croniter", ratio(ours, theirs), at_most=1, detail=detail
            ),
        ]
    return found


def _of_croniter(spec: str, moment: datetime) -> datetime:
    found: datetime = croniter(spec, moment).get_next(datetime)
    return found


def _each(ask: Callable[[datetime], object], moments: Sequence[datetime]) -> float:
    """Return the median time of a question, in µs."""
    times = []
    for moment in moments:
        began = time.perf_counter()
        ask(moment)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6
