"""Writes the undo record while users are disabled, and expires their secrets if that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from iam_watcher.accounts.undo_record import TEXT, DisabledUser, ExpiredSecret, checksum
from iam_watcher.archive.writer import Packed
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.archive.writer import Archive
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.row_change import RowChange

logger = get_logger(__name__)

# The users who are to be disabled: locked, so that they stay as they are read.
LOCK = (
    "SELECT {key}, {name}, {logined}, {created} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} IN ({keys}) AND ({predicate}) FOR UPDATE"
)

# The user as the statement left the row. `updatedAt` differs after a later change, but it has whole seconds:
# the checksum shows a change within the same second.
WRITTEN = "SELECT {key}, {updated}, {checksum} FROM {table} WHERE {key} IN ({keys})"

# Their secrets that work, and the server's time. The users come first and by their keys: whatever else it
# looks at, the server locks as well, and in a small table that would be everyone.
SECRETS = (
    "SELECT u.{key}, s.`id`, s.`expires`, UNIX_TIMESTAMP() FROM {table} AS u FORCE INDEX (PRIMARY)"
    " STRAIGHT_JOIN `secret` AS s ON s.`username` = u.`name`"
    " WHERE u.{key} IN ({keys}) AND (s.`expires` = 0 OR s.`expires` > UNIX_TIMESTAMP()) FOR UPDATE"
)

EXPIRE = "UPDATE `secret` FORCE INDEX (PRIMARY) SET `expires` = %(now)s WHERE `id` IN ({keys})"
EXPIRE_REHEARSAL = "UPDATE `secret` SET `expires` = 1"


NAMES_ON_A_LINE = 4


class DisableRecorder:
    """Locks and reads users, and records who is disabled.

    Args:
        db: the transactions that disable.
        rows: the users to be disabled.
        columns: those that the checksum of a user is made of.
        archive: where; None to log the names instead.
        expire_secrets: whether their secrets expire in the same transaction.
        cut_off: for the reason, ISO 8601.

    Attributes:
        expired: user → how many of their secrets were expired.
    """

    def __init__(
        self,
        db: Transactions,
        rows: RowChange,
        columns: Sequence[Column],
        archive: Archive | None,
        *,
        expire_secrets: bool,
        cut_off: str,
    ) -> None:
        self.expired: dict[int, int] = {}
        self.refused: Mapping[str, int] = {}  # every user can be recorded
        self._db = db
        self._rows = rows
        self._checksum = checksum(columns)
        self._archive = archive
        self._expire_secrets = expire_secrets
        self._cut_off = cut_off
        self._locked: dict[int, DisabledUser] = {}

    def lock(self, keys: Sequence[int]) -> list[int]:
        """Lock and read the users of these keys who still match; return their keys, sorted."""
        found = self._ask(LOCK, keys, self._rows.values)
        self._locked = {}
        for key, name, logined_at, created_at in found:
            logined, created = logined_at and logined_at.decode(), created_at.decode()
            why = (
                f"last login {logined} before {self._cut_off}"
                if logined
                else f"no login, and created {created} before {self._cut_off}"
            )
            self._locked[key] = DisabledUser(key, name.decode(), logined, created, why, updated_at="")
        return sorted(self._locked)

    def record(self, keys: Sequence[int]) -> None:
        """Expire the secrets of users who were disabled, and put all of it into the archive."""
        for key, updated, digits in self._ask(WRITTEN, keys):
            self._locked[key].updated_at, self._locked[key].checksum = updated.decode(), digits
        secrets = self._expire(keys) if self._expire_secrets else {}
        users = [self._locked[key] for key in keys]
        for user in users:
            user.secrets = secrets.get(user.id, [])
        if self._archive is None:
            _log([user.name for user in users])
        else:
            lines = (msgspec.json.encode(user) + b"\n" for user in users)
            self._archive.add(Packed.of(len(users), lines))
        self.expired.update({key: len(found) for key, found in secrets.items()})

    def _expire(self, keys: Sequence[int]) -> dict[int, list[ExpiredSecret]]:
        found = self._ask(SECRETS, keys)
        secrets: dict[int, list[ExpiredSecret]] = {}
        for user, secret, expires, now in found:
            secrets.setdefault(user, []).append(ExpiredSecret(secret, expires, now))
        if found:
            ids = ",".join(str(secret) for _, secret, _, _ in found)
            self._db.change(EXPIRE.format(keys=ids), {"now": found[0][3]})
        return secrets

    def _ask(self, query: str, keys: Sequence[int], values: Any = None) -> Any:
        columns = {"name": "name", "logined": "loginedAt", "created": "createdAt", "updated": "updatedAt"}
        return self._db.read(
            query.format(
                table=self._rows.table,
                key=self._rows.key.quoted,
                keys=",".join(map(str, keys)),
                predicate=self._rows.predicate,
                checksum=self._checksum,
                **{name: TEXT.format(column=f"`{column}`") for name, column in columns.items()},
            ),
            values,
        )


def _log(names: Sequence[str]) -> None:
    """Log the names of users whose transaction is about to be committed."""
    for at in range(0, len(names), NAMES_ON_A_LINE):
        some = names[at : at + NAMES_ON_A_LINE]
        logger.info("Disabling these users, without an undo record: %s", ", ".join(map(repr, some)))
