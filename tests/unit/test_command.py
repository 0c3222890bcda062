"""CommandOperator: a command as cron runs it, and its end."""

from __future__ import annotations

import getpass
import os
import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from dev.sessions import wait_until
from iam_watcher.errors import CommandFailed, JobArgumentError
from iam_watcher.jobs import command
from iam_watcher.jobs.command import CommandOperator

if TYPE_CHECKING:
    from pathlib import Path


LIMIT = timedelta(seconds=90)


def run(**arguments: Any) -> str:
    return CommandOperator(task_id="run", **arguments).execute({})


def test_it_returns_the_last_line() -> None:
    assert run(command="echo one; echo two") == "two"


def test_a_command_that_fails() -> None:
    with pytest.raises(CommandFailed, match="exit status 3"):
        run(command="exit 3")
    with pytest.raises(CommandFailed, match="exit status 4"):
        run(command="cat >/dev/null; exit 4", stdin="x")


def test_it_has_no_input_unless_given_one() -> None:
    assert run(command="cat; echo end") == "end"
    assert run(command="cat", stdin="a\nb") == "b"


def test_templates_and_the_end_of_a_name_mean_nothing() -> None:
    assert CommandOperator.template_fields == ()
    assert run(command="echo {{ x }} y.sh") == "{{ x }} y.sh"


def test_its_environment_folder_and_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_WORKER", "1")
    assert run(command="echo $OF_THE_WORKER-$A-$PATH", env={"A": "2"}) == "-2-/usr/bin:/bin"
    assert run(command="echo $PATH", env={"PATH": "/bin"}) == "/bin"
    assert run(command="pwd; echo $USER") == getpass.getuser()
    assert run(command="pwd") == os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111  as the shell has it
    assert run(command="pwd", cwd=str(tmp_path)) == str(tmp_path)
    assert run(command="pwd", env={"HOME": str(tmp_path)}) == str(tmp_path)
    assert run(command="echo ${BASH_VERSION:+bash}", shell="/bin/bash") == "bash"  # noqa: S604  its name
    with pytest.raises(CommandFailed):
        run(command="pwd", cwd=str(tmp_path / "missing"))


def test_another_user_by_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sudo that only shows what it is asked for: variables are in its environment alone."""
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "$HOME $LOGNAME $TOKEN_LENGTH" "$*"\n')
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(command, "SUDO", str(sudo))
    shown = run(command="x", user="nobody", env={"TOKEN_LENGTH": "abc"})
    assert shown.startswith(
        "/nonexistent nobody abc --non-interactive --user=nobody "
        "--preserve-env=HOME,LOGNAME,PATH,SHELL,TOKEN_LENGTH,USER -- /bin/sh -c "
    )
    assert " -- timeout --kill-after=3 90 " in run(command="x", user="nobody", execution_timeout=LIMIT)
    assert run(command="echo me", user=getpass.getuser()) == "me"


def test_a_user_that_the_machine_does_not_have() -> None:
    with pytest.raises(AirflowFailException, match="no user 'no-such-user'"):
        run(command="x", user="no-such-user")


FILLED = "expected a text that is not empty, without NUL characters"
TEXT = "expected a text without NUL characters"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"command": ""}, f"command=''; {FILLED}"),
        ({"command": "a\0b"}, f"command='a\\x00b'; {FILLED}"),
        ({"command": None}, f"command=None; {FILLED}"),
        ({"shell": ""}, f"shell=''; {FILLED}"),
        ({"user": ""}, f"user=''; {FILLED}"),
        ({"cwd": 1}, f"cwd=1; {TEXT}"),
        ({"stdin": None}, f"stdin=None; {TEXT}"),
        ({"env": ["A=1"]}, "env is a list that is not valid"),
        ({"env": 5}, "env is 5; expected a dict of texts"),
        ({"env": {"A": 1}}, f"'A' in env is 1; {TEXT}"),
        ({"env": {"cwd": None}}, f"'cwd' in env is None; {TEXT}"),
        ({"command": "", "env": {"command": "x"}}, f"command=''; {FILLED}"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(JobArgumentError, match=re.escape(message)):
        CommandOperator(**{"task_id": "run", "command": "x", **arguments})


def test_a_value_of_a_variable_is_not_shown() -> None:
    with pytest.raises(JobArgumentError) as refused:
        CommandOperator(task_id="run", command="x", env={"TOKEN": "hidden\0"})
    assert "hidden" not in str(refused.value)


def test_a_variable_may_have_the_name_of_an_argument() -> None:
    assert run(command="echo $user-$shell", env={"user": "", "shell": ""}) == "-"


@pytest.mark.parametrize("stdin", ["", "x"])
def test_its_end_is_the_end_of_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stdin: str
) -> None:
    """Also of what ignores SIGTERM."""
    monkeypatch.setattr(command, "_GRACE", 0.2)
    pids = tmp_path / "pids"
    text = f"trap '' TERM; sleep 60 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait; sleep 60"
    operator = CommandOperator(task_id="run", command=text, stdin=stdin)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            operator.execute({})
        except CommandFailed as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert wait_until(pids.exists, 10)
    operator.on_kill()
    thread.join(10)
    assert not thread.is_alive()
    assert failed
    assert wait_until(lambda: not any(_is_alive(int(pid)) for pid in pids.read_text().split()), 10)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_end_before_the_beginning() -> None:
    CommandOperator(task_id="run", command="x").on_kill()
