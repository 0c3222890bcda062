"""The clients of the tables: they add rows of each sort, as users of a real database do."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dev.servers import MariaDB

_PAUSE = 1.0
_OLD_ROWS, _YOUNG_ROWS = 8, 2  # a round
_PENDING_ROWS, _PENDING_EVERY = 16, 25  # rows at once, each so many rounds
_FAILING = 0.05
_PURGE = "INSERT INTO chaos_purge (id, createdAt) VALUES (%s, NOW() - INTERVAL %s DAY)"
_ROWS = "INSERT INTO chaos_rows (fails) VALUES (%s)"
_USER = (
    "INSERT INTO user (name, nickname, password, email, loginedAt)"
    " VALUES (%s, 'x', 'x', 'x@example.com', NOW() - INTERVAL %s DAY)"
)
_LOGIN = "UPDATE user SET loginedAt = NOW() WHERE status = 1 AND id %% 97 = %s"


class Clients:
    """A thread that adds rows until `stop`. It connects again when its session is lost.

    Attributes:
        young: The ids of rows that no purge may delete.
    """

    def __init__(self, mariadb: MariaDB, seed: int) -> None:
        self.young: set[int] = set()
        self._mariadb = mariadb
        self._rng = random.Random(seed)  # noqa: S311  a repeatable run, not a secret
        self._rounds = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the last round."""
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        import MySQLdb

        while not self._end.is_set():
            with (
                suppress(MySQLdb.Error),
                closing(self._mariadb.connect(connect_timeout=5, read_timeout=30)) as connection,
            ):
                while not self._end.wait(_PAUSE):
                    self._round(connection)
            time.sleep(_PAUSE)

    def _round(self, connection: Any) -> None:
        young = []
        with closing(connection.cursor()) as cursor:
            for _ in range(_OLD_ROWS):
                cursor.execute(_PURGE, (self._rng.getrandbits(60), self._rng.randint(31, 400)))
            for _ in range(_YOUNG_ROWS):
                young.append(self._rng.getrandbits(60))
                cursor.execute(_PURGE, (young[-1], self._rng.randint(0, 28)))
            for _ in range(0 if self._rounds % _PENDING_EVERY else _PENDING_ROWS):
                cursor.execute(_ROWS, (self._rng.random() < _FAILING,))
            cursor.execute(_USER, (f"chaos-{self._rng.getrandbits(60)}", self._rng.choice([1, 5, 40, 90])))
            cursor.execute(_LOGIN, (self._rng.randrange(97),))
        connection.commit()
        self._rounds += 1
        self.young |= set(young)
