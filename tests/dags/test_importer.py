"""Crontabs of real life become watcher files that Airflow parses, and that tick as Debian's cron does.

The crontabs and what is expected of each of their lines are tables: hence the length.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from airflow.dag_processing.dagbag import DagBag
from cronsim import CronSim

from iam_watcher import Mail, Notify
from iam_watcher.importer.__main__ import main
from iam_watcher.schedule import parse
from tests.dags.runs import states

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

PLUGINS = Path(__file__).parents[2] / "plugins"
CRONTABS = Path(__file__).parent / "crontabs"
BERLIN = "Europe/Berlin"
# The days before clocks go forward, and before they go back, in Berlin.
STARTS = [datetime(2027, 3, 27, 12, tzinfo=UTC), datetime(2027, 10, 30, 12, tzinfo=UTC)]
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@yearly": "0 0 1 1 *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@annually": "0 0 1 1 *",
}
LINE = re.compile(r"line (\d+): (translated|translated with a difference): (\S+)")


def imported(capsys, folder: Path, *arguments: str) -> tuple[dict[int, DAG], str]:
    """The DAGs by the line of their crontab, and the report."""
    main(["crontab", *arguments, "--output", str(folder)])
    report = capsys.readouterr().out
    files = {int(line): path for line, _, path in LINE.findall(report)}
    bag = DagBag(str(folder))
    assert bag.import_errors == {}
    dags = {dag.fileloc: dag for dag in bag.dags.values()}
    return {line: dags[path] for line, path in files.items()}, report


def expected_ticks(fields: str, zone: str, after: datetime) -> list[datetime]:
    ticks = CronSim(fields, after.astimezone(ZoneInfo(zone)))
    return [next(ticks).astimezone(UTC) for _ in range(10)]


@pytest.mark.parametrize("name", ["system", "user"])
def test_each_line_ticks_as_before(capsys, tmp_path: Path, name: str) -> None:
    flags = ["--system"] if name == "system" else []
    dags, _ = imported(capsys, tmp_path, str(CRONTABS / name), *flags, "--timezone", BERLIN)
    zone, checked = BERLIN, 0
    for number, line in enumerate((CRONTABS / name).read_text().splitlines(), 1):
        if line.startswith("CRON_TZ="):
            zone = line.partition("=")[2]
        if not re.match(r"[-*@\d]", line):
            assert number not in dags
            continue
        first = line.removeprefix("-").split()
        fields = NICKNAMES[first[0]] if first[0] in NICKNAMES else " ".join(first[:5])
        schedule = dags[number].timetable.schedule
        for start in STARTS:
            ticks = [start]
            while len(ticks) <= 10:
                ticks.append(schedule.next(ticks[-1]))
            assert ticks[1:] == expected_ticks(fields, zone, start), line
        checked += 1
    assert checked == len(dags) == {"system": 10, "user": 29}[name]


def test_each_line_keeps_what_it_says(capsys, tmp_path: Path) -> None:
    dags, report = imported(capsys, tmp_path, str(CRONTABS / "user"), "--timezone", BERLIN)
    assert all(dag.is_paused_upon_creation for dag in dags.values())
    by_name = {dag.dag_id: dag for dag in dags.values()}
    first = by_name["poll"].get_task("run")
    assert first.command == "/opt/app/bin/poll >>/var/log/app/poll.log 2>&1"
    assert first.env == {"PGUSER": "reporting", "GREETING": "two  words "}
    assert (first.retries, first.user, first.shell, first.stdin) == (0, None, "/bin/sh", "")
    assert by_name["poll"].notices.notify == (
        Notify(to=[Mail("ops@example.com"), Mail("audit@example.com")]),
    )
    last = dags[max(dags)]
    assert last.notices.notify == ()
    task = last.get_task("run")
    assert task.command == 'mail -s "Report of 100%" team@example.com'
    assert task.stdin == "Good evening,\n\nthe report is done.\n"
    assert task.env["TZ"] == "America/Lima"
    assert "CRON_TZ" not in task.env
    assert by_name["in_kolkata"].get_task("run").command.endswith("the command")
    assert "0 not translated" in report
    assert "CRON_TZ is read as cronie reads it" in report


def test_the_systems_form_has_a_user_in_each_line(capsys, tmp_path: Path) -> None:
    folder = tmp_path / "cron.d"
    folder.mkdir()
    shutil.copy(CRONTABS / "system", folder)
    dags, report = imported(capsys, tmp_path / "dags", str(folder / "system"))
    users = {dag.get_task("run").user for dag in dags.values()}
    assert users == {"root", "www-data"}
    assert {dag.get_task("run").shell for dag in dags.values()} == {"/bin/bash"}
    task = next(dag.get_task("run") for dag in dags.values() if "mdadm" in dag.get_task("run").command)
    assert "$(date +%d)" in task.command
    assert "MAILTO has root, a mailbox of that machine" in report


def test_a_name_that_cron_ignores(capsys, tmp_path: Path) -> None:
    folder = tmp_path / "cron.d"
    folder.mkdir()
    shutil.copy(CRONTABS / "system", folder / "backup.old")
    _, report = imported(capsys, tmp_path / "dags", str(folder / "backup.old"))
    assert "Debian's cron ignores backup.old: the name of a file in /etc/cron.d may have no dot" in report


BAD = r"""
@reboot /opt/start
0 22-2 * * * /opt/a
61 * * * * /opt/b
* * * * /opt/c
* * * * *
0 0 31 2 * /opt/never
0 0 ? * MON#1 /opt/quartz
0 0 L * * /opt/last
*/0 * * * * /opt/d
OPEN="no end
CRON_TZ=Moon/Sea
0 1 * * * /opt/moon
CRON_TZ=UTC
@fortnightly /opt/e
* * * * * %only input
0 0 * * mon /opt/good
"""


def test_a_bad_line_does_not_end_the_rest(capsys, tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_text(BAD)
    assert main(["crontab", str(path), "--output", str(tmp_path / "dags")]) == 1
    lines = capsys.readouterr().out.splitlines()
    refused = {line.partition(":")[0]: line for line in lines if "not translated:" in line}
    assert len(refused) == 13
    assert "@reboot" in refused["line 2"]
    assert "cron refuses it, too" in refused["line 3"]
    assert "expected a number of 0-59" in refused["line 4"]
    assert "no command" in refused["line 6"]
    assert "never comes" in refused["line 7"]
    assert "Quartz" in refused["line 8"]
    assert "Quartz" in refused["line 9"]
    assert "a step of 1 or more" in refused["line 10"]
    assert "the quotes around the value of OPEN do not match" in refused["line 11"]
    assert "'Moon/Sea'" in refused["line 13"]
    assert [path.name for path in (tmp_path / "dags").iterdir()] == ["good.py"]
    assert lines[-1] == "1 translated, 0 translated with a difference, 13 not translated"


def test_a_file_that_is_there_stays(capsys, tmp_path: Path) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "poll.py").write_text("mine")
    path = tmp_path / "crontab"
    path.write_text("* * * * * /bin/poll\n5 * * * * /bin/poll\n")
    assert main(["crontab", str(path), "--output", str(folder)]) == 1
    assert (folder / "poll.py").read_text() == "mine"
    assert (folder / "poll_2.py").exists()
    assert "poll.py exists, and is left as it is" in capsys.readouterr().out


def test_nothing_in_a_line_becomes_code_or_a_template(capsys, tmp_path: Path) -> None:
    command = """echo '''"); import os; os.abort() # {{ 7 * 6 }} \\n é \udce9 """ + '"""' + " x.sh"
    path = tmp_path / "odd"
    path.write_bytes(
        f'X=\'""" + 1/0\n* * * * * {command}\n* * * * * {command}\'\n'.encode("utf-8", "surrogateescape")
    )
    dags, report = imported(capsys, tmp_path / "dags", str(path))
    assert [dag.get_task("run").command for dag in dags.values()] == [command, command + "'"]
    assert "line 1: not translated" in report
    assert report.isprintable() or set(filter(lambda c: not c.isprintable(), report)) == {"\n"}


def test_an_imported_command_runs_as_cron_runs_it(
    capsys, tmp_path: Path, run_dag: Callable, redis_client: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the user's home, with cron's environment alone, and with the input of the line."""
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "yes")
    out = tmp_path / "out"
    line = f"* * * * * (pwd; env | sort; cat; echo 50\\%) > {out}%one%two\n"
    (tmp_path / "crontab").write_text(f"HOME={tmp_path}\nNAME=a b\n{line}")
    dags, _ = imported(capsys, tmp_path / "dags", str(tmp_path / "crontab"))
    run = run_dag(dags[3])
    assert set(states(run).values()) == {"success"}
    lines = out.read_text().splitlines()
    assert lines[0] == str(tmp_path)
    assert lines[-3:] == ["one", "two", "50%"]
    names = {line.partition("=")[0] for line in lines[1:-3]} - {"_", "OLDPWD", "PWD", "SHLVL"}
    assert names == {"HOME", "LOGNAME", "NAME", "PATH", "SHELL", "USER"}
    assert "PATH=/usr/bin:/bin" in lines


ANACRONTAB = r"""
# See anacron(8) and anacrontab(5) for details.
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
RANDOM_DELAY=45
START_HOURS_RANGE=3-22
MAILTO=ops@example.com

1	5	cron.daily	nice run-parts \
  --report /etc/cron.daily
7	70	cron.weekly	nice run-parts /etc/cron.weekly
@monthly 45	cron.monthly	nice run-parts /etc/cron.monthly
3  10  every.third  echo 100% done
0  10  never  /opt/a
x  10  what  /opt/b
1  5  nothing
"""


def test_an_anacrontab(capsys, tmp_path: Path) -> None:
    """Each job at the first hour of the range plus its delay, and made up for as long as its period."""
    (tmp_path / "anacrontab").write_text(ANACRONTAB)
    arguments = ["anacrontab", str(tmp_path / "anacrontab"), "--timezone", BERLIN]
    assert main([*arguments, "--output", str(tmp_path / "dags")]) == 1
    report = capsys.readouterr().out
    bag = DagBag(str(tmp_path / "dags"))
    assert bag.import_errors == {}
    specs = {dag_id: str(dag.timetable.schedule) for dag_id, dag in bag.dags.items()}
    assert specs == {
        "cron_daily": f"CRON_TZ={BERLIN} 0 5 3 * * *",
        "cron_weekly": f"CRON_TZ={BERLIN} 0 10 4 * * 0",
        "cron_monthly": f"CRON_TZ={BERLIN} 0 45 3 1 * *",
        "every_third": "@every 3d",
    }
    rules = {dag_id: dag.timetable.schedule for dag_id, dag in bag.dags.items()}
    assert rules == {dag_id: parse(spec, dst="vixie") for dag_id, spec in specs.items()}
    assert "dst=" not in (tmp_path / "dags/every_third.py").read_text()
    graces = {dag_id: dag.timetable.missed_grace.days for dag_id, dag in bag.dags.items()}
    assert graces == {"cron_daily": 1, "cron_weekly": 7, "cron_monthly": 31, "every_third": 3}
    task = bag.dags["cron_daily"].get_task("run")
    assert (task.command, task.user) == ("nice run-parts   --report /etc/cron.daily", "root")
    assert set(task.env) == {"PATH"}
    assert bag.dags["every_third"].get_task("run").command == "echo 100% done"
    assert bag.dags["cron_daily"].notices.notify == (Notify(to=[Mail("ops@example.com")]),)
    assert "line 14: not translated: the period is '0'; expected 1 to 10000 days" in report
    assert "line 15: not translated: the period is 'x'" in report
    assert "line 16: not translated: there is no command" in report
    assert "RANDOM_DELAY=45 is not kept" in report
    assert "START_HOURS_RANGE=3-22 is the first hour only" in report
    assert "it runs on Sunday: anacron counts from the last run" in report
    assert "4 translated with a difference, 3 not translated" in report


def test_the_command_line_reads_the_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "iam_watcher.importer",
            "crontab",
            "-",
            "--output",
            "dags",
            "--prefix",
            "web1_",
        ],
        input="0 3 * * * /bin/true\n",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PLUGINS), "TZ": BERLIN},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("line 1: translated: dags/web1_true.py\n")
    assert "CRON_TZ=Europe/Berlin 0 3 * * *" in (tmp_path / "dags/web1_true.py").read_text()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("dkron", "{"),
        ("dkron", "[1]"),
        ("kubernetes", "a: [hunter22"),
        ("iam-watcher", "a: 1"),
        ("iam-watcher", "watcher: {clean: !!bool hunter22}"),
        ("kubernetes", "a: !!timestamp hunter22"),
    ],
)
def test_a_file_that_is_something_else(capsys, tmp_path: Path, source: str, text: str) -> None:
    path = tmp_path / "input"
    path.write_text(text)
    assert main([source, str(path), "--output", str(tmp_path / "dags")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{path}: ")
    assert "hunter22" not in error
    assert not (tmp_path / "dags").exists()
