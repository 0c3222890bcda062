"""The run report of re-enabling users."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iam_watcher.jobs.run_report import RunReport, left_alone
from iam_watcher.log_lines import fact, get_logger

if TYPE_CHECKING:
    from iam_watcher.accounts.enable_batch import Batch

logger = get_logger(__name__)


@dataclass
class ReenableReport(RunReport):
    """The result of re-enabling users.

    Attributes:
        undo_record: URL of the undo record that was used; None if the users were given by name alone.
        listed: users in the undo record or, without one, names.
        enabled: users who were enabled.
        skipped: reason → users who were not: `enabled_already`; `changed_since` (something of the user,
            such as the status or the mail address, was changed after the run); `gone`; `not_in_record`
            (names that the undo record does not have); `named_twice`.
        unconfirmed: users who are enabled now, and whom a commit of this run that got no answer was to
            enable. Their secrets were part of the same commit.
        secrets_restored: secrets that work again, or expire when they would have.
        secrets_left: reason → secrets of users who were enabled: `gone`; `changed_since`.
        examples: `{"name", "why"}` of a few users who were skipped.
    """

    most_examples = 10

    undo_record: str | None = None
    listed: int = 0
    enabled: int = 0
    secrets_restored: int = 0
    secrets_left: Counter[str] = field(default_factory=Counter)

    def take(self, batch: Batch) -> None:
        """Take over what a transaction has done."""
        self.enabled += len(batch.users)
        self.secrets_restored += len(batch.secrets)
        self.secrets_left += batch.secrets_left
        self.unconfirmed += len(batch.unconfirmed)
        for name, why in batch.skipped:
            self.skip(name, why)
        for name in batch.users.values():
            logger.info("event=enabled dry_run=%s user=%s", self.dry_run, fact(name))
        for name in batch.unconfirmed:
            logger.warning("The commit that enabled this user got no answer: user=%s", fact(name))

    def skip(self, name: str, why: str) -> None:
        """Count a user who is not enabled."""
        self.skipped[why] += 1
        self.add_example(name=name, why=why)

    def sentences(self) -> list[str]:
        """Return how many users were re-enabled."""
        were = "Dry run: {} would be" if self.dry_run else "{} were"
        users = were.format(f"{self.enabled:,} of {self.listed:,} users")
        return [f"{users} re-enabled{left_alone(self.skipped)}"]
