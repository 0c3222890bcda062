"""Values of every type and character set of the server, random ones: archived, deleted and restored.

ARCHIVED_ROWS sets how many rows of random values there are, for a search by hand.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
from datetime import date, timedelta

import pytest

from tests.integration.test_archive import location, purge, small_packets
from tests.integration.test_restore_rows import restore_scratch

__all__ = ["location", "small_packets"]

ROWS = int(os.environ.get("ARCHIVED_ROWS", "25"))
LENIENT = "SET sql_mode = 'ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'"


def whole(bits, unsigned=False):
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return lambda: random.choice([low, high, 0, 1, random.randint(low, high)])


def double():
    while not math.isfinite(value := struct.unpack("d", random.randbytes(8))[0]):
        pass
    return random.choice([value, -0.0, 0.1, 5e-324, 1.7976931348623157e308, float(random.randint(-9, 9))])


def single():
    while not math.isfinite(value := struct.unpack("f", random.randbytes(4))[0]):
        pass
    return random.choice([value, -0.0, 3.4028234663852886e38, 1.1754943508222875e-38])


def digits(before, after):
    def value():
        number = f"{random.randrange(10 ** random.randint(1, before))}.{random.randrange(10**after):0{after}}"
        return random.choice(["", "-"]) + number

    return value


def day():
    """Also such that no calendar has."""
    if random.random() < 0.3:
        return random.choice(["0000-00-00", "2026-02-31", "2026-00-10", "2026-10-00", "0000-01-01"])
    return (date(1000, 1, 1) + timedelta(random.randrange(3_287_182))).isoformat()


def clock():
    second = random.randrange(86_400)
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{random.randrange(10**6):06}"


def span():
    hours = random.choice([838, random.randrange(839)])
    return f"{random.choice(['', '-'])}{hours}:{random.randrange(60):02}:59.{random.randrange(10**6):06}"


def stamp():
    """A TIMESTAMP holds no day that is none, but a zero."""
    second = timedelta(seconds=random.randrange(1, 2_000_000_000))
    moment = f"{date(1970, 1, 1) + second} {second.seconds // 3600:02}:{second.seconds % 60:02}:07.000001"
    return random.choice(["0000-00-00", moment])


def octets(most):
    return lambda: random.randbytes(random.choice([0, 1, 2, 3, random.randint(0, most)]))


def document(depth=3):
    kinds = [lambda: None, lambda: random.random() < 0.5, whole(64), whole(64, True), double, text]
    if depth:
        kinds += [
            lambda: [document(depth - 1) for _ in range(random.randrange(4))],
            lambda: {text(): document(depth - 1) for _ in range(random.randrange(4))},
        ]
    return random.choice(kinds)()


def text():
    return "".join(random.choices("aé€😀\"\\\n\x00\x1f%{}' ", k=random.randrange(8)))


TYPES = {
    "tinyint": whole(8),
    "smallint": whole(16),
    "mediumint": whole(24),
    "int": whole(32),
    "bigint": whole(64),
    "bigint unsigned": whole(64, True),
    "float": single,
    "double": double,
    "decimal(65,30)": digits(35, 30),
    "decimal(10,2)": digits(8, 2),
    "bit(1)": lambda: random.randrange(2),
    "bit(64)": whole(64, True),
    "year": lambda: random.choice([0, 1901, 2155]),
    "date": day,
    "time(6)": span,
    "datetime(6)": lambda: f"{day()} {clock()}",
    "timestamp(6) NULL": stamp,
    "binary(4)": octets(4),
    "varbinary(300)": octets(300),
    "tinyblob": octets(255),
    "blob": octets(5_000),
    "mediumblob": octets(5_000),
    "longblob": octets(50_000),
    "json": lambda: json.dumps(document(), ensure_ascii=random.random() < 0.5),
}  # fmt: skip
OF_MARIADB = {
    "uuid": lambda: random.randbytes(16).hex(),
    "inet4": lambda: ".".join(map(str, random.randbytes(4))),
    "inet6": lambda: ":".join(random.randbytes(2).hex() for _ in range(8)),
}
MEMBERS = ["", "a", "é", "no member"]


def fill_randomly(database):
    """Make a table with a column of each type, and fill it with what the server takes."""
    database.connection.set_character_set("utf8mb4")
    database.run(LENIENT)
    database.run("SET time_zone = '+00:00'")
    is_mariadb = "MariaDB" in database.value("SELECT VERSION()")
    charsets = database.column(
        "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS"
        " WHERE CHARACTER_SET_NAME <> 'binary'"
    )
    makers = TYPES | (OF_MARIADB if is_mariadb else {})
    columns = {f"c{number}": (kind, make) for number, (kind, make) in enumerate(makers.items())}
    for number, charset in enumerate(charsets):
        columns |= {
            f"v{number}": (f"varchar(9) CHARACTER SET {charset}", charset),
            f"t{number}": (f"text CHARACTER SET {charset}", charset),
        }
    columns["enum"] = ("enum('', 'a', 'é') CHARACTER SET utf8mb4", lambda: random.choice(MEMBERS))
    columns["enum_"] = ("enum('a', 'é') CHARACTER SET latin1", lambda: random.choice(MEMBERS))
    columns["set"] = ("set('', 'a', 'é') CHARACTER SET cp1250", lambda: random.randrange(8))
    kinds = ", ".join(f"`{name}` {kind}" for name, (kind, _) in columns.items())
    database.run(f"CREATE TABLE t (id bigint PRIMARY KEY, age date NOT NULL, {kinds})")
    database.run_many("INSERT INTO t (id, age) VALUES (%s, '2001-01-01')", [[n] for n in range(-5, ROWS - 5)])
    mysql_error = database.connection.Error
    for name, (_, make) in columns.items():
        for key in range(-5, ROWS - 5):
            if random.random() < 0.1:
                continue
            value = random.randbytes(random.randint(0, 9)) if isinstance(make, str) else make()
            sql = f"CONVERT(_binary %s USING {make})" if isinstance(make, str) else "%s"
            sql = "_binary %s" if isinstance(value, bytes) and not isinstance(make, str) else sql
            try:
                database.run(f"UPDATE t SET `{name}` = {sql} WHERE id = %s", [value, key])
            except mysql_error as error:
                # Bytes that are no text of this character set; a date that is none, which MySQL refuses.
                if error.args[0] not in {1300, 1366, 1406, 1292}:
                    raise
    return [name for name, (kind, _) in columns.items() if kind in {"float", "double"}], list(columns)


def every_bit(database, floats, columns):
    """Return all rows, compared by what the server has stored."""
    values = [
        f"`{name}` + 0e0" if name in floats else f"CONCAT(HEX(`{name}`), ' ', `{name}` + 0)"
        if name in {"enum", "enum_", "set"} else f"HEX(`{name}`)"
        for name in columns
    ]  # fmt: skip
    rows = database.rows(f"SELECT id, HEX(age), {', '.join(values)} FROM t ORDER BY id")
    return [[repr(value) for value in row] for row in rows]  # tells -0.0 from 0.0


@pytest.mark.every_server
def test_random_values_of_every_type_and_character_set_come_back(scratch, perform, location):
    seed = random.randrange(2**32)
    random.seed(seed)
    floats, columns = fill_randomly(scratch)
    before = every_bit(scratch, floats, columns)
    assert all(any(row[at] != "None" for row in before) for at in range(len(before[0]))), (
        "each column has values"
    )
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch", redact=[]))
    assert report["changed"] == len(before), (seed, report)
    restored = perform(restore_scratch(location, report["archive"]))
    assert (restored["restored"], restored["skipped"], restored["altered"]) == (len(before), {}, {}), seed
    after = every_bit(scratch, floats, columns)
    names = ["id", "age", *columns]
    wrong = {
        names[at]: (was[at], now[at])
        for was, now in zip(before, after, strict=True)
        for at in range(len(names))
        if was[at] != now[at]
    }
    assert not wrong, seed


def test_the_sessions_character_set_and_sql_mode_are_our_own(scratch, perform, location, monkeypatch):
    """In gbk a backslash can be half of a character, and without escapes it is one in all."""
    uri = os.environ["AIRFLOW_CONN_SCRATCH"]
    monkeypatch.setenv("AIRFLOW_CONN_SCRATCH", f"{uri}?charset=gbk")
    scratch.connection.set_character_set("utf8mb4")
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age date NOT NULL,"
        " a text CHARACTER SET utf8mb4, b text CHARACTER SET gbk, c blob)"
    )
    texts = ["\\", "'", "é表\\'\"", "%s", "\x00", "", "😀"]
    for number, text in enumerate(texts):
        row = [number, text, text.replace("😀", ""), b"\xbf'\xbf\\\x00" + text.encode()]
        scratch.run("INSERT INTO t VALUES (%s, '2001-01-01', %s, %s, _binary %s)", row)
    rows = "SELECT id, HEX(a), HEX(b), HEX(c) FROM t ORDER BY id"
    before, mode = scratch.rows(rows), scratch.value("SELECT @@GLOBAL.sql_mode")
    scratch.run("SET GLOBAL sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE,PAD_CHAR_TO_FULL_LENGTH'")
    try:
        report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
        restored = perform(restore_scratch(location, report["archive"]))
    finally:
        scratch.run("SET GLOBAL sql_mode = %s", [mode])
    assert (restored["restored"], restored["altered"]) == (len(texts), {})
    assert scratch.rows(rows) == before


@pytest.mark.every_server
def test_text_that_is_that_long_in_utf_8_only_stays_too(scratch, perform, location, small_packets):
    scratch.connection.set_character_set("utf8mb4")
    scratch.run(
        "CREATE TABLE t (id int PRIMARY KEY, age timestamp NOT NULL, v varchar(1900) CHARACTER SET latin1)"
    )
    for key, text in enumerate(["a" * 1900, "é" * 1023, "é" * 1024, "€" * 682, "€" * 683]):
        scratch.run("INSERT INTO t VALUES (%s, '2001-01-01', %s)", [key, text])
    before = scratch.rows("SELECT id, HEX(v) FROM t ORDER BY id")
    report = perform(purge(location, table="t", age_column="age", mysql_conn_id="scratch"))
    assert (report["changed"], report["skipped"]) == (3, {"archive_too_large": 2})
    assert scratch.column("SELECT id FROM t ORDER BY id") == [2, 4]
    restored = perform(restore_scratch(location, report["archive"]))
    assert (restored["restored"], restored["altered"]) == (3, {})
    assert scratch.rows("SELECT id, HEX(v) FROM t ORDER BY id") == before
