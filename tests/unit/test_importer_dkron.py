"""What the importer keeps of a job of dkron, and what it reports as a difference."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from iam_watcher.importer import dkron
from iam_watcher.importer.job import Call, Job, Refused


def entries(*jobs: dict[str, Any], **arguments: Any) -> list[Job | Refused]:
    return dkron.read(json.dumps(jobs), "jobs.json", "UTC", **arguments).entries


def job(config: dict[str, Any], executor: str = "shell", **more: Any) -> dict[str, Any]:
    shown = {"name": "job", "schedule": "@daily", "concurrency": "forbid"}
    return {**shown, "executor": executor, "executor_config": config, **more}


def translated(config: dict[str, Any], executor: str = "shell") -> Job:
    entry = entries(job(config, executor))[0]
    assert isinstance(entry, Job), entry
    return entry


def command_of(config: dict[str, Any]) -> str:
    found = translated(config)
    assert found.task is not None
    return str(found.task.arguments["command"])


def reason(config: dict[str, Any], executor: str = "shell") -> str:
    entry = entries(job(config, executor))[0]
    assert isinstance(entry, Refused), entry
    return entry.reason


@pytest.mark.parametrize("name", ["@daily", "@hourly", "@weekly"])
def test_dkron_ignores_the_time_zone_of_a_named_schedule(name: str) -> None:
    config = {"command": "x"}
    entry = entries(job(config, schedule=name, timezone="Asia/Kolkata"))[0]
    assert isinstance(entry, Job), entry
    assert entry.watcher["schedule"] == f"CRON_TZ=UTC {name}"
    assert entry.differences == (
        f"timezone Asia/Kolkata: dkron ignores it for {name}, and so does the watcher",
    )
    cron = job(config, schedule="0 0 0 * * *", timezone="Asia/Kolkata")
    same = [job(config, schedule=name, timezone="UTC"), job(config, schedule="@every 1h", timezone="UTC")]
    found = [entry for entry in entries(cron, *same) if isinstance(entry, Job)]
    assert [one.watcher["schedule"] for one in found] == [
        "CRON_TZ=Asia/Kolkata 0 0 0 * * *",
        f"CRON_TZ=UTC {name}",
        "@every 1h",
    ]
    assert [text for one in found for text in one.differences if "timezone" in text] == []


def test_each_difference_is_reported_once() -> None:
    found = translated({"url": "https://x", "headers": '["Authorization: Bearer x"]'}, "http")
    (difference,) = [text for text in found.differences if "Authorization" in text]
    assert difference.startswith("Authorization is in the DAG file now")


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def test_the_payload_is_the_standard_input() -> None:
    found = translated({"command": "mail bob", "payload": encoded("grüße\n".encode())})
    assert found.task is not None
    assert found.task.arguments["stdin"] == "grüße\n"
    assert found.differences == ()


def test_a_secret_in_the_payload_is_reported() -> None:
    found = translated({"command": "mysql", "payload": encoded(b"SET PASSWORD = 'hunter2'")})
    assert found.differences[0].startswith("the standard input has what looks like a secret (PASSWORD)")
    assert "hunter2" not in str(found.differences)


@pytest.mark.parametrize("payload", ["hunter2!", "aGk", encoded(b"\xff\xfe"), encoded(b"a\0b"), "é"])
def test_a_payload_that_is_no_text(payload: str) -> None:
    text = reason({"command": "mail bob", "payload": payload})
    assert text == "its payload is not UTF-8 text in base64: write the watcher by hand"


@pytest.mark.parametrize(
    ("executor", "config"),
    [
        ("shell", {"command": "x", "mem_limit": "1GB"}),
        ("http", {"url": "https://x", "tlsCertificateFile": "a"}),
    ],
)
def test_an_unknown_key_is_reported(executor: str, config: dict[str, Any]) -> None:
    found = translated({**config, "project": "web", "unset": ""}, executor)
    kept_not = [text for text in found.differences if text.startswith("not kept: ")]
    assert kept_not == [f"not kept: {key} of executor_config" for key in (list(config)[1], "project")]


def test_the_user_and_the_group_of_su() -> None:
    found = translated({"command": "x", "su": "backup:www"})
    assert found.task is not None
    assert found.task.arguments["user"] == "backup"
    assert found.differences == (
        "the worker runs it by sudo as backup: allow that on each worker",
        "not kept: the group www of su: the command runs in backup's groups",
    )
    assert reason({"command": "x", "su": ":www"}).startswith("su is ':www'; expected a user")


@pytest.mark.parametrize(
    ("command", "character"),
    [
        ("backup --all > /dev/null 2>&1", ">"),
        ("sort < /x", "<"),
        ("/bin/a; /bin/b", ";"),
        ("/bin/a && /bin/b", "&"),
        ("/bin/a|/bin/b", "|"),
        ("echo (a", "("),
        ("echo a)", ")"),
        ("echo $(date)", "("),
        ("echo `date`", "`"),
        (r"echo a\ b", "backslash"),
        (r'printf "it' + "'" + r's \n" ' + "'x'", "backslash"),
    ],
)
def test_a_command_that_dkron_reads_in_another_way(command: str, character: str) -> None:
    text = reason({"command": command})
    assert text.startswith(f"its command has an unquoted {character}, which"), text
    assert 'set "shell": "true"' in text
    assert command_of({"command": command, "shell": "true"}) == command


def test_a_command_without_a_shell() -> None:
    command = r"""report 'a;b' "c|d 'e' <>&()`" 'f\n"' '' $HOME"""
    assert command_of({"command": command}) == r"""report 'a;b' 'c|d '"'"'e'"'"' <>&()`' 'f\n"' '' '$HOME'"""


@pytest.mark.parametrize("value", ["true", "TRUE", "True", "t", "T", "1"])
def test_what_dkron_takes_for_true(value: str) -> None:
    assert command_of({"command": "a | b", "shell": value}) == "a | b"


def assets_of(*entries: Job | Refused) -> list[str]:
    calls = [
        call
        for entry in entries
        if isinstance(entry, Job) and entry.task is not None
        for call in (*(entry.watcher["schedule"] or ()), *entry.task.arguments.get("outlets", ()))
        if isinstance(call, Call)
    ]
    return [call.arguments[""] for call in calls]


def test_the_prefix_is_in_the_name_of_an_asset() -> None:
    """So that the jobs of two dkrons don't start each other."""
    parent = job({"command": "x"}, name="load")
    child = job({"command": "x"}, name="report", parent_job="load")
    found = entries(parent, child, prefix="web1_")
    assert assets_of(*found) == ["web1_dkron-job-load"] * 2
    assert [entry.differences for entry in found if isinstance(entry, Job)] == [(), ()]


@pytest.mark.parametrize("others", [[], [job({}, "kafka", name="load")]])
def test_a_parent_without_a_watcher(others: list[dict[str, Any]]) -> None:
    child = entries(*others, job({"command": "x"}, parent_job="load"))[-1]
    assert isinstance(child, Job)
    assert child.differences == (
        "parent_job 'load' has no watcher here: runs start when a task updates 'dkron-job-load'",
    )
