"""Rows in a state, for the tests: tables, and runs of the engine without Airflow."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

from iam_watcher.database.session import set_up
from iam_watcher.database.transactions import Transactions
from iam_watcher.walk.claim import find_states, first_look
from iam_watcher.walk.claim.function import caller
from iam_watcher.walk.claim.outcome import Processed
from iam_watcher.walk.claim.processing import Processing
from iam_watcher.walk.claim.renewal import Renewal

CREATE = """
CREATE TABLE orders (
  {key},
  status ENUM('pending', 'work', 'normal', 'failed') NOT NULL DEFAULT 'pending',
  claimed_at DATETIME(6) NULL, claimed_by VARCHAR(255) NULL,
  attempts INT UNSIGNED NOT NULL DEFAULT 0, retry_at DATETIME(6) NULL, error TEXT NULL,
  note VARCHAR(20) NULL,
  {index}
) ENGINE = InnoDB
"""
BY_ID = "id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY"
BY_RETRY = "KEY due (status, retry_at)"
BY_STATE = "KEY by_status (status)"

ALL = {
    "claimed_at_column": "claimed_at",
    "claimed_by_column": "claimed_by",
    "attempts_column": "attempts",
    "retry_at_column": "retry_at",
    "error_column": "error",
}
CLAIM_ONLY = {"claimed_at_column": "claimed_at", "claimed_by_column": "claimed_by"}


def create(scratch: Any, key: str = BY_ID, index: str = BY_RETRY) -> None:
    scratch.run(CREATE.format(key=key, index=index))


def names(claimant: str = "nonce-of-a-run-0123456789abcdef run", **given: Any) -> find_states.Names:
    known: dict[str, Any] = {
        "table": "orders",
        "state_column": "status",
        "pending": "pending",
        "done": "normal",
        "failed": "failed",
        "working": "work",
        "columns": ALL,
        "read": None,
        "age_column": None,
        "claimant": claimant,
        "claim_timeout": 60.0,
        "max_attempts": 3,
        "backoff": 10.0,
    }
    return find_states.Names(**{**known, **given})


HOLD = {
    "working": None,
    "columns": {name: ALL[name] for name in ("attempts_column", "retry_at_column", "error_column")},
}


class Engine:
    """One run of the engine on `scratch`, with a connection of its own."""

    def __init__(
        self, server: Any, function: Any, *, per: str = "row", options: Any = None, **given: Any
    ) -> None:
        self._server, self._per, self._function = server, per, function
        self._options, self._given = {"batch": 100, "stop_after": 10, **(options or {})}, given
        self.done = Processed()

    def connect(self) -> Any:
        connection = self._server.connect("scratch")
        set_up(connection)
        return connection

    def run(self) -> Processed:
        with ExitStack() as stack:
            db = stack.enter_context(closing(Transactions(self.connect(), reconnect=self.connect)))
            states = find_states.find(db, names(**self._given))
            first_look.check(db, states)
            renewal = None
            if not states.holds:
                renewal = stack.enter_context(Renewal(states, self.connect))
            call = caller(self._function, self._per)
            processing = Processing(db, states, call, renewal=renewal, **self._options)
            self.done, self.claims, self.renewal = processing.done, processing.claims, renewal
            return processing.run()


def run(server: Any, function: Any, **given: Any) -> Processed:
    return Engine(server, function, **given).run()
