"""What the importer makes of single lines."""

from __future__ import annotations

import pytest

from iam_watcher.importer import dkron, kubernetes, names
from iam_watcher.importer.anacrontab import Anacrontab
from iam_watcher.importer.cron_variables import mail_to
from iam_watcher.importer.crontab import Crontab, split_input
from iam_watcher.importer.job import Job, Refused, mails


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/backup.sh --all >/dev/null 2>&1", "backup_sh"),
        ("cd /srv/app && ./manage.py clearsessions", "manage_py_clearsessions"),
        ("[ -x /bin/a ] && /bin/a", "a"),
        ("flock -n /tmp/lock nice -n 10 /opt/run-it", "run_it"),
        ("sudo -n env A=1 /opt/x y", "x_y"),
        ("test $(date +%u) -eq 6 && /opt/second-saturday", "second_saturday"),
        ("A=1; /opt/b", "b"),
        ("7z a x", "job_7z_a_x"),
        ("« »", "job"),
        ("cd /srv", "cd_srv"),
        ("x" * 100, "x" * 60),
    ],
)
def test_a_name_of_a_command(command: str, name: str) -> None:
    assert names.of_command(command) == name


def test_names_are_unique() -> None:
    taken: set[str] = set()
    assert [names.unique(name, taken) for name in ("a", "a", "a_2", "a")] == ["a", "a_2", "a_2_2", "a_3"]


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("a b", "a b", ""),
        (r"date +\%F", "date +%F", ""),
        ("a%", "a", ""),
        ("a%%", "a", "\n"),
        (r"a%b\%c", "a", "b%c\n"),
        (r"a%b\\%c%", "a", "b\\%c\n"),
        (r"a%b\\", "a", "b\\\\\n"),
        ("a%\\", "a", "\\"),
        ("a%b", "a", "b\n"),
        ("a%b%", "a", "b\n"),
        (r"a '%' \% b%c\%d%e", "a '", "' % b\nc%d\ne\n"),
        (r"a \\%b", r"a \\", "b\n"),
        (r"a \n \ b", r"a \n \ b", ""),
    ],
)
def test_a_percent_sign(text: str, command: str, stdin: str) -> None:
    assert split_input(text) == (command, stdin)


def fields_of(line: str, **arguments: object) -> tuple[str, tuple[str, ...]]:
    entry = Crontab("crontab", "UTC", **arguments).read(line).entries[-1]
    if isinstance(entry, Refused):
        return entry.reason, ()
    return entry.watcher["schedule"].removeprefix("CRON_TZ=UTC "), entry.differences


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        ("*/15 9-17 * * 1-5 x", "*/15 9-17 * * 1-5"),
        ("0 0 * * 7 x", "0 0 * * 0"),
        ("0 0 * * sun-7 x", "0 0 * * 0-6"),
        ("0 0 * * 1/2 x", "0 0 * * 0-1,3,5"),
        ("0 0 1,* * 1 x", "0 0 1-31 * 1"),
        ("@Daily x", "@daily"),
        ("-0 0 1 jan * x", "0 0 1 jan *"),
    ],
)
def test_fields(line: str, spec: str) -> None:
    assert fields_of(line)[0] == spec


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        ("~ 2~4 * * * x", "~ 2~4 * * *"),
        ("0~59 ~6 18~ 1~12 sun~sat x", "~ 0~6 18~31 ~ ~"),
        # A day that each month has; a range with bounds is kept.
        ("0 0 ~ * * x", "0 0 1~28 * *"),
        ("0 0 1~31 * * x", "0 0 1~31 * *"),
        # cron's 7 is Sunday.
        ("0 0 * * 5~7 x", "0 0 * * 5~6"),
        ("0 0 * * 0~7 x", "0 0 * * ~"),
        ("0 0 * * 7~7 x", "0 0 * * 0~0"),
        ("30~40,5,0~10 0 * * * x", "5,30~40,0~10 0 * * *"),
        # Only a field that begins with a star counts as a star in cron.
        ("0 0 ~,*/2 * 1 x", "0 0 1/2,1~28 * 1"),
        ("0 0 */2,~ * 1 x", "0 0 */2,1~28 * 1"),
    ],
)
def test_a_time_that_cron_chooses(line: str, spec: str) -> None:
    translated, differences = fields_of(line)
    assert translated == spec
    assert len(differences) == line.count("~")
    assert all("decides the value; cron chooses anew when it reads the crontab" in one for one in differences)


@pytest.mark.parametrize("field", [",~", "~,", "1,,~"])
def test_an_empty_item_beside_a_choice(field: str) -> None:
    reason, _ = fields_of(f"{field} * * * * x")
    assert reason == f"minute {field!r}: ''; expected numbers, ranges, steps and lists of them"


@pytest.mark.parametrize("field", ["5~3", "~/2", "1~9/2", "1~2~3", "1-2~3", "*~3", "61~", "~~"])
def test_a_choice_that_cron_refuses(field: str) -> None:
    reason, _ = fields_of(f"{field} * * * * x")
    assert reason.startswith(f"minute {field!r}: "), reason
    assert "; expected " in reason


