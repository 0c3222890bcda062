"""Which rows of a table are processed, and the columns that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.column import Column
    from iam_watcher.walk.claim.outcome import Key


TIMES = frozenset({"date", "datetime", "timestamp", "time"})


@dataclass(frozen=True)
class RowStates:
    """The states of a table's rows. Names come from the catalogue; values are always bound.

    Attributes:
        name: of the table.
        table: its quoted name.
        key: the columns of its key.
        by_key: the quoted name of the index on the key.
        index: the quoted name of the index on the state and, if there is such a column, the retry time.
        columns: what is read of a row.
        writable: name → column that the function may write.
        state: the column of the state.
        pending: the state of rows to be processed.
        done: their state afterwards.
        failed: the state of rows that can't be processed.
        working: the state of claimed rows; None to hold row locks while the work goes on.
        claimed_at: the column of the time of the claim, which a renewal moves on.
        claimed_by: the column of the claimant.
        attempts: the column of the number of attempts.
        retry_at: the column of the time before which a row is not due.
        error: the column of the reason why the last attempt failed.
        age: the column of the time at which a row became pending.
        claimant: of this run, different from that of any other try of any other run.
        claim_timeout: seconds without a renewal after which a claim is taken over.
        max_attempts: attempts after which a row fails; None for no limit.
        backoff: seconds before the first retry; they double with each attempt.
    """

    name: str
    table: str
    key: tuple[Column, ...]
    by_key: str
    index: str
    columns: tuple[Column, ...]
    writable: Mapping[str, Column]
    state: Column
    pending: object
    done: object
    failed: object
    working: object = None
    claimed_at: Column | None = None
    claimed_by: Column | None = None
    attempts: Column | None = None
    retry_at: Column | None = None
    error: Column | None = None
    age: Column | None = None
    claimant: str = ""
    claim_timeout: float = 300.0
    max_attempts: int | None = None
    backoff: float = 10.0

    @property
    def holds(self) -> bool:
        """Whether the rows stay locked while the work goes on, instead of being marked as claimed."""
        return self.working is None

    @property
    def names(self) -> dict[str, str]:
        """The quoted names that stand in many statements."""
        names = {
            "table": self.table,
            "key": ", ".join(column.quoted for column in self.key),
            "key_values": ", ".join(map(_exact, self.key)),
            "by_key": self.by_key,
            "index": self.index,
            "state": self.state.quoted,
        }
        if self.claimed_at is not None and self.claimed_by is not None:
            names |= {"claimed_at": self.claimed_at.quoted, "claimed_by": self.claimed_by.quoted}
        return names

    def used_up(self, attempts: int) -> bool:
        """Return whether no attempt is left after so many."""
        return self.max_attempts is not None and attempts >= self.max_attempts

    @property
    def values(self) -> dict[str, object]:
        """The values of the placeholders that stand in many statements."""
        return {
            "pending": self.pending,
            "working": self.working,
            "done": self.done,
            "failed": self.failed,
            "me": self.claimant,
            "timeout": self.claim_timeout,
            "max_attempts": self.max_attempts,
        }

    @property
    def due(self) -> str:
        """The condition of rows that may be claimed now."""
        pending = f"{self.state.quoted} = %(pending)s"
        if self.retry_at is None:
            return pending
        return f"{pending} AND ({self.retry_at.quoted} IS NULL OR {self.retry_at.quoted} <= NOW(6))"

    @property
    def mine(self) -> str:
        """The condition of rows that this run has claimed."""
        if self.claimed_by is None:
            return f"{self.state.quoted} = %(pending)s"
        return f"{self.state.quoted} = %(working)s AND {self.claimed_by.quoted} = %(me)s"

    @property
    def expired(self) -> str:
        """The condition of rows whose claim is to be taken over."""
        if self.claimed_at is None:
            return "FALSE"  # Locks end with their session.
        return (
            f"{self.state.quoted} = %(working)s"
            f" AND {self.claimed_at.quoted} < NOW(6) - INTERVAL %(timeout)s SECOND"
        )


def _exact(column: Column) -> str:
    """Return SQL for the value of a column of the key: a time as a text, as the driver has no zero date."""
    return f"CAST({column.quoted} AS CHAR)" if column.data_type in TIMES else column.quoted


def with_keys(columns: Sequence[Column], keys: Sequence[Key]) -> tuple[str, dict[str, object]]:
    """Return the condition for the rows of these keys, and its values."""
    values = {f"k{n}_{part}": value for n, key in enumerate(keys) for part, value in enumerate(key)}
    if len(columns) == 1:
        names = ", ".join(f"%(k{n}_0)s" for n in range(len(keys)))
        return f"{columns[0].quoted} IN ({names})", values
    # Not (a, b) IN ((1, 2), …): not every server finds such rows by the index.
    each = (
        " AND ".join(f"{column.quoted} = %(k{n}_{part})s" for part, column in enumerate(columns))
        for n in range(len(keys))
    )
    return f"({' OR '.join(f'({one})' for one in each)})", values


def behind(columns: Sequence[Column], after: Sequence[object] | None) -> tuple[str, Mapping[str, object]]:
    """Return the condition for rows that come after these values, in the order of the columns."""
    if after is None:
        return "TRUE", {}
    values = {f"after{part}": value for part, value in enumerate(after)}
    cases = []
    for last in range(len(columns)):
        same = [f"{column.quoted} = %(after{part})s" for part, column in enumerate(columns[:last])]
        cases.append(" AND ".join([*same, f"{columns[last].quoted} > %(after{last})s"]))
    return f"({' OR '.join(f'({case})' for case in cases)})", values
