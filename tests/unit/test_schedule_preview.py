from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from iam_watcher.schedule.__main__ import main

PLUGINS = Path(__file__).parents[2] / "plugins"
NEW_YORK = ["--timezone", "America/New_York"]


def lines(capsys, *arguments: str) -> list[str]:
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_a_skipped_time(capsys):
    assert lines(capsys, "0 30 2 * * *", *NEW_YORK, "--count", "2", "--after", "2027-03-13T00:00:00Z") == [
        "CRON_TZ=America/New_York 0 30 2 * * *: every day at 02:30:00 America/New_York",
        "Sat 2027-03-13 02:30:00 -05:00 EST",
        "Sun 2027-03-14 02:30:00  skipped: the clock goes from 02:00:00 to 03:00:00; does not run",
        "Mon 2027-03-15 02:30:00 -04:00 EDT",
    ]


def test_a_skipped_time_as_vixie_cron(capsys):
    gap = "skipped: the clock goes from 02:00:00 to 03:00:00; runs right after"
    arguments = ["0 0/10 2 * * *", *NEW_YORK, "--dst", "vixie", "--count", "2"]
    assert lines(capsys, *arguments, "--after", "2027-03-13T07:45:00Z")[1:] == [
        "Sat 2027-03-13 02:50:00 -05:00 EST",
        "Sun 2027-03-14 02:00:00 to 02:50:00  " + gap,
        "Sun 2027-03-14 03:00:00 -04:00 EDT",
    ]


def test_the_end_of_a_gap_is_shown_by_the_clock(capsys):
    after = ["--count", "4", "--after", "2027-03-14T00:00:00-05:00"]
    found = lines(capsys, "0 0/30 2-3 * * *", *NEW_YORK, *after)
    assert [line.partition("  ")[0] for line in found[1:4]] == [
        "Sun 2027-03-14 02:00:00 to 02:30:00",
        "Sun 2027-03-14 03:00:00 -04:00 EDT",
        "Sun 2027-03-14 03:30:00 -04:00 EDT",
    ]


def test_all_skipped_times_of_a_gap(capsys):
    arguments = ["* * 2 * * *", *NEW_YORK, "--count", "1"]
    assert lines(capsys, *arguments, "--after", "2027-03-14T06:59:59Z")[1].startswith(
        "Sun 2027-03-14 02:00:00 to 02:59:59  skipped"
    )


def test_a_doubled_time(capsys):
    assert lines(capsys, "0 30 1 * * *", *NEW_YORK, "--count", "3", "--after", "2027-11-07T00:00:00Z")[
        1:
    ] == [
        "Sun 2027-11-07 01:30:00 -04:00 EDT  the clock shows this twice; the first time",
        "Sun 2027-11-07 01:30:00 -05:00 EST  the clock shows this twice; the second time",
        "Mon 2027-11-08 01:30:00 -05:00 EST",
    ]


def test_a_doubled_time_as_vixie_cron(capsys):
    arguments = ["0 30 1 * * *", *NEW_YORK, "--dst", "vixie", "--count", "2"]
    assert lines(capsys, *arguments, "--after", "2027-11-07T00:00:00Z")[1:] == [
        "Sun 2027-11-07 01:30:00 -04:00 EDT  the clock shows this twice; runs the first time only",
        "Mon 2027-11-08 01:30:00 -05:00 EST",
    ]


@pytest.mark.parametrize(
    ("spec", "last"),
    [
        ("@every 1d", "Sun 2027-01-03 00:00:00 +00:00 UTC"),
        ("@after 12h", "Sat 2027-01-02 00:00:00 +00:00 UTC"),
        ("@at 2026-01-01T00:00:00Z", "no further time"),
        ("0 0 0 30 2 *", "no further time"),
    ],
)
def test_other_kinds(capsys, spec, last):
    assert lines(capsys, spec, "--count", "2", "--after", "2027-01-01")[-1] == last


@pytest.mark.parametrize(
    ("after", "first"), [("2027-01-01T01:30+02:00", "Fri 2027-01-01"), ("2026-12-31T23:30", "Fri 2027-01-01")]
)
def test_a_time_has_the_offset_that_it_names_or_none(capsys, monkeypatch, after, first):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert lines(capsys, "@daily", "--count", "1", "--after", after)[1].startswith(f"{first} 00:00:00")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_bad_spec(capsys):
    assert main(["61 * * * *"]) == 2
    assert "minute: '61'; expected a number of 0-59" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--after", "0001-01-01T00:00:00+05:00"], "expected a time in the years 2 to 9998"),
        (["--after", "9999-12-31T23:59:59-12:00"], "expected a time in the years 2 to 9998"),
        (["--after", "9999-12-30"], "expected a time in the years 2 to 9998"),  # the preview didn't end
        (["--after", "soon"], "expected an ISO 8601 time"),
        (["--count", "-3"], "argument --count: '-3'; expected a whole number, 1 or more"),
        (["--count", "0"], "expected a whole number, 1 or more"),
        (["--count", "few"], "expected a whole number, 1 or more"),
    ],
)
def test_an_argument_that_cannot_be_meant(capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        main(["@daily", *arguments])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "spec", ["@daily", "@every 1h", "@at 2027-01-01T00:00:00Z", "@after 1h", "0 0 29 2 *"]
)
@pytest.mark.parametrize("after", ["0002-01-01T00:00:00+14:00", "9998-12-31T23:59:59-12:00"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
def test_the_first_and_the_last_time_after_which_it_prints(capsys, spec, after, zone):
    assert len(lines(capsys, spec, "--timezone", zone, "--after", after)) > 1


def test_a_value_that_the_dag_id_decides(capsys):
    arguments = ["@daily~", "--dag-id", "clean_policy_audit", "--count", "2", "--after", "2027-01-01"]
    assert lines(capsys, *arguments) == [
        "@daily~ of clean_policy_audit is 6 33 17 * * *: every day at 17:33:06 UTC",
        "Fri 2027-01-01 17:33:06 +00:00 UTC",
        "Sat 2027-01-02 17:33:06 +00:00 UTC",
    ]
    assert main(["@daily~"]) == 2
    assert "on the command line: --dag-id" in capsys.readouterr().err
    assert lines(capsys, "@daily", "--dag-id", "clean")[0] == "0 0 0 * * *: every day at 00:00:00 UTC"


def test_as_a_command_without_airflow():
    # The module that blocks the import proves that neither Airflow nor pendulum is needed.
    block = "import sys; sys.modules['airflow'] = sys.modules['pendulum'] = None; import runpy; "
    run = "sys.argv = ['schedule', '@daily']; runpy.run_module('iam_watcher.schedule', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", block + run],
        env={**os.environ, "PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 0 0 * * *: every day at 00:00:00 UTC\n")
    assert len(done.stdout.splitlines()) == 6


def test_the_page_shows_what_the_command_prints(capsys):
    page = (PLUGINS.parent / "docs" / "schedules.md").read_text()
    consoles = [part.partition("\n```")[0] for part in page.split("```console\n")[1:]]
    assert len(consoles) == 2
    for console in consoles:
        command, *printed = console.splitlines()
        arguments = shlex.split(command.partition("iam_watcher.schedule ")[2])
        assert lines(capsys, *arguments) == printed
        assert len(printed) >= 3
