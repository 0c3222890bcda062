"""Renews claims while their rows are processed, by a thread with a connection of its own.

The thread never logs: a task whose supervisor died can't. It keeps its error, and `Processing` logs it.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from iam_watcher.database.transactions import Transactions
from iam_watcher.walk.claim.claims import renew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from iam_watcher.database.connection import Connection
    from iam_watcher.walk.claim.outcome import KeyValues
    from iam_watcher.walk.claim.row_states import RowStates

PERIODS = 3  # in a claim time-out: claims are renewed in each, and are late after all but one
AGAIN = 1.0  # seconds after a renewal that failed


class Renewal:
    """Renews the claims that it is given every third of the claim time-out; a context manager.

    Args:
        states: the rows and their states.
        connect: returns a new connection; called in the thread.

    Attributes:
        late: renewals that came after two thirds of the claim time-out.
        error: why a renewal failed, the last one that did; None if none did.
    """

    def __init__(self, states: RowStates, connect: Callable[[], Connection]) -> None:
        self.late = 0
        self.error: Exception | None = None
        self._states = states
        self._connect = connect
        self._keys: set[KeyValues] = set()
        self._valid_since = 0.0
        self._lock = threading.Lock()  # of the keys
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claim-renewal", daemon=True)

    def __enter__(self) -> Self:
        """Begin to renew."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the renewals."""
        self._ended.set()
        self._thread.join()

    def add(self, keys: Iterable[KeyValues], since: float) -> None:
        """Renew these claims from now on.

        Args:
            keys: of the rows.
            since: a time before they were claimed, by `time.monotonic`.
        """
        with self._lock:
            self._valid_since = min(self._valid_since, since) if self._keys else since
            self._keys.update(keys)

    def remove(self, keys: Iterable[KeyValues]) -> None:
        """Renew these claims no more."""
        with self._lock:
            self._keys.difference_update(keys)

    def confirm(self, since: float) -> None:
        """Note that all claims were renewed after this time, by `time.monotonic`."""
        with self._lock:
            self._valid_since = max(self._valid_since, since)

    @property
    def overdue(self) -> bool:
        """Whether claims may be taken over soon, or may have been."""
        with self._lock:
            return bool(self._keys) and time.monotonic() - self._valid_since > self._late_after

    @property
    def _late_after(self) -> float:
        return self._states.claim_timeout * (PERIODS - 1) / PERIODS

    def _run(self) -> None:
        period = self._states.claim_timeout / PERIODS
        db: Transactions | None = None
        wait = period
        while not self._ended.wait(wait):
            with self._lock:
                keys, before = list(self._keys), self._valid_since
            began, wait = time.monotonic(), period
            try:
                if keys:
                    db = db or Transactions(self._connect())
                    renew(db, self._states, keys)
                    db.commit()
                    self.late += began - before > self._late_after
                    self.confirm(began)
                else:
                    # The server would end a session that is silent while the run waits for rows.
                    _close(db)
                    db = None
            except Exception as error:  # noqa: BLE001  whatever it is, the claims are not renewed
                self.error, wait = error, min(period, AGAIN)
                _close(db)
                db = None
        _close(db)


def _close(db: Transactions | None) -> None:
    if db is not None:
        with suppress(Exception):
            db.close()
