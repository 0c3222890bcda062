"""Ages in the forms that columns have them, against a model in Python: no other row is ever deleted.

The table of forms and the model are used by every test: hence the length.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.errors import JobArgumentError
from iam_watcher.jobs.purge_rows import PurgeRowsOperator

KATHMANDU = ZoneInfo("Asia/Kathmandu")  # 5:45 ahead: its days begin and end at other times than those of UTC
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def milliseconds(moment):
    return (moment - EPOCH) // timedelta(milliseconds=1)


def uuid7(moment, tail=0x7ABC << 64 | 0b10 << 62 | 12345):
    return uuid.UUID(int=milliseconds(moment) << 80 | tail)


def ulid(moment, tail="0123456789ABCDEF"):
    number, digits = milliseconds(moment), ""
    for _ in range(10):
        number, digit = divmod(number, 32)
        digits = CROCKFORD[digit] + digits
    return digits + tail


def local(form):
    return lambda moment: moment.astimezone(KATHMANDU).strftime(form)


def in_utc(form):
    return lambda moment: moment.strftime(form)


def whole(form):
    return lambda moment: int(local(form)(moment))


def ends(unit):
    """Return a function for the moment at which the day, month or year is over that a moment lies in."""

    def end(moment):
        there = moment.astimezone(KATHMANDU).replace(hour=0, minute=0, second=0, microsecond=0)
        if unit == "day":
            return there + DAY
        first = there.replace(day=1)
        months = 12 - first.month + 1 if unit == "year" else 1
        for _ in range(months):
            first = (first + 32 * DAY).replace(day=1)
        return first

    return end


def at_once(moment):
    return moment


V4 = uuid.UUID("00000000-0000-4000-8000-000000000000")

# Name → type of the column, arguments, value of a moment, when that value is over, values without an age.
FORMS = {
    "seconds": (
        "bigint",
        {"age_unit": "unix_seconds"},
        lambda m: (m - EPOCH) // SECOND,
        at_once,
        [0, -1, None],
    ),
    "milliseconds": ("bigint", {"age_unit": "unix_milliseconds"}, milliseconds, at_once, [0, -1, None]),
    "microseconds": (
        "bigint unsigned",
        {"age_unit": "unix_microseconds"},
        lambda m: (m - EPOCH) // timedelta(microseconds=1),
        at_once,
        [0, None],
    ),
    "decimal seconds": (
        "decimal(20,6)",
        {"age_unit": "unix_seconds"},
        lambda m: f"{(m - EPOCH) / SECOND:.6f}",
        at_once,
        ["0.000000", "-0.5", None],
    ),
    "double milliseconds": (
        "double",
        {"age_unit": "unix_milliseconds"},
        lambda m: (m - EPOCH) / timedelta(milliseconds=1),
        at_once,
        [0.0, -1e12, None],
    ),
    "YYYYMMDD": (
        "int",
        {"age_unit": "YYYYMMDD"},
        whole("%Y%m%d"),
        ends("day"),
        [0, -1, None, 1, 20200001, 20200100, 20201301, 20200230, 20190229, 20200431, 2020, 202001, 99999],
    ),
    "YYYYMMDD text": (
        "varchar(20) CHARACTER SET latin1 COLLATE latin1_bin",
        {"age_unit": "YYYYMMDD"},
        local("%Y%m%d"),
        ends("day"),
        [
            "",
            None,
            "0",
            "20200001",
            "20201301",
            "20190229",
            "2020010",
            "202001011",
            "00000000",
            "1/1/2020",
            "abc",
            "20200101\n",
            " 20200101",
            "+2020101",
        ],
    ),
    "YYYYMM": (
        "mediumint unsigned",
        {"age_unit": "YYYYMM"},
        whole("%Y%m"),
        ends("month"),
        [0, None, 202000, 202013, 2020, 99912],
    ),
    "year": ("year", {"age_unit": "year"}, whole("%Y"), ends("year"), [0, None]),
    "year number": ("smallint", {"age_unit": "year"}, whole("%Y"), ends("year"), [0, -2000, None, 20, 999]),
    "compact text": (
        "char(14)",
        {"age_format": "%Y%m%d%H%M%S"},
        local("%Y%m%d%H%M%S"),
        at_once,
        ["", None, "20200101246060", "20200101236000", "20200101235960", "2020010112595", "20210229000000"],
    ),
    "compact number": (
        "bigint",
        {"age_format": "%Y%m%d%H%M%S"},
        whole("%Y%m%d%H%M%S"),
        at_once,
        [0, None, 20200101246060, 20200101, 20200101235960],
    ),
    "ISO text": (
        "varchar(40) CHARACTER SET utf8mb4",
        {"age_format": "%Y-%m-%dT%H:%M:%S.%fZ"},
        in_utc("%Y-%m-%dT%H:%M:%S.%fZ"),
        at_once,
        [
            "",
            None,
            "2020-01-01",
            "2020-01-01T00:00:00Z",
            "2020-01-01 00:00:00.000000Z",
            "2020-02-30T00:00:00.000000Z",
            "2020-01-01T00:00:00.000000Zx",
            "0000-00-00T00:00:00.000000Z",
            "\uff12020-01-01T00:00:00.000000Z",
        ],
    ),
    "day first": (
        "varchar(10)",
        {"age_format": "%d.%m.%Y"},
        local("%d.%m.%Y"),
        ends("day"),
        [
            "",
            None,
            "1.1.2020",
            "31.04.2020",
            "30.02.2020",
            "29.02.2100",
            "29.02.2019",
            "01/01/2020",
            "00.01.2020",
        ],
    ),
    "UUIDv7 text": (
        "char(36) CHARACTER SET ascii COLLATE ascii_bin",
        {"age_unit": "uuid7"},
        lambda m: str(uuid7(m)),
        at_once,
        [
            "",
            None,
            str(V4),
            "0",
            str(uuid.UUID(int=0)),
            str(uuid7(EPOCH + 5 * DAY)),
            str(uuid7(EPOCH)).replace("7", "g"),
        ],
    ),
    "UUIDv7 upper case": (
        "varchar(40) COLLATE utf8mb4_bin",
        {"age_unit": "uuid7"},
        lambda m: str(uuid7(m)).upper(),
        at_once,
        ["", None, str(V4).upper()],
    ),
    "UUIDv7 bytes": (
        "binary(16)",
        {"age_unit": "uuid7"},
        lambda m: uuid7(m).bytes,
        at_once,
        [None, V4.bytes, bytes(16), uuid7(EPOCH + 5 * DAY).bytes, b"\x01" * 16],
    ),
    "ULID text": (
        "char(26)",
        {"age_unit": "ulid"},
        ulid,
        at_once,
        [
            "",
            None,
            "0" * 26,
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEIIIIIRRFFQ69G5FAV",
            ulid(EPOCH + 5 * DAY),
        ],
    ),
    "ULID lower case": (
        "varchar(26) COLLATE utf8mb4_bin",
        {"age_unit": "ulid"},
        lambda m: ulid(m).lower(),
        at_once,
        ["", None],
    ),
    "ULID bytes": ("binary(16)", {"age_unit": "ulid"}, lambda m: uuid7(m).bytes, at_once, [None, bytes(16)]),
}
GENERATED = {
    "UUIDv7 of MariaDB": ("uuid", {"age_unit": "uuid7"}, lambda m: str(uuid7(m)), at_once, [None, str(V4)])
}


def purge(**options):
    return PurgeRowsOperator(
        **{
            "task_id": "purge",
            "table": "t",
            "age_column": "at",
            "older_than_days": 100,
            "age_timezone": "Asia/Kathmandu",
            "mysql_conn_id": "scratch",
            **options,
        }
    )


def moments(cut_off):
    """Moments at both sides of the cut-off, close to it and far away."""
    near = [timedelta(0), SECOND, DAY, timedelta(hours=6), 31 * DAY, 366 * DAY]
    return [
        *(
            cut_off + sign * (distance + extra)
            for distance in near
            for sign in (1, -1)
            for extra in (SECOND * 2, DAY)
        ),
        *(cut_off - timedelta(days=37 * number, hours=number) for number in range(1, 100)),
        *(cut_off + timedelta(days=number) for number in range(1, 95, 7)),
    ]


def check(scratch, perform, form, index):
    column, arguments, value_of, over, ageless = form
    cut_off = datetime.now(UTC) - 100 * DAY
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at {column} NULL {index})")
    rows = list(
        enumerate([*((value_of(m), over(m)) for m in moments(cut_off)), *((v, None) for v in ageless)], 1)
    )
    # A little longer than the test takes: a row that is old in a minute only.
    old = {key for key, (_, end) in rows if end is not None and end < cut_off}
    soon = {
        key for key, (_, end) in rows if end is not None and cut_off <= end < cut_off + timedelta(minutes=2)
    }
    assert len(old) > 90
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", [(key, value) for key, (value, _) in rows])
    filler = [(key, value_of(cut_off + 50 * DAY)) for key in range(1000, 4000)] if index else []
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", filler)
    scratch.run("ANALYZE TABLE t")
    dry = perform(purge(dry_run=True, **arguments))
    real = perform(purge(**arguments))
    left = set(scratch.column("SELECT id FROM t WHERE id < 1000"))
    gone = {key for key, _ in rows} - left
    assert old <= gone <= old | soon
    assert dry["matched"] <= real["changed"] == len(gone)
    assert dry["matched"] >= len(old)
    assert {age["since"] for age in dry["examples"]} <= {
        over.__name__ and e["since"] for e in dry["examples"]
    }
    assert real["skipped"].get("no_date", 0) == 1
    assert sum(real["skipped"].values()) <= len(ageless)
    return real


@pytest.mark.every_server
@pytest.mark.parametrize("name", FORMS)
def test_old_rows_go_and_no_others(scratch, perform, name):
    report = check(scratch, perform, FORMS[name], "")
    assert report["order"] == "key"
    assert sum(report["skipped"].values()) >= len(FORMS[name][4]) - 1


@pytest.mark.every_server
@pytest.mark.parametrize("name", ["day first", "UUIDv7 text", "ULID text"])
def test_what_is_no_time_stays_where_each_kind_has_its_period(scratch, perform, name):
    column, arguments, *rest = FORMS[name]
    kinds = {"older_than_days": None, "older_than": {"column": "id", 0: "1d", None: "100d"}}
    check(scratch, perform, (column, {**arguments, **kinds}, *rest), "")


@pytest.mark.every_server
@pytest.mark.parametrize("name", [name for name in FORMS if name != "day first"])
def test_an_index_on_the_age_is_used(scratch, perform, name):
    assert check(scratch, perform, FORMS[name], ", KEY by_at (at)")["order"] == "index"


@pytest.mark.needs("address-types")
@pytest.mark.parametrize("index", ["", ", KEY by_at (at)"])
def test_the_type_uuid_is_read_as_a_text(scratch, perform, index):
    assert check(scratch, perform, GENERATED["UUIDv7 of MariaDB"], index)["order"] == "key"


@pytest.mark.every_server
@pytest.mark.parametrize(("index", "order"), [("", "key"), (", KEY by_at (at)", "index")])
def test_a_time_in_json_by_the_generated_column_of_the_page(scratch, perform, index, order):
    page = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    (column,) = re.findall(r"\| a time in JSON.*?`(.*?)`", page)
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, doc json, {column}{index})")
    cut_off = datetime.now(UTC) - 100 * DAY
    form = "%Y-%m-%dT%H:%M:%SZ"
    old, young = (json.dumps({"at": f"{cut_off + days * DAY:{form}}"}) for days in (-1, 1))
    ageless = [None, "{}", '{"at": null}', '{"at": "soon"}', '{"on": "2020-01-01T00:00:00Z"}']
    docs = [old] * 100 + [young] * 3000 + ageless
    scratch.run_many("INSERT INTO t (id, doc) VALUES (%s, %s)", list(enumerate(docs, 1)))
    scratch.run("ANALYZE TABLE t")
    dry, real = (perform(purge(dry_run=dry, age_timezone="UTC", age_format=form)) for dry in (True, False))
    assert (dry["matched"], real["changed"], real["order"]) == (100, 100, order)
    assert scratch.column("SELECT id FROM t ORDER BY id") == [*range(101, len(docs) + 1)]


def test_the_index_order_takes_values_in_small_chunks(scratch, perform):
    """Each chunk resumes behind a text or bytes."""
    for name, column, value_of in (
        ("compact text", "char(14)", local("%Y%m%d%H%M%S")),
        ("UUIDv7 bytes", "binary(16)", lambda m: uuid7(m).bytes),
    ):
        cut_off = datetime.now(UTC) - 100 * DAY
        scratch.run("DROP TABLE IF EXISTS t")
        scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at {column} NOT NULL, KEY by_at (at))")
        values = [value_of(cut_off - (n % 70) * DAY - DAY) for n in range(400)]
        values += [value_of(cut_off + DAY)] * 6000
        scratch.run_many("INSERT INTO t VALUES (%s, %s)", list(enumerate(values, 1)))
        scratch.run("ANALYZE TABLE t")
        report = perform(purge(**FORMS[name][1]))
        assert (report["order"], report["changed"]) == ("index", 400)
        assert report["chunks"] > 2


WRONG = {
    "seconds as milliseconds": ("seconds", {"age_unit": "unix_milliseconds"}, "time in milliseconds"),
    "milliseconds as seconds": ("milliseconds", {"age_unit": "unix_seconds"}, "look like milliseconds. Set"),
    "milliseconds as microseconds": (
        "milliseconds",
        {"age_unit": "unix_microseconds"},
        "look like milliseconds",
    ),
    "microseconds as milliseconds": (
        "microseconds",
        {"age_unit": "unix_milliseconds"},
        "look like microseconds",
    ),
    "YYYYMMDD as YYYYMM": ("YYYYMMDD", {"age_unit": "YYYYMM"}, "Set age_unit='YYYYMMDD'"),
    "YYYYMM as YYYYMMDD": ("YYYYMM", {"age_unit": "YYYYMMDD"}, "in the format %Y%m%d, such as"),
    "a number as seconds": ("compact number", {"age_unit": "unix_seconds"}, "Set age_format='%Y%m%d%H%M%S'"),
    "another text": ("ISO text", {"age_format": "%Y-%m-%d"}, "in the format %Y-%m-%d, such as"),
    "month first": ("day first", {"age_format": "%m.%d.%Y"}, "in the format %m.%d.%Y, such as"),
}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("name", WRONG)
def test_another_form_is_refused_before_the_first_write(scratch, perform, name, dry_run):
    made, arguments, message = WRONG[name]
    column, _, value_of, _, _ = FORMS[made]
    scratch.run(f"CREATE TABLE t (id int PRIMARY KEY, at {column} NULL)")
    day = datetime(2020, 1, 31, 23, tzinfo=UTC)
    scratch.run_many("INSERT INTO t VALUES (%s, %s)", [(n, value_of(day - n * 31 * DAY)) for n in range(60)])
    with pytest.raises(AirflowFailException) as refused:
        perform(purge(dry_run=dry_run, **arguments))
    assert message in str(refused.value)
    assert scratch.value("SELECT COUNT(*) FROM t") == 60


def test_ids_of_another_version_are_refused(scratch, perform):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at char(36) NOT NULL)")
    scratch.run_many("INSERT INTO t VALUES (%s, UUID())", [[key] for key in range(20)])
    with pytest.raises(
        AirflowFailException, match=r"20 of 20 different .* no plausible time in UUIDv7, .*no time"
    ):
        perform(purge(age_unit="uuid7"))


def test_a_number_takes_no_format_with_marks(scratch, perform):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at int NOT NULL)")
    with pytest.raises(AirflowFailException, match="expected a format of fields alone"):
        perform(purge(age_format="%Y-%m-%d"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"age_format": "%m%d"}, "age_format is '%m%d'; expected %Y, and what of"),
        ({"age_format": "%Y%d"}, "without gaps"),
        ({"age_format": "%Y%m%m"}, "without gaps"),
        ({"age_format": "%y%m%d"}, "without gaps"),
        ({"age_format": "%Y-%m-%d'"}, "only characters of"),
        ({"age_format": "%Y%"}, "age_format is '%Y%'"),
        ({"age_format": ""}, "age_format is ''"),
        ({"age_format": 1}, "age_format is 1"),
        ({"age_format": "%Y", "age_unit": "year"}, "expected one of them"),
        ({"age_unit": "YYYY"}, "age_unit is 'YYYY'; expected 'date' or"),
        ({"older_than": "6mo"}, "expected one of older_than"),
        ({"older_than_days": None}, "none is given"),
        ({"older_than_days": None, "older_than": "6 months"}, 'expected a text such as "90d"'),
        ({"older_than_days": None, "grace": 5}, "grace is 5"),
    ],
)
def test_bad_literals_are_refused_when_the_dag_file_is_parsed(options, message):
    with pytest.raises(JobArgumentError) as refused:
        purge(**options)
    assert message in str(refused.value)


def test_periods_go_by_the_calendar_of_the_zone(scratch, perform):
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at datetime NOT NULL)")
    now = datetime.now(UTC).astimezone(KATHMANDU)
    year, month = divmod(now.year * 12 + now.month - 1 - 6, 12)
    first = now.replace(year=year, month=month + 1, day=1, hour=0, minute=0, second=0, microsecond=0)
    scratch.run_many(
        "INSERT INTO t VALUES (%s, %s)",
        [(1, first.replace(tzinfo=None)), (2, (first + 32 * DAY).replace(tzinfo=None))],
    )
    report = perform(purge(older_than_days=None, older_than="6mo"))
    there = datetime.fromisoformat(report["cut_off"]).astimezone(KATHMANDU)
    assert (there.year, there.month) == (year, month + 1)
    assert scratch.column("SELECT id FROM t") == [2]
    assert perform(purge(older_than_days=None, grace=timedelta(hours=36)))["changed"] == 1


@pytest.mark.every_server
@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Asia/Kathmandu"])
@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%SZ", "%Y%m%dT%H%MZ", "%d.%m.%Y %H:%M:%S.%fZ"])
def test_a_z_in_the_format_means_utc_whatever_the_time_zone_is(scratch, perform, zone, form):
    """The time zone is that of `where` and of the calendar."""
    scratch.run("CREATE TABLE t (id int PRIMARY KEY, at varchar(40) NOT NULL, seen datetime NOT NULL)")
    now = datetime.now(UTC)
    ends = [now - timedelta(hours=14), now - timedelta(minutes=5), now + timedelta(minutes=5)]
    ends += [now + timedelta(hours=hours) for hours in range(1, 14)]
    there = f"{now.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
    scratch.run_many(
        "INSERT INTO t VALUES (%s, %s, %s)", [(n, end.strftime(form), there) for n, end in enumerate(ends)]
    )
    options = {"age_format": form, "age_timezone": zone, "older_than_days": None, "grace": "0"}
    assert (
        perform(purge(dry_run=True, where=[("seen", ">", now + timedelta(hours=1))], **options))["matched"]
        == 0
    )
    report = perform(purge(where=[("seen", ">", now - timedelta(hours=1))], **options))
    assert (report["changed"], scratch.value("SELECT MIN(id) FROM t")) == (2, 2)
