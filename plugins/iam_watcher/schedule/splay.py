"""Splay: `~` in a cron field is one value of a range, which the id of the DAG decides.

| item | value |
|---|---|
| `~` | a number of the field; in the day of month, of 1-28, which each month has |
| `a~b`, `a~`, `~b` | a number of `a` to `b`; without a bound, that of `~` |
| `~/n`, `a~b/n` | each n-th number of the range, from one of its first n numbers on |

The value comes from a hash of the DAG id and the field's name. So it is the same in each deployment, on each
machine and in each version of Python, and many DAGs spread over the range. Two ranges of one field take the
same part of the range: `0~29,30~59` is twice an hour, at a distance of 30 minutes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from iam_watcher.schedule.fields import DAY_OF_MONTH, BadField

if TYPE_CHECKING:
    from iam_watcher.schedule.fields import FieldKind

SIGN = "~"
DESCRIPTORS = {
    "@yearly~": "~ ~ ~ ~ ~ *",
    "@annually~": "~ ~ ~ ~ ~ *",
    "@monthly~": "~ ~ ~ ~ * *",
    "@weekly~": "~ ~ ~ * * ~",
    "@daily~": "~ ~ ~ * * *",
    "@hourly~": "~ ~ * * * *",
}
_LAST_DAY_OF_EACH_MONTH = 28
_BITS = 64


def resolve(kind: FieldKind, text: str, dag_id: str) -> str:
    """Return a field with a number, or a range with a step, in place of each item with `~`.

    Args:
        kind: the field.
        text: its text.
        dag_id: decides the values.

    Raises:
        BadField: an item with `~` is not valid in this field.
    """
    return ",".join(_item(kind, item, dag_id) if SIGN in item else item for item in text.split(","))


def _item(kind: FieldKind, item: str, dag_id: str) -> str:
    bounds, *steps = item.split("/")
    if len(steps) > 1:
        raise BadField(item, "at most one slash")
    first, *rest = bounds.split(SIGN)
    if len(rest) > 1:
        raise BadField(item, f"at most one {SIGN}")
    if not rest:
        raise BadField(item, f"a range such as {SIGN} or {kind.low}{SIGN}{kind.high} before the slash")
    last = _LAST_DAY_OF_EACH_MONTH if kind is DAY_OF_MONTH else kind.high
    low = kind.number(first, item) if first else kind.low
    high = kind.number(rest[0], item) if rest[0] else last
    if low > high:
        upper = "" if rest[0] else f"; without an upper bound, the range ends at {last}"
        raise BadField(item, f"a range from the lower to the higher number{upper}")
    count = high - low + 1
    if not steps:
        return str(low + _choice(kind, dag_id, count))
    step = kind.step(steps[0], item)
    return f"{low + _choice(kind, dag_id, min(step, count))}-{high}/{step}"


def _choice(kind: FieldKind, dag_id: str, count: int) -> int:
    """Return a number of 0 to `count` - 1. A change here moves the runs of every watcher that has `~`."""
    digest = hashlib.sha256(f"{kind.name}\0{dag_id}".encode("utf-8", "backslashreplace")).digest()
    part = int.from_bytes(digest[: _BITS // 8], "big")
    return part * count >> _BITS
