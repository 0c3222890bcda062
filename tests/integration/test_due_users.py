"""Users who will be disabled soon: listed once for each warning, and given to what Airflow has.

All tests share the users, the warning and its letters: hence the length.
"""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
from airflow.models.variable import Variable
from airflow.sdk import DAG, BaseNotifier
from airflow.sdk.exceptions import AirflowSkipException
from airflow.utils.session import create_session
from sqlalchemy import delete, select

from iam_watcher.accounts import due_search
from iam_watcher.accounts.due_search import Band, Search
from iam_watcher.accounts.due_users import bands
from iam_watcher.database.catalogue import read_table
from iam_watcher.database.session import read_now, set_up
from iam_watcher.database.throttle import Throttler
from iam_watcher.database.transactions import Transactions
from iam_watcher.jobs.account_table import AccountTable
from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from iam_watcher.walk.key_order import KeyOrder
from iam_watcher.walk.pace import PACES, ChunkSize
from tests.integration.conftest import numbers
from tests.integration.test_disable_users import enabled, user

KEPT = "iam_watcher:warned:warning:disable"
CUT_OFF = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_first_run_lists_each_user_for_the_nearest_warning():
    assert bands(CUT_OFF, [14, 3, 14], {}) == [
        Band(3, CUT_OFF, CUT_OFF + 3 * DAY),
        Band(14, CUT_OFF + 3 * DAY, CUT_OFF + 14 * DAY),
    ]


def test_the_next_run_goes_on_where_the_last_one_ended():
    warned = {"3": (CUT_OFF + 2 * DAY).isoformat(), "14": (CUT_OFF + 13 * DAY).isoformat()}
    assert bands(CUT_OFF, (14, 3), warned) == [
        Band(3, CUT_OFF + 2 * DAY, CUT_OFF + 3 * DAY),
        Band(14, CUT_OFF + 13 * DAY, CUT_OFF + 14 * DAY),
    ]


def test_after_a_long_pause_nobody_is_warned_of_two_weeks_who_has_days():
    warned = {"3": (CUT_OFF - 40 * DAY).isoformat(), "14": (CUT_OFF - 29 * DAY).isoformat()}
    assert bands(CUT_OFF, (14, 3), warned) == bands(CUT_OFF, (14, 3), {})


def warn(told, days=180, **options):
    with DAG("warning", schedule=None) as dag:
        DisableInactiveUsersOperator(
            task_id="disable",
            max_inactive_days=days,
            max_share=1,
            warn_days=[14, 3],
            on_warning=told,
            undo_location="none",
            **options,
        )
    return dag


@pytest.fixture(autouse=True)
def _nothing_kept(airflow_db):
    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key == KEPT))


@pytest.fixture
def users(iam):
    for days in (181, 178, 170, 160):
        user(iam, f"seen-{days}", logined=f"UTC_TIMESTAMP() - INTERVAL {days} DAY + INTERVAL 1 HOUR")
    user(iam, "admin", logined="UTC_TIMESTAMP() - INTERVAL 170 DAY", admin=1)
    user(iam, "disabled", logined="UTC_TIMESTAMP() - INTERVAL 170 DAY", status=0)
    user(iam, "never", logined="NULL", created="UTC_TIMESTAMP() - INTERVAL 178 DAY")
    return iam


def report(run):
    (ti,) = run.get_task_instances()
    assert ti.state == "success"
    return ti.xcom_pull(task_ids="disable")


def test_a_function_gets_each_user_once(users, run_dag):
    calls = []

    def told(context):
        calls.append([(one["name"], one["days"]) for one in context["due_users"]])
        assert context["ti"].task_id == "disable"
        (first, *_) = context["due_users"]
        due, seen = (datetime.fromisoformat(first[name]) for name in ("due", "last_seen"))
        assert due - seen == 180 * DAY
        assert first["email"] == "e"

    first = report(run_dag(warn(told)))
    assert first["also"] == {"due_in_3_days": 2, "due_in_14_days": 1}
    assert enabled(users) == {"seen-178", "seen-170", "seen-160", "admin", "never"}
    assert report(run_dag(warn(told)))["also"] == {"due_in_3_days": 0, "due_in_14_days": 0}
    assert calls == [[("seen-178", 3), ("never", 3), ("seen-170", 14)]]


