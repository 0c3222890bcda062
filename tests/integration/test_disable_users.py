from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from iam_watcher.jobs.disable_users import DisableInactiveUsersOperator
from tests.integration.conftest import TaskInstance

pytestmark = pytest.mark.every_server

LONG_AGO = "UTC_TIMESTAMP() - INTERVAL 181 DAY"
LATELY = "UTC_TIMESTAMP() - INTERVAL 179 DAY"


def disable(days=180, **options):
    return DisableInactiveUsersOperator(
        **{
            "task_id": "disable",
            "max_inactive_days": days,
            "max_share": 1,
            "undo_location": "none",
            **options,
        }
    )


def user(iam, name, *, logined=LONG_AGO, created=LONG_AGO, status=1, admin=0):
    iam.run(
        "INSERT INTO user (name, nickname, password, email, status, isAdmin, loginedAt, createdAt, updatedAt)"
        f" VALUES (%s, 'n', 'p', 'e', %s, %s, {logined}, {created}, {created})",
        [name, status, admin],
    )


def enabled(iam):
    return set(iam.column("SELECT name FROM user WHERE status = 1"))


def test_only_the_inactive_are_disabled(iam, perform):
    user(iam, "inactive")
    user(iam, "active", logined=LATELY)
    user(iam, "never-old", logined="NULL")
    user(iam, "never-new", logined="NULL", created=LATELY)
    user(iam, "zero-login", logined="'0000-00-00'")
    user(iam, "zero-creation", logined="NULL", created="'0000-00-00'")
    user(iam, "admin", admin=1)
    user(iam, "super-admin", admin=255)
    user(iam, "other-state", status=2)
    report = perform(disable(max_share=0.4))
    assert enabled(iam) == {"active", "never-new", "zero-login", "zero-creation", "admin", "super-admin"}
    assert iam.value("SELECT status FROM user WHERE name = 'other-state'") == 2
    assert (report["examined"], report["matched"], report["changed"]) == (9, 2, 2)
    assert report["skipped"] == {"admin": 2, "zero_date": 2}
    assert report["eligible"] == 6


@pytest.mark.parametrize("time", ["logined", "created"])
def test_the_first_moment_that_is_a_date(iam, perform, time):
    for name, moment in {"first": "'1980-01-01 00:00:00'", "before": "'1979-12-31 23:59:59'"}.items():
        user(iam, name, **{"logined": "NULL", time: moment})
    report = perform(disable())
    assert enabled(iam) == {"before"}
    assert (report["changed"], report["skipped"]) == (1, {"zero_date": 1})


def test_who_was_seen_or_created_at_the_very_cut_off_stays(iam, perform, monkeypatch):
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    monkeypatch.setattr("iam_watcher.jobs.table_job.run.read_now", lambda _: now)
    inactive, old = (f"'{now - timedelta(days=days):%F %T}'" for days in (180, 200))
    a_second = " - INTERVAL 1 SECOND"
    user(iam, "seen", logined=inactive, created="'2020-01-01'")
    user(iam, "seen-before", logined=inactive + a_second, created="'2020-01-01'")
    user(iam, "never", logined="NULL", created=inactive)
    user(iam, "never-before", logined="NULL", created=inactive + a_second)
    user(iam, "new", logined="'2020-01-01'", created=old)
    user(iam, "not-new", logined="'2020-01-01'", created=old + a_second)
    report = perform(disable(min_age_days=200))
    assert enabled(iam) == {"seen", "never", "new", "never-before"}
    assert report["skipped"] == {"new_account": 2}
    perform(disable(min_age_days=0))
    assert enabled(iam) == {"seen", "never"}


def test_no_other_column_is_written(iam, perform):
    """Apart from updatedAt, which the table moves by itself."""
    for name in ("inactive", "never"):
        user(iam, name, logined=LONG_AGO if name == "inactive" else "NULL")
    columns = [c for c in iam.column("SHOW COLUMNS FROM user") if c not in ("status", "updatedAt")]
    query = f"SELECT {', '.join(columns)} FROM user"
    before = iam.rows(query)
    assert perform(disable())["changed"] == 2
    assert iam.rows(query) == before
    assert iam.value("SELECT COUNT(*) FROM user WHERE updatedAt > UTC_TIMESTAMP() - INTERVAL 1 HOUR") == 2


def test_the_account_needs_the_right_for_that_column_only(iam, mariadb, perform):
    user(iam, "inactive")
    iam.run(f"REVOKE UPDATE (loginedAt) ON iam.user FROM '{mariadb.user}'")
    iam.run(f"REVOKE UPDATE (expires) ON iam.secret FROM '{mariadb.user}'")
    assert "UPDATE (`status`)" in "".join(iam.column(f"SHOW GRANTS FOR '{mariadb.user}'"))
    perform(disable())
    assert enabled(iam) == set()


