"""Account tables of other systems, and the operators for them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from iam_watcher.jobs.account_table import AccountTable
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.jobs.reenable_users import ReenableUsersOperator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Database

NOW = datetime.now(UTC)
OLD, NEW = timedelta(days=200), timedelta(days=10)


def as_date(age: timedelta) -> str:
    return (NOW - age).strftime("%Y-%m-%d %H:%M:%S")


def as_milliseconds(age: timedelta) -> int:
    return int((NOW - age).timestamp() * 1000)


def as_seconds(age: timedelta) -> int:
    return int((NOW - age).timestamp())


@dataclass(frozen=True)
class Shape:
    """An account table of another system.

    Attributes:
        accounts: as the DAG file has it.
        create: the table.
        time: a time that is so long ago, as the table has it.
        active, disabled, other: values of the status as the table has them.
        never: values of the last login of a user who never logged in.
        columns: more columns of a row, and their values.
    """

    accounts: AccountTable
    create: str
    time: Callable[[timedelta], Any]
    active: Any = 1
    disabled: Any = 0
    other: Any = None
    never: tuple[Any, ...] = (None,)
    columns: Callable[[], dict[str, Any]] = dict

    def add(self, database: Database, name: str | None, **changes: Any) -> None:
        """Insert an account that was made and last used long ago."""
        accounts = self.accounts
        row = {
            accounts.name: name,
            accounts.status: self.active,
            accounts.last_login: self.time(OLD),
            accounts.created: self.time(OLD),
            **dict.fromkeys(accounts.admins, 0),
            **self.columns(),
            **changes,
        }
        names = ", ".join(f"`{column}`" for column in row)
        marks = ", ".join(["%s"] * len(row))
        database.run(f"INSERT INTO `{accounts.table}` ({names}) VALUES ({marks})", list(row.values()))

    def of(self, database: Database, status: Any) -> set[str]:
        """Return the names of the accounts with a status."""
        accounts = self.accounts
        column = f"`{accounts.status}` + 0" if isinstance(status, int) else f"BINARY `{accounts.status}`"
        query = f"SELECT `{accounts.name}` FROM `{accounts.table}` WHERE {column} = %s"
        return set(database.column(query, [status]))


DJANGO = Shape(
    AccountTable(
        table="auth_user",
        name="username",
        status="is_active",
        last_login="last_login",
        created="date_joined",
        admin=["is_superuser", "is_staff"],
        email="email",
    ),
    "CREATE TABLE auth_user (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, password varchar(128) NOT NULL,"
    " last_login datetime(6) NULL, is_superuser tinyint(1) NOT NULL, username varchar(150) NOT NULL UNIQUE,"
    " first_name varchar(150) NOT NULL, last_name varchar(150) NOT NULL, email varchar(254) NOT NULL,"
    " is_staff tinyint(1) NOT NULL, is_active tinyint(1) NOT NULL, date_joined datetime(6) NOT NULL)"
    " ENGINE=InnoDB CHARACTER SET utf8mb4",
    as_date,
    columns=lambda: {"password": "x", "first_name": "", "last_name": "", "email": "a@example.invalid"},
)
# Keycloak has no last login in USER_ENTITY: here it is a column that a listener of its events fills.
KEYCLOAK = Shape(
    AccountTable(
        table="USER_ENTITY",
        name="USERNAME",
        status="ENABLED",
        last_login="LAST_LOGIN",
        created="CREATED_TIMESTAMP",
        email="EMAIL",
        time_unit="unix_milliseconds",
        where=[("REALM_ID", "=", "master"), ("SERVICE_ACCOUNT_CLIENT_LINK", "is null")],
    ),
    "CREATE TABLE USER_ENTITY (ID varchar(36) CHARACTER SET latin1 NOT NULL, EMAIL varchar(255) DEFAULT NULL,"
    " ENABLED bit(1) NOT NULL DEFAULT b'0', REALM_ID varchar(255) DEFAULT NULL,"
    " USERNAME varchar(255) DEFAULT NULL, CREATED_TIMESTAMP bigint DEFAULT NULL,"
    " SERVICE_ACCOUNT_CLIENT_LINK varchar(255) DEFAULT NULL, LAST_LOGIN bigint DEFAULT NULL,"
    " PRIMARY KEY (ID), UNIQUE KEY (REALM_ID, USERNAME)) ENGINE=InnoDB CHARACTER SET utf8mb4",
    as_milliseconds,
    never=(None, 0),
    columns=lambda: {"ID": str(uuid.uuid4()), "REALM_ID": "master"},
)
STATUS_TEXT = Shape(
    AccountTable(
        table="members",
        name="login",
        status="state",
        active="active",
        disabled="suspended",
        last_login="seen_at",
        created="made_at",
        admin="is_owner",
        time_unit="unix_seconds",
    ),
    "CREATE TABLE members (org int NOT NULL, login varchar(40) NOT NULL, state varchar(20) NULL,"
    " seen_at int unsigned NOT NULL DEFAULT 0, made_at int unsigned NOT NULL, is_owner tinyint NULL,"
    " settings json NULL, PRIMARY KEY (org, login)) ENGINE=InnoDB CHARACTER SET utf8mb4",
    as_seconds,
    active="active",
    disabled="suspended",
    other="pending",
    never=(0,),
    columns=lambda: {"org": 7, "settings": '{"a": [1, "b"]}'},
)
SHAPES = {"django": DJANGO, "keycloak": KEYCLOAK, "status text": STATUS_TEXT}


@pytest.fixture
def location(tmp_path):
    return f"file://{tmp_path}/records"


def arguments(shape: Shape, location: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "mysql_conn_id": "scratch",
        "accounts": shape.accounts,
        "max_inactive_days": 180,
        "max_share": 1,
        "undo_location": location,
        "exempt_admins": bool(shape.accounts.admins),
        **options,
    }


def disable(shape: Shape, location: str, **options: Any) -> DisableInactiveUsersOperator:
    return DisableInactiveUsersOperator(task_id="disable", **arguments(shape, location, options))


def enable(shape: Shape, location: str, record: str | None, **options: Any) -> ReenableUsersOperator:
    return ReenableUsersOperator(
        **{
            "task_id": "enable",
            "mysql_conn_id": "scratch",
            "accounts": shape.accounts,
            "location": location,
            "undo_record": record,
            **options,
        }
    )


def everything(shape: Shape, scratch: Database) -> list[Any]:
    return scratch.rows(f"SELECT * FROM `{shape.accounts.table}` ORDER BY `{shape.accounts.name}`")


def replace_shape(shape: Shape, **changes: Any) -> Shape:
    return replace(shape, accounts=replace(shape.accounts, **changes))
