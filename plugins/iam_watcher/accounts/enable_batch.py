"""Which users of a batch are to be enabled: those who are as the run left them, or those of a name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from iam_watcher.accounts.account_columns import ACTIVE, DISABLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from iam_watcher.accounts.account_columns import UserId
    from iam_watcher.accounts.undo_record import DisabledUser


@dataclass(frozen=True)
class User:
    """A user as the row is now. Times are texts of the server.

    Attributes:
        id: key of the row.
        state: ACTIVE, DISABLED or OTHER.
        name: of the user.
        logined_at: last login, if there was one.
        updated_at: last change; "" if the table has no such column.
        checksum: of the row, see `undo_record.checksum`; None if it is not to be compared.
    """

    id: UserId
    state: str
    name: str
    logined_at: str | None
    updated_at: str
    checksum: str | None


@dataclass
class Batch:
    """What one transaction does.

    Attributes:
        users: to enable: key → name.
        skipped: users who are not enabled: name and reason.
        unconfirmed: users whom an earlier try enabled with a commit that got no answer, and who are
            enabled now.
        secrets: to restore: key → `expires`.
        secrets_left: reason → secrets of `users` that are not restored.
    """

    users: dict[UserId, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unconfirmed: list[str] = field(default_factory=list)
    secrets: dict[int, int] = field(default_factory=dict)
    secrets_left: Counter[str] = field(default_factory=Counter)

    def skip(self, user: User) -> None:
        """Skip a user who is not as the run left the row."""
        why = "enabled_already" if user.state == ACTIVE else "changed_since"
        self.skipped.append((user.name, why))

    def mark_unconfirmed(self, unanswered: Mapping[UserId, str]) -> None:
        """Count users as unconfirmed whom a commit of this run, which got no answer, was to enable."""
        ours = [(name, "enabled_already") for name in unanswered.values()]
        self.unconfirmed = [skip[0] for skip in self.skipped if skip in ours]
        self.skipped = [skip for skip in self.skipped if skip not in ours]


def from_record(
    batch: Sequence[Any], now: list[User], disabled: Mapping[UserId, Sequence[DisabledUser]]
) -> Batch:
    """Choose the users of a batch who are as the run left them."""
    todo = Batch()
    users = {user.id: user for user in now}
    for key in batch:
        user, lines = users.get(key), disabled[key]
        if user is None:
            todo.skipped.append((lines[0].name, "gone"))
        elif user.state == DISABLED and line_of(user, lines) is not None:
            todo.users[key] = user.name
        else:
            todo.skip(user)
    return todo


def by_name(found: Iterable[tuple[str, list[User]]]) -> Batch:
    """Choose the users whom the server found for each name, each of them once."""
    todo = Batch()
    seen = set()
    for name, users in found:
        if not users:
            todo.skipped.append((name, "gone"))
        for user in users:
            if user.id in seen:
                todo.skipped.append((name, "named_twice"))
            elif user.state == DISABLED:
                todo.users[user.id] = user.name
            else:
                todo.skip(user)
            seen.add(user.id)
    return todo


def line_of(user: User, lines: Sequence[DisabledUser]) -> DisabledUser | None:
    """Return the line of the undo record that describes the user as the row is now, or None.

    If a try was killed before its commit, its line describes no row: its `updatedAt` differs.
    """
    return next(
        (
            line
            for line in lines
            if (line.name, line.logined_at, line.updated_at) == (user.name, user.logined_at, user.updated_at)
            and user.checksum in (None, line.checksum)
        ),
        None,
    )
