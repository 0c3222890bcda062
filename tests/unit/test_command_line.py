"""`airflow iam-watcher …`, in the parser of Airflow's command line."""

from __future__ import annotations

import argparse

import pytest
from airflow._shared.module_loading import import_string
from airflow.cli import cli_parser

from iam_watcher.command_line import COMMANDS
from iam_watcher.provider_info import get_provider_info


def _run(parser: argparse.ArgumentParser, arguments: tuple[str, ...]) -> None:
    given = parser.parse_args(arguments)
    given.func(given)


@pytest.fixture
def airflow(capsys):
    """Return a function that does what a command line of Airflow says: its exit status and its output."""
    parser = argparse.ArgumentParser(prog="airflow")
    groups = parser.add_subparsers(dest="subcommand")
    for path in get_provider_info()["cli"]:
        for command in import_string(path)():
            cli_parser._add_command(groups, command)

    def call(*arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as info:
            _run(parser, arguments)
        printed = capsys.readouterr()
        return info.value.code, printed.out + printed.err

    return call


def test_schedule(airflow):
    options = ("--after", "2027-01-01", "--count", "1")
    expected = (0, "0 0 0 * * *: every day at 00:00:00 UTC\nSat 2027-01-02 00:00:00 +00:00 UTC\n")
    assert airflow("iam-watcher", "schedule", *options, "@daily") == expected
    assert airflow("iam-watcher", "schedule", "@daily", *options) == expected


def test_schedule_uses_the_time_zone_that_a_watcher_would_use(airflow, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Asia/Shanghai")
    daily = ("iam-watcher", "schedule", "@daily", "--count", "1", "--after", "2027-01-01")
    expected = "every day at 00:00:00 Asia/Shanghai\nSat 2027-01-02 00:00:00 +08:00 CST\n"
    assert airflow(*daily) == (0, f"CRON_TZ=Asia/Shanghai 0 0 0 * * *: {expected}")
    assert "00:00:00 +00:00 UTC" in airflow(*daily, "--timezone", "UTC")[1]


def test_an_error_is_the_exit_status(airflow):
    status, printed = airflow("iam-watcher", "schedule", "@evry 1d")
    assert status == 2
    assert "@evry 1d" in printed


def test_import(airflow, tmp_path):
    (tmp_path / "backup.cron").write_text("0 3 * * * make backup\n")
    options = ("--output", str(tmp_path / "dags"), "--timezone", "UTC")
    status, printed = airflow("iam-watcher", "import", "crontab", str(tmp_path / "backup.cron"), *options)
    assert (status, len(list((tmp_path / "dags").glob("*.py")))) == (0, 1), printed


def test_lock_takes_the_connection_before_and_after_the_command(airflow):
    for arguments in (("--redis-conn-id", "nowhere", "list"), ("list", "--redis-conn-id", "nowhere")):
        status, printed = airflow("iam-watcher", "lock", *arguments)
        assert status == 1
        assert "nowhere" in printed


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_help_has_the_arguments_of_the_program(airflow, name):
    status, printed = airflow("iam-watcher", name, "--help")
    assert status == 0
    arguments = {
        "doctor": "--redis-conn-id",
        "import": "crontab",
        "lock": "--redis-conn-id",
        "schedule": "--after",
    }
    assert arguments[name] in printed