def test_a_user_is_listed_again_for_the_next_warning_and_after_a_login(users, run_dag):
    calls = []

    def told(context):
        calls.append({(one["name"], one["days"]) for one in context["due_users"]})

    run_dag(warn(told))
    # As if ten days had gone by.
    users.run(
        "UPDATE user SET loginedAt = loginedAt - INTERVAL 10 DAY, createdAt = createdAt - INTERVAL 10 DAY"
    )
    _forward(10)
    run_dag(warn(told))
    assert calls[1] == {("seen-170", 3), ("seen-160", 14)}


def _forward(days):
    """Move what is kept as the users' logins were moved."""
    with create_session() as session:
        kept = session.scalars(select(Variable).where(Variable.key == KEPT)).one()
        kept.set_val(
            json.dumps(
                {
                    key: (datetime.fromisoformat(at) - days * DAY).isoformat() if key.isdecimal() else at
                    for key, at in json.loads(kept.get_val()).items()
                }
            )
        )


BOTH = {"due_in_3_days": 2, "due_in_14_days": 1}
NOBODY = dict.fromkeys(BOTH, 0)


@pytest.mark.parametrize("other", [{"table": "user2"}, {"mysql_conn_id": "elsewhere"}])
def test_another_table_of_the_same_task_has_users_of_its_own(users, mariadb, run_dag, monkeypatch, other):
    uri = mariadb.airflow_admin_uri
    monkeypatch.setenv("AIRFLOW_CONN_BOSS", uri)
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", f"{uri.removesuffix('/iam')}/elsewhere")
    assert report(run_dag(warn(lambda _: None, mysql_conn_id="boss")))["also"] == BOTH
    copy = "elsewhere.user" if "mysql_conn_id" in other else "user2"
    users.run("CREATE DATABASE IF NOT EXISTS elsewhere")
    users.run(f"DROP TABLE IF EXISTS {copy}")
    users.run(f"CREATE TABLE {copy} LIKE user")
    users.run(f"INSERT INTO {copy} SELECT * FROM user")
    try:
        for wanted in (BOTH, NOBODY):
            assert (
                report(run_dag(warn(lambda _: None, **{"mysql_conn_id": "boss", **other})))["also"] == wanted
            )
    finally:
        users.run(f"DROP TABLE {copy}")
        users.run("DROP DATABASE elsewhere")


@pytest.mark.every_server
def test_another_server_of_the_same_task_has_users_of_its_own(users, mariadb, run_dag, monkeypatch):
    """The tables have the same names there, such as in a staging and a production environment."""
    uri = mariadb.airflow_admin_uri
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", uri)
    assert report(run_dag(warn(lambda _: None)))["also"] == BOTH
    # Two servers in one: the connection leads to it by another way.
    socket = f"{users.value('SELECT @@datadir')}{users.value('SELECT @@socket')}"
    monkeypatch.setenv("AIRFLOW_CONN_IAM_MYSQL", f"{uri}?{urlencode({'unix_socket': socket})}")
    assert report(run_dag(warn(lambda _: None)))["also"] == BOTH
    assert report(run_dag(warn(lambda _: None)))["also"] == NOBODY


@pytest.mark.parametrize(
    ("first", "then", "wanted"),
    [
        # Who was listed for the smaller number was listed for another date.
        ({"days": 30, "dry_run": False}, {}, BOTH),
        ({"days": 179}, {}, BOTH),
        ({}, {"min_age_days": 1}, BOTH),
        ({"min_age_days": 1}, {}, NOBODY),
        ({}, {}, NOBODY),
    ],
)
def test_larger_limits_list_users_again(users, run_dag, first, then, wanted):
    users.run("UPDATE user SET status = 0 WHERE name = 'seen-181'")
    run_dag(warn(lambda _: None, exempt_names=["*"] if first.get("days") == 30 else [], **first))
    assert report(run_dag(warn(lambda _: None, **then)))["also"] == wanted


