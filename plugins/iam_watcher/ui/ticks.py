"""A watcher's schedule for its page: the next ticks, and what happens to those that come at a bad moment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from iam_watcher.errors import InvalidSpec
from iam_watcher.schedule import Cron, describe
from iam_watcher.timetables.schedule_timetable import ScheduleTimetable
from iam_watcher.ui.reports import without_none
from iam_watcher.ui.runs import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from iam_watcher.schedule import Schedule

SHOWN = 10  # ticks


def schedule_json(timetable: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schedule as JSON values; None for a watcher whose schedule is not one of ours.

    Args:
        timetable: what the timetable was made of, as it is stored.
    """
    try:
        schedule = ScheduleTimetable.stored_schedule(timetable)
    except (KeyError, InvalidSpec):
        return None
    zone = schedule.timezone if isinstance(schedule, Cron) else "UTC"
    return without_none(
        {
            "kind": schedule.kind,
            "spec": schedule.shown,
            # What `~` in the spec has become.
            "values": str(schedule) if schedule.shown != str(schedule) else None,
            "words": describe(schedule),
            "overlap": timetable.get("overlap"),
            "grace": _grace(timetable.get("missed_grace")),
            # Behind a run, not behind now: the page has the one that Airflow knows.
            "ticks": None if schedule.kind == "after" else list(_ticks(schedule, ZoneInfo(zone))),
        }
    )


def _ticks(schedule: Schedule, zone: ZoneInfo) -> Iterator[list[Any]]:
    """Yield each tick as its time and whether the clock has changed since the one before."""
    moment = datetime.now(UTC)
    offset = moment.astimezone(zone).utcoffset()
    for _ in range(SHOWN):
        following = schedule.next(moment)
        if following is None:
            return
        before, offset = offset, following.astimezone(zone).utcoffset()
        yield [seconds(following), offset != before]
        moment = following


def _grace(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
