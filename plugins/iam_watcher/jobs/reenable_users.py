"""Re-enables the users that a run disabled, which IAM's own API can't do."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from iam_watcher import arguments
from iam_watcher.accounts.undo_record import read_undo_record
from iam_watcher.accounts.user_enabler import UserEnabler
from iam_watcher.database.catalogue import read_table
from iam_watcher.errors import JobArgumentError, TableError
from iam_watcher.jobs.account_table import IAM_ACCOUNTS, account_table
from iam_watcher.jobs.announce import SECRET_CHANGED, announcing
from iam_watcher.jobs.reenable_report import ReenableReport
from iam_watcher.jobs.table_job.accounts import account_columns, check_undo
from iam_watcher.jobs.table_job.side_effects import warn_of_triggers
from iam_watcher.jobs.table_operator import TableOperator
from iam_watcher.jobs.undo_operator import UndoOperator
from iam_watcher.log_lines import get_logger
from iam_watcher.walk.pace import LEAST_ROWS, ChunkSize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from iam_watcher.accounts.account_columns import AccountColumns, UserId
    from iam_watcher.accounts.undo_record import UndoRecord
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.account_table import AccountTable

logger = get_logger(__name__)

MOST_USERS = 500  # of one transaction


class ReenableUsersOperator(UndoOperator, TableOperator):
    """Enables the users that a run disabled, and restores the secrets that the run expired.

    A user who was changed after that run stays disabled, so a second run changes nothing. The job sets the
    last login to now; otherwise the next run would disable the same users again. The database account needs
    UPDATE on the columns of the status and of the last login (IAM: `status` and `loginedAt`), and on
    `secret.expires` if secrets were expired.

    It also takes the arguments of `UndoOperator`: `location`, `from_database`; of `TableOperator`: `table`
    (another name of IAM's table, without `accounts`; default "user"); and of `DatabaseOperator`:
    `mysql_conn_id`, `pace`, `throttle`, `dry_run`.

    :param undo_record: URL of the folder of the undo record, as the run report names it, or the part of the
        URL that follows `location`. (templated)
    :param names: with an undo record: re-enable only these users of it. Without an undo record: re-enable
        these users, whoever disabled them. Their secrets then stay as they are. (templated)
    :param accounts: the `AccountTable` of the run that disabled the users. Default: IAM's.
    """

    template_fields: Sequence[str] = ("undo_record", "names", *UndoOperator.template_fields)

    def __init__(
        self,
        *,
        undo_record: str | None = None,
        names: Sequence[str] | str = (),
        accounts: AccountTable | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.accounts = account_table(accounts, table)
        super().__init__(table=self.accounts.table, **kwargs)
        self.undo_record = undo_record
        self.names = names
        if undo_record is not None:
            arguments.check_literal(arguments.text, "undo_record", undo_record)
        if names is not None:
            arguments.check_literal(arguments.names, "names", names)

    def perform(self, context: Context) -> dict[str, Any]:
        """Enable the users; return the run report as a dictionary."""
        dry_run = arguments.flag("dry_run", self.is_dry_run)
        # An empty field of Airflow's form is None.
        given = () if self.names in (None, "None") else self.names
        names = list(dict.fromkeys(arguments.names("names", given)))
        done = ReenableReport(self.table, dry_run)
        record = None
        if self.undo_record not in (None, "", "None"):
            done.undo_record, location = self.below_location("undo_record", self.undo_record)
            logger.info("Reading the undo record %s", done.undo_record)
            record = read_undo_record(
                done.undo_record, self.table, self.accounts.shape, IAM_ACCOUNTS.shape, below=location
            )
        elif not names:
            raise JobArgumentError(
                "neither undo_record nor names is given; expected the folder of an undo record, or a list "
                "of names"
            )
        disabled = record.disabled if record else {}
        with_secrets = any(line.secrets for lines in disabled.values() for line in lines)
        announce = (
            announcing(SECRET_CHANGED, run=str(context["ti"].id))
            if with_secrets and not dry_run
            else nullcontext(lambda: None)
        )
        with (
            done.reported(context),
            self.transactions(locked=not dry_run) as (_, db),
            announce as before_write,
        ):
            table = read_table(db, self.table)
            if record:
                self.check_databases(str(done.undo_record), record.manifests, table.database)
            columns = account_columns(self.accounts, table, undo=True)
            check_undo(columns)
            for name in (table.name, *(["secret"] if with_secrets else [])):
                warn_of_triggers(db, name, "UPDATE")
            enabling = UserEnabler(
                db,
                columns,
                record.disabled if record else None,
                checksum_of=_checksum_columns(record, columns) if record else (),
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
                done.retries = db.retries
        return done.as_dict()

    def _enable(
        self, db: Transactions, enabling: UserEnabler, chosen: Sequence[Any], done: ReenableReport
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


def _checksum_columns(record: UndoRecord, columns: AccountColumns) -> list[Column]:
    found = record.checksum_columns(columns.table)
    if not found and columns.updated is None:
        raise TableError(
            f"{columns.table.name} has other columns than when the undo record was written, or the database "
            "account may read others. So the job can't tell who was changed since. Re-enable users by their "
            "names, without undo_record"
        )
    # Fails for the keys of another table, before the first write.
    for user in record.disabled:
        try:
            columns.key_of(user)
        except ValueError as error:
            raise TableError(
                f"the undo record has the key {user!r}, which is no key of {columns.table.name} "
                f"({columns.table.key.quoted}). Re-enable users by their names, without undo_record"
            ) from error
    return found


def _chosen(
    record: UndoRecord, names: list[str], enabling: UserEnabler, done: ReenableReport
) -> list[UserId]:
    """Return the users in the record who have, or had, one of these names."""
    recorded: dict[str, set[UserId]] = defaultdict(set)  # in some tables, several users have one name
    for user, lines in record.disabled.items():
        for line in lines:
            recorded[line.name].add(user)
    ids = {name: list(recorded[name]) for name in names if name in recorded}
    ids |= enabling.ids_of([name for name in names if name not in ids])
    chosen: set[UserId] = set()
    for name in names:
        found = record.disabled.keys() & ids[name]
        if not found:
            done.skip(name, "not_in_record")
        elif found <= chosen:
            done.skip(name, "named_twice")
        chosen |= found
    return sorted(chosen)
