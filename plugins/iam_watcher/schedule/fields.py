"""The fields of a cron spec: text to sets of numbers and rules for days, and back.

A field is a list of ranges, as in robfig/cron v3: `*`, `?`, `N`, `N-M`, each with an optional `/step`.
`N/step` ends at the field's highest number. Month and day of week accept three-letter names. As in
robfig/cron, `*-5` means `*`, empty items in a list are ignored (`1,,2`), and a number may have a plus sign.
A list without items, on which robfig/cron hangs, is not valid. In a list of days, an item may be a rule of
`day_rules`, which robfig/cron does not have. Reading a field and writing it are inverses of each other, so
they are in one class: hence the length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from iam_watcher.schedule import day_rules
from iam_watcher.schedule.day_rules import BadRule

if TYPE_CHECKING:
    from collections.abc import Callable

    from iam_watcher.schedule.day_rules import DayRule

# Go's strconv.Atoi, for what can be left after splitting at hyphens; 18 digits always fit in 63 bits.
_INTEGER = re.compile(r"\+?0*([0-9]{1,18})")


class BadField(ValueError):  # noqa: N818  becomes an InvalidSpec where the spec is known
    """`part` of the field is not valid; `expected` says what is."""

    def __init__(self, part: str, expected: str) -> None:
        self.part = part
        self.expected = expected
        super().__init__(f"{part!r}: expected {expected}")


class Field(NamedTuple):
    """The numbers that a field matches."""

    mask: int
    """Bit n is set when n matches."""
    star: bool
    """Whether it had a star or question mark without a step; for Vixie cron, whether it began with a star."""
    rules: tuple[DayRule, ...] = ()
    """Days that the calendar of a month tells, in order; none if the numbers are all."""


@dataclass(frozen=True)
class FieldKind:
    """The name and the valid numbers of one of the six fields."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Names of the numbers from `low` on, in lower case."""
    rule: Callable[[str, Callable[[str], int]], DayRule | None] | None = None
    """Reads an item that is a rule for days."""
    rule_examples: str = ""

    @property
    def full(self) -> int:
        """The mask of every number."""
        return (1 << self.high + 1) - (1 << self.low)

    def parse(self, text: str, *, vixie: bool = False) -> Field:
        """Return the numbers that `text` matches.

        Args:
            text: the field.
            vixie: whether a field that begins with a star counts as a star, as `*/2` does in Vixie cron.

        Raises:
            BadField: the text has no item, or an item that is not valid in this field.
        """
        mask = 0
        star = False
        rules: set[DayRule] = set()
        items = [item for item in text.split(",") if item]
        if not items:
            raise BadField(text, f"{self._expected()}, or a list of them")
        for item in items:
            rule = self._rule(item)
            if rule is not None:
                rules.add(rule)
                continue
            item_mask, item_star = self._range(item)
            mask |= item_mask
            star = star or item_star
        more = () if mask == self.full else tuple(sorted(rules))
        return Field(mask, star or (vixie and text.startswith("*")), more)

    def format(self, field: Field, *, vixie: bool = False) -> str:
        """Return a short text from which `parse`, with the same `vixie`, returns `field`."""
        if field.star and field.mask == self.full:
            return "*"
        text = self._progression(field) or ",".join(self.runs(field))
        text = ",".join([*([text] if text else []), *map(str, field.rules)])
        if not vixie or field.star == text.startswith("*"):
            return text
        # With a step beyond the field's end, `*` matches the first number only, which `field` has.
        return f"*/{self.high + 1},{text}" if field.star else text.replace("*", str(self.low))

    def numbers(self, field: Field) -> list[int]:
        """Return the numbers that `field` matches, in order."""
        return [number for number in range(self.low, self.high + 1) if field.mask >> number & 1]

    def runs(self, field: Field) -> list[str]:
        """Return the numbers that `field` matches, with consecutive numbers as `9-17`."""
        runs: list[list[int]] = []
        for number in self.numbers(field):
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]

    def _rule(self, item: str) -> DayRule | None:
        try:
            return None if self.rule is None else self.rule(item, lambda text: self.number(text, item))
        except BadRule as bad:
            raise BadField(item, str(bad)) from None

    def number(self, text: str, item: str) -> int:
        """Return the number, or the number of the name, in a text.

        Raises:
            BadField: the text is neither, or the number is not of this field. `item` is quoted.
        """
        number = self._number(text, item)
        if not self.low <= number <= self.high:
            raise BadField(item, self._expected())
        return number

    def _range(self, item: str) -> tuple[int, bool]:
        bounds, *steps = item.split("/")
        first, *rest = bounds.split("-")
        if len(steps) > 1:
            raise BadField(item, "at most one slash")
        step = self.step(steps[0], item) if steps else 1
        if first in ("*", "?"):
            start, end = self.low, self.high
            star = step == 1
        else:
            if len(rest) > 1:
                raise BadField(item, "at most one hyphen")
            star = False
            start = self._number(first, item)
            end = self._number(rest[0], item) if rest else self.high if steps else start
        if start < self.low or end > self.high:
            raise BadField(item, self._expected())
        if start > end:
            raise BadField(item, "a range from the lower to the higher number")
        return sum(1 << number for number in range(start, end + 1, step)), star

    def _number(self, text: str, item: str) -> int:
        if text.lower() in self.names:
            return self.low + self.names.index(text.lower())
        number = _integer(text)
        if number is None:
            raise BadField(item, self._expected())
        return number

    @staticmethod
    def step(text: str, item: str) -> int:
        """Return the step in the text after a slash.

        Raises:
            BadField: the text is no number of 1 or more. `item` is quoted.
        """
        step = _integer(text)
        if not step:
            raise BadField(item, "a step of 1 or more after the slash")
        return step

    def _progression(self, field: Field) -> str:
        """Return `*/step` or similar for three or more numbers with the same step above 1, else nothing."""
        numbers = self.numbers(field)
        steps = {later - earlier for earlier, later in pairwise(numbers)}
        if len(numbers) < 3 or len(steps) != 1 or steps == {1}:  # noqa: PLR2004  two are shorter as a list
            return ""
        step = steps.pop()
        if numbers[-1] + step <= self.high:
            return f"{numbers[0]}-{numbers[-1]}/{step}"
        return f"*/{step}" if numbers[0] == self.low else f"{numbers[0]}/{step}"

    def _expected(self) -> str:
        names = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"a number of {self.low}-{self.high}{names}{self.rule_examples}"


