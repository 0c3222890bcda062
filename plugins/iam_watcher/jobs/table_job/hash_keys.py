"""The keys of `Hashed`, as variables of the session: a key in an UPDATE would be in the binary log.

MariaDB writes the text of each UPDATE into the binary log, beside the rows, unless
`binlog_annotate_row_events` is off; MySQL does if `binlog_rows_query_log_events` is on.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iam_watcher.database.column import AS_UTF8
from iam_watcher.database.session import BINARY_LOG_VARIABLES, logs_statements
from iam_watcher.errors import JobArgumentError, TableError

if TYPE_CHECKING:
    from iam_watcher.database.column import Column
    from iam_watcher.database.transactions import Transactions
    from iam_watcher.jobs.new_values import Hashed

# The key comes twice, as in an HMAC: from one hash nobody can compute that of a longer text.
HASH = "LEFT(SHA2(CONCAT({key}, SHA2(CONCAT({inner}, {column}), 256)), 256), {digits})"

# In the character set of the column: else the server would convert the column, and hash other bytes.
IN_CHARSET = "CONVERT({key} USING {charset})"
SET = "SET {variable} = %(key)s"
FITS = f"SELECT {AS_UTF8} = CAST({{variable}} AS BINARY)"


@dataclass(frozen=True)
class HashKey:
    """The key of one hash.

    Attributes:
        variable: name of the variable of the session that has the key.
        value: as the DAG file has it.
        source: the column that is hashed.
        key: the text of the key.
    """

    variable: str
    value: Hashed
    source: Column
    key: str = field(repr=False)

    @classmethod
    def of(cls, value: Hashed, source: Column, *, number: int) -> HashKey:
        """Return the key of a hash; its variable has this number.

        Raises:
            JobArgumentError: the connection has no key.
        """
        return cls(f"@iam_watcher_key{number}", value, source, _key(value))

    def sql(self, digits: int) -> str:
        """Return SQL for the hash, in a session that has the key."""
        inner = self.variable
        if self.source.charset is not None:
            inner = f"{self._converted} COLLATE {self.source.collation}"
        return HASH.format(key=self.variable, inner=inner, column=self.source.quoted, digits=digits)

    def set(self, db: Transactions, table: str) -> None:
        """Store the key in the session.

        Raises:
            TableError: the server would write the key into its binary log, or the column's character set
                lacks a character of the key.
        """
        if logs_statements(dict(db.read(BINARY_LOG_VARIABLES))):
            raise TableError(
                f"set has {self.value!r}, but the server's binlog_format is STATEMENT: the key of the hashes "
                "would be in the binary log. Set binlog_format=ROW"
            )
        db.set_up(SET.format(variable=self.variable), {"key": self.key})
        if self.source.charset is None:
            return
        ((fits,),) = db.read(FITS.format(column=self._converted, variable=self.variable))
        if not fits:
            raise TableError(
                f"set has {self.value!r}, but its key has a character that {self.source.name} of {table}, in "
                f"{self.source.charset}, can't have. Use a key of letters and digits"
            )

    @property
    def _converted(self) -> str:
        return IN_CHARSET.format(key=self.variable, charset=self.source.charset)


def _key(value: Hashed) -> str:
    if value.key_conn_id is None:
        return secrets.token_hex(32)
    from airflow.sdk import Connection

    password = Connection.get(value.key_conn_id).password
    if not password:
        raise JobArgumentError(
            f"the connection {value.key_conn_id!r} has no password; expected the key there"
        )
    return str(password)
