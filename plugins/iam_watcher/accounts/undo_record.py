"""The undo record: which users a run disabled, and what of them changed with that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from iam_watcher.accounts.account_columns import UserId  # noqa: TC001  msgspec reads the annotations
from iam_watcher.archive import reader
from iam_watcher.archive.format import ArchiveKind
from iam_watcher.errors import ArchiveDamaged, JobArgumentError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.catalogue import Table
    from iam_watcher.database.column import Column

logger = get_logger(__name__)


def checksum(columns: Sequence[Column]) -> str:
    """Return SQL for a checksum of a row's values in these columns, as 64 hexadecimal digits.

    Each value is hashed by itself, so that no long text makes the concatenation longer than the server
    allows, and no value can look like two others.
    """
    digests = ", ".join(f"COALESCE(SHA2({column.quoted}, 256), '-')" for column in columns)
    return f"SHA2(CONCAT({digests}), 256)"


class ExpiredSecret(Struct):
    """A secret that expired together with its user.

    Attributes:
        id: key of its row.
        expires: before, in unix seconds; 0 for never.
        expired: what `expires` became.
    """

    id: int
    expires: int
    expired: int


class DisabledUser(Struct, rename="camel"):
    """A line of the undo record: a user as the run left the row. Times are texts of the server.

    Attributes:
        id: key of the row: a number, or a text for each column, see `Key.encode`.
        name: of the user.
        logined_at: last login, if there was one.
        created_at: creation of the account, if the table has it.
        why: the reason for people.
        updated_at: after the statement that disabled the user; "" if the table has no such column.
        checksum: of the row after that statement, see `checksum`; "" in a record that has none.
        secrets: that expired with the user.
    """

    id: UserId
    name: str
    logined_at: str | None
    created_at: str | None
    why: str
    updated_at: str
    checksum: str = ""
    secrets: list[ExpiredSecret] = field(default_factory=list)


@dataclass(frozen=True)
class UndoRecord:
    """The users whom a run, all its tries, disabled.

    Attributes:
        disabled: user → the lines about the user, the newest first.
        checksums_of: the columns that the checksums of each try are made of.
        manifests: of each try.
    """

    disabled: dict[UserId, list[DisabledUser]]
    checksums_of: list[list[str]]
    manifests: list[Mapping[str, Any]]

    def checksum_columns(self, table: Table) -> list[Column]:
        """Return the columns to make a checksum of, to be compared with those of the record.

        There are none if the record has no checksums, or if its tries or the table have other columns.
        """
        first = self.checksums_of[0]
        if first and all(names == first for names in self.checksums_of) and set(first) <= set(table.columns):
            return [table.column(name) for name in first]
        logger.warning(
            "The undo record has no checksums, or %s had other columns then. A user who was changed within "
            "the second in which the run disabled the user counts as unchanged.",
            table.name,
        )
        return []


def read_undo_record(
    url: str, table: str, shape: Mapping[str, Any], default_shape: Mapping[str, Any], *, below: str
) -> UndoRecord:
    """Read the undo record of a run.

    Args:
        url: of the run's folder, or of a try's.
        table: that the record must be about.
        shape: of the accounts there, which that of the run must be.
        default_shape: of a record that has none.
        below: URL of the location that nothing may lead out of.

    Raises:
        JobArgumentError: there is no undo record of this table, or its accounts had another shape.
        ArchiveDamaged: the undo record is not what was written.
        ArchiveError: it can't be read.
    """
    record = UndoRecord({}, [], [])
    for written in reader.find(url, kind=ArchiveKind.DISABLED_USERS, below=below):
        if written.manifest["table"] != table:
            raise JobArgumentError(f"{url} is about {written.manifest['table']}; expected {table}")
        _check_shape(url, written.manifest.get("accounts", default_shape), shape)
        record.manifests.append(written.manifest)
        try:
            record.checksums_of.append(msgspec.convert(written.manifest.get("checksum_of", []), list[str]))
            for row in written.rows():
                user = msgspec.convert(row, DisabledUser)
                record.disabled.setdefault(user.id, []).append(user)
        except msgspec.ValidationError as error:
            raise ArchiveDamaged(f"{url}: {error}; expected the undo record of a run") from error
    return record


def _check_shape(url: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    different = [name for name in ours if theirs.get(name) != ours[name]]
    if different:
        then = ", ".join(f"{name}={theirs.get(name)!r}" for name in different)
        now = ", ".join(f"{name}={ours[name]!r}" for name in different)
        raise JobArgumentError(
            f"the run that wrote {url} had accounts with {then}; this job has {now}. Use the AccountTable of "
            "that run"
        )
