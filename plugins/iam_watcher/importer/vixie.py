"""The five fields of a crontab's schedule, as Vixie cron and cronie read them, as one of our specs."""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime

from iam_watcher.errors import InvalidSpec
from iam_watcher.importer.job import NotTranslated
from iam_watcher.schedule import parse
from iam_watcher.schedule.fields import KINDS, BadField, Field, FieldKind

NICKNAMES = {
    **dict.fromkeys(("@yearly", "@annually"), "@yearly"),
    **dict.fromkeys(("@daily", "@midnight"), "@daily"),
    **{name: name for name in ("@monthly", "@weekly", "@hourly")},
    "@every_minute": "* * * * *",
}
_QUARTZ = re.compile(r".*[?#].*|L(W|-\d+)?|\d+[LW]", re.IGNORECASE)
_ITEM = re.compile(r"(\*|\w+)(?:([-~])(\w+))?(?:/(\w+))?|~", re.ASCII)
_SUNDAY = 7


def spec(fields: list[str], *, seed: str) -> tuple[str, tuple[str, ...]]:
    """Return the spec, for `dst="vixie"`, of five fields, and what is different in it.

    Args:
        fields: minute, hour, day of month, month, day of week.
        seed: decides what `~` becomes: the same text, the same time.

    Raises:
        NotTranslated: cron would refuse them, or they are Quartz's.
    """
    texts: list[str] = []
    differences: list[str] = []
    for kind, text in zip(KINDS[1:], fields, strict=True):
        texts.append(_field(kind, text, seed, differences))
    return " ".join(texts), tuple(differences)


def checked(text: str, dst: str = "vixie") -> str:
    """Return the spec if a Watcher takes it.

    Raises:
        NotTranslated: it doesn't.
    """
    try:
        schedule = parse(text, dst="vixie" if dst == "vixie" else "robfig")
    except InvalidSpec as error:
        raise NotTranslated(str(error)) from None
    if schedule.kind == "cron" and schedule.next(datetime.now(UTC)) is None:
        raise NotTranslated(f"{text!r} never comes within five years")
    return text


def _field(kind: FieldKind, text: str, seed: str, differences: list[str]) -> str:
    try:
        field = _numbers(kind, text, seed, differences)
    except BadField as bad:
        if _QUARTZ.fullmatch(text):
            raise NotTranslated(f"{kind.name} {text!r} is the syntax of Quartz, not of cron") from None
        raise NotTranslated(f"{kind.name} {text!r}: {bad.part!r}; expected {bad.expected}") from None
    try:
        same = kind.parse(text, vixie=True) == field
    except BadField:
        same = False
    return text if same else kind.format(field, vixie=True)


def _numbers(kind: FieldKind, text: str, seed: str, differences: list[str]) -> Field:
    found: set[int] = set()
    for item in text.split(","):
        start, end, step, chosen = _range(kind, item)
        if chosen:
            start += zlib.crc32(f"{seed}\0{kind.name}\0{item}".encode("utf-8", "replace")) % (end - start + 1)
            end = start
            differences.append(
                f"{kind.name} {item} is {start} now: cron chooses anew when it reads the crontab"
            )
        elif re.fullmatch(r"\w+/\w+", item):
            differences.append(
                f"{kind.name} {item} is read as {start}-{end}/{step}; some crons read {start} alone"
            )
        found.update(range(start, end + 1, step))
    if _has_seven(kind) and _SUNDAY in found:
        found = found - {_SUNDAY} | {0}
    return Field(sum(1 << number for number in found), text.startswith("*"))


def _range(kind: FieldKind, item: str) -> tuple[int, int, int, bool]:
    """Return the first and the last number of an item, its step, and whether cron chooses one of them."""
    match = _ITEM.fullmatch(item)
    if match is None or (match[1] == "*" and match[2]):
        raise BadField(item, "numbers, ranges, steps and lists of them")
    first, joint, last, step = match.groups()
    high = _SUNDAY if _has_seven(kind) else kind.high
    if item == "~":
        return kind.low, kind.high, 1, True
    start = kind.low if first == "*" else _number(kind, first, high)
    end = _number(kind, last, high) if joint else high if first == "*" or step else start
    if start > end:
        raise BadField(item, "a range from the lower to the higher number (cron refuses it, too)")
    if step is not None and (joint == "~" or not step.isdecimal() or not int(step)):
        raise BadField(item, "a step of 1 or more after the slash, and none with ~")
    return start, end, int(step or 1), joint == "~"


def _has_seven(kind: FieldKind) -> bool:
    """Tell whether the field is the day of week, in which 7 is Sunday, too."""
    return bool(kind.names) and kind.low == 0


def _number(kind: FieldKind, text: str, high: int) -> int:
    if text.lower() in kind.names:
        return kind.low + kind.names.index(text.lower())
    if not text.isdecimal() or not kind.low <= int(text) <= high:
        names = f" or {kind.names[0]}-{kind.names[-1]}" if kind.names else ""
        raise BadField(text, f"a number of {kind.low}-{high}{names}")
    return int(text)
