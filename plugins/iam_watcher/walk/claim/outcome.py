"""What became of a row that was processed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iam_watcher.walk.pace import Limit

KeyValues = tuple[Any, ...]


class Kind(StrEnum):
    """What becomes of a claimed row, by the name of its count in the run report."""

    DONE = "done"
    FAILED = "failed"
    RETRY = "retried"  # pending again after an exception; its attempt is used
    NOT_READY = "not_ready"  # pending again because the function asked for it; its attempt is given back
    GIVEN_BACK = "given_back"  # pending again because the run ends; its attempt is given back


@dataclass(frozen=True)
class Outcome:
    """What is to be written for one row.

    Attributes:
        kind: what became of it.
        reason: for the error column; None clears it.
        values: column → value, for a row that is done.
        delay: seconds after which a row that is not ready is due again.
    """

    kind: Kind
    reason: str | None = None
    values: Mapping[str, object] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class ClaimedRow:
    """A row that is claimed.

    Attributes:
        key: the values of its key.
        values: column → value, as they were when it was claimed; the attempt that begins is counted.
        attempt: its number, from 1; None without a column for attempts.
    """

    key: KeyValues
    values: Mapping[str, Any]
    attempt: int | None


@dataclass
class Processed:
    """What a run has done so far.

    Attributes:
        claimed: rows, the ones that were taken over included.
        taken_over: rows whose worker did not renew its claim.
        outcomes: what was written: the values of `Kind`.
        lost: rows that were not ours any more when their outcome was to be written; they were left alone.
        worker_died: rows that failed without being processed: all of their attempts ended with a claim that
            was not renewed.
        attempts: attempt → rows that were claimed for it.
        exceptions: class name → rows.
        examples: class name → key of the first row, and its message.
        longest_claim: seconds of the longest transaction that claimed.
        longest_finish: seconds of the longest transaction that wrote outcomes.
        late_renewals: renewals that came after two thirds of the claim time-out.
        idle_seconds: how long it waited for rows.
        stopped: the limit that ended the run; None if it went on until no row was left.
    """

    claimed: int = 0
    taken_over: int = 0
    outcomes: Counter[Kind] = field(default_factory=Counter)
    lost: int = 0
    worker_died: int = 0
    attempts: Counter[int] = field(default_factory=Counter)
    exceptions: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    longest_claim: float = 0.0
    longest_finish: float = 0.0
    late_renewals: int = 0
    idle_seconds: float = 0.0
    stopped: Limit | None = None
