"""A value that is exactly the cut-off is not old yet, and the one just before is: in each form of an age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from iam_watcher.database.catalogue import read_table
from iam_watcher.database.column import FIRST_TIME
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.table_job.age_forms import age_column
from tests.integration.test_age_forms import ulid, uuid7

pytestmark = pytest.mark.every_server

CUT_OFF = datetime(2020, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def upper(moment):
    return str(uuid7(moment)).upper()


# Type of the column, unit or format of the age, the value of the cut-off, and the one before.
FORMS = {
    "datetime": ("datetime(6)", "date", "2020-01-01", "2019-12-31 23:59:59.999999"),
    "timestamp": ("timestamp(6)", "date", "2020-01-01", "2019-12-31 23:59:59.999999"),
    "date": ("date", "date", "2020-01-01", "2019-12-31"),
    "seconds": ("bigint", "unix_seconds", 1_577_836_800, 1_577_836_799),
    "milliseconds": ("bigint", "unix_milliseconds", 1_577_836_800_000, 1_577_836_799_999),
    "day": ("int", "YYYYMMDD", 20200101, 20191231),
    "month": ("int", "YYYYMM", 202001, 201912),
    "year": ("int", "year", 2020, 2019),
    "text": ("varchar(10)", "%d.%m.%Y", "01.01.2020", "31.12.2019"),
    "uuid7": ("char(36)", "uuid7", str(uuid7(CUT_OFF)), str(uuid7(CUT_OFF - MILLISECOND))),
    # A binary collation has the capitals before the cut-off, whose letters are small.
    "capitals": (
        "char(36) CHARACTER SET ascii COLLATE ascii_bin",
        "uuid7",
        upper(CUT_OFF),
        upper(CUT_OFF - MILLISECOND),
    ),
    "uuid7 in bytes": ("binary(16)", "uuid7", uuid7(CUT_OFF).bytes, uuid7(CUT_OFF - MILLISECOND).bytes),
    "ulid": ("char(26)", "ulid", ulid(CUT_OFF), ulid(CUT_OFF - MILLISECOND)),
}


@pytest.fixture
def found(scratch, session):
    """A function that returns the values that meet a condition of a form."""

    def found(kind, form, values, condition):
        scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at {kind} NOT NULL)")
        scratch.run_many("INSERT INTO t VALUES (%s, %s)", list(enumerate(values)))
        db = Transactions(session)
        unit, form = ("date", form) if "%" in form else (form, None)
        age = age_column(read_table(db, "t"), "at", unit=unit, form=form, zone=ZoneInfo("UTC"))
        query = f"SELECT id FROM t WHERE {condition(age)} ORDER BY id"
        return [values[number] for (number,) in db.read(query, age.values([CUT_OFF]))]

    return found


@pytest.mark.parametrize(("kind", "form", "at", "before"), FORMS.values(), ids=FORMS)
def test_only_what_is_before_the_cut_off_is_old(found, kind, form, at, before):
    assert found(kind, form, [at, before], lambda age: age.before()) == [before]


@pytest.mark.parametrize(("kind", "value"), [("char(36)", str), ("binary(16)", lambda one: one.bytes)])
def test_the_first_moment_that_an_id_can_have(found, kind, value):
    first, earlier = value(uuid7(FIRST_TIME)), value(uuid7(FIRST_TIME - MILLISECOND))
    assert found(kind, "uuid7", [first, earlier], lambda age: age.valid) == [first]
