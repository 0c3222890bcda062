"""A job with values of wrong types ends neither the import nor the other jobs."""

from __future__ import annotations

import ast
import copy
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from iam_watcher.importer.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES = [
    *(None, True, False, 0, 5, -1, 10**18, -(10**18), 1.5, math.inf, math.nan, 16**5000),
    *("", " ", "x", "30s", "-5", "inf", "nan", "1e400", "9" * 5000, "a\0b", "[", "5\n5", "é"),
    *([], ["a"], [5], [None], [[]], [{}], {}, {"a": "b"}, {5: 6}, {"name": ["a"]}, {None: None}),
]
HTTP = {
    "method": "GET",
    "url": "https://x",
    "headers": '["A: b"]',
    "body": "x",
    "timeout": "5",
    "expectCode": "200",
    "expectBody": "x",
    "tlsNoVerifyPeer": "true",
}
SHELL = {
    "command": "x y",
    "shell": "true",
    "env": "A=b",
    "mem_limit": "1",
    "su": "bob",
    "cwd": "/x",
    "timeout": "9s",
}
DKRON = {
    "name": "odd",
    "timezone": "UTC",
    "schedule": "@every 10m",
    "concurrency": "allow",
    "retries": 1,
    "disabled": False,
    "ephemeral": False,
    "expires_at": "2030-01-01T00:00:00Z",
    "processors": {"log": {}},
    "starts_at": "2027-01-01T00:00:00Z",
    "owner_email": "a@example.com",
    "metadata": {"a": "b"},
    "tags": {"a": "b"},
    "parent_job": "",
    "dependent_jobs": None,
}
GOOD_DKRON = {
    "name": "good",
    "schedule": "@daily",
    "executor": "shell",
    "executor_config": {"command": "x"},
}
CONTAINER = {"image": "x", "command": ["x"], "args": ["y"], "env": [{"name": "A", "value": "b"}]}
JOB = {
    "backoffLimit": 1,
    "activeDeadlineSeconds": 5,
    "template": {"spec": {"containers": [CONTAINER]}},
}
CRON_JOB = {
    "kind": "CronJob",
    "metadata": {"name": "odd"},
    "spec": {
        "schedule": "@daily",
        "timeZone": "UTC",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 5,
        "suspend": False,
        "jobTemplate": {"spec": JOB},
    },
}
GOOD_CRON_JOB = {**CRON_JOB, "metadata": {"name": "good"}}
CASES = {
    "shell": ("dkron", {**DKRON, "executor": "shell", "executor_config": SHELL}, GOOD_DKRON),
    "http": ("dkron", {**DKRON, "executor": "http", "executor_config": HTTP}, GOOD_DKRON),
    "CronJob": ("kubernetes", CRON_JOB, GOOD_CRON_JOB),
    "List": ("kubernetes", {"kind": "List", "items": [CRON_JOB]}, GOOD_CRON_JOB),
}


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value inside, and of the whole."""
    yield path
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield from places(data[key], (*path, key))


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    found = copy.copy(data)
    found[path[0]] = with_value(data[path[0]], path[1:], value)
    return found


def imported(capsys, monkeypatch, tmp_path: Path, source: str, jobs: list[Any]) -> tuple[list[str], str, int]:
    """The files' names, the report, and the exit code."""
    # YAML has no notation for some of the values, such as a number of 5000 digits.
    documents = [jobs] if source == "dkron" else jobs
    monkeypatch.setattr(f"iam_watcher.importer.{source}.documents", lambda _: copy.deepcopy(documents))
    (tmp_path / "input").write_text("")
    code = main([source, str(tmp_path / "input"), "--output", str(tmp_path / "dags")])
    files = sorted((tmp_path / "dags").iterdir())
    for file in files:
        ast.parse(file.read_text())
    return [file.name for file in files], capsys.readouterr().out, code


