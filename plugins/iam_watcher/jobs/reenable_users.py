"""Enables users again whom a run disabled: the way back, which IAM's own API does not have."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import ValidationError, convert

from iam_watcher import arguments
from iam_watcher.accounts.undo_record import KIND, DisabledUser
from iam_watcher.accounts.user_enabler import UserEnabler
from iam_watcher.archive import reader as archive_reader
from iam_watcher.archive import writer as archive
from iam_watcher.database.catalogue import read_table
from iam_watcher.errors import ArchiveDamaged, JobArgumentError
from iam_watcher.jobs.announce import SECRET_CHANGED, announcing
from iam_watcher.jobs.database_operator import DatabaseOperator
from iam_watcher.jobs.table_job.run_report import left_alone
from iam_watcher.log_lines import fact, fact_lines, get_logger
from iam_watcher.walk.pace import LEAST_ROWS, ChunkSize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from iam_watcher.accounts.user_enabler import Batch
    from iam_watcher.database.catalogue import Column, Table
    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

MOST_USERS = 500  # of one transaction
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
            (names that the report does not have); `named_twice`.
        unconfirmed: users who are enabled now, and whom a commit of this run that got no answer was to
            enable. Their secrets were part of the same commit.
        secrets_restored: secrets that work again, or expire when they would have.
        secrets_left: reason → secrets of users who were enabled: `gone`; `changed_since`.
        examples: `{"name", "why"}` of a few users who were skipped.
    """

    dry_run: bool
    report: str | None
    listed: int = 0
    enabled: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    unconfirmed: int = 0
    secrets_restored: int = 0
    secrets_left: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

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
            logger.warning("the commit that enabled this user got no answer: user=%s", fact(name))

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

    def as_lines(self) -> list[str]:
        """Return it as short log lines: a sentence, then facts."""
        would = "Dry run: {} would be" if self.dry_run else "{} were"
        users = would.format(f"{self.enabled:,} of {self.listed:,} users")
        facts = {name: value for name, value in self.as_dict().items() if name != "examples"}
        return [
            f"{users} re-enabled{left_alone(self.skipped)}",
            *fact_lines("reenabled", facts, self.examples),
        ]


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
    :param pace: "fast" (transactions of 0.1 s), "polite" (25 ms, and as long a rest) or a `Pace`.
    :param throttle: when the job waits for the server.
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
        if report is not None:
            arguments.check_literal(arguments.text, "report", report)
        if names is not None:
            arguments.check_literal(arguments.names, "names", names)
        arguments.check_literal(arguments.location, "archive", archive)
        arguments.check_literal(arguments.flag, "dry_run", dry_run)

    def perform(self, context: Context) -> dict[str, Any]:
        """Enable them; return the `Reenabled` as a dictionary."""
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        # An empty field of Airflow's form is None.
        given = () if self.names in (None, "None") else self.names
        names = list(dict.fromkeys(arguments.names("names", given)))
        done = Reenabled(dry_run, None)
        record = None
        if self.report not in (None, "", "None"):
            location = archive.location_or_configured(self.archive)
            done.report = arguments.below("report", self.report, location)
            logger.info("Reading the undo record %s", done.report)
            record = _read(done.report, self.table, below=location)
        elif not names:
            raise JobArgumentError(
                "neither report nor names is given; expected the folder of a report, or a list of names"
            )
        disabled = record.disabled if record else {}
        with_secrets = any(line.secrets for lines in disabled.values() for line in lines)
        announce = (
            announcing(SECRET_CHANGED, run=str(context["ti"].id))
            if with_secrets and not dry_run
            else nullcontext(lambda: None)
        )
        try:
            with self.transactions(locked=not dry_run) as (_, db), announce as before_write:
                table = read_table(db, self.table)
                enabling = UserEnabler(
                    db,
                    table,
                    record.disabled if record else None,
                    checksum_of=record.checksum_columns(table) if record else (),
                    dry_run=dry_run,
                    before_write=before_write,
                )
                if not dry_run:
                    enabling.rehearse(with_secrets=with_secrets)
                chosen: Sequence[Any] = names
                if record:
                    chosen = _chosen(record, names, enabling, done) if names else sorted(disabled)
                done.listed = len(names or disabled)
                try:
                    self._enable(db, enabling, chosen, done)
                finally:
                    done.unconfirmed += len(enabling.unanswered)
        finally:
            for line in done.as_lines():
                logger.info("%s", line)
        return done.as_dict()

    def _enable(
        self, db: Transactions, enabling: UserEnabler, chosen: Sequence[Any], done: Reenabled
    ) -> None:
        """Enable the users batch by batch, as the throttle and the pace allow."""
        size, at = ChunkSize(self.paced.target, rows=LEAST_ROWS), 0
        with self.throttling(db, self.table) as throttler:
            while at < len(chosen):
                throttler.wait()
                began = time.monotonic()
                batch = chosen[at : at + min(size.rows, MOST_USERS)]
                done.take(enabling.enable(batch))
                at += len(batch)
                seconds = time.monotonic() - began
                size.wrote(len(batch), seconds)
                db.sleep(self.paced.rest(seconds))


@dataclass(frozen=True)
class UndoRecord:
    """What a run and its tries wrote about the users whom they disabled.

    Attributes:
        disabled: user → the lines about the user, the newest first.
        checksums_of: the columns that the checksums of each try are made of.
    """

    disabled: dict[int, list[DisabledUser]]
    checksums_of: list[list[str]]

    def checksum_columns(self, table: Table) -> list[Column]:
        """Return the columns to make a checksum of, to be compared with those of the record.

        There are none if the record has no checksums, or if its tries or the table have other columns.
        """
        first = self.checksums_of[0]
        if first and all(names == first for names in self.checksums_of) and set(first) <= set(table.columns):
            return [table.column(name) for name in first]
        logger.warning(
            "the undo record has no checksums, or %s had other columns then: a user who was changed within "
            "the second of the disabling counts as unchanged",
            table.name,
        )
        return []


def _read(url: str, table: str, *, below: str) -> UndoRecord:
    record = UndoRecord({}, [])
    for written in archive_reader.find(url, kind=KIND, below=below):
        if written.manifest["table"] != table:
            raise JobArgumentError(f"{url} is about {written.manifest['table']}; expected {table}")
        try:
            record.checksums_of.append(convert(written.manifest.get("checksum_of", []), list[str]))
            for row in written.rows():
                user = convert(row, DisabledUser)
                record.disabled.setdefault(user.id, []).append(user)
        except ValidationError as error:
            raise ArchiveDamaged(f"{url}: {error}; expected the undo record of a run") from error
    return record


def _chosen(record: UndoRecord, names: list[str], enabling: UserEnabler, done: Reenabled) -> list[int]:
    """Return the keys of the users in the record who have, or had, one of these names."""
    recorded = {line.name: key for key, lines in record.disabled.items() for line in lines}
    keys = {name: [recorded[name]] for name in names if name in recorded}
    keys |= enabling.keys_of([name for name in names if name not in keys])
    chosen: set[int] = set()
    for name in names:
        found = record.disabled.keys() & keys[name]
        if not found:
            done.skip(name, "not_in_report")
        elif found <= chosen:
            done.skip(name, "named_twice")
        chosen |= found
    return sorted(chosen)