def test_admins_are_disabled_only_if_asked_for(iam, perform):
    user(iam, "admin", admin=1)
    perform(disable(exempt_admins=False))
    assert enabled(iam) == set()


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("svc-*", {"svc-a", "SVC-B", "svc-"}),
        ("svc-?", {"svc-a", "SVC-B"}),
        ("svc_x", {"svc_x"}),
        ("svc_*", {"svc_x"}),
        ("100%*", {"100%-a"}),
        ("*\\*", {"back\\slash"}),
        ("a|b*", {"a|b-1"}),
        (
            "*",
            {
                "svc-a",
                "SVC-B",
                "svc-",
                "svc_x",
                "svcyx",
                "100%-a",
                "1000-a",
                "back\\slash",
                "a|b-1",
                "quo'te",
            },
        ),
        ("*'*", {"quo'te"}),
        ("SVC-A", {"svc-a"}),
    ],
)
def test_exempt_names_are_names_or_globs(iam, perform, pattern, kept):
    for name in (
        "svc-a", "SVC-B", "svc-", "svc_x", "svcyx", "100%-a", "1000-a", "back\\slash", "a|b-1", "quo'te"
    ):  # fmt: skip
        user(iam, name)
    report = perform(disable(exempt_names=[pattern, "nobody"]))
    assert enabled(iam) == kept
    assert report["skipped"] == {"exempt_name": len(kept)}


@pytest.mark.every_server
@pytest.mark.parametrize("name", ["😀", "😀*"])
def test_an_exempt_name_that_the_column_cannot_hold_is_an_error_before_the_first_write(iam, perform, name):
    user(iam, "old")
    with pytest.raises(
        AirflowFailException, match="exempt_names has a text that a column of user can't hold"
    ):
        perform(disable(exempt_names=[name]))
    assert enabled(iam) == {"old"}


def test_an_exempt_name_is_the_one_that_the_unique_key_takes_it_for(iam, perform):
    """Trailing spaces don't count there, so they don't count here."""
    user(iam, "root ")
    perform(disable(exempt_names=["root"]))
    assert enabled(iam) == {"root "}


def half_of_ten(iam):
    for number in range(5):
        user(iam, f"inactive-{number}")
        user(iam, f"active-{number}", logined=LATELY)
    user(iam, "admin", admin=1)
    user(iam, "svc-1")
    user(iam, "disabled", status=0)


def test_the_safety_limit_holds_above_the_share_of_the_eligible(iam, perform):
    half_of_ten(iam)
    user(iam, "one-more")
    before = iam.rows("SELECT * FROM user")
    ti = TaskInstance("run")
    with pytest.raises(AirflowFailException, match=r"6 of 11 eligible rows of user .* max_share=0\.5\."):
        perform(disable(max_share="0.5", exempt_names=["svc-*"]), ti)
    assert iam.rows("SELECT * FROM user") == before
    report = ti.xcom["return_value"]
    assert (report["matched"], report["eligible"], report["changed"]) == (6, 11, 0)
    assert report["error"].startswith("SafetyLimitError: ")


def test_half_of_the_eligible_is_the_limit_unless_another_is_set(iam, perform):
    half_of_ten(iam)
    user(iam, "one-more")
    job = DisableInactiveUsersOperator(
        task_id="disable", max_inactive_days=180, exempt_names=["svc-*"], undo_location="none"
    )
    with pytest.raises(AirflowFailException, match=r"6 of 11 .* max_share=0\.5\."):
        perform(job)
    assert "inactive-0" in enabled(iam)


def test_the_safety_limit_lets_exactly_its_share_pass(iam, perform):
    half_of_ten(iam)
    assert perform(disable(max_share=0.5, exempt_names=["svc-*"]))["changed"] == 5


def test_a_dry_run_tells_also_what_the_safety_limit_would_hold(iam, perform):
    half_of_ten(iam)
    report = perform(disable(max_share=0.1, exempt_names=["svc-*"], dry_run=True))
    assert (report["matched"], report["eligible"], report["changed"]) == (5, 10, 0)
    assert len(report["examples"]) == 5


def test_zero_days_turn_it_off(iam, perform):
    user(iam, "inactive")
    with pytest.raises(AirflowSkipException, match="max_inactive_days is 0"):
        perform(disable("0"))
    assert enabled(iam) == {"inactive"}


def test_a_negative_rendered_value_fails_for_good(iam, perform):
    user(iam, "active", logined="UTC_TIMESTAMP()")
    operator = disable("{{ params.days }}")
    operator.max_inactive_days = -180
    with pytest.raises(AirflowFailException, match="max_inactive_days is -180"):
        perform(operator)
    assert enabled(iam) == {"active"}


def test_a_table_that_is_not_iams_is_refused(scratch, perform):
    scratch.run("CREATE TABLE user (id int PRIMARY KEY, status int)")
    with pytest.raises(AirflowFailException, match="user has no column 'loginedAt'"):
        perform(disable(mysql_conn_id="scratch"))
