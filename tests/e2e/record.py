"""What the work of both deployments did, recorded in a database by the work itself."""

from __future__ import annotations

from contextlib import closing
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.e2e.deployments import until

if TYPE_CHECKING:
    from dev.servers import MariaDB
    from tests.e2e.deployments import Run

# A writer is one process that works, a step one thing that it did. `orders` is what a test asks of the work.
RECORD = (
    "CREATE DATABASE lock_rows",
    "USE lock_rows",
    (
        "CREATE TABLE writer (id INT AUTO_INCREMENT PRIMARY KEY, dag_id VARCHAR(99), deployment VARCHAR(9),"
        " run_id VARCHAR(99), try INT, pid INT, ended TIMESTAMP(6) NULL)"
    ),
    "CREATE TABLE step (id INT AUTO_INCREMENT PRIMARY KEY, writer INT, at TIMESTAMP(6) DEFAULT SYSDATE(6))",
    (
        "CREATE TABLE orders (dag_id VARCHAR(99), deployment VARCHAR(9), what VARCHAR(9),"
        " PRIMARY KEY (dag_id, deployment))"
    ),
)
# Every chunk of a hundred rows is one step. It is in the very transaction that deletes the rows.
TABLE = (
    "CREATE TABLE {table} (id INT UNSIGNED PRIMARY KEY, deletedAt TIMESTAMP NOT NULL)",
    "INSERT INTO {table} SELECT seq, '2020-01-01' FROM seq_1_to_30000",
    (
        "CREATE TRIGGER {table} AFTER DELETE ON {table} FOR EACH ROW"
        " INSERT INTO step (writer) SELECT @writer FROM DUAL WHERE MOD(OLD.id, 100) = 0"
    ),
)


class Writer(NamedTuple):
    id: int
    deployment: str
    run_id: str
    attempt: int
    pid: int
    ended: bool


class Step(NamedTuple):
    writer: int
    at: float


class Record:
    """What the work of both deployments wrote down."""

    def __init__(self, mariadb: MariaDB) -> None:
        self._connection = mariadb.connect("lock_rows", init_command="SET time_zone = '+00:00'")

    def close(self) -> None:
        self._connection.close()

    def _rows(self, query: str, *values: object) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def tell(self, dag_id: str, what: str, *names: str) -> None:
        """Tell the work of a DAG, in some or all deployments, to `end` or to `raise`."""
        for name in names or ("a", "b"):
            self._rows("REPLACE INTO orders VALUES (%s, %s, %s)", dag_id, name, what)

    def tell_all(self, what: str) -> None:
        for (dag_id,) in self._rows("SELECT DISTINCT dag_id FROM writer"):
            self.tell(dag_id, what)

    def make_table(self, dag_id: str) -> None:
        for statement in TABLE:
            self._rows(statement.format(table=f"{dag_id}_rows"))

    def writers(self, dag_id: str) -> list[Writer]:
        query = (
            "SELECT id, deployment, run_id, try, pid, ended IS NOT NULL FROM writer"
            " WHERE dag_id = %s ORDER BY id"
        )
        return [Writer(*row) for row in self._rows(query, dag_id)]

    def writer(self, run: Run, *, after: Writer | None = None, steps: int = 2) -> Writer:
        """Wait until the latest process of the run's work, after another one, has done so many steps."""

        def found() -> Writer | None:
            for writer in reversed(self.writers(run.dag_id)):
                if after is not None and writer.id <= after.id:
                    break
                if (writer.deployment, writer.run_id) == (run.airflow.name, run.id):
                    return writer if len(self.steps_of(writer)) >= steps else None
            return None

        result: Writer = until(found, f"{steps} steps of {run.owner}, after {after}")
        return result

    def steps(self, dag_id: str) -> list[Step]:
        query = (
            "SELECT step.writer, UNIX_TIMESTAMP(step.at) FROM step JOIN writer ON writer.id = step.writer"
            " WHERE dag_id = %s ORDER BY step.id"
        )
        return [Step(writer, float(at)) for writer, at in self._rows(query, dag_id)]

    def steps_of(self, writer: Writer) -> list[float]:
        query = "SELECT UNIX_TIMESTAMP(at) FROM step WHERE writer = %s ORDER BY id"
        return [float(row[0]) for row in self._rows(query, writer.id)]

    def last_step(self, writer: Writer) -> float:
        return self.steps_of(writer)[-1]

    def assert_one_at_a_time(self, dag_id: str) -> None:
        """No writer's step lies between two steps of another."""
        turns = [writer for writer, _ in groupby(step.writer for step in self.steps(dag_id))]
        assert len(turns) == len(set(turns)), f"writers took turns: {turns} of {self.writers(dag_id)}"
