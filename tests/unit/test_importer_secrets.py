"""No password of a command becomes a part of a DAG id, and the report says which commands have one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iam_watcher.importer import names
from iam_watcher.importer.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

LOOKS = "looks like a secret"
# A command, its name, and what looks like a secret in it.
COMMANDS = [
    ("mysqldump -uroot -pS3cretPw db", "mysqldump", "-p…"),
    ("mariadb-dump -u root -p'a b' db > /x", "mariadb_dump", "-p…"),
    ("curl -u admin:hunter2 https://x/y", "curl", "-u user:…"),
    ("curl -uadmin:hunter2 https://x/y", "curl", "-u user:…"),
    ("curl --user admin:hunter2 https://x/y", "curl", "-u user:…"),
    ("curl https://user:pw@host", "curl", "user:…@"),
    ("git push https://ghp_abc@host/x", "git_push", "user:…@"),
    ("wget 'https://x/?a=1&token=abc'", "wget", "token"),
    ("curl -H 'Authorization: Bearer abc' https://x", "curl", "Authorization"),
    ("""curl -d '{"password": "abc"}' https://x""", "curl", "password"),
    ("sync_users --password hunter2 now", "sync_users", "--password"),
    ("sync_users full --api-key=hunter2", "sync_users_full", "--api-key"),
    ("openssl enc -passin pass:hunter2", "openssl_enc", "-passin, pass"),
    ("sshpass -p hunter2 rsync a b", "sshpass", "-p…"),
    ("redis-cli -a hunter2 ping", "redis_cli", "-a…"),
    ("PGPASSWORD=hunter2 pg_dump db", "pg_dump_db", "PGPASSWORD"),
    ("DB_TOKEN='my pass word' dump db", "dump_db", "DB_TOKEN"),
    ("export PGPASSWORD='a;hunter2'; pg_dump db", "pg_dump_db", "PGPASSWORD"),
    ("vault put x API_KEY=hunter2", "vault_put_x", "API_KEY"),
    ("""sh -c "mysqldump -pS3cretPw db" """, "sh", "-p…"),
    ("ssh host 'curl -u admin:hunter2 x'", "ssh_host", "-u user:…"),
    ("/opt/x `mysql -pS3cretPw db` y", "x", "-p…"),
    ("/opt/x $(a (b) -c mysql://u:hunter2@h)", "x", "user:…@"),
    ("sudo -u bob mysqldump -pS3cretPw db", "mysqldump", "-p…"),
    ("flock -w 5 /tmp/l -c 'mysql -pS3cretPw'", "flock", "-p…"),
]
# A command without such a word, and its name.
PLAIN = [
    ("mysql -p db", "mysql"),
    ('mysql -p"$PASSWORD" db', "mysql"),
    ('mysql -p"$(cat /etc/pw "x y")" db', "mysql"),
    ("restic --password-file /etc/pw backup", "restic"),
    ("pg_dump --no-password db", "pg_dump"),
    ("openssl enc -passin file:/x", "openssl_enc"),
    ("docker run -u 1000:1000 img", "docker_run"),
    ("date -u +%H:%M", "date"),
    ("mysql -uroot a:b", "mysql"),
    ("lynx mailto:ops@example.com", "lynx"),
    ("rsync /srv backup@host:/srv", "rsync_srv"),
    ("php artisan queue:work", "php_artisan_queue_work"),
    ("rsync -u backup:/data /x", "rsync"),
    ("redis-cli AUTH hunter2", "redis_cli"),
    ("echo hunter2 | passwd --stdin bob", "passwd"),
    ("echo hunter2", "echo"),
    ("cat <<< hunter2", "cat"),
    ("/opt/x 'unfinished hunter2", "x"),
    ("/opt/x # hunter2", "x"),
    ("sudo -nu bob nice -n 10 timeout -s KILL 30 /opt/x y", "x_y"),
    ("/usr/bin/env A=1 /opt/x y", "x_y"),
    ("sudo -l", "sudo"),
    ("sudo --user bob -- /opt/x y", "x_y"),
    ("test -x /a || { cd / && run-parts --report /b; }", "run_parts"),
    ("if [ -x /a ] && [ $(date +%d) -le 7 ]; then /opt/check all; fi", "check_all"),
    ("command -v check > /dev/null && check 1 1", "check_1_1"),
    ("A=hunter2", "job"),
    ("${HOME}/bin/x all", "x_all"),
    ("2>/dev/null /opt/x\\\n y", "x_y"),
]


def imported(capsys, tmp_path: Path, source: str, text: str, *more: str) -> tuple[dict[str, str], str]:
    (tmp_path / "input").write_text(text)
    main([source, str(tmp_path / "input"), "--output", str(tmp_path / "dags"), *more])
    return {path.stem: path.read_text() for path in (tmp_path / "dags").iterdir()}, capsys.readouterr().out