@pytest.mark.parametrize(
    ("text", "difference"),
    [
        ("RANDOM_DELAY=30\n0 0 * * * x", "RANDOM_DELAY=30 is not kept"),
        (
            "MAILFROM=cron@example.com\n0 0 * * * x",
            "MAILFROM=cron@example.com is not kept: the sender is that of the connection smtp_default",
        ),
        ("CONTENT_TYPE=text/html\n0 0 * * * x", "CONTENT_TYPE=text/html is not kept: Airflow decides"),
        ("CONTENT_TRANSFER_ENCODING=8bit\n0 0 * * * x", "CONTENT_TRANSFER_ENCODING=8bit is not kept"),
        ("PGPASSWORD=x\n0 0 * * * x", "PGPASSWORD is in the DAG file now"),
        ("0 0 * * * x \\", "no continuation"),
        ("0 0 * * * x\r", "carriage return"),
        ("5/20 * * * * x", "some crons read 5 alone"),
    ],
)
def test_what_is_different(text: str, difference: str) -> None:
    assert difference in fields_of(text)[1][0]


@pytest.mark.parametrize(
    "variable", ["MAILFROM", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING", "RANDOM_DELAY"]
)
def test_what_is_different_in_an_anacrontab_too(variable: str) -> None:
    job = Anacrontab("anacrontab", "UTC").read(f"{variable}=7\n1 5 daily x").entries[0]
    assert isinstance(job, Job), job
    assert [text for text in job.differences if text.startswith(f"{variable}=7 is not kept: ")]
    assert variable not in job.task.arguments.get("env", {})


@pytest.mark.parametrize(
    ("variables", "difference"),
    [
        ("", "without the delay of 15 minutes"),
        ("START_HOURS_RANGE=3-22\n", "without the delay of 15 minutes and without START_HOURS_RANGE"),
    ],
)
def test_a_period_without_a_cron_schedule(variables: str, difference: str) -> None:
    job = Anacrontab("anacrontab", "UTC").read(f"{variables}3 15 third x").entries[0]
    assert isinstance(job, Job), job
    assert job.differences[0] == f"every 3 days counts from 1970-01-01 00:00 UTC, {difference}"
    assert [text for text in job.differences if "first hour" in text] == []


def test_a_report_says_once_that_a_watcher_makes_up_for_a_missed_time() -> None:
    """But cron and dkron don't."""
    dkron_job = (
        '[{"name": "a", "schedule": "@daily", "executor": "shell", "executor_config": {"command": "x"}}]'
    )
    for name, notes in (
        ("cron", Crontab("crontab", "UTC").read("0 0 * * * x\n0 1 * * * y").notes),
        ("dkron", dkron.read(dkron_job, "jobs.json", "UTC").notes),
    ):
        (note,) = [one for one in notes if "missed_grace=timedelta(0)" in one]
        assert note.startswith(f"{name} does not make up for a time"), note


@pytest.mark.parametrize("zone", ["", "TZ=UTC "])
def test_every_of_a_cronjob_counts_from_another_time(zone: str) -> None:
    text = "{kind: CronJob, metadata: {name: a}, spec: {schedule: '%s@every 6h', startingDeadlineSeconds: 5}}"
    job = kubernetes.read(text % zone, "jobs.yaml", "UTC").entries[0]
    assert isinstance(job, Job), job
    assert "@every counts from 1970-01-01 00:00 UTC, not from the CronJob's creation" in job.differences


def test_the_user_of_a_line() -> None:
    assert "by sudo as bob" in fields_of("0 0 * * * bob x", system=True)[1][0]
    assert "by sudo as bob" in fields_of("0 0 * * * x", user="bob")[1][0]
    assert fields_of("0 0 * * * bob", system=True)[0] == "there is no command behind the schedule"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1", {"A": "1"}),
        ("  A = 1 2  ", {"A": "1 2"}),
        ("A=\"1 2 \"\n'B'='$A'", {"A": "1 2 ", "B": "$A"}),
        ("A=", {"A": ""}),
        ("A=#1", {"A": "#1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("LOGNAME=root\nSHELL=/bin/bash\nMAILFROM=x", {}),
    ],
)
def test_variables(text: str, variables: dict[str, str]) -> None:
    job = Crontab("crontab", "UTC").read(f"{text}\n0 0 * * * x\nA=later").entries[0]
    assert job.task.arguments.get("env", {}) == variables


@pytest.mark.parametrize(
    ("mailto", "addresses", "local"),
    [
        ("ops@example.com", ["ops@example.com"], ""),
        ("a@x.org;b@x.org, c@x.org d@x.org", ["a@x.org", "b@x.org", "c@x.org", "d@x.org"], ""),
        ("root", [], "root"),
        ("@x.org a@ a@b@c a@x.org", ["a@x.org"], "@x.org, a@, a@b@c"),
        ("", [], ""),
    ],
)
def test_only_addresses_get_the_mail(mailto: str, addresses: list[str], local: str) -> None:
    found, differences = mail_to(mailto)
    assert found == mails(addresses) if addresses else found == {}
    assert [difference.partition(", a mailbox")[0] for difference in differences] == (
        [f"MAILTO has {local}"] if local else []
    )
