"""The five fields of a crontab's schedule, as Vixie cron and cronie read them, as one of our specs."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from iam_watcher.errors import InvalidSpec
from iam_watcher.importer.job import NotTranslated
from iam_watcher.schedule import parse
from iam_watcher.schedule.fields import DAY_OF_MONTH, KINDS, BadField, Field, FieldKind

NICKNAMES = {
    **dict.fromkeys(("@yearly", "@annually"), "@yearly"),
    **dict.fromkeys(("@daily", "@midnight"), "@daily"),
    **{name: name for name in ("@monthly", "@weekly", "@hourly")},
    "@every_minute": "* * * * *",
}
_QUARTZ = re.compile(r".*[?#].*|L(W|-\d+)?|\d+[LW]", re.IGNORECASE)
_ITEM = re.compile(r"(\*|\w+)(?:(-)(\w+))?(?:/(\w+))?", re.ASCII)
_SPLAY = re.compile(r"(\w*)~(\w*)", re.ASCII)
_SUNDAY = 7
_FORWARDS = "a range from the lower to the higher number (cron refuses it, too)"


def spec(fields: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return the spec, for `dst="vixie"`, of five fields, and what is different in it.

    Args:
        fields: minute, hour, day of month, month, day of week.

    Raises:
        NotTranslated: cron would refuse them, or they are Quartz's.
    """
    texts: list[str] = []
    differences: list[str] = []
    for kind, text in zip(KINDS[1:], fields, strict=True):
        texts.append(_field(kind, text, differences))
    return " ".join(texts), tuple(differences)


def checked(text: str, dst: str = "vixie", *, splay: bool = False) -> str:
    """Return the spec if a Watcher takes it.

    Args:
        text: the spec.
        dst: as in a Watcher.
        splay: whether it may have a `~`.

    Raises:
        NotTranslated: it doesn't.
    """
    try:
        # The watcher has no name yet, and any name does for this check.
        schedule = parse(text, dst="vixie" if dst == "vixie" else "robfig", dag_id="" if splay else None)
    except InvalidSpec as error:
        raise NotTranslated(str(error)) from None
    if schedule.kind == "cron" and schedule.next(datetime.now(UTC)) is None:
        raise NotTranslated(f"{text!r} never comes")
    return text


def _field(kind: FieldKind, text: str, differences: list[str]) -> str:
    items = text.split(",")
    try:
        splayed = [_splay(kind, item, differences) for item in items if "~" in item]
        others = [item for item in items if "~" not in item]
        field = _numbers(kind, others, differences, star=text.startswith("*")) if others else None
    except BadField as bad:
        if _QUARTZ.fullmatch(text):
            raise NotTranslated(f"{kind.name} {text!r} is the syntax of Quartz, not of cron") from None
        raise NotTranslated(f"{kind.name} {text!r}: {bad.part!r}; expected {bad.expected}") from None
    if field is None:
        return ",".join(splayed)
    fixed = ",".join(others)
    try:
        same = kind.parse(fixed, vixie=True) == field
    except BadField:
        same = False
    return ",".join([fixed if same else kind.format(field, vixie=True), *splayed])


def _splay(kind: FieldKind, item: str, differences: list[str]) -> str:
    """Return an item from which cron chooses one number, as an item from which the watcher's name chooses."""
    match = _SPLAY.fullmatch(item)
    if match is None:
        raise BadField(item, "one number on each side of ~ at most, and no step")
    first, last = match.groups()
    high = _SUNDAY if _has_seven(kind) else kind.high
    start = _number(kind, first, high) if first else kind.low
    end = _number(kind, last, high) if last else kind.high
    if start > end:
        raise BadField(item, _FORWARDS)
    if kind is DAY_OF_MONTH and item == "~":
        # cron's next choice would be another day. Ours stays, so it is one that each month has.
        ours = "1~28"
    elif start == _SUNDAY == high:
        ours = "0~0"
    else:
        # 7 is no number of ours: such a range ends on Saturday.
        end = min(end, kind.high)
        ours = "~" if (start, end) == (kind.low, kind.high) and kind is not DAY_OF_MONTH else f"{start}~{end}"
    before = "" if ours == item else f" ({item} in the crontab)"
    differences.append(
        f"{kind.name} {ours}{before}: the watcher's name decides the value; cron chooses anew when it reads "
        "the crontab"
    )
    return ours


def _numbers(kind: FieldKind, items: list[str], differences: list[str], *, star: bool) -> Field:
    found: set[int] = set()
    for item in items:
        start, end, step = _range(kind, item)
        if re.fullmatch(r"\w+/\w+", item):
            differences.append(
                f"{kind.name} {item} is read as {start}-{end}/{step}; some crons read {start} alone"
            )
        found.update(range(start, end + 1, step))
    if _has_seven(kind) and _SUNDAY in found:
        found = found - {_SUNDAY} | {0}
    return Field(sum(1 << number for number in found), star)


def _range(kind: FieldKind, item: str) -> tuple[int, int, int]:
    """Return the first and the last number of an item, and its step."""
    match = _ITEM.fullmatch(item)
    if match is None or (match[1] == "*" and match[2]):
        raise BadField(item, "numbers, ranges, steps and lists of them")
    first, joint, last, step = match.groups()
    high = _SUNDAY if _has_seven(kind) else kind.high
    start = kind.low if first == "*" else _number(kind, first, high)
    end = _number(kind, last, high) if joint else high if first == "*" or step else start
    if start > end:
        raise BadField(item, _FORWARDS)
    if step is not None and not (_is_number(step) and int(step)):
        raise BadField(item, "a step of 1 or more after the slash")
    return start, end, int(step or 1)


def _has_seven(kind: FieldKind) -> bool:
    """Tell whether the field is the day of week, in which 7 is Sunday, too."""
    return bool(kind.names) and kind.low == 0


def _number(kind: FieldKind, text: str, high: int) -> int:
    if text.lower() in kind.names:
        return kind.low + kind.names.index(text.lower())
    if not _is_number(text) or not kind.low <= int(text) <= high:
        names = f" or {kind.names[0]}-{kind.names[-1]}" if kind.names else ""
        raise BadField(text, f"a number of {kind.low}-{high}{names}")
    return int(text)


def _is_number(text: str) -> bool:
    """Return whether a text is a whole number, and not one of a thousand digits."""
    return re.fullmatch(r"[0-9]{1,9}", text) is not None
