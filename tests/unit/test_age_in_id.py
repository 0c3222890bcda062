"""The moment in a UUIDv7 and in a ULID, and what is none of them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from iam_watcher.database.column import Column
from iam_watcher.jobs.table_job.age_in_id import IdColumn

# The examples of RFC 9562 and of the ULID specification.
UUID, IN_UUID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
ULID, IN_ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV", datetime(2016, 7, 30, 23, 54, 10, 259_000, tzinfo=UTC)
DIGITS = UUID.replace("-", "")


def ids(data_type, kind):
    return IdColumn(Column("id", data_type, nullable=False), ZoneInfo("Asia/Shanghai"), kind)


@pytest.mark.parametrize(
    ("data_type", "kind", "text", "moment"),
    [
        ("char", "uuid7", UUID, IN_UUID),
        ("uuid", "uuid7", UUID.upper(), IN_UUID),
        ("varchar", "ulid", ULID, IN_ULID),
        ("varchar", "ulid", ULID.lower(), IN_ULID),
        ("binary", "uuid7", DIGITS.upper(), IN_UUID),
        *[("binary", "uuid7", f"{DIGITS[:16]}{variant}{DIGITS[17:]}", IN_UUID) for variant in "89ab"],
        ("binary", "ulid", f"{DIGITS[:12]}4{DIGITS[13:16]}c{DIGITS[17:]}", IN_UUID),
        ("varchar", "ulid", "0" * 26, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_moment(data_type, kind, text, moment):
    assert ids(data_type, kind).moment_of(text) == moment


@pytest.mark.parametrize(
    ("data_type", "kind", "text"),
    [
        ("char", "uuid7", UUID[:-1]),
        ("char", "uuid7", f"{UUID}0"),
        ("char", "uuid7", f"{UUID[:14]}4{UUID[15:]}"),
        ("char", "uuid7", f"g{UUID[1:]}"),
        ("varchar", "ulid", ULID[:-1]),
        ("varchar", "ulid", f"0U{ULID[2:]}"),
        ("varchar", "ulid", f"7{'z' * 25}"),  # after the year 9999
        ("binary", "uuid7", f"{DIGITS[:12]}4{DIGITS[13:]}"),
        ("binary", "uuid7", f"{DIGITS[:16]}c{DIGITS[17:]}"),
        ("binary", "uuid7", DIGITS[:-2]),
        ("binary", "ulid", DIGITS[:-2]),
    ],
)
def test_what_is_no_such_id_has_no_moment(data_type, kind, text):
    assert ids(data_type, kind).moment_of(text) is None


@pytest.mark.parametrize(
    ("data_type", "kind", "first"),
    [
        ("char", "uuid7", UUID[:13]),
        ("binary", "uuid7", bytes.fromhex(DIGITS[:12])),
        ("varchar", "ulid", "01fwhe4ydg"),
    ],
)
def test_the_first_id_of_a_moment(data_type, kind, first):
    assert ids(data_type, kind).cut_off(IN_UUID) == first
