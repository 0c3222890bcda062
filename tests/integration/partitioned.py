"""A partitioned table with old and young rows, and a purge of it: what tests of dropped partitions share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from iam_watcher.archive import reader
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

if TYPE_CHECKING:
    from tests.integration.conftest import Database

EACH = 40  # rows of a partition

BY_DAY = "RANGE COLUMNS (day)"
DAYS = {"p1": "'2001-01-01'", "p2": "'2002-01-01'", "p3": "'2003-01-01'", "later": "MAXVALUE"}
FIRST = {"p1": 2000, "p2": 2001, "p3": 2002}  # the year of the rows of each
OLD, YOUNG = EACH * 4, EACH


def purge(**options: Any) -> PurgeRowsOperator:
    arguments = {"table": "t", "age_column": "day", "older_than_days": 1, "mysql_conn_id": "scratch"}
    return PurgeRowsOperator(task_id="purge", **{**arguments, "drop_partitions": True, **options})


def create(
    database: Database,
    kind: str = "date NOT NULL",
    by: str = BY_DAY,
    bounds: dict[str, str] = DAYS,
    key: str = "id, day",
) -> None:
    """Create a table of four partitions: three are old as a whole, the last has old and young rows."""
    ranges = ", ".join(f"PARTITION {name} VALUES LESS THAN ({bound})" for name, bound in bounds.items())
    database.run(
        f"CREATE TABLE t (id bigint NOT NULL, day {kind}, note varchar(20) NOT NULL DEFAULT '%',"
        f" tens int AS (id DIV 10), UNIQUE KEY by_id ({key}), CONSTRAINT positive CHECK (id > 0))"
        " COMMENT='100% mine'"
        f" PARTITION BY {by} ({ranges})"
    )


def fill(database: Database, value: str = "CONCAT(year, '-05-05')") -> None:
    """Insert EACH rows for each of four years that are old, and one that is young; `id` counts from 1."""
    for number, year in enumerate([*FIRST.values(), 2010, 2090]):
        for_year = value.replace("year", str(year))
        database.run_many(
            f"INSERT INTO t (id, day) VALUES (%s, {for_year.replace('%', '%%')})",
            [(number * EACH + one,) for one in range(1, EACH + 1)],
        )


def partitions(database: Database) -> list[str]:
    return database.column(
        "SELECT PARTITION_NAME FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = DATABASE()"
        " AND TABLE_NAME = 't' ORDER BY PARTITION_ORDINAL_POSITION"
    )


def ids(database: Database) -> set[int]:
    return set(database.column("SELECT id FROM t"))


def tables(database: Database) -> list[str]:
    return database.column("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()")


def archived(location: Path) -> set[int]:
    """Return the ids in all archives below a folder."""
    found = set()
    for run in Path(location).glob("t/*/*"):
        for written in reader.find(f"file://{run}", kind="rows"):
            found |= {row["id"] for row in written.rows()}
    return found
