"""Writes the outcomes of claimed rows that are still ours: one statement for rows with the same outcome."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from iam_watcher.database.server_errors import DENIED, LOST, RETRIED, code_of, may_be_committed
from iam_watcher.errors import WalkError
from iam_watcher.walk.claim.outcome import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iam_watcher.database.transactions import Transactions
    from iam_watcher.walk.claim.outcome import KeyValues, Outcome, Processed
    from iam_watcher.walk.claim.row_states import RowStates

# Writes one outcome. By the key, so that it locks rows in the same order as a claim does.
FINISH = "UPDATE {table} FORCE INDEX ({by_key}) SET {assignments} WHERE {keys} AND {mine}"

# How many of the rows have the outcome already, by a commit whose answer was lost.
FINISHED = "SELECT COUNT(*) FROM {table} FORCE INDEX ({by_key}) WHERE {keys} AND {state} = %(target)s{by_me}"

# Half to all of the delay, so that rows that failed together don't come back together.
RETRY_AT = (
    "NOW(6) + INTERVAL"
    " LEAST(%(backoff)s * POW(2, LEAST({attempts_before}, 30)), %(longest)s) * (0.5 + RAND() / 2) SECOND"
)
LONGEST_BACKOFF = 3600.0  # seconds
LONGEST_REASON = 1_000  # characters
KEEP_LOCKS = 4  # tries, about 7 s, in which a conflict does not end the row locks of mode hold

TARGETS = {Kind.DONE: "done", Kind.FAILED: "failed"}  # all others become pending again


class Finish:
    """Writes the outcomes of one run's rows, also when the run has to stop.

    Args:
        db: transactions on the database.
        states: the rows and their states.
        done: counts what was written.
        refused: returns the outcome of a row whose values the server refused.
    """

    def __init__(
        self,
        db: Transactions,
        states: RowStates,
        done: Processed,
        refused: Callable[[KeyValues, Exception], Outcome],
    ) -> None:
        self._db = db
        self._states = states
        self._done = done
        self._refused = refused
        self._unwritten: dict[KeyValues, Exception] = {}
        self._perhaps_written: set[KeyValues] = set()  # by a commit whose answer was lost

    def write(self, outcomes: dict[KeyValues, Outcome]) -> None:
        """Write outcomes and commit: all of them at once or, after a conflict, in ever smaller parts.

        What is written is removed from `outcomes`. In mode hold, a commit ends the row locks of all rows, and
        other workers may claim those that are left: so the first tries keep the locks and write all at once.

        Raises:
            WalkError, TableError: it can't be done, see `Transactions.run`.
        """
        left = list(outcomes.items())
        size = len(left)

        def transaction() -> tuple[Counter[Kind], int, float]:
            began = time.monotonic()
            written, lost = self._apply(left, size)
            try:
                self._db.commit()
            except self._db.error as error:
                if may_be_committed(error):
                    self._perhaps_written.update(key for key, _ in left[:size])
                raise
            return written, lost, time.monotonic() - began

        def halve() -> None:
            nonlocal size
            size = max(1, size // 2)

        keep_locks = KEEP_LOCKS if self._states.holds else 0
        self._perhaps_written.clear()
        while left:
            what = f"outcomes in {self._states.name}"
            with self._db.without_safe_point():
                written, lost, seconds = self._db.run(
                    transaction, what=what, before_retry=halve, keep_locks=keep_locks
                )
            keep_locks = 0
            self._done.outcomes += written
            self._done.lost += lost
            self._done.longest_finish = max(self._done.longest_finish, seconds)
            for key, _ in left[:size]:
                del outcomes[key]
            del left[:size]
        if self._unwritten:
            (key, error), *_ = self._unwritten.items()
            raise WalkError(
                f"{self._states.name}: the outcomes of {len(self._unwritten)} rows can't be written, such as "
                f"that of the row with the key {self._states.shown(key)}: {error}. All others are written"
            ) from error

    def _apply(self, left: list[tuple[KeyValues, Outcome]], size: int) -> tuple[Counter[Kind], int]:
        written: Counter[Kind] = Counter()
        lost = 0
        groups: dict[object, list[int]] = defaultdict(list)
        for place, (key, outcome) in enumerate(left[:size]):
            groups[_same(outcome), key in self._perhaps_written].append(place)
        for places in groups.values():
            outcome = left[places[0]][1]
            keys = [left[place][0] for place in places]
            try:
                ours = self._update(outcome, keys)
            except (self._db.error, TypeError, ValueError) as error:
                if code_of(error) in RETRIED | LOST | DENIED:
                    raise
                for place in places:
                    lost += self._alone(left, place, written)
                continue
            written[outcome.kind] += ours
            lost += len(keys) - ours
        return written, lost

    def _alone(self, left: list[tuple[KeyValues, Outcome]], place: int, written: Counter[Kind]) -> int:
        """Write the outcome of one row, and return 1 if the row is lost.

        If the server refuses the values of a row that is done, that is its outcome. A row whose outcome can't
        be written at all must not keep the others back.
        """
        key, outcome = left[place]
        outcomes = [outcome]
        for one in outcomes:
            try:
                ours = self._update(one, [key])
            except (self._db.error, TypeError, ValueError) as error:
                if code_of(error) in RETRIED | LOST | DENIED:
                    raise
                if one.kind is Kind.DONE:
                    outcomes.append(self._refused(key, error))
                else:
                    self._unwritten[key] = error
            else:
                left[place] = key, one
                written[one.kind] += ours
                return 1 - ours
        return 0

    def _update(self, outcome: Outcome, keys: Sequence[KeyValues]) -> int:
        """Write one outcome, and return how many of the rows were ours."""
        states = self._states
        assignments, more = self._assignments(outcome)
        if not assignments:
            return len(keys)
        condition, values = states.with_keys(keys), states.values | more
        query = FINISH.format(
            **states.names,
            assignments=", ".join(f"{name} = {value}" for name, value in assignments.items()),
            keys=condition,
            mine=states.mine,
        )
        changed = self._db.change(query, values)
        if changed == len(keys):
            return changed
        if states.holds and outcome.kind in TARGETS and not self._perhaps_written.issuperset(keys):
            return changed  # Nothing names the claimant. So rows that are done already are another worker's.
        by_me = "" if states.claimed_by is None else f" AND {states.claimed_by.quoted} = %(me)s"
        values["target"] = states.values[TARGETS.get(outcome.kind, "pending")]
        query = FINISHED.format(**states.names, keys=condition, by_me=by_me)
        ((ours,),) = self._db.read(query, values)
        return int(ours)

    def _assignments(self, outcome: Outcome) -> tuple[dict[str, str], dict[str, object]]:
        """Return what an outcome sets: quoted column → SQL, and the values."""
        states, kind = self._states, outcome.kind
        values: dict[str, object] = {}
        sets: dict[str, str] = {}
        target = TARGETS.get(kind, "pending")
        if not states.holds or kind in TARGETS:
            sets[states.state.quoted] = f"%({target})s"
        if states.retry_at is not None and kind in (Kind.RETRY, Kind.NOT_READY):
            # Before the attempts: the server assigns from left to right.
            sets[states.retry_at.quoted] = self._retry_at(outcome, values)
        if states.attempts is not None:
            used, attempts = kind not in (Kind.NOT_READY, Kind.GIVEN_BACK), states.attempts.quoted
            if used and states.holds:
                sets[attempts] = states.one_attempt_more
            elif not used and not states.holds:
                # Someone may have set it to 0 meanwhile.
                sets[attempts] = f"IF({attempts} > 0, {attempts} - 1, 0)"
        if states.error is not None and kind in (Kind.DONE, Kind.FAILED, Kind.RETRY):
            sets[states.error.quoted] = "%(reason)s"
            values["reason"] = None if outcome.reason is None else fitting(outcome.reason, states.error)
        for number, (name, value) in enumerate(outcome.values.items()):
            sets[states.writable[name].quoted] = f"%(v{number})s"
            values[f"v{number}"] = value
        return sets, values

    def _retry_at(self, outcome: Outcome, values: dict[str, object]) -> str:
        states = self._states
        if outcome.kind is Kind.NOT_READY:
            values["delay"] = outcome.delay
            return "NOW(6) + INTERVAL %(delay)s SECOND"
        values |= {"backoff": states.backoff, "longest": LONGEST_BACKOFF}
        before = "0"
        if states.attempts is not None:
            # A claim has counted the attempt already.
            before = f"COALESCE({states.attempts.quoted}, 0)" + ("" if states.holds else " - 1")
        return RETRY_AT.format(attempts_before=before)


def _same(outcome: Outcome) -> object:
    """Return what two outcomes that one statement can write have in common."""
    values = tuple((name, type(value), repr(value)) for name, value in outcome.values.items())
    return outcome.kind, outcome.reason, outcome.delay, values


def fitting(reason: str, column: object) -> str:
    """Return a reason as the error column can hold it."""
    # A text from JSON can have half of a surrogate pair, which no character set has.
    charset = "utf-8" if getattr(column, "charset", None) == "utf8mb4" else "ascii"
    reason = reason.encode(charset, "backslashreplace").decode(charset)
    longest = (getattr(column, "sizes", ()) or (LONGEST_REASON,))[0]
    if getattr(column, "data_type", "") == "tinytext":
        longest = 63  # characters of four bytes
    return reason[: min(longest, LONGEST_REASON)]
