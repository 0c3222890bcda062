"""RowsInStateTrigger: asks once a second, in the triggerer, whether a table has rows to process."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from iam_watcher.database.server_errors import LOST, code_of
from iam_watcher.errors import IamWatcherError
from iam_watcher.log_lines import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from iam_watcher.database.transactions import Transactions

logger = get_logger(__name__)

LOOK_EVERY = 1.0  # seconds between two questions whether rows are due
ANSWER_WITHIN = 5  # seconds
LOG_EVERY = 60.0  # seconds between two log lines about the same error
LEFT_OUT = 60.0  # seconds in which a table is not asked after an error

# Seconds from one event to the next. Airflow keeps one event while a run is active, and drops the others.
OTHER_ROWS = 3.0  # if another row is the first one
SAME_ROWS = 30.0  # if the rows are the same

_PLACEHOLDER = re.compile(r"(?<!%)%\((\w+)\)s")

First = bytes | str | int | None
"""What tells the first row that is due from another; None if no row is due."""


@dataclass(frozen=True)
class Watched:
    """What one trigger looks for; for the attributes see `ProcessRowsOperator`."""

    table: str
    state_column: str
    claim: str | int
    working: str | int | None
    claimed_at_column: str | None
    retry_at_column: str | None
    claim_timeout: float


class RowsInStateTrigger(BaseEventTrigger):
    """Fires while rows of a table are due.

    All triggers with the same connection share one query a second.

    Args:
        mysql_conn_id: the Airflow connection.
        watched: see `Watched`.
    """

    # Those that share the poll of a connection: conn id -> what they look for, and how many do.
    _sharing: ClassVar[dict[str, Counter[Watched]]] = defaultdict(Counter)

    def __init__(self, *, mysql_conn_id: str, **watched: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mysql_conn_id = mysql_conn_id
        self.watched = Watched(**watched)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments with which a triggerer creates this trigger."""
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {"mysql_conn_id": self.mysql_conn_id, **asdict(self.watched)}

    def shared_stream_key(self) -> tuple[str, str]:
        """Return what the triggers have in common that share a poll."""
        return type(self).__module__, self.mysql_conn_id

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """Yield once a second which of the tables have rows that are due, and which row is the first."""
        conn_id = kwargs["mysql_conn_id"]
        poll = Poll(conn_id)
        try:
            while True:
                began = time.monotonic()
                yield await poll.ask(list(cls._sharing[conn_id]))
                await asyncio.sleep(max(0.0, began + LOOK_EVERY - time.monotonic()))
        finally:
            poll.close()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Yield an event when a row is due, and again and again while rows are."""
        sharing = self._sharing[self.mysql_conn_id]
        sharing[self.watched] += 1
        level = Level()
        try:
            async for answers in shared_stream:
                if self.watched in answers and level.fires(answers[self.watched], time.monotonic()):
                    yield TriggerEvent({"table": self.watched.table})  # type: ignore[no-untyped-call]
        finally:
            sharing[self.watched] -= 1
            if not sharing[self.watched]:
                del sharing[self.watched]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the same without sharing."""
        stream = self.open_shared_stream({"mysql_conn_id": self.mysql_conn_id})
        async for event in self.filter_shared_stream(stream):
            yield event


class Level:
    """Says when an event is due: at once for a first row, then not too often."""

    def __init__(self) -> None:
        self._first: First = None
        self._fired_at = float("-inf")

    def fires(self, first: First, now: float) -> bool:
        """Return whether to yield an event, now that this row is the first one."""
        if first is None:
            self._first = None
            return False
        gap = 0.0 if self._first is None else OTHER_ROWS if first != self._first else SAME_ROWS
        if now - self._fired_at < gap:
            return False
        self._first, self._fired_at = first, now
        return True


class Poll:
    """Asks one database about several tables in one statement.

    A database that can't be asked, or a table that is not as it must be, is logged and asked again: an
    exception would end the triggers for ever. A table whose question fails is left out for a minute, so that
    it does not keep the answers of the others back.

    Args:
        conn_id: the Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._db: Transactions | None = None
        self._queries: dict[Watched, tuple[str, dict[str, Any]]] = {}
        self._logged_at: dict[str, float] = {}
        self._left_out: dict[Watched, float] = {}  # and until when, by `time.monotonic`

    async def ask(self, watched: Sequence[Watched]) -> Mapping[Watched, First]:
        """Return the first row that is due, of each table that could be asked."""
        if not watched:
            return {}
        try:
            if self._db is None:
                hook = await self._hook()
                self._db = await asyncio.to_thread(self._connect, hook)
            return await asyncio.to_thread(self._ask, watched)
        except Exception as error:  # noqa: BLE001  whatever it is, the next second may be better
            self._tell(self._conn_id, error)
            self.close()
            return {}

    def close(self) -> None:
        """Close the connection."""
        db, self._db = self._db, None
        self._queries = {}
        if db is not None:
            with suppress(Exception):
                db.close()

    async def _hook(self) -> Any:
        from airflow.sdk import BaseHook

        from iam_watcher.database.hook import JobMySqlHook

        hook = JobMySqlHook(self._conn_id, answer_within=ANSWER_WITHIN)
        hook.resolve(await BaseHook.aget_connection(self._conn_id))
        return hook

    @staticmethod
    def _connect(hook: Any) -> Transactions:
        from iam_watcher.database.transactions import Transactions

        connection = hook.get_conn()
        connection.autocommit(True)
        return Transactions(connection, tries=1)

    def _ask(self, watched: Sequence[Watched]) -> dict[Watched, First]:
        db = self._db
        if db is None:
            return {}
        now = time.monotonic()
        asked = [one for one in watched if now >= self._left_out.get(one, now) and self._is_prepared(db, one)]
        try:
            return self._first_due(db, asked)
        except db.error as error:
            if code_of(error) in LOST:
                raise
        answers: dict[Watched, First] = {}
        for one in asked:
            try:
                answers |= self._first_due(db, [one])
            except db.error as error:
                self._leave_out(one, error)
        return answers

    def _first_due(self, db: Transactions, asked: Sequence[Watched]) -> dict[Watched, First]:
        if not asked:
            return {}
        parts: list[str] = []
        values: dict[str, Any] = {}
        for number, one in enumerate(asked):
            query, given = self._queries[one]
            parts.append(_PLACEHOLDER.sub(rf"%(q{number}_\1)s", query))
            values |= {f"q{number}_{name}": value for name, value in given.items()}
        (row,) = db.read(f"SELECT {', '.join(parts)}", values)
        return dict(zip(asked, row, strict=True))

    def _is_prepared(self, db: Transactions, one: Watched) -> bool:
        from iam_watcher.walk.claim.due_query import due_query

        try:
            if one not in self._queries:
                self._queries[one] = due_query(db, **asdict(one))
        except (db.error, IamWatcherError) as error:
            self._leave_out(one, error)
            return False
        return True

    def _leave_out(self, one: Watched, error: Exception) -> None:
        """Leave a table out for a minute; raise if the connection is lost, which concerns all tables."""
        if code_of(error.__cause__ or error) in LOST:
            raise error
        self._tell(one.table, error)
        self._left_out[one] = time.monotonic() + LEFT_OUT
        self._queries.pop(one, None)

    def _tell(self, what: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(what, float("-inf")) >= LOG_EVERY:
            self._logged_at[what] = now
            logger.warning("event=rows_not_asked what=%s error=%r", what, error)
