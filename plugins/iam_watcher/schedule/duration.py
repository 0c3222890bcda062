"""Durations as in Go (`1h30m10s`), and also days and weeks.

The grammar is that of Go's `time.ParseDuration`. A schedule has whole seconds, so a duration must be a
positive number of whole seconds. (robfig/cron would round it.)
"""

from __future__ import annotations

import re
from datetime import timedelta

_SECOND = 1_000_000_000
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5 and U+03BC: Go takes both
    "μs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
    "d": 86_400 * _SECOND,
    "w": 604_800 * _SECOND,
}
_UNITS = "w, d, h, m, s, ms, us or ns"
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
# Go counts nanoseconds in 63 bits: about 292 years.
_LONGEST = 2**63 - 1
_DIGITS = 19


class BadDuration(ValueError):  # noqa: N818  becomes an InvalidSpec where the spec is known
    """`part` of the duration is not valid; `expected` says what is."""

    def __init__(self, part: str, expected: str) -> None:
        self.part = part
        self.expected = expected
        super().__init__(f"{part!r}: expected {expected}")


def parse_duration(text: str) -> timedelta:
    """Return the duration of a text, at least one second.

    Raises:
        BadDuration: the text is not a duration, not positive, not in whole seconds, or over 292 years.
    """
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    if not digits:
        raise BadDuration(text, "a duration such as 1h30m10s or 1d")
    total = 0 if digits == "0" else _nanoseconds(digits)
    if total == 0:
        raise BadDuration(text, "a duration longer than zero")
    if sign == "-":
        raise BadDuration(text, "a positive duration")
    if total > _LONGEST:
        raise BadDuration(text, "at most 292 years")
    if total % _SECOND:
        raise BadDuration(text, "whole seconds")
    return timedelta(seconds=total // _SECOND)


def _nanoseconds(text: str) -> int:
    total = 0
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or not (term[1] or term[2]):
            raise BadDuration(text[position:], f"a number and a unit ({_UNITS})")
        whole, fraction, unit = term.groups()
        if unit not in _NANOSECONDS:
            expected = f"a unit ({_UNITS})" if unit else f"a unit ({_UNITS}) after the number"
            raise BadDuration(term[0], expected)
        scale = _NANOSECONDS[unit]
        whole, fraction = whole.lstrip("0") or "0", (fraction or "0")[:_DIGITS]
        total += int(whole[: _DIGITS + 1]) * scale + int(fraction) * scale // 10 ** len(fraction)
        position = term.end()
    return total


def format_duration(duration: timedelta) -> str:
    """Return the shortest text in weeks, days, hours, minutes and seconds: `1h30m`."""
    seconds = int(duration.total_seconds())
    text = ""
    for unit, size in (("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text
