"""Tables with every kind of key that a walk can go along: what the tests of keys share."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.integration.conftest import Database

LETTERS = "abcABC éßæÄ字_%'\\\x00😀-~"


@dataclass(frozen=True)
class Keyed:
    """A key of one or several columns.

    Attributes:
        name: for test ids.
        types: of the columns k0, k1, …
        values: for each column: values to choose from; the server may refuse some.
        descending: the columns that the index sorts in descending order.
        unique: a unique key instead of a primary one.
        servers: which servers have it: "all", "mariadb" or "mysql".
    """

    name: str
    types: tuple[str, ...]
    values: tuple[Sequence[Any], ...]
    descending: frozenset[int] = frozenset()
    unique: bool = False
    servers: str = "all"

    @property
    def columns(self) -> list[str]:
        return [f"k{number}" for number in range(len(self.types))]

    def create(self, database: Database, table: str = "t", options: str = "") -> None:
        columns = "".join(
            f"{name} {kind} NOT NULL, " for name, kind in zip(self.columns, self.types, strict=True)
        )
        key = ", ".join(
            f"{name} DESC" if number in self.descending else name for number, name in enumerate(self.columns)
        )
        kind = "UNIQUE KEY the_key" if self.unique else "PRIMARY KEY"
        # `n` names the row for the model in Python; the server alone compares keys.
        database.run(
            f"CREATE TABLE {table} ({columns}n int NOT NULL, age datetime NOT NULL, note varchar(40) NOT NULL"
            f" DEFAULT '', {kind} ({key})) {options}"
        )

    def fill(self, database: Database, rows: int, seed: int, table: str = "t") -> None:
        """Insert up to so many rows of different keys; about half of them are old."""
        chosen = random.Random(seed)
        database.run("SET sql_mode = 'ALLOW_INVALID_DATES'")  # and values that are no member, or too long
        names = ", ".join(self.columns)
        holders = ", ".join(["%s"] * len(self.types))
        database.run_many(
            f"INSERT IGNORE INTO {table} ({names}, n, age) VALUES ({holders}, %s, %s)",
            [
                (
                    *(chosen.choice(values) for values in self.values),
                    number,
                    "2001-01-01" if chosen.random() < 0.5 else "2090-01-01",
                )
                for number in range(rows)
            ],
        )
        database.run("SET sql_mode = 'STRICT_TRANS_TABLES'")

    def model(self, database: Database, table: str = "t") -> tuple[set[int], set[int]]:
        """Return the numbers of the rows that are old, and of the others."""
        rows = database.rows(f"SELECT n, age < '2020-01-01' FROM {table}")
        return {n for n, old in rows if old}, {n for n, old in rows if not old}


def _texts(rows: random.Random, count: int = 400) -> list[str]:
    return ["".join(rows.choice(LETTERS) for _ in range(rows.randint(0, 9))) for _ in range(count)]


def _integers(rows: random.Random, first: int, last: int) -> list[int]:
    edges = [first, first + 1, last - 1, last, *range(max(first, -3), 4)]
    return edges + [rows.randint(first, last) for _ in range(400)]


def _days(rows: random.Random) -> list[str]:
    return [
        f"{rows.randint(1990, 2035)}-{rows.randint(1, 12):02d}-{rows.randint(1, 28):02d}" for _ in range(300)
    ]


def _moments(rows: random.Random, digits: int) -> list[str]:
    return [
        f"{day} {rows.randint(0, 23):02d}:{rows.randint(0, 59):02d}:{rows.randint(0, 59):02d}"
        + (f".{rows.randint(0, 10**digits - 1):0{digits}d}" if digits else "")
        for day in _days(rows)
    ]


COLLATIONS = {
    "utf8mb4": {
        "all": ["general_ci", "bin", "unicode_ci", "unicode_520_ci"],
        "mysql": ["0900_ai_ci", "0900_as_cs", "0900_bin", "ja_0900_as_cs_ks"],
        "mariadb": ["nopad_bin", "unicode_nopad_ci"],
    },
    "latin1": {"all": ["swedish_ci", "bin", "german2_ci", "general_cs"]},
    "ascii": {"all": ["general_ci"]},
    "ucs2": {"all": ["general_ci"]},
    "utf16": {"all": ["unicode_ci"]},
    "utf32": {"all": ["bin"]},
    "utf16le": {"all": ["general_ci"]},
    "latin2": {"all": ["czech_cs"]},
    "cp932": {"all": ["japanese_ci"]},
    "gbk": {"all": ["chinese_ci"]},
    "big5": {"all": ["chinese_ci"]},
    "sjis": {"all": ["japanese_ci"]},
    "cp1250": {"all": ["czech_cs"]},
    "tis620": {"all": ["thai_ci"]},
    "utf8mb3": {"all": ["general_ci"]},
}


def _single(rows: random.Random) -> Iterable[Keyed]:
    for name, bits in (("tinyint", 8), ("smallint", 16), ("mediumint", 24), ("int", 32), ("bigint", 64)):
        half = 2 ** (bits - 1)
        yield Keyed(name, (name,), (_integers(rows, -half, half - 1),))
        yield Keyed(f"{name}_unsigned", (f"{name} unsigned",), (_integers(rows, 0, 2 * half - 1),))
    yield Keyed("bigint_desc", ("bigint",), (_integers(rows, -(2**63), 2**63 - 1),), frozenset({0}))
    yield Keyed("bigint_unique", ("bigint",), (_integers(rows, -(2**63), 2**63 - 1),), unique=True)
    yield Keyed("bit1", ("bit(1)",), ([0, 1],))
    yield Keyed("bit64", ("bit(64)",), (_integers(rows, 0, 2**64 - 1),))
    yield Keyed("year", ("year",), ([0, *range(1901, 2156)],))
    decimals = [f"{rows.randint(-(10**34), 10**34)}.{rows.randint(0, 10**30 - 1):030d}" for _ in range(300)]
    yield Keyed("decimal", ("decimal(65,30)",), (["0", "-0.000000000000000000000000000001", *decimals],))
    yield Keyed("cents", ("decimal(9,2)",), ([f"{number / 100:.2f}" for number in range(-300, 300)],))
    floats = [rows.uniform(-1, 1) * 10 ** rows.randint(-30, 30) for _ in range(300)]
    yield Keyed("float", ("float",), ([0.1, 1 / 3, 0, *floats],))
    yield Keyed("double", ("double",), ([0.1, 1 / 3, 0, 1.7976931348623157e308, 5e-324, *floats],))
    binaries = [
        bytes(rows.choice([0, 0, 1, 32, 65, 255, 92, 39, 37]) for _ in range(rows.randint(0, 9)))
        for _ in range(400)
    ]
    yield Keyed("binary", ("binary(6)",), (binaries,))
    yield Keyed("varbinary", ("varbinary(20)",), (binaries,))
    zeros = ["0000-00-00", "2024-02-31", "2024-00-00", "2024-02-00", "1000-01-01", "9999-12-31"]
    yield Keyed("date", ("date",), (zeros + _days(rows),))
    for digits in (0, 6):
        of = f"({digits})" if digits else ""
        zeros = ["0000-00-00 00:00:00", "2024-02-31 10:00:00", "2024-00-00 00:00:00"]
        yield Keyed(f"datetime{digits}", (f"datetime{of}",), (zeros + _moments(rows, digits),))
        edges = ["0000-00-00 00:00:00", "1970-01-01 00:00:01", "2038-01-19 03:14:07"]
        yield Keyed(f"timestamp{digits}", (f"timestamp{of}",), (edges + _moments(rows, digits),))
        times = [
            f"{rows.choice(['', '-'])}{rows.randint(0, 837)}:{rows.randint(0, 59):02d}:07" for _ in range(300)
        ]
        yield Keyed(f"time{digits}", (f"time{of}",), (["-838:59:59", "838:59:59", "0", "-0:0:1", *times],))
    yield Keyed("enum", ("enum('z','a','M','10','2')",), (["z", "a", "M", "10", "2", "none of them"],))
    uuids = [str(uuid.UUID(int=rows.getrandbits(128))) for _ in range(300)]
    yield Keyed("uuid", ("uuid",), (uuids + [str(uuid.uuid1()) for _ in range(50)],), servers="mariadb")
    addresses = ["::", "::1", "ffff::", "::ffff:1.2.3.4"]
    addresses += [f"2001:db8:{rows.getrandbits(16):x}::{rows.getrandbits(16):x}" for _ in range(200)]
    yield Keyed("inet6", ("inet6",), (addresses,), servers="mariadb")
    yield Keyed("inet4", ("inet4",), ([f"10.{n}.{255 - n}.1" for n in range(256)],), servers="mariadb")


def _of_texts(rows: random.Random) -> Iterable[Keyed]:
    for charset, collations in COLLATIONS.items():
        for servers, names in collations.items():
            for name in names:
                collation = f"{charset}_{name}"
                of = f"CHARACTER SET {charset} COLLATE {collation}"
                yield Keyed(f"varchar_{collation}", (f"varchar(20) {of}",), (_texts(rows),), servers=servers)
                if "nopad" not in name:
                    yield Keyed(f"char_{collation}", (f"char(12) {of}",), (_texts(rows),), servers=servers)


def _composite(rows: random.Random) -> Iterable[Keyed]:
    few, many = range(-2, 6), range(1, 300)
    days, texts = _days(rows)[:20], _texts(rows, 60)
    general = "varchar(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    latin1 = "char(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci"
    yield Keyed("day_id", ("date", "bigint unsigned"), (days, many))
    yield Keyed("three", ("int", general, "binary(3)"), (few, texts, [b"a\0b", b"\0", b"zz ", b"%'\\"]))
    yield Keyed("texts", (latin1, general), (texts, texts))
    yield Keyed("four", ("tinyint",) * 4, (few, few, few, few))
    yield Keyed("unique_pair", ("int", "decimal(5,2)"), (many, ["1.10", "1.1", "-0.01", "0"]), unique=True)
    yield Keyed("desc_last", ("int", "int"), (few, many), frozenset({1}))
    yield Keyed("desc_first", (general, "int", "date"), (texts, few, days), frozenset({0, 2}))
    yield Keyed("desc_all", ("int", "varbinary(4)"), (few, [b"", b"\0", b"a", b"b\0"]), frozenset({0, 1}))
    yield Keyed(
        "enum_year_bit", ("enum('b','a','')", "year", "bit(9)"), (["b", "a", ""], [2001, 1999, 0], many)
    )
    yield Keyed("moment_float", ("timestamp(3)", "float"), (_moments(rows, 3), [0.1, 1e20, -1 / 3, 7]))


_ROWS = random.Random(20)
SINGLE = list(_single(_ROWS))
TEXTS = list(_of_texts(_ROWS))
COMPOSITE = list(_composite(_ROWS))
ALL = SINGLE + TEXTS + COMPOSITE
