"""Runs a shell command as cron does: as one user, in a home directory, with only the environment it names.

Airflow's own BashOperator is the better choice for a new command. It renders templates in the command, gives
it the environment of the worker, and runs it with bash in a temporary directory. A command that was written
for a crontab can depend on the opposite of each.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from iam_watcher.arguments import unless_secret
from iam_watcher.errors import CommandFailed, JobArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.standard.hooks.subprocess import SubprocessHook
    from airflow.sdk import Context

PATH = "/usr/bin:/bin"  # cron's
SUDO = "sudo"
_SHELL = "/bin/sh"
_GRACE = 3  # seconds from SIGTERM to SIGKILL; Airflow gives a task 5 s in all
# $1 the shell, $2 the command, $3 HOME, $4 PATH, $5 the folder, $6 the input. sudo replaces HOME and PATH.
_BEGIN = 'HOME=$3 PATH=$4; export HOME PATH; cd "${5:-$3}" || exit; '
_WITHOUT_INPUT = _BEGIN + 'exec "$1" -c "$2" </dev/null'
_WITH_INPUT = _BEGIN + 'printf %s "$6" | "$1" -c "$2"'


class CommandOperator(BaseOperator):
    """Runs a shell command as cron does.

    The environment has HOME, LOGNAME, USER, SHELL, PATH and the variables of `env`, and no variable of the
    worker. The command is not a template. The task fails if the exit status is not 0. A time-out
    (`execution_timeout`) and "mark failed" end the command and the processes that it started: with SIGTERM,
    and with SIGKILL 3 s later.

    Args:
        command: the text for the shell.
        shell: the program that runs the text, with `-c`.
        user: the user of the command. Default: the user of the Airflow worker. For another user, the worker
            calls `sudo`, which needs a rule such as `airflow ALL=(backup) NOPASSWD:SETENV: ALL`. Unless the
            worker is root, only a time-out ends such a command, and "mark failed" does not.
        env: variables for the command. PATH is `/usr/bin:/bin` unless `env` has it.
        cwd: the working directory of the command. Default: the user's home directory.
        stdin: text for the standard input of the command. Default: no input.

    Raises:
        JobArgumentError: an argument, or a value of `env`, is not a text or has a NUL character; or the
            command, the shell or the user is empty.
    """

    template_fields: Sequence[str] = ()

    def __init__(
        self,
        *,
        command: str,
        shell: str = _SHELL,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: str = "",
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        given = {"command": command, "shell": shell, "user": user, "cwd": cwd, "stdin": stdin}
        for name, value in given.items():
            optional = value is None and name in ("user", "cwd")
            filled = name in ("command", "shell", "user")
            if not optional and (not _is_text(value) or (filled and not value)):
                expected = "a text that is not empty," if filled else "a text"
                raise JobArgumentError(f"{name}={value!r}; expected {expected} without NUL characters")
        if not isinstance(env, Mapping | None):
            raise JobArgumentError(f"env is {unless_secret(env)}; expected a dict of texts")
        for name, value in (env or {}).items():
            if not _is_text(value):
                raise JobArgumentError(
                    f"{name!r} in env is {unless_secret(value)}; expected a text without NUL characters"
                )
        self.command = command
        self.shell = shell
        self.user = user
        self.env = dict(env or {})
        self.cwd = cwd
        self.stdin = stdin
        self._hook: SubprocessHook | None = None

    def execute(self, context: Context) -> str:  # noqa: ARG002  the interface
        """Run the command.

        Returns:
            The last line that it printed.

        Raises:
            AirflowFailException: this machine has no such user.
            CommandFailed: the exit status is not 0.
        """
        from airflow.providers.standard.hooks.subprocess import SubprocessHook

        environment = self._environment()
        self._hook = SubprocessHook()
        try:
            result = self._hook.run_command(self._arguments(environment), env=environment)
        except BaseException:  # A time-out, too. The hook leaves the process and its output open.
            self.on_kill()
            if self._hook.sub_process and self._hook.sub_process.stdout:
                self._hook.sub_process.stdout.close()
            raise
        finally:
            self._hook = None
        if result.exit_code:
            raise CommandFailed(f"exit status {result.exit_code}; the log has what it printed")
        return str(result.output)

    def on_kill(self) -> None:
        """End the command and every process that it started and left in its group."""
        process = self._hook.sub_process if self._hook else None
        if process is None:
            return
        for ending in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, ending)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)

    def _environment(self) -> dict[str, str]:
        try:
            account = pwd.getpwnam(self.user) if self.user else pwd.getpwuid(os.getuid())
        except KeyError:
            raise AirflowFailException(
                f"This worker has no user {self.user or os.getuid()!r}. Create the user on each worker, or "
                "remove user= from the DAG file"
            ) from None
        own = {"HOME": account.pw_dir, "SHELL": self.shell, "PATH": PATH}
        return {**own, **self.env, "LOGNAME": account.pw_name, "USER": account.pw_name}

    def _arguments(self, environment: Mapping[str, str]) -> list[str]:
        arguments = [_SHELL, "-c", _WITH_INPUT if self.stdin else _WITHOUT_INPUT, "command", self.shell]
        arguments += [self.command, environment["HOME"], environment["PATH"], self.cwd or "", self.stdin]
        if environment["LOGNAME"] == pwd.getpwuid(os.getuid()).pw_name:
            return arguments
        if self.execution_timeout is not None:
            # What sudo runs for another user gets no signal from a worker that is not root.
            seconds = f"{self.execution_timeout.total_seconds():g}"
            arguments = ["timeout", f"--kill-after={_GRACE}", seconds, *arguments]
        keep = ",".join(sorted(environment))
        return [
            SUDO,
            "--non-interactive",
            f"--user={self.user}",
            f"--preserve-env={keep}",
            "--",
            *arguments,
        ]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