@pytest.mark.parametrize(
    ("case", "path"),
    [(case, path) for case, (_, job, _) in CASES.items() for path in places(job)],
    ids=lambda one: one if isinstance(one, str) else ".".join(map(str, one)),
)
def test_a_value_of_a_wrong_type(
    capsys, monkeypatch, tmp_path: Path, case: str, path: tuple[Any, ...]
) -> None:
    source, job, good = CASES[case]
    odd = [with_value(job, path, value) for value in VALUES]
    files, report, code = imported(capsys, monkeypatch, tmp_path, source, [*odd, good])
    assert "good.py" in files
    assert code == ("not translated:" in report)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("timeout", "30s", "timeout is '30s'; expected a number over 0, at most 3153600000"),
        ("timeout", "inf", "timeout is 'inf'; expected a number over 0"),
        ("timeout", "nan", "timeout is 'nan'; expected a number over 0"),
        ("timeout", "0", "timeout is '0'; expected a number over 0"),
        ("headers", '{"Authorization": "hunter2"}', "headers is something else than a list of texts as JSON"),
        ("url", ["https://u:hunter2@host"], "url is a list; expected a text"),
        ("expectBody", "a{99999999999}", "expectBody 'a{99999999999}' is no regular expression"),
        ("body", "a\0b", "body has a NUL character"),
    ],
)
def test_an_http_job_of_dkron(capsys, tmp_path: Path, key: str, value: Any, reason: str) -> None:
    odd = {**GOOD_DKRON, "name": "odd", "executor": "http", "executor_config": {**HTTP, key: value}}
    (tmp_path / "input").write_text(json.dumps([odd, GOOD_DKRON]))
    assert main(["dkron", str(tmp_path / "input"), "--output", str(tmp_path / "dags")]) == 1
    report = capsys.readouterr().out
    assert f"job 1 ('odd'): not translated: {reason}" in report
    assert "hunter2" not in report
    assert [path.name for path in (tmp_path / "dags").iterdir()] == ["good.py"]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (
            {**GOOD_DKRON, "name": "odd", "retries": -1},
            "('odd'): not translated: retries is -1; expected 0 to",
        ),
        ({**GOOD_DKRON, "name": "odd", "parent_job": ["a"]}, "('odd'): not translated: parent_job is a list"),
        ({**GOOD_DKRON, "name": ["a"]}, "not translated: name is a list; expected a text"),
        ({**GOOD_DKRON, "executor_config": {5: 6}}, "executor_config has the key 5; expected a text"),
        (5, "not translated: it is no mapping"),
    ],
)
def test_a_job_of_dkron(capsys, tmp_path: Path, odd: Any, reason: str) -> None:
    (tmp_path / "input").write_text(yaml.safe_dump([odd, GOOD_DKRON]))
    assert main(["dkron", str(tmp_path / "input"), "--output", str(tmp_path / "dags")]) == 1
    assert reason in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "dags").iterdir()] == ["good.py"]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("spec", "startingDeadlineSeconds"), 10**18, "is 1000000000000000000; expected 0 to 3153600000"),
        (("spec", "startingDeadlineSeconds"), -5, "startingDeadlineSeconds is -5; expected 0 to"),
        (("spec", "jobTemplate", "spec", "backoffLimit"), -1, "backoffLimit is -1; expected 0 to 2147483647"),
        (("spec", "jobTemplate", "spec", "activeDeadlineSeconds"), -1, "activeDeadlineSeconds is -1"),
        (
            ("spec", "jobTemplate", "spec", "template", "spec", "containers", 0, "env"),
            5,
            "env is 5; expected",
        ),
        (("metadata",), ["odd"], "metadata is a list; expected a mapping"),
        ((), {"kind": "CronJobList", "items": 5}, "not translated: items is 5; expected a list"),
        ((), 5, "not translated: it is a whole number, not a CronJob"),
        ((), {"items": []}, "not translated: it has no kind"),
    ],
)
def test_a_cronjob(capsys, tmp_path: Path, path: tuple[Any, ...], value: Any, reason: str) -> None:
    odd = with_value(CRON_JOB, path, value)
    (tmp_path / "input").write_text(yaml.dump_all([odd, GOOD_CRON_JOB]))
    assert main(["kubernetes", str(tmp_path / "input"), "--output", str(tmp_path / "dags")]) == 1
    assert reason in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "dags").iterdir()] == ["good.py"]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}")
def test_a_block_of_the_go_iam_watcher(capsys, monkeypatch, tmp_path: Path, value: Any) -> None:
    for block in (value, {"max-reserve-days": value}):
        settings = {"watcher": {"clean": block, "task": {"max-inactive-days": 9}}}
        monkeypatch.setattr("iam_watcher.importer.go_watcher.documents", lambda _, data=settings: [data])
        (tmp_path / "input").write_text("")
        folder = tmp_path / ("block" if block is value else "days")
        main(["iam-watcher", str(tmp_path / "input"), "--output", str(folder)])
        assert "disable_inactive_users.py" in [path.name for path in folder.iterdir()]
    capsys.readouterr()


@pytest.mark.parametrize("field", ["9" * 5000, f"*/{'9' * 5000}", f"1-{'9' * 5000}", f"~{'9' * 5000}"])
def test_a_line_of_a_crontab_with_a_long_number(capsys, tmp_path: Path, field: str) -> None:
    (tmp_path / "input").write_text(f"{field} * * * * odd\n@daily good\n")
    assert main(["crontab", str(tmp_path / "input"), "--output", str(tmp_path / "dags")]) == 1
    assert "line 1: not translated: minute" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "dags").iterdir()] == ["good.py"]
