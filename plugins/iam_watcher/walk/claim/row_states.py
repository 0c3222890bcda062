"""Which rows of a table are processed, and the columns that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iam_watcher.database.column import Column
    from iam_watcher.database.key import Key, KeyValue
    from iam_watcher.walk.claim.outcome import KeyValues

IS_EXPIRED = "{state} = %(working)s AND {claimed_at} < NOW(6) - INTERVAL %(timeout)s SECOND"


@dataclass(frozen=True)
class RowStates:
    """The states of a table's rows. Names come from the catalogue; values are always bound.

    Attributes:
        name: of the table.
        table: its quoted name.
        key: by which rows are claimed and written.
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
    key: Key
    index: str
    columns: tuple[Column, ...]
    writable: Mapping[str, Column]
    state: Column
    pending: object
    done: object
    failed: object
    working: object
    claimed_at: Column | None
    claimed_by: Column | None
    attempts: Column | None
    retry_at: Column | None
    error: Column | None
    age: Column | None
    claimant: str
    claim_timeout: float
    max_attempts: int | None
    backoff: float

    @property
    def holds(self) -> bool:
        """Whether the rows stay locked while the work goes on, instead of being marked as claimed."""
        return self.working is None

    @property
    def names(self) -> dict[str, str]:
        """The quoted names that many statements have."""
        names = {
            "table": self.table,
            "key": self.key.quoted,
            "key_values": self.key.selected,
            "in_order": self.key.ordered,
            "by_key": self.key.index,
            "index": self.index,
            "state": self.state.quoted,
        }
        if self.claimed_at is not None and self.claimed_by is not None:
            names |= {"claimed_at": self.claimed_at.quoted, "claimed_by": self.claimed_by.quoted}
        return names

    def with_keys(self, keys: Sequence[KeyValues]) -> str:
        """Return the condition for the rows of these keys."""
        return self.key.among(_value(self.key, one) for one in keys)

    def behind(self, after: KeyValues | None) -> str:
        """Return the condition for rows behind this one, in the order of the key."""
        return "TRUE" if after is None else self.key.behind(_value(self.key, after))

    def shown(self, values: KeyValues) -> str:
        """Return a key as a text for people."""
        shown = self.key.shown(_value(self.key, values))
        return ", ".join(map(str, shown)) if isinstance(shown, list) else str(shown)

    def used_up(self, attempts: int) -> bool:
        """Return whether no attempt is left after so many."""
        return self.max_attempts is not None and attempts >= self.max_attempts

    def unread(self, values: Mapping[str, object]) -> str | None:
        """Return the name of a column whose value the server did not send; None if it sent all of them.

        MySQL sends an empty text in place of a JSON value whose text is larger than max_allowed_packet. No
        JSON value has an empty text.
        """
        return next(
            (
                column.name
                for column in self.columns
                if column.data_type == "json" and values[column.name] == ""
            ),
            None,
        )

    @property
    def one_attempt_more(self) -> str:
        """SQL for the next number of attempts: the largest one that the column can hold stays."""
        if self.attempts is None:
            return ""
        return f"LEAST(COALESCE({self.attempts.quoted}, 0) + 1, {self.attempts.integers[1]})"

    @property
    def values(self) -> dict[str, object]:
        """The values of the placeholders that many statements have."""
        return {
            "pending": self.pending,
            "working": self.working,
            "done": self.done,
            "failed": self.failed,
            "me": self.claimant,
            "timeout": self.claim_timeout,
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
        return IS_EXPIRED.format(state=self.state.quoted, claimed_at=self.claimed_at.quoted)


def _value(key: Key, values: KeyValues) -> KeyValue:
    return values if len(key.columns) > 1 else values[0]
