"""Results with targets, and comparisons of runs, for all subjects of `make bench`.

Machines are noisy, so a result is a ratio and not a time: the programs of a subject run in turn, round after
round, and the result is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Figure = TypeVar("Figure")


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Args:
        name: what was compared with what.
        ratio: ours / theirs; or a figure whose unit is in the name.
        at_most: the target, if less is better; give one of the two.
        at_least: the target, if more is better.
        detail: the figures from which the ratio was computed.
    """

    name: str
    ratio: float
    at_most: float | None = None
    at_least: float | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        """Refuse a result without a target."""
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"{self.name!r}: expected at_most or at_least")

    @property
    def target(self) -> str:
        """The target as a text: `<= 1.3` or `>= 0.8`."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        high = self.at_most is None or self.ratio <= self.at_most
        return high and (self.at_least is None or self.ratio >= self.at_least)


def interleaved(contestants: Mapping[str, Callable[[], Figure]], rounds: int) -> dict[str, list[Figure]]:
    """Measure the programs in turn and return the figures of each, one for each round.

    Each round begins with another program, so that none of them always runs on a warmer machine.
    """
    figures: dict[str, list[Figure]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            figures[name].append(contestants[name]())
    return figures


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def table(results: Sequence[Result]) -> str:
    """Return the results as a table for a terminal."""
    lines = [("", "result", "target", "figures")]
    lines += [
        (
            "ok" if one.ok else "missed",
            f"{one.ratio:.3g}",
            one.target,
            f"{one.name}: {one.detail}".rstrip(": "),
        )
        for one in results
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[3]]).rstrip()
        for line in lines
    )


def save(results: Sequence[Result], path: Path) -> None:
    """Write the results as a JSON list of `{"name", "ratio", "target", "ok"}`."""
    rows = [
        {"name": one.name, "ratio": round(one.ratio, 4), "target": one.target, "ok": one.ok}
        for one in results
    ]
    path.write_text(json.dumps(rows, indent=2) + "\n")
