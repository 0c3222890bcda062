"""Schedules: the text that a user gives as `schedule=`, and its scheduled times (ticks).

| spec | kind | ticks |
|---|---|---|
| `30 3 * * *`, `0 30 3 * * *` | cron | at the times that the fields match; six fields begin with seconds |
| `@yearly @annually @monthly @weekly @daily @midnight @hourly` | cron | the same, by name |
| `~ 3 * * *`, `@daily~` and others | cron | at times that the id of the DAG decides, see `splay` |
| `CRON_TZ=Asia/Shanghai 0 10 * * *` (or `TZ=`) | cron | by the clock in that time zone |
| `@every 1h30m` | every | at multiples of the duration since 1970-01-01T00:00Z: fixed rate |
| `@after 5m` | after | this long after the last run ended: interval after completion |
| `@at 2027-01-31T08:00:00+01:00` | at | once |

Cron specs are those of robfig/cron v3 with optional seconds: its specs are valid, and they tick at the same
instants. In addition, a day may be a rule of Quartz, such as `L` or `fri#2`, see `day_rules`. `@every` ticks
at fixed multiples of its duration and does not count from the start of a process. So all deployments tick at
the same time, and a restart causes no extra runs.

`python -m iam_watcher.schedule SPEC` prints the next ticks of a spec. This package does not import Airflow.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import get_args

from iam_watcher.errors import InvalidSpec
from iam_watcher.schedule import splay
from iam_watcher.schedule.cron import Cron, Dst
from iam_watcher.schedule.duration import BadDuration, parse_duration
from iam_watcher.schedule.fields import KINDS, BadField, CronFields
from iam_watcher.schedule.fixed import After, At, Every
from iam_watcher.schedule.schedule import Kind, Schedule
from iam_watcher.schedule.words import describe
from iam_watcher.schedule.zone import zone

__all__ = ["After", "At", "Cron", "Dst", "Every", "InvalidSpec", "Kind", "Schedule", "describe", "parse"]

_DESCRIPTORS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
# Presets of a plain DAG, and what to write here instead.
_AIRFLOWS = {
    "@once": "@at <RFC 3339 time>, or schedule=None and a run that you trigger",
    "@continuous": "@after <duration>, such as @after 10s: each run starts so long after the last one ended",
}
_PREFIX = re.compile(r"(?:CRON_)?TZ=([^ ]*)( ?)")
# The spaces of Go's unicode.IsSpace. Python's str.split() also splits at U+001C to U+001F.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_FIELD = re.compile(f"[^{_SPACES}]+")


def parse(spec: str, *, timezone: str = "UTC", dst: Dst = "robfig", dag_id: str | None = None) -> Schedule:
    """Return the schedule of a spec.

    Args:
        spec: see the table of this module.
        timezone: the time zone of a cron spec without a prefix, by its name in the tz database.
        dst: what a cron spec does at a clock change. `robfig`: a time that the clock skips has no tick
            on that day, and a time that it repeats has two ticks. `vixie`: a skipped time has its tick
            right after the gap, and a repeated time has one tick. As in Vixie cron, a spec whose minute
            or hour begins with a star then follows elapsed time, and a day field that begins with a star
            counts as a star, with a step too: `0 0 */2 * 1` is Mondays that are odd days of the month.
        dag_id: decides the values of `~`.

    Raises:
        InvalidSpec: the spec, or the time zone, isn't valid, or the spec has a `~` and no `dag_id` is given.
    """
    if dst not in (known := get_args(Dst)):
        raise InvalidSpec(spec, field="dst", part=str(dst), expected=" or ".join(known))
    # Only the values of `~` depend on the DAG: many watchers share what is parsed once.
    return _parsed(spec, timezone, dst, dag_id if splay.SIGN in spec else None)


@lru_cache
def _parsed(spec: str, timezone: str, dst: Dst, dag_id: str | None) -> Schedule:
    rest = spec
    prefix = _PREFIX.match(spec)
    if prefix:
        if not prefix[2]:
            raise InvalidSpec(spec, field="time zone", part=prefix[0], expected="a space and a spec after it")
        # As in Go, no name is UTC and "Local" the zone that holds without a prefix.
        timezone = {"": "UTC", "Local": timezone}.get(prefix[1], prefix[1])
        rest = re.sub(f"^[{_SPACES}]+|[{_SPACES}]+$", "", spec[prefix.end() :])
    try:
        zone(timezone)
    except LookupError:
        raise InvalidSpec(
            spec,
            field="time zone",
            part=timezone,
            expected="a name of the tz database, such as Europe/Berlin",
        ) from None
    if rest.startswith("@"):
        fields = _DESCRIPTORS.get(rest) or splay.DESCRIPTORS.get(rest)
        if fields is None:
            return _other(spec, rest, timezone, prefixed=prefix is not None)
        cron = _cron(spec, fields, timezone, dst, dag_id)
        return replace(cron, splay=rest) if cron.splay else cron
    return _cron(spec, rest, timezone, dst, dag_id)


def _other(spec: str, text: str, timezone: str, *, prefixed: bool) -> Schedule:
    name, space, argument = text.partition(" ")
    if space and name in ("@every", "@after"):
        if prefixed and name == "@after":
            raise InvalidSpec(spec, field="time zone", part=timezone, expected="no time zone before @after")
        try:
            duration = parse_duration(argument)
        except BadDuration as bad:
            raise InvalidSpec(spec, field=f"{name} duration", part=bad.part, expected=bad.expected) from None
        return Every(duration) if name == "@every" else After(duration)
    if space and name == "@at":
        if prefixed:
            raise InvalidSpec(spec, field="time zone", part=timezone, expected="no time zone before @at")
        return At.parse(spec, argument)
    if text in _AIRFLOWS:
        raise InvalidSpec(spec, field="descriptor", part=text, expected=_AIRFLOWS[text])
    names = ", ".join([*_DESCRIPTORS, *splay.DESCRIPTORS])
    expected = f"one of {names}, @every <duration>, @after <duration>, @at <RFC 3339 time>"
    raise InvalidSpec(spec, field="descriptor", part=text, expected=expected)


def _cron(spec: str, text: str, timezone: str, dst: Dst, dag_id: str | None) -> Cron:
    texts = _FIELD.findall(text)
    if len(texts) == len(KINDS) - 1:
        texts.insert(0, "0")
    if len(texts) != len(KINDS):
        expected = "5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first"
        raise InvalidSpec(spec, field="number of fields", part=str(len(texts)), expected=expected)
    fields = []
    for kind, field in zip(KINDS, texts, strict=True):
        try:
            numbers = splay.resolve(kind, field, dag_id or "")
            fields.append(kind.parse(numbers, vixie=dst == "vixie"))
        except BadField as bad:
            raise InvalidSpec(spec, field=kind.name, part=bad.part, expected=bad.expected) from None
    splayed = any(splay.SIGN in field for field in texts)
    if splayed and dag_id is None:
        expected = "the id of the DAG, which decides the values of ~ (on the command line: --dag-id)"
        raise InvalidSpec(spec, field="DAG id", part=str(dag_id), expected=expected)
    return Cron(CronFields(*fields), timezone, dst, " ".join(texts) if splayed else "")
