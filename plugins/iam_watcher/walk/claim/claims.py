"""Claims rows: find them without locks, lock them by key and look again, write by key.

Behaviour:
1. The probe reads keys through the index on the state, without locks, behind the last key of this run.
2. The claim locks these rows by their key, skips rows that another session has locked, and keeps those that
   are still pending. So a claim locks at most the rows that it asks for, and never waits for a lock.
3. With a working state, the claim marks its rows (state, claimant, time, attempt) and commits. Without one,
   the rows stay locked until their outcome is committed.
4. A claim that nobody renewed is taken over, one row at a time: if a row kills its worker, no other row's
   attempt is used up.

The database's clock alone decides what is due and what has expired. The statements of a
claim are together, so that one reader can check that no other session comes between: hence the length.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from iam_watcher.database.server_errors import may_be_committed
from iam_watcher.walk.claim.outcome import ClaimedRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.claim.outcome import KeyValues, Processed
    from iam_watcher.walk.claim.row_states import RowStates

# Keys of pending rows, in the order of the index.
PROBE = (
    "SELECT {key_values} FROM {table} FORCE INDEX ({index}) WHERE {state} = %(pending)s{fresh} AND {behind}"
    " ORDER BY {in_order} LIMIT %(limit)s"
)

# Keys of rows whose time to be tried again has come. The time as a text: the driver has no zero date.
RETRIES = (
    "SELECT {key_values}, CAST({retry_at} AS CHAR) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s AND {retry_at} <= NOW(6) AND {behind}"
    " ORDER BY {retry_at}, {in_order} LIMIT %(limit)s"
)

# Keys of rows whose claim was not renewed.
EXPIRED = "SELECT {key_values} FROM {table} FORCE INDEX ({index}) WHERE {expired} LIMIT %(limit)s"

# Locks the rows that may still be claimed, and reads them. Some may be ours by a commit without an answer.
LOCK = (
    "SELECT {key_values}, {mine}, {columns} FROM {table} FORCE INDEX ({by_key})"
    " WHERE {keys} AND ({claimable}) ORDER BY {in_order} FOR UPDATE SKIP LOCKED"
)

# Marks rows as claimed by this run.
CLAIM = (
    "UPDATE {table} FORCE INDEX ({by_key}) SET {state} = %(working)s, {claimed_at} = NOW(6),"
    " {claimed_by} = %(me)s{attempts} WHERE {keys} AND ({claimable})"
)

# Locks the claims of this run that no other session has locked.
OURS = (
    "SELECT {key_values} FROM {table} FORCE INDEX ({by_key}) WHERE {keys} AND {mine} FOR UPDATE SKIP LOCKED"
)

# Finds the claims of this run that no other worker may take over now, whether they are locked or not.
VALID = "SELECT {key_values} FROM {table} FORCE INDEX ({by_key}) WHERE {keys} AND {mine} AND NOT ({expired})"

# Moves the time of claims on.
RENEW = "UPDATE {table} FORCE INDEX ({by_key}) SET {claimed_at} = NOW(6) WHERE {keys} AND {mine}"

# Lets a row fail whose attempts are used up, though no worker said why.
DIED = "UPDATE {table} FORCE INDEX ({by_key}) SET {state} = %(failed)s{error} WHERE {keys} AND {expired}"

# How many rows have a state, up to a limit.
COUNT = (
    "SELECT COUNT(*) FROM (SELECT 1 FROM {table} FORCE INDEX ({index}) WHERE {state} = %(state)s"
    " LIMIT %(limit)s) AS counted"
)

# The age of the first pending row.
OLDEST = (
    "SELECT TIMESTAMPDIFF(SECOND, {age}, NOW(6)) FROM {table} FORCE INDEX ({index})"
    " WHERE {state} = %(pending)s{fresh} ORDER BY {in_order} LIMIT 1"
)

MOST_EXPIRED = 1_000  # keys of a look for expired claims


class Claims:
    """The claims of one run on one table.

    Args:
        db: transactions on the database.
        states: the rows and their states.
        done: counts what was claimed.
    """

    def __init__(self, db: Transactions, states: RowStates, done: Processed) -> None:
        self._db = db
        self._states = states
        self._done = done
        self._after: KeyValues | None = None
        self._retried_after: tuple[Any, ...] | None = None
        self._claimed_in_this_pass = False

    def claim(self, limit: int) -> list[ClaimedRow]:
        """Claim up to so many of the next rows; none are left if it returns none.

        Rows that become pending again during the run are left to the next run, unless there is a column
        that says when they are due.
        """
        while True:
            found = self._db.run(lambda: self._probe(limit), what=self._what("look"))
            keys, self._after, self._retried_after = found
            if not keys:
                if self._states.retry_at is None or not self._claimed_in_this_pass:
                    return []
                self._after, self._claimed_in_this_pass = None, False
            elif rows := self._take(keys, self._states.due):
                self._claimed_in_this_pass = True
                return rows

    def start_over(self) -> None:
        """Look for rows from the beginning again: some may be due now that were not, or were locked."""
        self._after = self._retried_after = None
        self._claimed_in_this_pass = False

    def expired(self) -> list[KeyValues]:
        """Return the keys of rows whose claim was not renewed."""
        if self._states.holds:
            return []

        def look() -> list[KeyValues]:
            values = {**self._states.values, "limit": MOST_EXPIRED}
            found = self._db.read(self._sql(EXPIRED, expired=self._states.expired), values)
            self._db.commit()
            return [tuple(key) for key in found]

        return self._db.run(look, what=self._what("look for expired claims"))

    def take_over(self, key: KeyValues) -> list[ClaimedRow]:
        """Claim a row whose claim was not renewed; return none if it was, or if no attempt is left."""
        rows = self._take([key], self._states.expired)
        self._done.taken_over += len(rows)
        return rows

    def renew(self, keys: Sequence[KeyValues]) -> set[KeyValues]:
        """Renew claims, and return the keys of those that are ours and not locked."""

        def transaction() -> set[KeyValues]:
            ours = renew(self._db, self._states, keys)
            self._db.commit()
            return ours

        return self._db.run(transaction, what=self._what("renewal"))

    def valid(self, keys: Sequence[KeyValues]) -> set[KeyValues]:
        """Return the keys of the claims that are ours and have not expired, the locked ones included."""
        states = self._states

        def look() -> set[KeyValues]:
            query = self._sql(VALID, keys=states.with_keys(keys), mine=states.mine, expired=states.expired)
            found = self._db.read(query, states.values)
            self._db.commit()
            return {tuple(key) for key in found}

        return self._db.run(look, what=self._what("look for claims"))

    def count(self, state: object, limit: int) -> int:
        """Return how many rows have a state; at most `limit`."""

        def look() -> int:
            ((rows,),) = self._db.read(self._sql(COUNT), {"state": state, "limit": limit})
            self._db.commit()
            return int(rows)

        return self._db.run(look, what=self._what("count"))

    def due(self, limit: int) -> list[KeyValues]:
        """Return keys of the rows that would be claimed next."""
        keys, _, _ = self._db.run(lambda: self._probe(limit), what=self._what("look"))
        return keys

    def oldest(self) -> float | None:
        """Return the age of the first pending row in seconds; None without one, or without its time."""
        states = self._states
        if states.age is None:
            return None
        query = self._sql(OLDEST, age=states.age.quoted, fresh=self._fresh)

        def look() -> float | None:
            found = self._db.read(query, states.values)
            self._db.commit()
            return None if not found or found[0][0] is None else float(found[0][0])

        return self._db.run(look, what=self._what("look for the oldest row"))

    @property
    def _fresh(self) -> str:
        """The condition for pending rows that were not tried before, behind others."""
        retry_at = self._states.retry_at
        return "" if retry_at is None else f" AND {retry_at.quoted} IS NULL"

    def _probe(self, limit: int) -> tuple[list[KeyValues], KeyValues | None, tuple[Any, ...] | None]:
        """Return the keys of the next rows, those that are tried again first; and both positions."""
        states, keys = self._states, []
        after, retried_after = self._after, self._retried_after
        if states.retry_at is not None:
            behind, values = "TRUE", dict(states.values)
            if retried_after is not None:
                due, *key = retried_after
                name, values["due"] = states.retry_at.quoted, due
                behind = f"({name} > %(due)s OR ({name} = %(due)s AND {states.behind(tuple(key))}))"
            query = self._sql(RETRIES, retry_at=states.retry_at.quoted, behind=behind)
            for *key, due in self._db.read(query, {**values, "limit": limit}):
                keys.append(tuple(key))
                retried_after = (due, *key)
        if left := limit - len(keys):
            query = self._sql(PROBE, fresh=self._fresh, behind=states.behind(after))
            found = [tuple(key) for key in self._db.read(query, {**states.values, "limit": left})]
            after = found[-1] if found else after
            keys += found
        self._db.commit()
        return keys, after, retried_after

    def _take(self, keys: Sequence[KeyValues], claimable: str) -> list[ClaimedRow]:
        """Claim those of the rows that are still claimable and not locked by another session."""
        to_the_end = ExitStack()

        def transaction() -> tuple[list[ClaimedRow], int, float]:
            began = time.monotonic()
            rows, died = self._lock(keys, claimable)
            if not self._states.holds:
                self._mark(rows, claimable)
                try:
                    self._db.commit()
                except self._db.error as error:
                    if may_be_committed(error):
                        # Only another try finds out whether the rows are claimed. A stop gives them back.
                        to_the_end.enter_context(self._db.without_safe_point())
                    raise
            return rows, died, time.monotonic() - began

        with to_the_end:
            rows, died, seconds = self._db.run(transaction, what=self._what("claim"))
        done = self._done
        done.claimed += len(rows)
        done.worker_died += died
        done.attempts.update(row.attempt for row in rows if row.attempt is not None)
        done.longest_claim = max(done.longest_claim, seconds)
        return rows

    def _lock(self, keys: Sequence[KeyValues], claimable: str) -> tuple[list[ClaimedRow], int]:
        states = self._states
        condition = states.with_keys(keys)
        maybe_ours = "FALSE" if states.holds else states.mine
        query = self._sql(
            LOCK,
            keys=condition,
            claimable=f"{claimable} OR {maybe_ours}",
            mine=maybe_ours,
            columns=", ".join(column.quoted for column in states.columns),
        )
        rows, died = [], []
        names, width = [column.name for column in states.columns], len(states.key.columns)
        for found in self._db.read(query, states.values):
            key, ours, rest = tuple(found[:width]), found[width], found[width + 1 :]
            row = dict(zip(names, rest, strict=True))
            attempt = None
            if states.attempts is not None:
                before = int(row[states.attempts.name] or 0)
                if claimable == states.expired and not ours and states.used_up(before):
                    died.append(key)
                    continue
                attempt = row[states.attempts.name] = before + (0 if ours else 1)
            if not states.holds:
                row[states.state.name] = states.working
            rows.append(ClaimedRow(key, MappingProxyType(row), attempt))
        if died:
            self._let_fail(died)
        return rows, len(died)

    def _mark(self, rows: Sequence[ClaimedRow], claimable: str) -> None:
        if not rows:
            return
        states = self._states
        condition = states.with_keys([row.key for row in rows])
        count = f", {states.attempts.quoted} = {states.one_attempt_more}" if states.attempts else ""
        query = self._sql(CLAIM, keys=condition, claimable=claimable, attempts=count)
        self._db.change(query, states.values)

    def _let_fail(self, keys: Sequence[KeyValues]) -> None:
        states = self._states
        condition = states.with_keys(keys)
        error = "" if states.error is None else f", {states.error.quoted} = %(reason)s"
        reason = f"its worker died in attempt {states.max_attempts} of {states.max_attempts}"
        query = self._sql(DIED, keys=condition, expired=states.expired, error=error)
        self._db.change(query, {**states.values, "reason": reason})

    def _sql(self, statement: str, **parts: str) -> str:
        return statement.format(**{**self._states.names, **parts})

    def _what(self, action: str) -> str:
        return f"{action} in {self._states.name}"


def renew(db: Transactions, states: RowStates, keys: Sequence[KeyValues]) -> set[KeyValues]:
    """Renew claims within a transaction, and return the keys of those that are ours and not locked.

    A row that another session has locked can't be taken over meanwhile, and must not keep the others from
    their renewal.
    """
    condition = states.with_keys(keys)
    query = OURS.format(**states.names, keys=condition, mine=states.mine)
    ours = [tuple(key) for key in db.read(query, states.values)]
    if ours:
        condition = states.with_keys(ours)
        query = RENEW.format(**states.names, keys=condition, mine=states.mine)
        db.change(query, states.values)
    return set(ours)
