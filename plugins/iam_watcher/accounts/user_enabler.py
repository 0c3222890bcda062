"""Enables users, and restores their secrets, a batch in a transaction."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

from iam_watcher.accounts.enable_batch import Batch, User, by_name, from_record, line_of
from iam_watcher.accounts.undo_record import checksum
from iam_watcher.database.server_errors import may_be_committed
from iam_watcher.errors import WalkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from iam_watcher.accounts.account_columns import AccountColumns, UserId
    from iam_watcher.accounts.undo_record import DisabledUser
    from iam_watcher.database.column import Column
    from iam_watcher.database.key import KeyValue
    from iam_watcher.database.transactions import Transactions

# These users as they are now, under lock unless in a dry run.
BY_KEY = "SELECT {columns} FROM {table} FORCE INDEX ({index}) WHERE {keys} AND {where}{lock}"
# One name at a time: only the server knows which names its collation takes for equal. Without lock: where no
# index has the names, the server would lock all users.
BY_NAME = "SELECT {columns} FROM {table} WHERE {name} = %(name)s AND {where}"
# Under lock again: the user may have another name by now.
HAS_NAME = "{name} = %(name)s AND {where}"

# Their inactivity counts from now. Otherwise the next run would disable them again.
SET = "{status} = %(active)s, {last_login} = %(login)s"
ENABLE = "UPDATE {table} FORCE INDEX ({index}) SET {set} WHERE {keys} AND {is_disabled} AND {where}"
NOW = "SELECT NOW()"

# The secrets that were expired with them.
SECRETS = "SELECT `id`, `expires` FROM `secret` FORCE INDEX (PRIMARY) WHERE `id` IN ({keys}){lock}"
RESTORE = "UPDATE `secret` FORCE INDEX (PRIMARY) SET `expires` = CASE `id` {cases} END WHERE `id` IN ({keys})"

# These statements let the server check the account's rights. They change nothing.
REHEARSAL = "UPDATE {table} SET {set} WHERE FALSE"
EXPIRES_REHEARSAL = "UPDATE `secret` SET `expires` = 1 WHERE FALSE"

LOCK = " FOR UPDATE"


class UserEnabler:
    """Enables users batch by batch.

    Args:
        db: where.
        columns: of the accounts.
        disabled: user → the lines of an undo record, the newest first; None to enable whoever is named.
        checksum_of: the columns of the checksums in these lines; none to compare without them.
        dry_run: write nothing.
        before_write: called before each transaction that restores secrets.

    Attributes:
        unanswered: users of the batch at work whose commit got no answer: key → name.
    """

    def __init__(
        self,
        db: Transactions,
        columns: AccountColumns,
        disabled: Mapping[UserId, Sequence[DisabledUser]] | None,
        *,
        checksum_of: Sequence[Column] = (),
        dry_run: bool,
        before_write: Callable[[], None],
    ) -> None:
        self._db = db
        self._columns = columns
        self._table = columns.table
        self._disabled = disabled
        self._checksum_of = checksum_of
        self._dry_run = dry_run
        self._before_write = before_write
        self.unanswered: dict[UserId, str] = {}

    def rehearse(self, *, with_secrets: bool) -> None:
        """Find out whether the account has the rights it needs.

        Raises:
            TableError: it lacks one.
        """

        def rehearsal() -> None:
            values = self._columns.values | self._login()
            self._db.change(REHEARSAL.format(table=self._table.quoted, set=self._set), values)
            if with_secrets:
                self._db.change(EXPIRES_REHEARSAL)
            self._db.commit()

        what = f"UPDATE on {self._table.name}, without rows"
        self._db.run(rehearsal, what=what)

    def ids_of(self, names: Sequence[str]) -> dict[str, list[UserId]]:
        """Return name → users who have this name now; the server's collation decides."""

        def read() -> dict[str, list[UserId]]:
            found = {name: self._ids(name) for name in names}
            self._db.commit()
            return found

        return self._db.run(read, what=f"SELECT on {self._table.name}")

    def enable(self, batch: Sequence[Any]) -> Batch:
        """Enable these users, given by key or, without an undo record, by name; return what was done."""
        what = f"UPDATE on {self._table.name}"
        done = self._db.run(lambda: self._transaction(batch), what=what)
        self.unanswered = {}
        return done

    def _transaction(self, batch: Sequence[Any]) -> Batch:
        db, table = self._db, self._table
        if self._disabled is None:
            todo = by_name((name, self._users(self._ids(name), name)) for name in batch)
        else:
            now = self._users(batch)
            todo = from_record(batch, now, self._disabled)
            self._find_secrets(todo, now, self._disabled)
        todo.mark_unconfirmed(self.unanswered)
        if todo.users and not self._dry_run:
            query = ENABLE.format(
                table=table.quoted,
                index=table.key.index,
                set=self._set,
                keys=table.key.among(self._keys(todo.users)),
                is_disabled=self._columns.is_disabled,
                where=self._columns.where,
            )
            enabled = db.change(query, self._columns.values | self._login())
            if enabled != len(todo.users):
                raise WalkError(
                    f"{enabled} of {len(todo.users)} users of {table.name} were enabled, though their rows "
                    "were locked. The transaction was rolled back. Check the triggers of the table"
                )
            if todo.secrets:
                self._before_write()
                cases = " ".join(f"WHEN {key} THEN {value}" for key, value in todo.secrets.items())
                db.change(RESTORE.format(cases=cases, keys=",".join(map(str, todo.secrets))))
        try:
            db.commit()
        except db.error as error:
            if may_be_committed(error):
                self.unanswered |= todo.users
            raise
        return todo

    def _ids(self, name: str) -> list[UserId]:
        """Return the users who have a name now, without a lock."""
        key, columns = self._table.key, self._columns
        query = BY_NAME.format(
            columns=key.selected, table=self._table.quoted, name=columns.name.quoted, where=columns.where
        )
        rows = self._db.read(query, {**columns.values, "name": name})
        return [columns.id_of(key.take(row)) for row in rows]

    def _users(self, users: Sequence[UserId], name: str | None = None) -> list[User]:
        """Return users as they are now; if a name is given, those of them who have it."""
        if not users:
            return []
        table, columns = self._table, self._columns
        where = columns.where
        if name is not None:
            where = HAS_NAME.format(name=columns.name.quoted, where=where)
        digits = checksum(self._checksum_of) if self._checksum_of else "NULL"
        found = self._db.read(
            BY_KEY.format(
                columns=f"{table.key.selected}, {columns.state}, {columns.texts}, {digits}",
                table=table.quoted,
                index=table.key.index,
                keys=table.key.among(self._keys(users)),
                where=where,
                lock=self._lock,
            ),
            {**columns.values, "name": name},
        )
        return [self._user(row) for row in found]

    def _user(self, row: Sequence[Any]) -> User:
        key = self._table.key
        state, name, login, _, updated, _, digits = row[len(key.columns) :]
        return User(
            id=self._columns.id_of(key.take(row)),
            state=state,
            name=name.decode() if name else "",
            logined_at=login and login.decode(),
            updated_at=updated.decode() if updated else "",
            checksum=digits,
        )

    def _keys(self, users: Iterable[UserId]) -> list[KeyValue]:
        return [self._columns.key_of(user) for user in users]

    @property
    def _set(self) -> str:
        columns = self._columns
        return SET.format(status=columns.status.quoted, last_login=columns.last_login.quoted)

    def _login(self) -> dict[str, object]:
        """Return the time of the server, in the form that the column of the last login has."""
        ((now,),) = self._db.read(NOW)
        return {"login": self._columns.last_login.form.cut_off(now.replace(tzinfo=UTC))}

    def _find_secrets(
        self, todo: Batch, now: list[User], disabled: Mapping[UserId, Sequence[DisabledUser]]
    ) -> None:
        """Restore the secrets that are as the run left them."""
        then = {
            secret.id: secret
            for user in now
            if user.id in todo.users and (line := line_of(user, disabled[user.id]))
            for secret in line.secrets
        }
        if not then:
            return
        there = dict(self._db.read(SECRETS.format(keys=",".join(map(str, then)), lock=self._lock)))
        for key, secret in then.items():
            if key not in there:
                todo.secrets_left["gone"] += 1
            elif there[key] != secret.expired:
                todo.secrets_left["changed_since"] += 1
            else:
                todo.secrets[key] = secret.expires

    @property
    def _lock(self) -> str:
        return "" if self._dry_run else LOCK