@pytest.mark.parametrize("lacks", ["server", "min_age_days"])
def test_what_an_earlier_version_has_kept_may_be_of_other_users(users, run_dag, lacks):
    run_dag(warn(lambda _: None))
    with create_session() as session:
        kept = session.scalars(select(Variable).where(Variable.key == KEPT)).one()
        values = json.loads(kept.get_val())
        del values[lacks]
        kept.set_val(json.dumps(values))
    assert report(run_dag(warn(lambda _: None)))["also"] == BOTH


def test_warnings_for_the_days_of_all_users_fail_before_the_first_write(users, run_dag):
    before = enabled(users)
    (ti,) = run_dag(warn(lambda _: None, days="{{ 7 * 2 }}")).get_task_instances()
    assert ti.state == "failed"
    assert enabled(users) == before


def test_a_dry_run_lists_and_tells_nobody(users, run_dag):
    def told(context):
        raise AssertionError

    for _ in range(2):
        dry = report(run_dag(warn(told, dry_run=True)))
        assert dry["also"] == {"due_in_3_days": 2, "due_in_14_days": 1}


def test_a_warning_that_nobody_runs_fails_and_is_made_up_for(users, run_dag):
    async def soon(context):
        raise AssertionError

    calls = []
    run = run_dag(warn(lambda context: calls.append(soon(context)) or calls[-1]))
    assert [ti.state for ti in run.get_task_instances()] == ["failed"]
    calls[0].close()
    assert report(run_dag(warn(lambda _: None)))["also"] == {"due_in_3_days": 2, "due_in_14_days": 1}


def test_a_warning_that_fails_is_made_up_for(users, run_dag):
    calls = []

    def told(context):
        calls.append(len(context["due_users"]))
        if len(calls) == 1:
            raise ConnectionError("made by the test")

    (ti,) = run_dag(warn(told)).get_task_instances()
    assert ti.state == "failed"
    report(run_dag(warn(told)))
    assert calls == [3, 3]


def test_a_warning_that_skips_is_made_up_for(users, run_dag):
    """The run has disabled users: a skip would say that it changed nothing."""

    def skip(context):
        raise AirflowSkipException("made by the test")

    run = run_dag(warn(skip))
    (ti,) = run.get_task_instances()
    assert (ti.state, run.state) == ("failed", "failed")
    assert "seen-181" not in enabled(users)
    found = ti.xcom_pull(task_ids="disable")
    assert found["changed"] == 1
    assert "on_warning skipped: made by the test" in found["error"]
    assert report(run_dag(warn(lambda _: None)))["also"] == BOTH


class Letters(BaseNotifier):
    """A notifier with a template."""

    template_fields = ("text",)
    written: list[str] = []  # noqa: RUF012  of the test

    def __init__(self, text):
        super().__init__()
        self.text = text

    def notify(self, context):
        self.written.append(self.text)


def test_a_notifier_has_the_list_in_its_templates(users, run_dag):
    run_dag(warn(Letters("{% for user in due_users %}{{ user.name }} {{ user.days }}; {% endfor %}")))
    assert Letters.written == ["seen-178 3; never 3; seen-170 14; "]


def test_more_users_than_one_read_returns(iam, run_dag):
    iam.run(
        "INSERT INTO user (name, nickname, password, email, loginedAt)"
        f" SELECT seq, '', '', '', UTC_TIMESTAMP() - INTERVAL 170 DAY FROM {numbers(3500)}"
    )
    told = []
    run_dag(warn(lambda context: told.extend(one["id"] for one in context["due_users"])))
    assert len(told) == len(set(told)) == 3500


def test_who_is_kept_by_a_new_account_is_listed_before_it_is_old_enough(iam, run_dag):
    """The last login alone would have been due, and warned of, while the account was too new."""
    logined = "UTC_TIMESTAMP() - INTERVAL 300 DAY"
    for name, age in (("in-2", 28), ("in-10", 20), ("in-20", 10)):
        user(iam, name, logined=logined, created=f"UTC_TIMESTAMP() - INTERVAL {age} DAY + INTERVAL 1 HOUR")
    told = []
    report(run_dag(warn(lambda context: told.extend(context["due_users"]), min_age_days=30)))
    assert {one["name"]: one["days"] for one in told} == {"in-2": 3, "in-10": 14}
    now = datetime.now(UTC)
    for one in told:
        left = datetime.fromisoformat(one["due"]) - now
        assert abs(left - int(one["name"].removeprefix("in-")) * DAY) < timedelta(hours=2)
        assert abs(now - datetime.fromisoformat(one["last_seen"]) - 300 * DAY) < timedelta(hours=1)
    assert enabled(iam) == {"in-2", "in-10", "in-20"}


