"""The private servers that all other tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import MySQLdb
import pytest
import redis

from dev.folder import fresh_folder
from dev.processes import (
    Process,
    ProcessError,
    end_leftovers,
    interruptible,
    listening,
    require,
)
from dev.servers import Redis, chosen_database
from dev.sessions import session_members, wait_until


def _listening_addresses(pid):
    """Return the local addresses (hex, as the kernel writes them) of a process's listening TCP sockets."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            inodes.add(str(path.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].partition(":")[0])
    return found


def _session(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])


def test_both_listen_on_the_loopback_only(mariadb, redis_server):
    for server in (mariadb, redis_server):
        assert _listening_addresses(server.process.pid) == ["0100007F"]
        assert server.port not in {3306, 6379}


def test_both_demand_their_password(mariadb, redis_server):
    with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
        MySQLdb.connect(host=mariadb.host, port=mariadb.port, user=mariadb.admin_user, password="")
    with pytest.raises(MySQLdb.OperationalError, match=r"Access denied|not allowed"):
        MySQLdb.connect(host=mariadb.host, port=mariadb.port, user="root", password="")
    with (
        redis_server.client(password=None) as stranger,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        stranger.ping()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE user SET password = 'x'",
        "SELECT password FROM user",
        "DELETE FROM user",
        "INSERT INTO secret (name) VALUES ('x')",
        "SELECT * FROM policy",
        "CREATE TABLE other (id int)",
    ],
)
def test_the_watchers_account_may_not(iam_schema, statement):
    with (
        closing(iam_schema.connect_as_watcher()) as connection,
        pytest.raises(MySQLdb.OperationalError, match="denied"),
    ):
        connection.cursor().execute(statement)


def test_the_watchers_account_may_disable_and_purge(iam_schema):
    with closing(iam_schema.connect_as_watcher()) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE user SET status = 0 WHERE id = 1")
        cursor.execute("DELETE FROM policy_audit WHERE id = 1")
        cursor.execute("DELETE FROM secret WHERE id = 1")


def test_restart_and_crash_keep_port_and_rows(tmp_path):
    with chosen_database()(tmp_path / "db") as server:
        port = server.port
        server.create_schema()
        with closing(server.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO user (name, nickname, password, email) VALUES ('a', '', '', '')")
        server.restart()
        server.crash()
        server.start()
        with closing(server.connect_as_watcher()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT name FROM user")
            assert cursor.fetchall() == (("a",),)
        assert server.port == port
        pid = server.process.pid
    assert session_members(pid) == []
    assert not listening(port)


def test_more_arguments_reach_the_server(tmp_path):
    with (
        chosen_database()(tmp_path / "db", ["--default-time-zone=-05:00", "--sql-mode=ANSI"]) as server,
        closing(server.connect(database="")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT @@global.time_zone, @@global.sql_mode LIKE '%ANSI%'")
        assert cursor.fetchall() == (("-05:00", 1),)


@pytest.mark.parametrize("kind", [chosen_database(), Redis])
def test_a_server_that_does_not_start_says_why(tmp_path, kind):
    server = kind(tmp_path / "server", ["--no-such-option=1"])
    with pytest.raises(ProcessError, match=r"(?s)ended with exit code.*no-such-option"):
        server.start()
    server.stop()


def test_another_port_if_ours_is_taken(tmp_path, redis_server):
    with Redis(tmp_path / "second") as server:
        server.stop()
        server.port = redis_server.port
        # A server that has run keeps its port, as clients know it by now.
        with pytest.raises(ProcessError, match="in use"):
            server.start()
    other = Redis(tmp_path / "third")
    other.port = redis_server.port
    with other:
        assert other.port != redis_server.port


def test_a_paused_server_gives_no_answer_and_ends(tmp_path):
    with Redis(tmp_path / "redis", password=False) as server:
        server.pause()
        with server.client(socket_timeout=0.2) as client, pytest.raises(redis.exceptions.TimeoutError):
            client.ping()
        server.resume()
        with server.client() as client:
            assert client.ping()
        server.pause()
        pid = server.process.pid
    assert session_members(pid) == []


def test_a_missing_server_names_the_command_that_installs_it():
    with pytest.raises(ProcessError, match="apt-get install some-package"):
        require("no-such-server", "some-package")


def test_a_killed_owner_takes_its_servers_along(tmp_path):
    program = (
        "import sys, pathlib, time\n"
        "from dev.servers import Redis\n"
        "server = Redis(pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "print(server.process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "redis")], stdout=subprocess.PIPE, text=True
    ) as owner:
        pid = int(owner.stdout.readline())
        assert session_members(pid) == [pid]
        owner.kill()
    assert wait_until(lambda: session_members(pid) == [], 10)


@pytest.mark.parametrize("parent", ["exec sleep 600", "trap '' TERM; sleep 600; sleep 600"])
def test_what_a_process_started_in_another_session_ends_with_it(tmp_path, parent):
    # As the BashOperator's commands: in a session of their own; this one ignores SIGTERM, too.
    script = f"setsid bash -c \"trap '' TERM; sleep 600; sleep 600\" & echo $! > child; {parent}"
    process = Process("parent", ["bash", "-c", script], tmp_path / "log", cwd=tmp_path, stop_seconds=0.5)
    assert wait_until(lambda: any(_session(pid) == pid != process.pid for pid in process.members()), 5)
    child = int((tmp_path / "child").read_text())
    assert wait_until(lambda: len(session_members(child)) == 2, 5)
    process.stop()
    assert session_members(child) == []
    assert process.members() == []


def test_leftovers_of_a_killed_run_are_ended_and_strangers_are_not(tmp_path):
    ours = Process("ours", ["sleep", "600"], tmp_path / "a" / "ours.log")
    stranger = Process("stranger", ["sleep", "600"], tmp_path / "b" / "stranger.log")
    note = tmp_path / "b" / "stranger.process"
    # The pid in the note was used again by somebody else's process, begun at another time.
    note.write_text(f"{stranger.pid} 1\n")
    try:
        end_leftovers(tmp_path)
        assert not ours.running
        assert stranger.running
        assert list(tmp_path.rglob("*.process")) == []
    finally:
        ours.stop()
        stranger.stop()


def test_a_folder_in_use_is_refused_and_keeps_its_content(tmp_path):
    with fresh_folder(tmp_path / "run") as folder:
        (folder / "data").touch()
        with pytest.raises(ProcessError, match="in use by another run"), fresh_folder(tmp_path / "run"):
            pass
        assert (folder / "data").exists()
    with fresh_folder(tmp_path / "run") as folder:
        assert list(folder.iterdir()) == []


def test_only_the_first_interrupt_counts():
    # A background job of a shell begins with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            # The cleaning up is not broken off by a second one.
            os.kill(os.getpid(), signal.SIGINT)
            cleaned.append(True)

    cleaned = []
    with interruptible(), pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        work()
    assert cleaned
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