@pytest.mark.parametrize(("command", "name", "shown"), COMMANDS)
def test_a_command_with_a_secret(capsys, tmp_path: Path, command: str, name: str, shown: str) -> None:
    line = command.replace("%", r"\%")
    files, report = imported(capsys, tmp_path, "crontab", f"@daily {line}\n")
    assert list(files) == [name]
    assert f"the command has what {LOOKS} ({shown})" in report
    for secret in ("hunter2", "s3cretpw", "ghp_abc", "pass word"):
        assert secret not in report.lower()


@pytest.mark.parametrize(("command", "name"), PLAIN)
def test_a_command_without_one(command: str, name: str) -> None:
    assert names.of_command(command) == name


@pytest.mark.parametrize("command", [command for command, _ in PLAIN if "hunter2" not in command])
def test_a_command_that_has_none_is_not_reported(capsys, tmp_path: Path, command: str) -> None:
    line = command.replace("%", r"\%").replace("\n", "")
    assert LOOKS not in imported(capsys, tmp_path, "crontab", f"@daily {line}\n")[1]


@given(
    before=st.sampled_from(["", "A='b c' ", "cd /x && ", "sudo -u bob ", "nice -n 5 ", 'X="$(get "a b")" ']),
    option=st.sampled_from(["-p", "-p ", "--password=", "--password ", "-u admin:", "https://u:", "KEY="]),
    quote=st.sampled_from(["'", '"']),
    value=st.text(st.sampled_from("Zz19 ;&|(){}<>#!@:/=%-"), max_size=8),
)
def test_no_value_of_an_option_is_in_a_name(before: str, option: str, quote: str, value: str) -> None:
    """Whatever the characters of a password are, the shell's own ones included."""
    command = f"{before}/opt/run all {option}{quote}zq{value}zq{quote} more@host"
    assert names.of_command(command) == "run_all"


def test_the_standard_input_and_a_variable_with_a_url(capsys, tmp_path: Path) -> None:
    text = "DATABASE=postgres://u:hunter2@host/db\n@daily mysql%SET PASSWORD = 'hunter2'\n"
    _, report = imported(capsys, tmp_path, "crontab", text)
    assert f"the standard input has what {LOOKS} (PASSWORD)" in report
    assert "DATABASE is in the DAG file now" in report
    assert "hunter2" not in report


def test_two_commands_that_differ_in_their_options(capsys, tmp_path: Path) -> None:
    files, _ = imported(capsys, tmp_path, "crontab", "@daily curl -u a:b x\n@daily curl -u c:d y\n")
    assert sorted(files) == ["curl", "curl_2"]


def test_an_anacrontab(capsys, tmp_path: Path) -> None:
    files, report = imported(capsys, tmp_path, "anacrontab", "1 5 dump.all mysqldump -pS3cretPw db\n")
    assert list(files) == ["dump_all"]
    assert f"the command has what {LOOKS} (-p…)" in report


def test_jobs_of_dkron(capsys, tmp_path: Path) -> None:
    shell = {"command": "mysqldump -pS3cretPw db"}
    http = {
        "url": "https://u:hunter2@host/?token=hunter2",
        "headers": '["X-Api-Key: hunter2"]',
        "body": '{"secret": "hunter2"}',
    }
    jobs = [
        {"name": "dump", "schedule": "@daily", "executor": "shell", "executor_config": shell},
        {"name": "ask", "schedule": "@daily", "executor": "http", "executor_config": http},
    ]
    files, report = imported(capsys, tmp_path, "dkron", json.dumps(jobs))
    assert sorted(files) == ["ask", "dump"]
    assert f"the command has what {LOOKS} (-p…)" in report
    assert f"the url has what {LOOKS} (token, user:…@)" in report
    assert "X-Api-Key is in the DAG file now" in report
    assert f"the body has what {LOOKS} (secret)" in report
    assert "hunter2" not in report


def test_what_a_container_runs_is_not_listed_if_it_has_a_secret(capsys, tmp_path: Path) -> None:
    """The page of the watcher shows the docstring, and the words of the container are not needed there."""
    pods = [
        {"containers": [{"command": ["mysqldump"], "args": ["-pS3cretPw", "db"]}]},
        {"containers": [{"command": ["report", "--all"]}]},
    ]
    jobs = [
        {
            "kind": "CronJob",
            "metadata": {"name": f"job-{number}"},
            "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": pod}}}},
        }
        for number, pod in enumerate(pods)
    ]
    files, report = imported(capsys, tmp_path, "kubernetes", json.dumps({"kind": "List", "items": jobs}))
    assert "S3cretPw" not in report + "".join(files.values())
    assert "the container's args: not listed, because it looks as if there is a secret in it" in report
    assert "the container's command: ['report', '--all']" in report