def _integer(text: str) -> int | None:
    match = _INTEGER.fullmatch(text)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class CronFields:
    """The six fields of a cron spec."""

    second: Field
    minute: Field
    hour: Field
    day_of_month: Field
    month: Field
    day_of_week: Field

    @property
    def is_every_day(self) -> bool:
        """Whether both day fields name every day."""
        return self.day_of_month.mask == DAY_OF_MONTH.full and self.day_of_week.mask == DAY_OF_WEEK.full

    @property
    def has_rules(self) -> bool:
        """Whether a day field has rules, so that years may pass between two matching days."""
        return bool(self.day_of_month.rules or self.day_of_week.rules)

    def matches_day(self, day: int, weekday: int, length: int) -> bool:
        """Return whether the day fields match a day of the month that is that day of the week.

        Both fields must match if one of them is a star. Otherwise one is enough.

        Args:
            day: of the month, from 1.
            weekday: Sunday is 0.
            length: days of the month.
        """
        in_month = self.day_of_month.mask >> day & 1
        in_week = self.day_of_week.mask >> weekday & 1
        if self.has_rules:
            first = (weekday - day + 1) % 7
            in_month |= any(rule.find(first, length) == day for rule in self.day_of_month.rules)
            in_week |= any(rule.find(first, length) == day for rule in self.day_of_week.rules)
        if self.day_of_month.star or self.day_of_week.star:
            return bool(in_month and in_week)
        return bool(in_month or in_week)

    def in_order(self) -> tuple[Field, ...]:
        """Return the fields as `KINDS` has them: seconds first."""
        return (self.second, self.minute, self.hour, self.day_of_month, self.month, self.day_of_week)


SECOND = FieldKind("second", 0, 59)
MINUTE = FieldKind("minute", 0, 59)
HOUR = FieldKind("hour", 0, 23)
DAY_OF_MONTH = FieldKind(
    "day of month", 1, 31, rule=day_rules.in_month, rule_examples=", or one of L, L-3, LW, 15W"
)
MONTH = FieldKind(
    "month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
)
DAY_OF_WEEK = FieldKind(
    "day of week",
    0,
    6,
    ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
    rule=day_rules.in_week,
    rule_examples=", or one of 5#2, fri#2, 5L, friL",
)
KINDS = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