SEEN = "UTC_TIMESTAMP() - INTERVAL 170 DAY"


@pytest.mark.every_server
@pytest.mark.parametrize("options", [{}, {"min_age_days": 30}])
def test_a_user_with_a_zero_date_is_not_due_and_keeps_nobody_from_being_warned(iam, run_dag, options):
    iam.run("SET sql_mode = ''")
    user(iam, "zero", logined="'0000-00-00'", created="UTC_TIMESTAMP() - INTERVAL 20 DAY")
    user(iam, "never", logined="NULL", created="'0000-00-00'")
    user(iam, "due", logined=SEEN, created="'0000-00-00'")
    told = []
    run = report(run_dag(warn(lambda context: told.extend(context["due_users"]), **options)))
    assert [(one["name"], one["days"]) for one in told] == [("due", 14)]
    assert run["skipped"] == {"zero_date": 2}


@pytest.mark.every_server
def test_a_last_login_that_no_calendar_has_keeps_nobody_else_from_being_warned(scratch, run_dag, caplog):
    scratch.run(
        "CREATE TABLE account (id int PRIMARY KEY, login varchar(50) NOT NULL, active tinyint NOT NULL,"
        " seen datetime NULL)"
    )
    # Between two months, so that the server finds it due.
    month = (datetime.now(UTC) - 180 * DAY).replace(day=1)
    days = (datetime.now(UTC) - month).days + 7
    scratch.run("SET sql_mode = 'ALLOW_INVALID_DATES'")
    scratch.run(f"INSERT INTO account VALUES (1, 'odd', 1, '{month:%Y-%m}-00'), (2, 'due', 1, '{month:%F}')")
    told = []
    options = {
        "accounts": AccountTable(table="account", name="login", status="active", last_login="seen"),
        "exempt_admins": False,
        "mysql_conn_id": "scratch",
    }
    run = report(run_dag(warn(lambda context: told.extend(context["due_users"]), days, **options)))
    assert [(one["name"], one["days"]) for one in told] == [("due", 14)]
    assert run["also"] == {"due_in_3_days": 0, "due_in_14_days": 1, "due_without_a_date": 1}
    assert (
        "The job can't warn users whose last login or creation is not a date of the calendar." in caplog.text
    )
    assert "Correct the date: 'odd'\n" in caplog.text


def test_a_user_without_an_address_is_listed(iam, run_dag):
    iam.run("ALTER TABLE user MODIFY email varchar(256) NULL")
    user(iam, "due", logined=SEEN)
    iam.run("UPDATE user SET email = NULL")
    told = []
    report(run_dag(warn(lambda context: told.extend(context["due_users"]))))
    assert [(one["name"], one["email"]) for one in told] == [("due", None)]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_right_that_is_missing_is_found_before_a_user_is_disabled(iam, mariadb, run_dag, dry_run):
    user(iam, "old", logined="UTC_TIMESTAMP() - INTERVAL 200 DAY")
    iam.run(f"REVOKE SELECT ON iam.user FROM '{mariadb.user}'")
    iam.run(
        "GRANT SELECT (id, name, status, isAdmin, loginedAt, createdAt, updatedAt)"
        f" ON iam.user TO '{mariadb.user}'"
    )
    (ti,) = run_dag(warn(None, dry_run=dry_run)).get_task_instances()
    assert ti.state == "failed"
    assert "user has no column 'email'" in ti.xcom_pull(task_ids="disable")["error"]
    assert enabled(iam) == {"old"}


