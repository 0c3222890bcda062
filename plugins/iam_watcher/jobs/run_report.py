"""The run report: what a run did, as a plain dictionary (the task's XCom) and as log lines."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from iam_watcher.airflow_internals.tasks import masked
from iam_watcher.log_lines import fact_lines, get_logger
from iam_watcher.notices import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow.sdk import Context

logger = get_logger(__name__)

# Why rows were left alone, for one row and for more: each reason that a job counts, which a test compares.
REASONS = {
    "admin": ("admin", "admins"),
    "exempt_name": ("exempt name", "exempt names"),
    "new_account": ("new account", "new accounts"),
    "zero_date": ("with a zero date or one before 1980",) * 2,
    "no_date": ("without a date", "without a date"),
    "no_time": ("with a value that is no time", "with values that are no times"),
    "never_expires": ("that never expires", "that never expire"),
    "newest": ("of the newest", "of the newest"),
    "foreign_key": ("protected by a foreign key", "protected by a foreign key"),
    "exists": ("that exists", "that exist"),
    "changed_meanwhile": ("changed meanwhile", "changed meanwhile"),
    "no_name": ("without a name", "without a name"),
    "archive_too_large": ("too large for an archive", "too large for an archive"),
    "archive_json_type": ("with a JSON value that an archive can't have",) * 2,
    "archive_check": ("that violates a CHECK constraint", "that violate a CHECK constraint"),
    "replaced": ("of a row that was replaced", "of rows that were replaced"),
    "unique_key": ("refused by a unique key", "refused by a unique key"),
    "check": ("refused by a CHECK constraint", "refused by a CHECK constraint"),
    "trigger": ("refused by a trigger", "refused by a trigger"),
    "does_not_fit": ("that doesn't fit the columns", "that don't fit the columns"),
    "enabled_already": ("enabled already", "enabled already"),
    "changed_since": ("changed since", "changed since"),
    "gone": ("gone", "gone"),
    "not_in_record": ("not in the undo record", "not in the undo record"),
    "named_twice": ("named twice", "named twice"),
}

LIMITS = {"max_rows": "row limit", "time_budget": "time limit"}


@dataclass
class RunReport(ABC):
    """What every run on a table reports; each kind of run has more.

    Attributes:
        table: that was worked on.
        dry_run: the run wrote nothing.
        unconfirmed: rows whose commit got no answer.
        skipped: reason → rows that were left alone.
        examples: facts of a few rows.
        retries: transactions that were tried again.
        duration_seconds: of the whole run.
        error: why the run ended early; None if it did not.
    """

    table: str
    dry_run: bool
    unconfirmed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    retries: int = 0
    duration_seconds: float = 0.0
    error: str | None = None

    most_examples: ClassVar[int] = 5
    in_sentences: ClassVar[frozenset[str]] = frozenset({"error", "examples"})
    """Fields that `as_lines` has in its sentences."""

    @abstractmethod
    def sentences(self) -> list[str]:
        """Return what the run did, for people: a line for each sentence."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values, without reasons that no row has."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            name: dict(sorted((+value).items())) if isinstance(value, Counter) else value
            for name, value in values.items()
        }

    def as_lines(self) -> list[str]:
        """Return the report as short log lines: sentences, facts as key=value, then examples."""
        facts = {name: value for name, value in self.as_dict().items() if name not in self.in_sentences}
        first, *others = self.sentences()
        early = [f"The run ended early: {self.error}"] if self.error else []
        return [first, *early, *others, *fact_lines("run_report", facts, self.examples)]

    @contextmanager
    def reported(self, context: Context) -> Iterator[None]:
        """Measure what the block does, and log the report at its end.

        If the block raises, the task returns nothing: the report is in the XCom and the metrics all the same.
        """
        began = time.monotonic()
        try:
            yield
        except BaseException as error:
            self.error = masked(f"{type(error).__name__}: {error}")
            raise
        finally:
            self.duration_seconds = round(time.monotonic() - began, 3)
            for line in self.as_lines():
                logger.info("%s", line)
            if self.error is not None:
                context["ti"].xcom_push(key="return_value", value=self.as_dict())
                metrics.worked(context["ti"], self.as_dict())

    def add_example(self, **facts: Any) -> None:
        """Keep the facts of a row, if there are not enough examples yet."""
        if len(self.examples) < self.most_examples:
            self.examples.append(facts)


def left_alone(skipped: Mapping[str, int], reasons: Mapping[str, tuple[str, str]] = REASONS) -> str:
    """Return how many rows were left alone for which reason, as a part of a sentence; "" if none was."""
    left = counted(skipped, reasons)
    return f" ({left} left alone)" if left else ""


def counted(skipped: Mapping[str, int], reasons: Mapping[str, tuple[str, str]] = REASONS) -> str:
    """Return how many rows each reason has, such as "2 admins and 1 exempt name"; "" without rows.

    Args:
        skipped: reason → rows.
        reasons: reason → what the text says of one row, and of more.
    """
    left = []
    for reason, number in skipped.items():
        one, more = reasons.get(reason, (reason.replace("_", " "),) * 2)
        if number:
            left.append(f"{number:,} {one if number == 1 else more}")
    return " and ".join([", ".join(left[:-1]), left[-1]] if left[1:] else left)
