"""Enables users again whom a run disabled: the way back, which IAM's own API does not have."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs import archive, arguments
from iam_watcher.jobs.announce import SECRET_CHANGED, announcing
from iam_watcher.jobs.catalogue import read_table
from iam_watcher.jobs.disabled_users import KIND
from iam_watcher.jobs.operator import DatabaseOperator
from iam_watcher.jobs.reenabling import Reenabling
from iam_watcher.log_lines import fact, get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from iam_watcher.jobs.archive import Row
    from iam_watcher.jobs.reenabling import Batch

logger = get_logger(__name__)

BATCH = 500  # users of one transaction
MOST_EXAMPLES = 10


@dataclass
class Reenabled:
    """The result of a run.

    Attributes:
        dry_run: nothing was written; the numbers say what would have been.
        report: URL of the report that was gone by; None if names alone were.
        listed: users in the report or, without one, names.
        enabled: users who were enabled.
        skipped: reason → users who were not: `enabled_already`; `changed_since` (something of the user,
            such as the status or the mail address, was changed after the run); `gone`; `not_in_report`
            (names that the report does not have).
        secrets_restored: secrets that work again, or expire when they would have.
        secrets_left: reason → secrets of users who were enabled: `gone`; `changed_since`.
        examples: `{"name", "why"}` of a few users who were skipped.
    """

    dry_run: bool
    report: str | None
    listed: int = 0
    enabled: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    secrets_restored: int = 0
    secrets_left: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def take(self, batch: Batch) -> None:
        """Take over what a transaction has done."""
        self.enabled += len(batch.users)
        self.secrets_restored += len(batch.secrets)
        self.secrets_left += batch.secrets_left
        for name, why in batch.skipped:
            self.skip(name, why)
        for name in batch.users.values():
            logger.info("event=enabled dry_run=%s user=%s", self.dry_run, fact(name))

    def skip(self, name: str, why: str) -> None:
        """Count a user who is not enabled."""
        self.skipped[why] += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append({"name": name, "why": why})

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            **asdict(self),
            "skipped": dict(sorted(self.skipped.items())),
            "secrets_left": dict(sorted(self.secrets_left.items())),
        }


class ReenableUsersOperator(DatabaseOperator):
    """Enables users whom a run disabled, restores the secrets it expired, and resets their inactivity.

    A user who was changed after that run is left as he is, so a second run changes nothing. `loginedAt`
    becomes now, or the next run would disable them again.

    :param report: URL of the folder that the report of the run names as `archive`, or its part behind
        `archive`. (templated)
    :param names: with a report: only these users of it. Without: these users, whoever disabled them; then
        nothing is known of their secrets. (templated)
    :param archive: the location below which `report` must lie; default: `[iam_watcher] archive`. (templated)
    :param dry_run: count, write nothing. (templated)
    :param table: name of the table.
    :param mysql_conn_id: Airflow connection of the database. Its account needs UPDATE on `status` and
        `loginedAt`, and on `secret.expires` if secrets were expired.
    """

    template_fields: Sequence[str] = ("report", "names", "archive", "is_dry_run")

    def __init__(
        self,
        *,
        report: str | None = None,
        names: Sequence[str] | str = (),
        archive: str | None = None,
        dry_run: bool | str = False,
        table: str = "user",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.report = report
        self.names = names
        self.archive = archive
        self.is_dry_run = dry_run
        self.table = table
        arguments.identifier("table", table)
        arguments.check_literal(arguments.location, "archive", archive)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)

    def perform(self, context: Context) -> dict[str, Any]:
        """Enable them; return the `Reenabled` as a dictionary."""
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        names = arguments.names("names", self.names)
        done = Reenabled(dry_run, None)
        if self.report not in (None, "", "None"):
            location = archive.location_or_configured(self.archive)
            done.report = arguments.below("report", self.report, location)
            disabled = _read(done.report, self.table)
            batches = _chosen(disabled, names, done)
        elif names:
            disabled = {}
            batches = _batches(list(dict.fromkeys(names)))
            done.listed = sum(map(len, batches))
        else:
            raise JobArgumentError(
                "neither report nor names is given; expected the folder of a report, or a list of names"
            )
        with_secrets = any(line["secrets"] for lines in disabled.values() for line in lines)
        announce = (
            announcing(SECRET_CHANGED, run=str(context["ti"].id))
            if with_secrets and not dry_run
            else nullcontext(lambda: None)
        )
        try:
            with self.transactions(fenced=not dry_run) as (_, db), announce as before_write:
                table = read_table(db, self.table)
                enabling = Reenabling(
                    db,
                    table,
                    disabled if done.report else None,
                    dry_run=dry_run,
                    before_write=before_write,
                )
                if not dry_run:
                    enabling.rehearse(with_secrets=with_secrets)
                for batch in batches:
                    done.take(enabling.enable(batch))
        finally:
            logger.info("event=reenabled %s", " ".join(f"{k}={v!r}" for k, v in done.as_dict().items()))
        return done.as_dict()


def _read(url: str, table: str) -> dict[int, list[Row]]:
    """Return user → what the report's tries say of him, the newest first."""
    disabled: dict[int, list[Row]] = {}
    for written in archive.find(url, kind=KIND):
        if written.manifest["table"] != table:
            raise JobArgumentError(f"{url} is about {written.manifest['table']}; expected {table}")
        for part in written.newest_first():
            for line in part:
                disabled.setdefault(int(line["id"]), []).append(line)
    return disabled


def _chosen(disabled: dict[int, list[Row]], names: Sequence[str], done: Reenabled) -> list[list[int]]:
    if not names:
        done.listed = len(disabled)
        return _batches(sorted(disabled))
    # The report has the names as they stand in the table.
    keys = {line["name"]: key for key, lines in disabled.items() for line in lines}
    done.listed = len(names)
    for name in names:
        if name not in keys:
            done.skip(name, "not_in_report")
    return _batches(sorted({keys[name] for name in names if name in keys}))


def _batches(items: list[Any]) -> list[list[Any]]:
    return [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
