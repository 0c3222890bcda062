"""Enables users, and restores their secrets, a batch in a transaction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.jobs.disabled_users import TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iam_watcher.jobs.archive import Row
    from iam_watcher.jobs.catalogue import Table
    from iam_watcher.jobs.transaction import Transactions

# These users as they are now, under lock unless in a dry run.
BY_KEY = "SELECT {columns} FROM {table} WHERE {key} IN ({keys}){lock}"
BY_NAME = "SELECT {columns} FROM {table} WHERE `name` IN %(names)s{lock}"

# The clock of inactivity begins anew: else the next run would disable them again.
ENABLE = "UPDATE {table} SET `status` = 1, `loginedAt` = NOW() WHERE {key} IN ({keys}) AND `status` = 0"

# The secrets that were expired with them.
SECRETS = "SELECT `id`, `expires` FROM `secret` WHERE `id` IN ({keys}){lock}"
RESTORE = "UPDATE `secret` SET `expires` = CASE `id` {cases} END WHERE `id` IN ({keys})"

# They run the checks of the account's rights and change nothing.
REHEARSAL = "UPDATE {table} SET `status` = 1, `loginedAt` = NOW() WHERE FALSE"
EXPIRES_REHEARSAL = "UPDATE `secret` SET `expires` = 1 WHERE FALSE"

LOCK = " FOR UPDATE"
DISABLED, ENABLED = 0, 1


@dataclass
class Batch:
    """What one transaction does.

    Attributes:
        users: to enable: key → name.
        skipped: users who are not enabled: name and reason.
        secrets: to restore: key → `expires`.
        secrets_left: reason → secrets of `users` that are not restored.
    """

    users: dict[int, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    secrets: dict[int, int] = field(default_factory=dict)
    secrets_left: Counter[str] = field(default_factory=Counter)


class Reenabling:
    """Enables users batch by batch.

    Args:
        db: where.
        table: of the users.
        disabled: user → what a report says of him, the newest first; None to enable whoever is named.
        dry_run: write nothing.
        before_write: called before each transaction that restores secrets.
    """

    def __init__(
        self,
        db: Transactions,
        table: Table,
        disabled: Mapping[int, Sequence[Row]] | None,
        *,
        dry_run: bool,
        before_write: Callable[[], None],
    ) -> None:
        self._db = db
        self._table = table
        self._disabled = disabled
        self._dry_run = dry_run
        self._before_write = before_write

    def rehearse(self, *, with_secrets: bool) -> None:
        """Find out whether the account has the rights it needs.

        Raises:
            TableError: it lacks one.
        """

        def rehearsal() -> None:
            self._db.change(REHEARSAL.format(table=self._table.quoted))
            if with_secrets:
                self._db.change(EXPIRES_REHEARSAL)
            self._db.commit()

        what = f"UPDATE on {self._table.name}, without rows"
        self._db.run(rehearsal, what=what, before_retry=lambda: None)

    def enable(self, batch: Sequence[Any]) -> Batch:
        """Enable these users, given by key or, without a report, by name; return what was done."""
        what = f"UPDATE on {self._table.name}"
        return self._db.run(lambda: self._transaction(batch), what=what, before_retry=lambda: None)

    def _transaction(self, batch: Sequence[Any]) -> Batch:
        db, table = self._db, self._table
        now = self._users(batch)
        if self._disabled is None:
            todo = _by_name(batch, now)
        else:
            todo = _from_report(batch, now, self._disabled)
            self._find_secrets(todo, now, self._disabled)
        if todo.users and not self._dry_run:
            keys = ",".join(map(str, todo.users))
            db.change(ENABLE.format(table=table.quoted, key=table.key.quoted, keys=keys))
            if todo.secrets:
                self._before_write()
                cases = " ".join(f"WHEN {key} THEN {value}" for key, value in todo.secrets.items())
                db.change(RESTORE.format(cases=cases, keys=",".join(map(str, todo.secrets))))
        db.commit()
        return todo

    def _users(self, batch: Sequence[Any]) -> list[Row]:
        """Return the users of a batch as they are now: id, status, name, loginedAt, updatedAt."""
        db, table = self._db, self._table
        texts = [TEXT.format(column=f"`{column}`") for column in ("name", "loginedAt", "updatedAt")]
        parts = {
            "columns": ", ".join((table.key.quoted, "`status`", *texts)),
            "table": table.quoted,
            "key": table.key.quoted,
            "lock": self._lock,
        }
        if self._disabled is not None:
            found = db.read(BY_KEY.format(**parts, keys=",".join(map(str, batch))))
        else:
            found = db.read(BY_NAME.format(**parts), {"names": tuple(batch)})
        return [
            {
                "id": key,
                "status": status,
                "name": name.decode(),
                "loginedAt": None if logined is None else logined.decode(),
                "updatedAt": updated.decode(),
            }
            for key, status, name, logined, updated in found
        ]

    def _find_secrets(self, todo: Batch, now: list[Row], disabled: Mapping[int, Sequence[Row]]) -> None:
        """Restore the secrets that are as the run left them."""
        then = {
            int(secret["id"]): secret
            for user in now
            if user["id"] in todo.users and (line := _line_of(user, disabled[user["id"]]))
            for secret in line["secrets"]
        }
        if not then:
            return
        there = dict(self._db.read(SECRETS.format(keys=",".join(map(str, then)), lock=self._lock)))
        for key, secret in then.items():
            if key not in there:
                todo.secrets_left["gone"] += 1
            elif there[key] != secret["expired"]:
                todo.secrets_left["changed_since"] += 1
            else:
                todo.secrets[key] = int(secret["expires"])

    @property
    def _lock(self) -> str:
        return "" if self._dry_run else LOCK


def _from_report(batch: Sequence[Any], now: list[Row], disabled: Mapping[int, Sequence[Row]]) -> Batch:
    """Enable who is as the run left him."""
    todo = Batch()
    users = {user["id"]: user for user in now}
    for key in batch:
        user, lines = users.get(key), disabled[key]
        if user is None:
            todo.skipped.append((lines[0]["name"], "gone"))
        elif user["status"] == ENABLED:
            todo.skipped.append((user["name"], "enabled_already"))
        elif user["status"] != DISABLED or _line_of(user, lines) is None:
            todo.skipped.append((user["name"], "changed_since"))
        else:
            todo.users[key] = user["name"]
    return todo


def _by_name(batch: Sequence[Any], now: list[Row]) -> Batch:
    todo = Batch()
    for user in now:
        if user["status"] == DISABLED:
            todo.users[user["id"]] = user["name"]
        else:
            why = "enabled_already" if user["status"] == ENABLED else "changed_since"
            todo.skipped.append((user["name"], why))
    # As the table's collation, which found them, takes names for equal in IAM.
    found = {user["name"].casefold().rstrip(" ") for user in now}
    todo.skipped += [(name, "gone") for name in batch if name.casefold().rstrip(" ") not in found]
    return todo


def _line_of(user: Row, lines: Sequence[Row]) -> Row | None:
    """Return what the report says of the user, if it is still true.

    A try that was killed before its commit has left a line that never was: its `updatedAt` differs.
    """
    same = ("name", "loginedAt", "updatedAt")
    return next((line for line in lines if all(line[column] == user[column] for column in same)), None)
