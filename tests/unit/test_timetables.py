"""What the timetables answer without a database: serialization, words, the next tick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pendulum
import pytest
import time_machine
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable

from iam_watcher.errors import InvalidSpec, WatcherError
from iam_watcher.timetables import LISTENERS, TIMETABLES, timetable

NOW = datetime(2027, 3, 10, 12, 0, 0, 500_000, tzinfo=UTC)
FREE = TimeRestriction(earliest=None, latest=None, catchup=False)
ALL = TimeRestriction(earliest=None, latest=None, catchup=True)


def at(text: str) -> pendulum.DateTime:
    return pendulum.parse(text)


def ran_at(text: str) -> DagRunInfo:
    return DagRunInfo.exact(at(text))


@pytest.fixture(autouse=True)
def now():
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.mark.parametrize(
    "arguments",
    [
        {"spec": "@daily"},
        {"spec": "CRON_TZ=Asia/Shanghai 0 30 3 * * *", "dst": "vixie", "overlap": "delay"},
        {"spec": "@every 1h30m", "overlap": "allow", "missed_grace": timedelta(0)},
        {"spec": "@every 1d", "missed_grace": timedelta(minutes=5)},
        {"spec": "@after 5m"},
        {"spec": "@at 2027-01-31T08:00:00+01:00"},
        {"spec": "CRON_TZ=Asia/Shanghai ~ 0~5 * * *", "dst": "vixie", "dag_id": "clean"},
    ],
)
def test_there_and_back(arguments):
    made = timetable(**arguments)
    again = type(made).deserialize(made.serialize())
    assert type(again) in TIMETABLES
    assert vars(again) == vars(made)
    assert again.serialize() == made.serialize()


def test_shown_as_spec_and_in_words():
    made = timetable("CRON_TZ=Asia/Shanghai 30 3 * * *")
    assert made.summary == "CRON_TZ=Asia/Shanghai 0 30 3 * * *"
    assert made.description == "every day at 03:30:00 Asia/Shanghai"
    assert timetable("@after 5m").description == "5 minutes after the last run ended"


def test_a_tilde_is_stored_with_its_value_and_shown():
    made = timetable("TZ=Asia/Shanghai @daily~", dag_id="clean_policy_audit")
    stored = made.serialize()
    assert stored["spec"] == "CRON_TZ=Asia/Shanghai 6 33 17 * * *"
    again = type(made).deserialize(stored)
    for one in (made, again):
        assert one.summary == "CRON_TZ=Asia/Shanghai @daily~"
        assert one.description == "every day at 17:33:06 Asia/Shanghai"
        assert one.schedule.next(NOW) == datetime(2027, 3, 11, 9, 33, 6, tzinfo=UTC)
    with pytest.raises(InvalidSpec, match="expected the id of the DAG"):
        timetable("@daily~")


def test_what_has_no_tilde_is_stored_as_before():
    assert timetable("@daily", dag_id="clean").serialize() == {
        "spec": "0 0 0 * * *",
        "dst": "robfig",
        "overlap": "skip",
        "missed_grace": None,
    }


def test_only_a_rhythm_is_periodic():
    assert timetable("@daily").periodic
    assert timetable("@every 1h").periodic
    assert not timetable("@after 1h").periodic
    assert not timetable("@at 2028-01-01T00:00:00Z").periodic


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("61 * * * *", ""),
        ("@every 0s", ""),
        ("0 0 0 30 2 *", "a date that comes$"),
        ("0 0 0 30W 2 *", "a date that comes$"),
        ("TZ=UTC", ""),
    ],
)
def test_a_bad_spec_and_one_that_never_fires_are_refused(spec, expected):
    with pytest.raises(InvalidSpec, match=f"The schedule is not valid: .*; expected {expected}"):
        timetable(spec)


def test_other_arguments_are_checked():
    with pytest.raises(WatcherError, match="skip, delay, allow"):
        timetable("@daily", overlap="queue")
    for grace in (timedelta(seconds=-1), 3600):
        with pytest.raises(WatcherError, match="expected a timedelta of zero or more"):
            timetable("@daily", missed_grace=grace)


@pytest.mark.parametrize(
    ("configured", "zone"), [("utc", "UTC"), ("UTC", "UTC"), ("Europe/Berlin", "Europe/Berlin")]
)
def test_the_default_zone_is_airflows(monkeypatch, configured, zone):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", configured)
    assert timetable("@daily").schedule.timezone == zone


def test_the_default_zone_may_be_the_systems(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "system")
    with pendulum.tz.test_local_timezone(pendulum.timezone("Asia/Tokyo")):
        assert timetable("@daily").schedule.timezone == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("30 3 * * *", "2027-03-11T03:30:00Z"),
        ("*/10 * * * * *", "2027-03-10T12:00:00Z"),  # the scheduler may still be coming to it
        ("@every 1d", "2027-03-11T00:00:00Z"),
        ("@after 5m", "2027-03-10T12:00:00.5Z"),
        ("@at 2027-03-10T13:00:00Z", "2027-03-10T13:00:00Z"),
    ],
)
def test_the_first_run(spec, expected):
    info = timetable(spec).next_dagrun_info_v2(last_dagrun_info=None, restriction=FREE)
    assert info == ran_at(expected)
    assert info.logical_date == info.run_after


def test_a_watcher_without_runs_has_missed_nothing():
    # 50 s ago: later than half the interval or a minute, so not a tick that is just being handled.
    info = timetable("0 59 11 * * *").next_dagrun_info_v2(last_dagrun_info=None, restriction=FREE)
    assert info == ran_at("2027-03-11T11:59:00Z")
    past = timetable("@at 2027-03-10T11:58:00Z")
    assert past.next_dagrun_info_v2(last_dagrun_info=None, restriction=FREE) is None


def test_the_calendar_walks_on_from_the_last_run():
    hourly = timetable("@hourly")
    info = ran_at("2027-03-10T09:00:00Z")
    found = []
    for _ in range(3):
        info = hourly.next_dagrun_info_v2(last_dagrun_info=info, restriction=FREE)
        found.append(info.run_after)
    assert found == [at("2027-03-10T13:00:00Z"), at("2027-03-10T14:00:00Z"), at("2027-03-10T15:00:00Z")]


def test_with_catchup_every_tick_comes():
    hourly = timetable("@hourly")
    early = at("2027-03-10T09:00:00Z")
    first = hourly.next_dagrun_info_v2(
        last_dagrun_info=None, restriction=TimeRestriction(early, None, catchup=True)
    )
    assert first.run_after == early
    assert hourly.next_dagrun_info_v2(last_dagrun_info=first, restriction=ALL) == ran_at(
        "2027-03-10T10:00:00Z"
    )


@pytest.mark.parametrize("spec", ["@hourly", "@every 1h"])
def test_start_and_end_dates_hold(spec):
    start, end = at("2027-03-20T10:00:00Z"), at("2027-03-20T11:30:00Z")
    limits = TimeRestriction(start, end, catchup=False)
    made = timetable(spec)
    first = made.next_dagrun_info_v2(last_dagrun_info=None, restriction=limits)
    second = made.next_dagrun_info_v2(last_dagrun_info=first, restriction=limits)
    third = made.next_dagrun_info_v2(last_dagrun_info=second, restriction=limits)
    assert [first, second, third] == [ran_at("2027-03-20T10:00:00Z"), ran_at("2027-03-20T11:00:00Z"), None]


def test_a_manual_run_is_about_its_moment():
    moment = at("2027-03-10T12:34:56Z")
    assert timetable("@daily").infer_manual_data_interval(run_after=moment) == DataInterval.exact(moment)
    assert timetable("@after 5m").infer_manual_data_interval(run_after=moment) == DataInterval.exact(moment)


def test_the_older_interface_answers_too():
    interval = DataInterval.exact(at("2027-03-10T11:00:00Z"))
    info = timetable("@hourly").next_dagrun_info(last_automated_data_interval=interval, restriction=FREE)
    assert info == ran_at("2027-03-10T13:00:00Z")


def test_the_listener_has_hooks():
    [listener] = LISTENERS
    for hook in ("on_dag_run_running", "on_dag_run_success", "on_dag_run_failed"):
        assert callable(getattr(listener, hook))


@pytest.mark.parametrize(
    ("spec", "answers"),
    [
        ("0 10 3 * * *", {"2027-03-11T03:10:00+00:00": "2027-04-03T10:00:00+00:00"}),
        ("*/10 * * * * *", {"2027-03-10T12:00:10+00:00": "2027-03-10T12:00:01+00:00"}),
        ("30 3 * * 1-5", {"2027-03-11T03:30:00+00:00": "2027-03-11T03:30:00+00:00"}),
    ],
)
def test_airflows_own_cron_has_the_seconds_last(spec, answers):
    """What docs/schedules.md calls the trap."""
    [(here, there)] = answers.items()
    theirs = CronTriggerTimetable(spec, timezone="UTC")
    assert timetable(spec).schedule.next(NOW).isoformat() == here
    assert theirs._get_next(pendulum.instance(NOW)).isoformat() == there
