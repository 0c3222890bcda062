"""Compares the sample rows with their expected results, which are in the rows of include/sql/sample.sql."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dev.servers import MariaDB

TABLES = ("user", "policy", "policy_audit", "secret", "user_provisioning")

Row = dict[str, str | None]
Snapshot = dict[str, dict[str | None, Row]]
"""Table -> id -> column -> value as the server prints it."""


def snapshot(server: MariaDB) -> Snapshot:
    """Return every row of IAM's tables."""
    tables: Snapshot = {}
    # Without conversions: MySQLdb would read a zero date as NULL.
    with closing(server.connect(conv={})) as connection, connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT * FROM `{table}`")
            columns = [column[0] for column in cursor.description]
            tables[table] = {}
            for values in cursor.fetchall():
                texts = (value.decode() if isinstance(value, bytes) else value for value in values)
                row = dict(zip(columns, texts, strict=True))
                tables[table][row["id"]] = row
    return tables


def expected(before: Snapshot) -> Snapshot:
    """Return what the tables must hold after the watchers of the demo; a column that is left out is free."""
    return {
        "user": {key: _expected_user(row) for key, row in before["user"].items()},
        "policy": before["policy"],
        "policy_audit": _kept(before["policy_audit"]),
        "secret": _kept(before["secret"]),
        "user_provisioning": {
            key: _expected_provisioning(row) for key, row in before["user_provisioning"].items()
        },
    }


def _expected_user(row: Row) -> Row:
    status = "1" if row["nickname"] == "expect-enabled" else "0"
    if status == row["status"]:
        return row
    # The server itself sets updatedAt of a row that is written.
    return {column: value for column, value in row.items() if column != "updatedAt"} | {"status": status}


def _expected_provisioning(row: Row) -> Row:
    name = str(row["name"])
    if name.startswith("expect-normal-"):
        return {"name": name, "status": "normal", "home": f"/home/{name}", "attempts": "1", "error": None}
    return {"name": name, "status": "failed", "home": None, "attempts": "1"}


def _kept(rows: dict[str | None, Row]) -> dict[str | None, Row]:
    return {key: row for key, row in rows.items() if str(row["name"]).startswith("expect-kept-")}


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Return a sentence for each row or value that is not as expected; none means all is well."""
    found = []
    for table, wanted in expected(before).items():
        rows = after[table]
        for key in sorted(wanted.keys() | rows.keys(), key=str):
            name = f"{table} {key} ({(wanted.get(key) or rows[key])['name']})"
            if key not in rows:
                found.append(f"{name} is gone, expected to stay")
            elif key not in wanted:
                found.append(f"{name} is there, expected to be gone")
            else:
                found += [
                    f"{name}: {column} is {rows[key][column]}, expected {value}"
                    for column, value in wanted[key].items()
                    if rows[key][column] != value
                ]
    return found
