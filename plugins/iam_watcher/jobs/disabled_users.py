"""Records whom a run disables, and expires their secrets with them if that is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from iam_watcher.jobs.archive import Packed, compress
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.jobs.archive import Archive
    from iam_watcher.jobs.rows import Rows
    from iam_watcher.jobs.transaction import Transactions

logger = get_logger(__name__)

KIND = "disabled_users"

# Text in UTF-8, and zero dates as they are, whatever the driver would make of them.
TEXT = "CAST(CONVERT({column} USING utf8mb4) AS BINARY)"

# The users who are to be disabled: locked, so that they stay as they are read.
LOCK = (
    "SELECT {key}, {name}, {logined}, {created} FROM {table} FORCE INDEX (PRIMARY)"
    " WHERE {key} IN ({keys}) AND ({predicate}) FOR UPDATE"
)

# What the table's ON UPDATE rule made of updatedAt: who is changed later has another.
STAMPS = "SELECT {key}, {updated} FROM {table} WHERE {key} IN ({keys})"

# Their secrets that work, and the server's time. The users come first and by their keys: whatever else it
# looks at, the server locks as well, and in a small table that would be everyone.
SECRETS = (
    "SELECT u.{key}, s.`id`, s.`expires`, UNIX_TIMESTAMP() FROM {table} AS u FORCE INDEX (PRIMARY)"
    " STRAIGHT_JOIN `secret` AS s ON s.`username` = u.`name`"
    " WHERE u.{key} IN ({keys}) AND (s.`expires` = 0 OR s.`expires` > UNIX_TIMESTAMP()) FOR UPDATE"
)

EXPIRE = "UPDATE `secret` SET `expires` = %(now)s WHERE `id` IN ({keys})"
EXPIRE_REHEARSAL = "UPDATE `secret` SET `expires` = 1"


NAMES_ON_A_LINE = 4


class DisabledUsers:
    """Locks and reads users, and records who is disabled.

    Args:
        db: the transactions that disable.
        rows: the users to be disabled.
        archive: where; None to log the names instead.
        expire_secrets: whether their secrets expire in the same transaction.
        cut_off: for the reason, ISO 8601.

    Attributes:
        expired: user → how many of their secrets were expired.
    """

    def __init__(
        self, db: Transactions, rows: Rows, archive: Archive | None, *, expire_secrets: bool, cut_off: str
    ) -> None:
        self.expired: dict[int, int] = {}
        self._db = db
        self._rows = rows
        self._archive = archive
        self._expire_secrets = expire_secrets
        self._cut_off = cut_off
        self._locked: dict[int, dict[str, Any]] = {}

    def lock(self, keys: Sequence[int]) -> list[int]:
        """Lock and read the users of these keys who still match; return their keys, sorted."""
        found = self._ask(LOCK, keys, self._rows.values)
        self._locked = {}
        for key, *texts in found:
            name, logined, created = (None if text is None else text.decode() for text in texts)
            why = (
                f"last login {logined} before {self._cut_off}"
                if logined
                else f"no login, and created {created} before {self._cut_off}"
            )
            self._locked[key] = {
                "id": key, "name": name, "loginedAt": logined, "createdAt": created, "why": why
            }  # fmt: skip
        return sorted(self._locked)

    def keep(self, keys: Sequence[int]) -> None:
        """Expire the secrets of users who were disabled, and put all of it into the archive."""
        stamps = {key: stamp.decode() for key, stamp in self._ask(STAMPS, keys)}
        secrets = self._expire(keys) if self._expire_secrets else {}
        if self._archive is None:
            _log([self._locked[key]["name"] for key in keys])
        else:
            lines = []
            for key in keys:
                user = {**self._locked[key], "updatedAt": stamps[key], "secrets": secrets.get(key, [])}
                lines.append(json.dumps(user, ensure_ascii=False).encode() + b"\n")
            self._archive.add(Packed(len(lines), compress(lines)))
        self.expired.update({key: len(found) for key, found in secrets.items()})

    def _expire(self, keys: Sequence[int]) -> dict[int, list[dict[str, int]]]:
        found = self._ask(SECRETS, keys)
        secrets: dict[int, list[dict[str, int]]] = {}
        for user, secret, expires, now in found:
            secrets.setdefault(user, []).append({"id": secret, "expires": expires, "expired": now})
        if found:
            ids = ",".join(str(secret) for _, secret, _, _ in found)
            self._db.change(EXPIRE.format(keys=ids), {"now": found[0][3]})
        return secrets

    def _ask(self, query: str, keys: Sequence[int], values: Any = None) -> Any:
        columns = {"name": "name", "logined": "loginedAt", "created": "createdAt", "updated": "updatedAt"}
        return self._db.read(
            query.format(
                table=self._rows.table,
                key=self._rows.key,
                keys=",".join(map(str, keys)),
                predicate=self._rows.predicate,
                **{name: TEXT.format(column=f"`{column}`") for name, column in columns.items()},
            ),
            values,
        )


def _log(names: Sequence[str]) -> None:
    """Log the names of users whose transaction is about to be committed."""
    for at in range(0, len(names), NAMES_ON_A_LINE):
        some = names[at : at + NAMES_ON_A_LINE]
        logger.info("Disabling these users, without an undo record: %s", ", ".join(map(repr, some)))