def test_a_list_that_is_not_complete_warns_nobody_and_says_so(users, run_dag, caplog):
    def told(context):
        raise AssertionError

    first = report(run_dag(warn(told, time_budget=timedelta(microseconds=1))))
    assert first["also"] == {"due_list_incomplete": 1}
    assert "No user is warned in this run" in caplog.text
    later = []
    report(run_dag(warn(lambda context: later.extend(context["due_users"]))))
    assert len(later) == 3


@contextmanager
def search_in(server, **options):
    """A search in the table of IAM, and the cut-off of a run that begins now."""
    with closing(server.connect()) as connection:
        connection.autocommit(on=False)
        set_up(connection)
        now, db = read_now(connection), Transactions(connection)
        job = DisableInactiveUsersOperator(task_id="t", max_inactive_days=180, undo_location="none").job()
        plan = job.plan(read_table(db, "user"), now)
        known = {
            "can_be_disabled": job.users(plan.cut_off, now).can_be_disabled,
            "max_inactive": 180 * DAY,
            "min_age": 0 * DAY,
            "pace": PACES["polite"],
            "throttler": Throttler(db, "user", lambda: None, patience=1),
        }
        yield Search(db, job.columns, plan.change, **{**known, **options}), plan.cut_off


def test_all_warnings_are_one_walk_that_is_throttled(users, mariadb, monkeypatch):
    walks, asked, waits, sleeps = [], [], [], []
    begin, wait = KeyOrder.begin, Throttler.wait

    def waited(throttler, *, at_most):
        waits.append(at_most)
        wait(throttler, at_most=at_most)

    monkeypatch.setattr(KeyOrder, "begin", lambda order: walks.append(begin(order)))
    monkeypatch.setattr(Throttler, "wait", waited)
    monkeypatch.setattr(Transactions, "sleep", lambda _, seconds: sleeps.append(seconds))
    clock = SimpleNamespace(monotonic=iter([100.0, 101.0, 102.0, 103.0, 106.0]).__next__)
    monkeypatch.setattr("iam_watcher.accounts.due_search.time", clock)
    throttler = Throttler(None, "user", lambda: asked.append("why"), patience=1)
    with search_in(mariadb, throttler=throttler, time_limit=timedelta(seconds=60)) as (search, cut_off):
        found = search.users(bands(cut_off, (14, 3, 30), {}))
    assert {one["name"]: one["days"] for one in found.listed} == {
        "seen-178": 3,
        "never": 3,
        "seen-170": 14,
        "seen-160": 30,
    }
    assert (len(walks), len(asked)) == (1, 1)
    assert (waits, sleeps) == ([59.0], [3.0])


def test_a_user_at_the_edge_of_two_warnings_gets_the_one_with_more_days(iam, mariadb):
    edge = CUT_OFF + 3 * DAY
    old = "'2020-01-01'"
    user(iam, "by login", logined=f"'{edge:%F %T}'", created=old)
    user(iam, "by creation", logined=old, created=f"'{edge + 150 * DAY:%F %T}'")
    with search_in(mariadb, min_age=30 * DAY) as (search, _):
        found = search.users([Band(3, CUT_OFF, edge), Band(14, edge, edge + 11 * DAY)])
    assert {one["name"]: one["days"] for one in found.listed} == {"by login": 14, "by creation": 14}


def test_a_search_that_takes_too_long_is_tried_again_with_fewer_users(iam, mariadb, monkeypatch):
    monkeypatch.setattr(due_search, "ChunkSize", lambda _: ChunkSize(1e-9, rows=1000, span=1000))
    monkeypatch.setattr(Transactions, "sleep", lambda *_: None)
    iam.run(
        "INSERT INTO user (name, nickname, password, email, loginedAt)"
        f" SELECT seq, '', '', '', {SEEN} FROM {numbers(700)}"
    )
    read = Transactions.read

    def limited(db, query, values=None):
        found = read(db, query, values)
        if len(found) > 500:
            raise db.error(1969, "made by the test")
        return found

    monkeypatch.setattr(Transactions, "read", limited)
    with search_in(mariadb) as (search, cut_off):
        assert len(search.users(bands(cut_off, (14, 3), {})).listed) == 700
        assert search.db.retries == 1
