"""Writes the undo record while users are disabled, and expires their secrets if that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from iam_watcher.accounts.undo_record import DisabledUser, ExpiredSecret, checksum
from iam_watcher.archive.writer import Packed
from iam_watcher.database.column import AS_UTF8
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.accounts.account_columns import AccountColumns
    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange

logger = get_logger(__name__)

# Reads the users who are to be disabled, and locks them, so that nobody changes them before the write.
LOCK = (
    "SELECT {selected}, {texts} FROM {table} FORCE INDEX ({index}) WHERE {keys} AND ({predicate}) FOR UPDATE"
)

# The user as the statement left the row. `updatedAt` differs after a later change, but it has whole seconds:
# the checksum shows a change within the same second.
WRITTEN = "SELECT {selected}, {updated}, {checksum} FROM {table} FORCE INDEX ({index}) WHERE {keys}"

# Reads the valid secrets of users without locks. With locks, the server would lock every row that it reads:
# in a small table, all secrets.
SECRETS = (
    "SELECT u.{selected}, s.`id`, BINARY s.`username` FROM {table} AS u FORCE INDEX ({index})"
    " STRAIGHT_JOIN `secret` AS s ON s.`username` = u.`name` WHERE u.{keys} AND {valid}"
)
# Under lock: those that still work, whose they are, and the server's time.
LOCK_SECRETS = (
    "SELECT s.`id`, BINARY s.`username`, s.`expires`, UNIX_TIMESTAMP()"
    " FROM `secret` AS s FORCE INDEX (PRIMARY) WHERE s.`id` IN ({ids}) AND {valid} FOR UPDATE"
)
VALID = "(s.`expires` = 0 OR s.`expires` > UNIX_TIMESTAMP())"

EXPIRE = "UPDATE `secret` FORCE INDEX (PRIMARY) SET `expires` = %(now)s WHERE `id` IN ({keys})"
EXPIRE_REHEARSAL = "UPDATE `secret` SET `expires` = 1"


NAMES_ON_A_LINE = 4


class DisableRecorder:
    """Locks and reads users, and records who is disabled.

    Args:
        db: the transactions that disable.
        rows: the users to be disabled.
        columns: of the accounts. The checksum of a user is made of all columns of the table.
        archive: where; None to log the names instead.
        expire_secrets: whether their secrets expire in the same transaction.
        cut_off: for the reason, ISO 8601.

    Attributes:
        expired: secrets that were expired, and committed.
    """

    def __init__(
        self,
        db: Transactions,
        rows: RowChange,
        columns: AccountColumns,
        archive: Archive | None,
        *,
        expire_secrets: bool,
        cut_off: str,
    ) -> None:
        self.expired = self._in_transaction = 0
        self.refused: Mapping[str, int] = {}  # every user can be recorded
        self._db = db
        self._rows = rows
        self._columns = columns
        self._checksum = checksum(list(columns.table.columns.values()))
        self._archive = archive
        self._expire_secrets = expire_secrets
        self._cut_off = cut_off
        self._locked: dict[KeyValue, DisabledUser] = {}

    def lock(self, keys: Sequence[KeyValue]) -> list[KeyValue]:
        """Lock and read the users of these keys who still match; return their keys, in the same order."""
        key, columns = self._rows.key, self._columns
        self._locked = {}
        self._in_transaction = 0
        for row in self._ask(LOCK, keys, self._rows.values):
            name, login, created, updated, never = row[len(key.columns) :]
            since = (created if never else login).decode()
            if since.isdecimal() and (moment := columns.last_seen(login, created, never)) is not None:
                since = f"{moment:%Y-%m-%d %H:%M:%S}"  # For people; the server shows dates so.
            why = "no login, and created" if never else "last login"
            value = key.take(row)
            self._locked[value] = DisabledUser(
                id=columns.id_of(value),
                name=name.decode(),
                logined_at=login and login.decode(),
                created_at=created and created.decode(),
                why=f"{why} {since} before {self._cut_off}",
                updated_at=updated.decode() if updated else "",
            )
        # If the text of a key was changed meanwhile, such as to capitals, it is another key here. Its user is
        # left for the next run.
        return [value for value in keys if value in self._locked]

    def record(self, keys: Sequence[KeyValue]) -> None:
        """Expire the secrets of users who were disabled, and put all of it into the archive."""
        for row in self._ask(WRITTEN, keys):
            user = self._locked[self._rows.key.take(row)]
            updated, user.checksum = row[-2:]
            user.updated_at = updated.decode() if updated else ""
        secrets = self._expire(keys) if self._expire_secrets else {}
        for key, expired in secrets.items():
            self._locked[key].secrets = expired
        users = [self._locked[key] for key in keys]
        if self._archive is None:
            _log([user.name for user in users])
        else:
            lines = (msgspec.json.encode(user) + b"\n" for user in users)
            self._archive.add(Packed.of(len(users), lines))
        self._in_transaction = sum(map(len, secrets.values()))

    def committed(self) -> None:
        """Count the secrets that the transaction has expired."""
        self.expired += self._in_transaction
        self._in_transaction = 0

    def _expire(self, keys: Sequence[KeyValue]) -> dict[KeyValue, list[ExpiredSecret]]:
        owners = {secret: (user, name) for user, secret, name in self._ask(SECRETS, keys)}
        secrets: dict[KeyValue, list[ExpiredSecret]] = {}
        if not owners:
            return secrets
        ids = ",".join(map(str, owners))
        for secret, name, expires, now in self._db.read(LOCK_SECRETS.format(ids=ids, valid=VALID)):
            user, name_then = owners[secret]
            if name == name_then:
                secrets.setdefault(user, []).append(ExpiredSecret(secret, expires, now))
        expired = [one for ones in secrets.values() for one in ones]
        if expired:
            ids = ",".join(str(one.id) for one in expired)
            self._db.change(EXPIRE.format(keys=ids), {"now": expired[0].expired})
        return secrets

    def _ask(self, query: str, keys: Sequence[KeyValue], values: Any = None) -> Any:
        rows, columns = self._rows, self._columns
        return self._db.read(
            query.format(
                selected=rows.key.selected,
                texts=columns.texts,
                updated="NULL" if columns.updated is None else AS_UTF8.format(column=columns.updated.quoted),
                checksum=self._checksum,
                table=rows.table,
                index=rows.key.index,
                keys=rows.key.among(keys),
                predicate=rows.predicate,
                valid=VALID,
            ),
            values,
        )


def _log(names: Sequence[str]) -> None:
    """Log the names of users whose transaction is about to be committed."""
    for at in range(0, len(names), NAMES_ON_A_LINE):
        some = names[at : at + NAMES_ON_A_LINE]
        logger.info("Disabling these users, without an undo record: %s", ", ".join(map(repr, some)))
