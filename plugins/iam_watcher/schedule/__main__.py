"""Print the next scheduled times of a spec: `python -m iam_watcher.schedule "0 30 2 * * *"`."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args
from zoneinfo import ZoneInfo

from iam_watcher.schedule import Cron, Dst, InvalidSpec, Schedule, describe, parse
from iam_watcher.schedule.schedule import seconds
from iam_watcher.schedule.search import LAST_YEAR
from iam_watcher.schedule.zone import Span, zone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# In every time zone, the years from here to LAST_YEAR have a year before and after them that Python knows.
_FIRST_YEAR = 2
_FORMAT = "%a %Y-%m-%d %H:%M:%S"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the preview; return 2 for a spec that isn't valid, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m iam_watcher.schedule",
        description="Print the next scheduled times of a spec, and the effect of clock changes.",
    )
    add_arguments(parser)
    return run(parser.parse_args(arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the spec, and the options of the preview."""
    parser.add_argument("spec", help='such as "0 30 2 * * *", "@daily", "@every 1h30m"')
    parser.add_argument(
        "--timezone",
        help="time zone of a cron spec without a prefix (default: UTC; of `airflow iam-watcher schedule`: "
        "[core] default_timezone, as for a Watcher)",
    )
    parser.add_argument(
        "--dst",
        default="robfig",
        choices=get_args(Dst),
        help="behaviour at clock changes, see docs/schedules.md (default: robfig)",
    )
    parser.add_argument("--dag-id", help="the DAG whose schedule it is; needed for a spec with ~")
    parser.add_argument("--count", type=_count, default=5, help="number of scheduled times (default: 5)")
    parser.add_argument(
        "--after",
        type=_moment,
        help="begin after this ISO 8601 time; without an offset, it is UTC (default: now)",
    )


def run(options: argparse.Namespace) -> int:
    """Print the preview that the parsed arguments ask for; return 2 for a spec that isn't valid, else 0."""
    try:
        timezone = options.timezone or "UTC"
        schedule = parse(options.spec, timezone=timezone, dst=options.dst, dag_id=options.dag_id)
    except InvalidSpec as error:
        sys.stderr.write(f"{error}\n")
        return 2
    splayed = "" if schedule.shown == str(schedule) else f"{schedule.shown} of {options.dag_id} is "
    sys.stdout.write(f"{splayed}{schedule}: {describe(schedule)}\n")
    for line in preview(schedule, options.after or datetime.now(UTC), options.count):
        sys.stdout.write(f"{line}\n")
    return 0


def preview(schedule: Schedule, after: datetime, count: int) -> Iterator[str]:
    """Yield a line for each of the next ticks, and for each time of day that a clock change skips.

    For an `@after` schedule, the preview assumes that runs take no time.
    """
    info = ZoneInfo(schedule.timezone if isinstance(schedule, Cron) else "UTC")
    before = after.astimezone(UTC)
    for _ in range(count):
        tick = schedule.next(before)
        if isinstance(schedule, Cron):
            yield from _skipped(schedule, before, tick or before)
        if tick is None:
            yield "no further time"
            return
        yield f"{_show(tick.astimezone(info))}{_repeated(schedule, tick.astimezone(info))}"
        before = tick


def _show(moment: datetime) -> str:
    offset = moment.isoformat()[-6:]
    return f"{moment:{_FORMAT}} {offset} {moment:%Z}"


def _repeated(schedule: Schedule, tick: datetime) -> str:
    """Return a note if the clock shows the time of the tick twice on that day."""
    earlier, later = tick.replace(fold=0).utcoffset(), tick.replace(fold=1).utcoffset()
    if earlier is None or later is None or later >= earlier:
        return ""
    passes = "second" if tick.fold else "first"
    if isinstance(schedule, Cron) and schedule.runs_once_when_repeated:
        return "  the clock shows this twice; runs the first time only"
    return f"  the clock shows this twice; the {passes} time"


def _skipped(cron: Cron, after: datetime, until: datetime) -> Iterator[str]:
    """Yield a line for each gap in the clock, between two instants, that skips times of `cron`."""
    readings = replace(cron, timezone="UTC")
    for before, behind in _gaps(cron, seconds(after), seconds(until)):
        start = datetime.fromtimestamp(behind.start + before.offset, UTC)
        end = datetime.fromtimestamp(behind.start + behind.offset, UTC)
        first = readings.next(start - timedelta(seconds=1))
        if first is None or first >= end:
            continue
        more = readings.latest(after=first, until=end - timedelta(seconds=1))
        span = f"{first:{_FORMAT}}" + (f" to {more:%H:%M:%S}" if more else "")
        instead = "runs right after" if cron.runs_once_when_repeated else "does not run"
        yield f"{span}  skipped: the clock goes from {start:%H:%M:%S} to {end:%H:%M:%S}; {instead}"


def _gaps(cron: Cron, after: int, until: int) -> Iterator[tuple[Span, Span]]:
    local = zone(cron.timezone)
    span = local.span(after)
    while span.end <= until:
        behind = local.span(span.end)
        if behind.offset > span.offset:
            yield span, behind
        span = behind


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected an ISO 8601 time such as 2027-03-13T08:00:00+01:00"
        ) from None
    if not _FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected a time in the years {_FIRST_YEAR} to {LAST_YEAR}, such as "
            "2027-03-13T08:00:00+01:00"
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _count(text: str) -> int:
    with suppress(ValueError):
        if (number := int(text)) >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number, 1 or more")


if __name__ == "__main__":
    sys.exit(main())
